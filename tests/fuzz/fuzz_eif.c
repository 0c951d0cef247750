/* Enclave images: what parses lies inside the file and can be measured. The CRC is put right first, or no changed image
 * would get past it. */
#include <stdlib.h>
#include <string.h>

#include "nitro/image_seal.h"

static void check_inside(struct bytes part, const uint8_t *data, size_t size)
{
    if (part.n > 0 && (part.p < data || part.n > size || part.p > data + size - part.n))
        abort();
}

static void parse(const uint8_t *data, size_t size)
{
    struct eif eif;
    struct eif_pcrs pcrs;
    struct err err;
    if (!eif_parse(&eif, bytes_of(data, size), &err))
        return;
    check_inside(eif.kernel, data, size);
    check_inside(eif.cmdline, data, size);
    check_inside(eif.metadata, data, size);
    check_inside(eif.signature, data, size);
    for (size_t i = 0; i < eif.ramdisks_n; i++)
        check_inside(eif.ramdisks[i], data, size);
    if (!eif_measure(&eif, &pcrs, &err) && eif.signature.n == 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *image = malloc(size + 1);
    if (image == NULL)
        return 0;
    if (size > 0)
        memcpy(image, data, size);
    if (size >= EIF_HEADER_LEN)
        image_seal(image, size);
    parse(image, size);
    free(image);
    return 0;
}
