/* Enclave images: what parses lies inside the file and can be measured. The CRC is put right first, or no changed image
 * would get past it. */
#include <stdlib.h>
#include <string.h>

#include "nitro/eif_describe.h"
#include "nitro/eif_write.h"
#include "nitro/image_seal.h"
#include "nitro/kernel.h"

static void check_inside(struct bytes part, const uint8_t *data, size_t size)
{
    if (part.n > 0 && (part.p < data || part.n > size || part.p > data + size - part.n))
        abort();
}

/* What is written again from the parts is an image with the same registers. */
static void write_back(const struct eif *eif, const struct eif_pcrs *pcrs)
{
    struct eif back;
    struct eif_pcrs again;
    struct err err;
    uint8_t *file = NULL;
    size_t n = 0;
    if (!eif_write(eif, &file, &n, &err) || !eif_parse(&back, bytes_of(file, n), &err) ||
        !eif_measure(&back, &again, &err) || memcmp(&again, pcrs, sizeof again) != 0)
        abort();
    free(file);
}

static void describe(const struct eif *eif)
{
    char version[KERNEL_VERSION_MAX];
    json_t *json = json_object();
    kernel_version(eif->kernel, version);
    eif_describe_metadata(eif, json);
    json_decref(json);
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
    describe(&eif);
    if (eif_measure(&eif, &pcrs, &err))
        write_back(&eif, &pcrs);
    else if (eif.signature.n == 0)
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
