/* key: consensus and identity keys. Private keys live in guarded, locked, dump-excluded memory that
 * is read-only after loading (libsodium's sodium_malloc). Nothing prints or copies them. */
#ifndef TMKMS_CRYPTO_KEY_H
#define TMKMS_CRYPTO_KEY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"

enum key_type { KEY_ED25519 = 1, KEY_SECP256K1 = 2 };

enum { PUBLIC_KEY_MAX = 33, SIGNATURE_LEN = 64, ADDRESS_LEN = 20, ED25519_SEED_LEN = 32 };

/* 32 bytes (Ed25519) or 33 (compressed secp256k1). Zero-initialised: no key. */
struct public_key {
    uint32_t type; /* enum key_type, 0: none */
    uint32_t len;
    uint8_t bytes[PUBLIC_KEY_MAX + 3]; /* zero behind len */
};

/* How the private bytes are to be read. */
enum private_form {
    PRIVATE_SEED,       /* Ed25519: 32-byte seed (RFC 8032); secp256k1: 32-byte big-endian scalar */
    PRIVATE_EXPANDED64, /* Ed25519: clamped little-endian scalar, 32-byte nonce prefix */
    PRIVATE_EXPANDED96, /* YubiHSM export: big-endian scalar, nonce prefix, public key (checked) */
};

struct signing_key; /* opaque, in secret memory */

/* crypto_start initialises the libraries; call once per process before anything else in this room, and
 * before sandbox_enter. It also gives jansson's hash tables their seed, for which jansson itself would open
 * /dev/urandom at the first object it makes. */
bool crypto_start(struct err *err) ATTR_MUST_USE;

/* signing_key_create takes n private bytes (not kept: the caller wipes them), derives the public
 * key and checks it by signing and verifying once. Memory that cannot be locked is an error. */
bool signing_key_create(struct signing_key **ret, enum key_type type, enum private_form form,
    struct bytes private_bytes, struct err *err) ATTR_MUST_USE;
void signing_key_free(struct signing_key *key); /* wipes; NULL is fine */
const struct public_key *signing_key_public(const struct signing_key *key);

/* signing_key_sign: Ed25519 over msg (RFC 8032), or secp256k1 over SHA-256(msg): RFC 6979, low S,
 * R||S. Deterministic, no allocation. Any number of threads at once. */
void signing_key_sign(const struct signing_key *key, struct bytes msg, uint8_t sig[SIGNATURE_LEN]);

/* signing_key_derive: 32 bytes that only the holder of the private key can compute (HKDF-SHA-256 over the
 * private bytes), others for every info. A secret: the caller wipes it. */
void signing_key_derive(const struct signing_key *key, struct bytes info, uint8_t out[32]);

bool public_key_verify(
    const struct public_key *key, struct bytes msg, const uint8_t sig[SIGNATURE_LEN]) ATTR_MUST_USE;
bool public_key_equal(const struct public_key *a, const struct public_key *b);
/* Ed25519: SHA-256(key)[:20]; secp256k1: RIPEMD160(SHA-256(key)). */
void public_key_address(const struct public_key *key, uint8_t out[ADDRESS_LEN]);
const char *key_type_name(enum key_type type); /* "ed25519", "secp256k1" (lower case, as in P2) */

#endif
