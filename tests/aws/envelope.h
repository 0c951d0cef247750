/* envelope: writes CMS envelopes byte by byte in the forms that KMS sends (BER, indefinite lengths) and in DER, with
 * OpenSSL used for RSA and AES alone. Every choice can be spoilt. */
#ifndef TMKMS_TESTS_AWS_ENVELOPE_H
#define TMKMS_TESTS_AWS_ENVELOPE_H

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"

enum { ENVELOPE_CAP = 8192, ENVELOPE_PIECE_MAX = 1024 };

enum envelope_form {
    ENVELOPE_CONSTRUCTED,
    ENVELOPE_SPLIT,
    ENVELOPE_PRIMITIVE,
    ENVELOPE_DER,
    ENVELOPE_FORMS
};

struct envelope_spec {
    enum envelope_form form;
    bool oaep_sha1, mgf_sha1; /* instead of SHA-256 */
    bool aes_128;             /* instead of AES-256 */
    unsigned recipients_n;    /* 0 counts as 1 */
};

/* ---- a writer of tag-length-value, innermost first ----------------------------------- */

struct piece {
    uint8_t p[ENVELOPE_CAP];
    size_t n;
};

static inline void piece_add(struct piece *to, const void *p, size_t n)
{
    assert_true(n <= sizeof to->p - to->n);
    memcpy(to->p + to->n, p, n);
    to->n += n;
}

static inline void piece_add_hex(struct piece *to, const char *hex)
{
    uint8_t raw[256];
    assert_true(hex_decode(hex, strlen(hex), raw, strlen(hex) / 2));
    piece_add(to, raw, strlen(hex) / 2);
}

/* Wraps all that has been written so far. */
static inline void piece_wrap(struct piece *to, uint8_t tag, bool indefinite)
{
    uint8_t head[4] = {tag, 0x80};
    size_t head_n = 2;
    if (!indefinite && to->n < 0x80) {
        head[1] = (uint8_t)to->n;
    } else if (!indefinite) {
        head[1] = 0x82;
        head[2] = (uint8_t)(to->n >> 8);
        head[3] = (uint8_t)to->n;
        head_n = 4;
    }
    assert_true(to->n + head_n + 2 <= sizeof to->p);
    memmove(to->p + head_n, to->p, to->n);
    memcpy(to->p, head, head_n);
    to->n += head_n;
    if (indefinite)
        piece_add(to, "\0", 2); /* two zero bytes */
}

/* ---- RSA and AES ------------------------------------------------------------------ */

static inline void envelope_wrap_key(struct piece *out, EVP_PKEY *key,
    const struct envelope_spec *spec, const uint8_t *cek, size_t cek_n)
{
    uint8_t sealed[512];
    size_t n = sizeof sealed;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    assert_int_equal(EVP_PKEY_encrypt_init(ctx), 1);
    EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING);
    EVP_PKEY_CTX_set_rsa_oaep_md(ctx, spec->oaep_sha1 ? EVP_sha1() : EVP_sha256());
    EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, spec->mgf_sha1 ? EVP_sha1() : EVP_sha256());
    assert_int_equal(EVP_PKEY_encrypt(ctx, sealed, &n, cek, cek_n), 1);
    EVP_PKEY_CTX_free(ctx);
    piece_add(out, sealed, n);
    piece_wrap(out, 0x04, false);
}

static inline void envelope_encrypt(struct piece *out, const struct envelope_spec *spec,
    const uint8_t *cek, const uint8_t *iv, struct bytes secret)
{
    int n = 0, last = 0;
    assert_true(secret.n + 16 <= ENVELOPE_PIECE_MAX * 6);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    EVP_EncryptInit_ex(ctx, spec->aes_128 ? EVP_aes_128_cbc() : EVP_aes_256_cbc(), NULL, cek, iv);
    EVP_EncryptUpdate(ctx, out->p, &n, secret.p, (int)secret.n);
    assert_int_equal(EVP_EncryptFinal_ex(ctx, out->p + n, &last), 1);
    EVP_CIPHER_CTX_free(ctx);
    out->n = (size_t)(n + last);
}

/* ---- the parts --------------------------------------------------------------------- */

