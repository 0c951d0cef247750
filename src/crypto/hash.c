#include "crypto/hash.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

void sha256(struct bytes in, uint8_t out[SHA256_LEN])
{
    crypto_hash_sha256(out, in.p, in.n);
}

void sha256_2(struct bytes a, struct bytes b, uint8_t out[SHA256_LEN])
{
    crypto_hash_sha256_state state;
    crypto_hash_sha256_init(&state);
    crypto_hash_sha256_update(&state, a.p, a.n);
    crypto_hash_sha256_update(&state, b.p, b.n);
    crypto_hash_sha256_final(&state, out);
    sodium_memzero(&state, sizeof state);
}

bool sha256_equal(const uint8_t a[SHA256_LEN], const uint8_t b[SHA256_LEN])
{
    return sodium_memcmp(a, b, SHA256_LEN) == 0;
}

void hmac_sha256(struct bytes key, struct bytes msg, uint8_t out[SHA256_LEN])
{
    static const uint8_t no_key[1]; /* libsodium wants a pointer for the empty key too */
    crypto_auth_hmacsha256_state state;
    crypto_auth_hmacsha256_init(&state, key.n > 0 ? key.p : no_key, key.n);
    crypto_auth_hmacsha256_update(&state, msg.p, msg.n);
    crypto_auth_hmacsha256_final(&state, out);
    sodium_memzero(&state, sizeof state);
}

/* RFC 5869: T(i) = HMAC(PRK, T(i-1) | info | i), the output is T(1) | T(2) | ... */
void hkdf_sha256(struct bytes salt, struct bytes ikm, struct bytes info, uint8_t *out, size_t out_n)
{
    uint8_t prk[SHA256_LEN], t[SHA256_LEN];
    assert(out_n <= 255 * SHA256_LEN);
    hmac_sha256(salt, ikm, prk);
    size_t done = 0;
    for (uint8_t i = 1; done < out_n; i++) {
        crypto_auth_hmacsha256_state state;
        crypto_auth_hmacsha256_init(&state, prk, sizeof prk);
        crypto_auth_hmacsha256_update(&state, t, i == 1 ? 0 : sizeof t);
        crypto_auth_hmacsha256_update(&state, info.p, info.n);
        crypto_auth_hmacsha256_update(&state, &i, 1);
        crypto_auth_hmacsha256_final(&state, t);
        sodium_memzero(&state, sizeof state);
        size_t part = out_n - done < sizeof t ? out_n - done : sizeof t;
        memcpy(out + done, t, part);
        done += part;
    }
    sodium_memzero(prk, sizeof prk);
    sodium_memzero(t, sizeof t);
}
