/* hash: SHA-256, HMAC-SHA-256 and HKDF-SHA-256 (RFC 5869). */
#ifndef TMKMS_CRYPTO_HASH_H
#define TMKMS_CRYPTO_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum { SHA256_LEN = 32 };

void sha256(struct bytes in, uint8_t out[SHA256_LEN]);
void sha256_2(struct bytes a, struct bytes b, uint8_t out[SHA256_LEN]); /* of a followed by b */
/* In constant time. */
bool sha256_equal(const uint8_t a[SHA256_LEN], const uint8_t b[SHA256_LEN]);
void hmac_sha256(struct bytes key, struct bytes msg, uint8_t out[SHA256_LEN]);
/* salt may be empty; out_n <= 255 * 32. */
void hkdf_sha256(
    struct bytes salt, struct bytes ikm, struct bytes info, uint8_t *out, size_t out_n);

#endif
