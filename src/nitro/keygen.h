/* keygen: what an attestation document says about a key that the enclave made (doc/keygen.md).
 *
 * The operator asks for a key under one KMS key; the parent carries the words. A parent that is not
 * honest would like the key to be made under a KMS key, an account or an endpoint of its own, which
 * tell it the seed. So the document binds, besides the ciphertext and the public key, the place that
 * the enclave was asked to use; and the KMS key is named by its ARN, because a bare id or alias
 * means the account of whoever's credentials are used. */
#ifndef TMKMS_NITRO_KEYGEN_H
#define TMKMS_NITRO_KEYGEN_H

#include "aws/kms.h"
#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"
#include "crypto/hash.h"
#include "crypto/key.h"

#define KEYGEN_WORD "tmkms"            /* no other document's user_data begins with it */
#define KEYGEN_TAG "tmkms keygen v1\n" /* 16 bytes */

enum { KEYGEN_TAG_LEN = 16, KEYGEN_USER_DATA_LEN = KEYGEN_TAG_LEN + 3 * SHA256_LEN };

/* keygen_user_data: KEYGEN_TAG, SHA-256 of the ciphertext, SHA-256 of the public key's bytes,
 * SHA-256 of the place: its region, host, port (decimal), key id, root_pem and context, each with a
 * zero byte behind it (host "" and port 0 as they stand; the context is its names and values). The
 * parent's proxy port is not bound: TLS ends in the enclave. */
void keygen_user_data(struct bytes ciphertext, const struct public_key *key,
    const struct kms_place *place, uint8_t out[KEYGEN_USER_DATA_LEN]);

/* user_data that a caller may choose for a document of its own. */
bool keygen_allows_user_data(struct bytes user_data) ATTR_MUST_USE;

/* keygen_check_key_id: false with a sentence, when it is no ARN of a KMS key or alias. */
bool keygen_check_key_id(const char *key_id, struct err *err) ATTR_MUST_USE;

#endif
