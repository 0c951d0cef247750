#include "nitro/cose.h"

#include <string.h>

#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/objects.h>

#include "nitro/cbor.h"

static const struct cose_algorithm algorithms[] = {
    {SN_X9_62_prime256v1, "ES256", "SHA256", 32, {0xa1, 0x01, 0x26}, 3},
    {SN_secp384r1, "ES384", "SHA384", 48, {0xa1, 0x01, 0x38, 0x22}, 4},
    {SN_secp521r1, "ES512", "SHA512", 66, {0xa1, 0x01, 0x38, 0x23}, 4},
};

const struct cose_algorithm *cose_algorithm_of(EVP_PKEY *key)
{
    char group[32] = "";
    size_t n = 0;
    if (EVP_PKEY_is_a(key, "EC") != 1 || EVP_PKEY_get_group_name(key, group, sizeof group, &n) != 1)
        return NULL;
    for (size_t i = 0; i < sizeof algorithms / sizeof algorithms[0]; i++)
        if (strcmp(group, algorithms[i].group) == 0)
            return &algorithms[i];
    return NULL;
}

/* The payload's own head only: its bytes are hashed where they lie. */
static struct bytes begin_of(struct writer *w, struct bytes header, size_t payload_n)
{
    cbor_write_array(w, 4);
    cbor_write_text(w, "Signature1");
    cbor_write_bytes(w, header);
    cbor_write_bytes(w, (struct bytes){0});
    cbor_write_bytes_head(w, payload_n);
    return written(w);
}

/* COSE has r and s at full length each, OpenSSL wants them in DER. */
static int der_of(struct bytes signature, size_t half, uint8_t **ret)
{
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(signature.p, (int)half, NULL);
    BIGNUM *s = BN_bin2bn(signature.p + half, (int)half, NULL);
    int n = -1;
    if (sig != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(sig, r, s) == 1) {
        n = i2d_ECDSA_SIG(sig, ret); /* r and s are the sig's now */
    } else {
        BN_free(r);
        BN_free(s);
    }
    ECDSA_SIG_free(sig);
    return n;
}

bool cose_verify(const struct cose_sign1 *message, EVP_PKEY *key, const struct cose_algorithm *a)
{
    uint8_t begin[64];
    uint8_t *der = NULL;
    struct writer w = writer_of(begin, sizeof begin);
    if (message->signature.n != 2 * a->half)
        return false;
    struct bytes head = begin_of(&w, message->header, message->payload.n);
    int der_n = der_of(message->signature, a->half, &der);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = !w.bad && der_n > 0 && ctx != NULL &&
              EVP_DigestVerifyInit_ex(ctx, NULL, a->hash, NULL, NULL, key, NULL) == 1 &&
              EVP_DigestVerifyUpdate(ctx, head.p, head.n) == 1 &&
              EVP_DigestVerifyUpdate(ctx, message->payload.p, message->payload.n) == 1 &&
              EVP_DigestVerifyFinal(ctx, der, (size_t)der_n) == 1;
    EVP_MD_CTX_free(ctx);
    OPENSSL_free(der);
    ERR_clear_error();
    return ok;
}

static bool halves_of(const uint8_t *der, size_t der_n, size_t half, uint8_t *ret)
{
    const uint8_t *p = der;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)der_n);
    bool ok = sig != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(sig), ret, (int)half) > 0 &&
              BN_bn2binpad(ECDSA_SIG_get0_s(sig), ret + half, (int)half) > 0;
    ECDSA_SIG_free(sig);
    return ok;
}

bool cose_sign(struct bytes payload, EVP_PKEY *key, const struct cose_algorithm *a,
    uint8_t ret[COSE_SIGNATURE_MAX])
{
    uint8_t begin[64], der[COSE_SIGNATURE_MAX + 16];
    size_t der_n = sizeof der;
    struct writer w = writer_of(begin, sizeof begin);
    struct bytes head = begin_of(&w, bytes_of(a->header, a->header_n), payload.n);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = !w.bad && ctx != NULL &&
              EVP_DigestSignInit_ex(ctx, NULL, a->hash, NULL, NULL, key, NULL) == 1 &&
              EVP_DigestSignUpdate(ctx, head.p, head.n) == 1 &&
              EVP_DigestSignUpdate(ctx, payload.p, payload.n) == 1 &&
              EVP_DigestSignFinal(ctx, der, &der_n) == 1 && halves_of(der, der_n, a->half, ret);
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}