static inline void envelope_recipient(struct piece *out, EVP_PKEY *key,
    const struct envelope_spec *spec, const uint8_t *cek, size_t cek_n)
{
    static const char sha1[] = "300906052b0e03021a0500",
                      sha256[] = "300d06096086480165030402010500";
    struct piece params = {0}, mask = {0}, sealed = {0}, ski = {0};
    piece_add_hex(&params, spec->oaep_sha1 ? sha1 : sha256);
    piece_wrap(&params, 0xa0, false);
    piece_add_hex(&mask, "06092a864886f70d010108");
    piece_add_hex(&mask, spec->mgf_sha1 ? sha1 : sha256);
    piece_wrap(&mask, 0x30, false);
    piece_wrap(&mask, 0xa1, false);
    piece_add(&params, mask.p, mask.n);
    piece_wrap(&params, 0x30, false);
    struct piece algorithm = {0};
    piece_add_hex(&algorithm, "06092a864886f70d010107");
    piece_add(&algorithm, params.p, params.n);
    piece_wrap(&algorithm, 0x30, false);
    uint8_t id[32] = {7};
    piece_add(&ski, id, sizeof id);
    piece_wrap(&ski, 0x80, false);
    envelope_wrap_key(&sealed, key, spec, cek, cek_n);
    piece_add_hex(out, "020102");
    piece_add(out, ski.p, ski.n);
    piece_add(out, algorithm.p, algorithm.n);
    piece_add(out, sealed.p, sealed.n);
    piece_wrap(out, 0x30, false);
}

static inline void envelope_content(
    struct piece *out, const struct envelope_spec *spec, const uint8_t *cek, struct bytes secret)
{
    struct piece sealed = {0}, content = {0}, algorithm = {0};
    uint8_t iv[16];
    assert_int_equal(RAND_bytes(iv, sizeof iv), 1);
    envelope_encrypt(&sealed, spec, cek, iv, secret);
    size_t step = spec->form == ENVELOPE_SPLIT ? 7 : sealed.n;
    bool is_primitive = spec->form == ENVELOPE_PRIMITIVE || spec->form == ENVELOPE_DER;
    for (size_t at = 0; at < sealed.n && !is_primitive; at += step) {
        struct piece part = {0};
        piece_add(&part, sealed.p + at, sealed.n - at < step ? sealed.n - at : step);
        piece_wrap(&part, 0x04, false);
        piece_add(&content, part.p, part.n);
    }
    if (is_primitive)
        piece_add(&content, sealed.p, sealed.n);
    piece_wrap(&content, is_primitive ? 0x80 : 0xa0, !is_primitive);
    piece_add(&algorithm, iv, sizeof iv);
    piece_wrap(&algorithm, 0x04, false);
    struct piece oid = {0};
    piece_add_hex(&oid, spec->aes_128 ? "0609608648016503040102" : "060960864801650304012a");
    piece_add(&oid, algorithm.p, algorithm.n);
    piece_wrap(&oid, 0x30, false);
    piece_add_hex(out, "06092a864886f70d010701");
    piece_add(out, oid.p, oid.n);
    piece_add(out, content.p, content.n);
    piece_wrap(out, 0x30, spec->form != ENVELOPE_DER);
}

static inline void envelope_make(
    struct piece *out, EVP_PKEY *key, const struct envelope_spec *spec, struct bytes secret)
{
    bool indefinite = spec->form != ENVELOPE_DER;
    struct piece recipients = {0}, content = {0};
    uint8_t cek[32];
    assert_int_equal(RAND_bytes(cek, sizeof cek), 1);
    for (unsigned i = 0; i < (spec->recipients_n > 0 ? spec->recipients_n : 1); i++) {
        struct piece one = {0};
        envelope_recipient(&one, key, spec, cek, spec->aes_128 ? 16 : 32);
        piece_add(&recipients, one.p, one.n);
    }
    piece_wrap(&recipients, 0x31, false);
    envelope_content(&content, spec, cek, secret);
    out->n = 0;
    piece_add_hex(out, "020102");
    piece_add(out, recipients.p, recipients.n);
    piece_add(out, content.p, content.n);
    piece_wrap(out, 0x30, indefinite);
    piece_wrap(out, 0xa0, indefinite);
    struct piece whole = {0};
    piece_add_hex(&whole, "06092a864886f70d010703");
    piece_add(&whole, out->p, out->n);
    piece_wrap(&whole, 0x30, indefinite);
    *out = whole;
}

#endif
