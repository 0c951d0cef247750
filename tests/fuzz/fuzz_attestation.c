/* Attestation documents, parsed and verified at their own time. Nothing passes but what AWS signed: the payload of the
 * one real document in the corpus. */
#include <stdlib.h>

#include "crypto/hash.h"
#include "nitro/attestation.h"

/* SHA-256 of the payload in tests/fuzz/corpus/attestation/real */
static const char real_payload[] =
    "b671fda89821588cec74fe1a28350d5a9d12b53e67d966e9b8a2ee786d8facd8";

static bool is_real(struct bytes payload)
{
    uint8_t want[SHA256_LEN], got[SHA256_LEN];
    sha256(payload, got);
    return hex_decode(real_payload, sizeof real_payload - 1, want, SHA256_LEN) &&
           bytes_equal(bytes_of(want, SHA256_LEN), bytes_of(got, SHA256_LEN));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct attestation_policy policy = {.at_document_time = true};
    struct attestation a;
    struct err err;
    if (attestation_verify(&a, bytes_of(data, size), &policy, NULL, NULL, &err) &&
        !is_real(a.payload))
        abort();
    return 0;
}
