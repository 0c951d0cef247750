/* The CBOR reader: skips and reads whatever comes; every octet string fits its buffer. */
#include <stdlib.h>

#include "nitro/cbor.h"

enum { OCTETS_MAX = 64 };

static void read_all(struct reader r)
{
    uint8_t octets[OCTETS_MAX];
    while (!r.bad && r.n > 0) {
        size_t before = r.n;
        switch (cbor_peek(&r)) {
        case CBOR_ARRAY:
        case CBOR_BYTES: {
            struct reader octet_reader = r;
            if (cbor_read_octets(&octet_reader, octets, sizeof octets) > sizeof octets)
                abort();
            cbor_skip(&r);
            break;
        }
        case CBOR_MAP:
            cbor_read_map(&r);
            break;
        case CBOR_TAG:
            cbor_read_tag(&r);
            break;
        case CBOR_BAD:
        case CBOR_UINT:
        case CBOR_NEGATIVE:
        case CBOR_TEXT:
        case CBOR_BOOL:
        case CBOR_NULL:
        case CBOR_OTHER:
        case CBOR_BREAK:
            cbor_skip(&r);
            break;
        }
        if (!r.bad && r.n >= before)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = reader_of(bytes_of(data, size));
    read_all(r);
    cbor_skip(&r);
    if (!r.bad && r.n >= size)
        abort();
    return 0;
}
