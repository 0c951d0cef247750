/* cms: the envelope KMS makes for a recipient (CMS EnvelopedData; RSAES-OAEP with SHA-256 twice, AES-256-CBC), in the
 * BER forms AWS sends and in DER, opened through OpenSSL's RecipientInfo path: plain CMS_decrypt would accept a
 * wrong key once in 256. */
#ifndef TMKMS_AWS_CMS_H
#define TMKMS_AWS_CMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"

struct recipient; /* an ephemeral RSA-2048 key; in the signer only */

bool recipient_new(struct recipient **ret, struct err *err) ATTR_MUST_USE;
void recipient_free(struct recipient *r); /* wipes; NULL is fine */
/* SubjectPublicKeyInfo in DER, borrowed. */
struct bytes recipient_public_der(const struct recipient *r);
/* out must be secret memory (crypto/secret.h). */
bool recipient_open(const struct recipient *r, struct bytes envelope, uint8_t *out, size_t cap,
    size_t *ret_n, struct err *err) ATTR_MUST_USE;

#endif
