/* aead: X25519 and ChaCha20-Poly1305 (IETF, RFC 8439) with the counter nonce that SecretConnection
 * and noise share: 4 zero bytes, then a 64-bit little-endian counter. */
#ifndef TMKMS_CRYPTO_AEAD_H
#define TMKMS_CRYPTO_AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"

enum { X25519_LEN = 32, AEAD_KEY_LEN = 32, AEAD_TAG_LEN = 16 };

/* One direction of a connection. The counter never wraps: at its end every call fails. */
struct aead {
    uint8_t key[AEAD_KEY_LEN];
    uint64_t counter;
};

void random_bytes(void *out, size_t n);
void x25519_public(const uint8_t secret[X25519_LEN], uint8_t out[X25519_LEN]);
/* false for low-order points (an all-zero result). */
bool x25519_shared(const uint8_t secret[X25519_LEN], const uint8_t peer[X25519_LEN],
    uint8_t out[X25519_LEN]) ATTR_MUST_USE;

/* out: plain.n + AEAD_TAG_LEN bytes; may be the same memory as plain. */
bool aead_seal(struct aead *a, struct bytes ad, struct bytes plain, uint8_t *out) ATTR_MUST_USE;
/* out: sealed.n - AEAD_TAG_LEN bytes; false for a bad tag or a short input. The counter moves on
 * success only. */
bool aead_open(struct aead *a, struct bytes ad, struct bytes sealed, uint8_t *out) ATTR_MUST_USE;

#endif
