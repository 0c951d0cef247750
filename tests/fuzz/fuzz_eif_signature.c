/* Signature sections of enclave images: parsed, described and checked against a PCR0 that nobody has signed. */
#include <stdlib.h>

#include "nitro/eif_sign.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t pcr0[PCR_LEN];
    const struct eif eif = {.signature = bytes_of(data, size)};
    struct eif_signature parsed;
    struct err err;
    if (!eif_signature_parse(&parsed, eif.signature, &err))
        return 0;
    if (parsed.certificate_n == 0 || parsed.certificate_n > sizeof parsed.certificate ||
        parsed.cose_n > sizeof parsed.cose)
        abort();
    struct bytes der = bytes_of(parsed.certificate, parsed.certificate_n);
    json_t *json = eif_certificate_describe(der, &err);
    if (json == NULL || json_object_size(json) != 5)
        abort();
    json_decref(json);
    (void)!eif_certificate_is_valid(der, 0, &err);
    if (eif_signature_check(&eif, pcr0, &err))
        abort();
    return 0;
}
