/* eif_sign: the signature of an enclave image: PCR0, signed with the key of a certificate that comes with it and that
 * the hypervisor measures as PCR8. Reference: aws-nitro-enclaves-image-format (eif_signer.rs, eif_reader.rs). */
#ifndef TMKMS_NITRO_EIF_SIGN_H
#define TMKMS_NITRO_EIF_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"
#include "nitro/eif.h"

/* eif_sign makes eif->signature, in out, with the certificate and the private key (P-256, P-384 or P-521) of two PEM
 * files. The certificate alone gets into the image, whatever else stands in its file. It must be the key's and valid at
 * now_s: the hypervisor starts no image with one that is not. A key under a passphrase is refused. */
bool eif_sign(struct eif *eif, const char *certificate_path, const char *key_path, int64_t now_s,
    uint8_t out[static EIF_SIGNATURE_MAX], struct err *err) ATTR_MUST_USE;

/* eif_signature_check: does the section sign what was measured, by the algorithm that goes with its certificate's
 * key? The certificate's dates are not looked at. */
bool eif_signature_check(
    const struct eif *eif, const uint8_t pcr0[PCR_LEN], struct err *err) ATTR_MUST_USE;

/* The certificate (DER) as nitro-cli describes one; NULL and err when it is none. */
json_t *eif_certificate_describe(struct bytes der, struct err *err);
/* Valid at now_s? An error says from when to when it is. */
bool eif_certificate_is_valid(struct bytes der, int64_t now_s, struct err *err) ATTR_MUST_USE;
/* The first certificate of a PEM file, in DER. */
bool eif_certificate_read(const char *path, uint8_t out[static EIF_CERTIFICATE_MAX], size_t *ret_n,
    struct err *err) ATTR_MUST_USE;

#endif
