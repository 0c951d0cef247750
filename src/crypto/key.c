#include "crypto/key.h"

#include <jansson.h>
#include <secp256k1.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/hash.h"
#include "crypto/ripemd.h"
#include "crypto/secret.h"

enum { HALF = 32 }; /* Ed25519: both halves of a signature, of a hash reduced, of an expanded key */

/* Lies in secret memory, with nothing else. */
struct signing_key {
    struct public_key public;
    enum private_form form;
    union {
        uint8_t seed_and_public[2 * HALF]; /* Ed25519 from a seed: as libsodium wants it */
        struct {
            uint8_t scalar[HALF]; /* little-endian, clamped */
            uint8_t prefix[HALF];
        } expanded;           /* Ed25519 without a seed */
        uint8_t scalar[HALF]; /* secp256k1, big-endian */
    } private;
};

/* Signing and verifying only read it. */
static secp256k1_context *secp_context;

bool crypto_start(struct err *err)
{
    if (sodium_init() < 0)
        return err_set(err, "libsodium does not start: no source of random bytes");
    if (secp_context != NULL)
        return true;
    size_t seed;
    randombytes_buf(&seed, sizeof seed);
    json_object_seed(seed | 1); /* zero would ask jansson to look for a seed */
    uint8_t blinding[32];
    randombytes_buf(blinding, sizeof blinding);
    secp_context = secp256k1_context_create(SECP256K1_CONTEXT_NONE);
    bool ok = secp_context != NULL && secp256k1_context_randomize(secp_context, blinding) == 1;
    sodium_memzero(blinding, sizeof blinding);
    return ok || err_set(err, "libsecp256k1 does not start");
}

/* ---- Ed25519 ---- */

static void ed25519_expanded_sign(const struct signing_key *key, struct bytes msg, uint8_t *sig)
{
    uint8_t hash[crypto_hash_sha512_BYTES], r[HALF], k[HALF];
    crypto_hash_sha512_state state;

    /* RFC 8032, 5.1.6: r = SHA-512(prefix, msg), R = rB, k = SHA-512(R, A, msg), S = r + k * s. */
    crypto_hash_sha512_init(&state);
    crypto_hash_sha512_update(&state, key->private.expanded.prefix, HALF);
    crypto_hash_sha512_update(&state, msg.p, msg.n);
    crypto_hash_sha512_final(&state, hash);
    crypto_core_ed25519_scalar_reduce(r, hash);
    if (crypto_scalarmult_ed25519_base_noclamp(sig, r) != 0)
        abort(); /* r = 0: SHA-512 is broken */

    crypto_hash_sha512_init(&state);
    crypto_hash_sha512_update(&state, sig, HALF);
    crypto_hash_sha512_update(&state, key->public.bytes, key->public.len);
    crypto_hash_sha512_update(&state, msg.p, msg.n);
    crypto_hash_sha512_final(&state, hash);
    crypto_core_ed25519_scalar_reduce(k, hash);
    crypto_core_ed25519_scalar_mul(k, k, key->private.expanded.scalar);
    crypto_core_ed25519_scalar_add(sig + HALF, k, r);

    sodium_memzero(hash, sizeof hash);
    sodium_memzero(r, sizeof r);
    sodium_memzero(k, sizeof k);
    sodium_memzero(&state, sizeof state);
}

static bool ed25519_from_seed(struct signing_key *key, struct bytes seed, struct err *err)
{
    if (seed.n != ED25519_SEED_LEN)
        return err_set(err, "an Ed25519 seed has 32 bytes, not %zu", seed.n);
    crypto_sign_seed_keypair(key->public.bytes, key->private.seed_and_public, seed.p);
    return true;
}

/* An unclamped scalar is no RFC 8032 key; most likely the bytes are something else, for example
 * seed and public key, and signing with them would give a key that nobody knows. */
