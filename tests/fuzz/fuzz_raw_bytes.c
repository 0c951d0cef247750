/* Raw bytes: the input itself, and canonical messages made from it, which must all be refused. */
#include <stdlib.h>
#include <string.h>

#include "privval/canonical.h"
#include "privval/sign_bytes.h"

static void must_refuse(struct writer *w)
{
    if (w->bad || raw_bytes_problem(written(w)) == NULL)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    raw_bytes_problem(bytes_of(data, size));

    struct signable s = {0};
    if (size < sizeof s || size > 4096)
        return 0;
    memcpy(&s, data, sizeof s);
    s.block_id.hash_len &= HASH_LEN;
    s.block_id.parts_hash_len &= HASH_LEN;
    struct bytes rest = bytes_of(data + sizeof s, size - sizeof s);
    struct bytes chain = bytes_of(rest.p, rest.n / 2), extension = bytes_of(rest.p, rest.n);

    uint8_t buf[2 * 4096];
    struct writer w = writer_of(buf, sizeof buf);
    canonical_write_vote(&w, s.pol_round, &s, chain);
    must_refuse(&w);
    w = writer_of(buf, sizeof buf);
    canonical_write_proposal(&w, &s, chain);
    must_refuse(&w);
    w = writer_of(buf, sizeof buf);
    canonical_write_extension(&w, s.height, s.round, chain, extension);
    must_refuse(&w);
    return 0;
}
