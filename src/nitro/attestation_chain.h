/* attestation_chain: the certificates of an attestation document and its signature, through OpenSSL. Used by
 * attestation.c only. */
#ifndef TMKMS_NITRO_ATTESTATION_CHAIN_H
#define TMKMS_NITRO_ATTESTATION_CHAIN_H

#include <openssl/evp.h>

#include "nitro/attestation.h"

enum { ATTESTATION_AWS_ROOT_LEN = 533, ATTESTATION_SKEW_S = 60 };

/* DER of the root that every document of AWS leads to. */
extern const uint8_t attestation_aws_root[ATTESTATION_AWS_ROOT_LEN];

/* attestation_chain_verify checks that the bundle is exactly the way from root_der to the certificate: names,
 * ECDSA-P384-SHA384 signatures, CA flags, path lengths, key usages, and validity at now_s. The certificate is not
 * back-dated, so a clock that is up to ATTESTATION_SKEW_S behind its begin is forgiven. The key is the caller's. */
EVP_PKEY *attestation_chain_verify(
    const struct attestation *a, struct bytes root_der, int64_t now_s, struct err *err);

/* ES384 (RFC 9053) over the Sig_structure of RFC 9052 §4.4. */
bool attestation_signature_verify(const struct attestation *a, EVP_PKEY *key) ATTR_MUST_USE;

/* 2026-02-02T20:43:47Z */
enum { TIME_TEXT_LEN = 24 };
void time_text(int64_t seconds, char out[TIME_TEXT_LEN]);

#endif