static bool ed25519_finish_expanded(struct signing_key *key, struct err *err)
{
    const uint8_t *s = key->private.expanded.scalar;
    if ((s[0] & 7) != 0 || (s[31] & 0xc0) != 0x40)
        return err_set(err, "not an expanded Ed25519 key: the scalar is not clamped");
    if (crypto_scalarmult_ed25519_base_noclamp(key->public.bytes, s) != 0)
        return err_set(err, "not an expanded Ed25519 key: the scalar is zero");
    return true;
}

static bool ed25519_from_expanded64(struct signing_key *key, struct bytes in, struct err *err)
{
    if (in.n != 2 * HALF)
        return err_set(err, "an expanded Ed25519 key has 64 bytes, not %zu", in.n);
    memcpy(&key->private.expanded, in.p, 2 * HALF);
    return ed25519_finish_expanded(key, err);
}

static bool ed25519_from_expanded96(struct signing_key *key, struct bytes in, struct err *err)
{
    if (in.n != 3 * HALF)
        return err_set(err, "an Ed25519 key of a YubiHSM export has 96 bytes, not %zu", in.n);
    for (size_t i = 0; i < HALF; i++)
        key->private.expanded.scalar[i] = in.p[HALF - 1 - i];
    memcpy(key->private.expanded.prefix, in.p + HALF, HALF);
    if (!ed25519_finish_expanded(key, err))
        return false;
    if (sodium_memcmp(key->public.bytes, in.p + 2 * HALF, HALF) != 0)
        return err_set(
            err, "the public key in the last 32 bytes does not belong to the private key");
    return true;
}

static bool ed25519_load(
    struct signing_key *key, enum private_form form, struct bytes in, struct err *err)
{
    key->public.len = crypto_sign_PUBLICKEYBYTES;
    switch (form) {
    case PRIVATE_SEED:
        return ed25519_from_seed(key, in, err);
    case PRIVATE_EXPANDED64:
        return ed25519_from_expanded64(key, in, err);
    case PRIVATE_EXPANDED96:
        return ed25519_from_expanded96(key, in, err);
    }
    return err_set(err, "unknown form of a private key");
}

/* ---- secp256k1 ---- */

static bool secp256k1_load(
    struct signing_key *key, enum private_form form, struct bytes in, struct err *err)
{
    secp256k1_pubkey point;
    size_t len = PUBLIC_KEY_MAX;
    if (form != PRIVATE_SEED)
        return err_set(err, "secp256k1 keys have no expanded form");
    if (in.n != sizeof key->private.scalar)
        return err_set(err, "a secp256k1 private key has 32 bytes, not %zu", in.n);
    if (secp256k1_ec_pubkey_create(secp_context, &point, in.p) != 1)
        return err_set(err, "not a secp256k1 private key: zero, or not below the group order");
    memcpy(key->private.scalar, in.p, in.n);
    secp256k1_ec_pubkey_serialize(
        secp_context, key->public.bytes, &len, &point, SECP256K1_EC_COMPRESSED);
    key->public.len = (uint32_t)len;
    return true;
}

static void secp256k1_sign(const struct signing_key *key, struct bytes msg, uint8_t *sig)
{
    uint8_t digest[SHA256_LEN];
    secp256k1_ecdsa_signature parsed;
    sha256(msg, digest);
    /* The default nonce function is RFC 6979; signatures come out with low S. */
    if (secp256k1_ecdsa_sign(secp_context, &parsed, digest, key->private.scalar, NULL, NULL) != 1)
        abort(); /* only an invalid scalar fails, and that was refused when the key was loaded */
    secp256k1_ecdsa_signature_serialize_compact(secp_context, sig, &parsed);
}

