#include "crypto/aead.h"

#include <sodium.h>

void random_bytes(void *out, size_t n)
{
    randombytes_buf(out, n);
}

void x25519_public(const uint8_t secret[X25519_LEN], uint8_t out[X25519_LEN])
{
    crypto_scalarmult_curve25519_base(out, secret);
}

bool x25519_shared(
    const uint8_t secret[X25519_LEN], const uint8_t peer[X25519_LEN], uint8_t out[X25519_LEN])
{
    return crypto_scalarmult_curve25519(out, secret, peer) == 0;
}

static void nonce_of(uint64_t counter, uint8_t nonce[12])
{
    struct writer w = writer_of(nonce, 12);
    write_u32le(&w, 0);
    write_u64le(&w, counter);
}

bool aead_seal(struct aead *a, struct bytes ad, struct bytes plain, uint8_t *out)
{
    uint8_t nonce[12];
    if (a->counter == UINT64_MAX || plain.n > crypto_aead_chacha20poly1305_ietf_MESSAGEBYTES_MAX)
        return false;
    nonce_of(a->counter, nonce);
    crypto_aead_chacha20poly1305_ietf_encrypt(
        out, NULL, plain.p, plain.n, ad.p, ad.n, NULL, nonce, a->key);
    a->counter++;
    return true;
}

bool aead_open(struct aead *a, struct bytes ad, struct bytes sealed, uint8_t *out)
{
    uint8_t nonce[12];
    if (a->counter == UINT64_MAX || sealed.n < AEAD_TAG_LEN)
        return false;
    nonce_of(a->counter, nonce);
    if (crypto_aead_chacha20poly1305_ietf_decrypt(
            out, NULL, NULL, sealed.p, sealed.n, ad.p, ad.n, nonce, a->key) != 0)
        return false;
    a->counter++;
    return true;
}