static bool secp256k1_verify(const struct public_key *key, struct bytes msg, const uint8_t *sig)
{
    uint8_t digest[SHA256_LEN];
    secp256k1_pubkey point;
    secp256k1_ecdsa_signature parsed;
    sha256(msg, digest);
    return secp256k1_ec_pubkey_parse(secp_context, &point, key->bytes, key->len) == 1 &&
           secp256k1_ecdsa_signature_parse_compact(secp_context, &parsed, sig) == 1 &&
           secp256k1_ecdsa_verify(secp_context, &parsed, digest, &point) == 1;
}

/* ---- both ---- */

static bool load(struct signing_key *key, enum key_type type, enum private_form form,
    struct bytes in, struct err *err)
{
    key->public.type = type;
    key->form = form;
    switch (type) {
    case KEY_ED25519:
        return ed25519_load(key, form, in, err);
    case KEY_SECP256K1:
        return secp256k1_load(key, form, in, err);
    }
    return err_set(err, "unknown key type %d", (int)type);
}

static bool signs_correctly(const struct signing_key *key, struct err *err)
{
    uint8_t sig[SIGNATURE_LEN];
    struct bytes msg = bytes_of_text("tmkms: test of a key that was just loaded");
    signing_key_sign(key, msg, sig);
    return public_key_verify(&key->public, msg, sig) ||
           err_set(err, "a signature by this key does not verify: the machine computes wrongly");
}

bool signing_key_create(struct signing_key **ret, enum key_type type, enum private_form form,
    struct bytes private_bytes, struct err *err)
{
    struct signing_key *key = secret_alloc(sizeof *key, err);
    if (key == NULL)
        return false;
    if (!load(key, type, form, private_bytes, err) || !signs_correctly(key, err) ||
        !secret_make_readonly(key, err)) {
        signing_key_free(key);
        return false;
    }
    *ret = key;
    return true;
}

void signing_key_free(struct signing_key *key)
{
    secret_free(key);
}

const struct public_key *signing_key_public(const struct signing_key *key)
{
    return &key->public;
}

void signing_key_sign(const struct signing_key *key, struct bytes msg, uint8_t sig[SIGNATURE_LEN])
{
    if (key->public.type == KEY_SECP256K1)
        secp256k1_sign(key, msg, sig);
    else if (key->form == PRIVATE_SEED)
        crypto_sign_detached(sig, NULL, msg.p, msg.n, key->private.seed_and_public);
    else
        ed25519_expanded_sign(key, msg, sig);
}

/* The scalar of secp256k1 is half as long as the rest of the union, which is zero there. */
void signing_key_derive(const struct signing_key *key, struct bytes info, uint8_t out[32])
{
    static const char salt[] = "tmkms key derivation 1";
    hkdf_sha256(bytes_of_text(salt), bytes_of(&key->private, sizeof key->private), info, out, 32);
}

bool public_key_verify(
    const struct public_key *key, struct bytes msg, const uint8_t sig[SIGNATURE_LEN])
{
    if (key->type == KEY_ED25519 && key->len == crypto_sign_PUBLICKEYBYTES)
        return crypto_sign_verify_detached(sig, msg.p, msg.n, key->bytes) == 0;
    return key->type == KEY_SECP256K1 && key->len == PUBLIC_KEY_MAX &&
           secp256k1_verify(key, msg, sig);
}

bool public_key_equal(const struct public_key *a, const struct public_key *b)
{
    return a->type == b->type &&
           bytes_equal(bytes_of(a->bytes, a->len), bytes_of(b->bytes, b->len));
}

void public_key_address(const struct public_key *key, uint8_t out[ADDRESS_LEN])
{
    uint8_t digest[SHA256_LEN];

    sha256(bytes_of(key->bytes, key->len), digest);
    if (key->type == KEY_SECP256K1)
        ripemd160(bytes_of(digest, sizeof digest), out);
    else
        memcpy(out, digest, ADDRESS_LEN);
}

const char *key_type_name(enum key_type type)
{
    switch (type) {
    case KEY_ED25519:
        return "ed25519";
    case KEY_SECP256K1:
        return "secp256k1";
    }
    return "none";
}
