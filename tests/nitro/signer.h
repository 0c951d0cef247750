/* signer: keys and certificates for signed images, made anew for each test. */
#ifndef TMKMS_TESTS_NITRO_SIGNER_H
#define TMKMS_TESTS_NITRO_SIGNER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

struct test_signer {
    EVP_PKEY *key;
    X509 *certificate;
};

static inline X509 *signer_certificate(EVP_PKEY *key, int64_t begin_s, int64_t end_s)
{
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    assert_int_equal(X509_set_version(cert, X509_VERSION_3), 1);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 7);
    assert_non_null(ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)begin_s));
    assert_non_null(ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)end_s));
    X509_NAME_add_entry_by_txt(
        name, "CN", MBSTRING_ASC, (const unsigned char *)"image signer", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_set_pubkey(cert, key);
    assert_true(X509_sign(cert, key, EVP_sha384()) > 0);
    return cert;
}

/* group: "P-384", or "RSA". */
static inline void signer_make(
    struct test_signer *ret, const char *group, int64_t begin_s, int64_t end_s)
{
    ret->key = group[0] == 'R' ? EVP_RSA_gen(2048) : EVP_EC_gen(group);
    assert_non_null(ret->key);
    ret->certificate = signer_certificate(ret->key, begin_s, end_s);
}

static inline void signer_save(const struct test_signer *s, const char *certificate_path,
    const char *key_path, const char *passphrase)
{
    FILE *out = fopen(certificate_path, "w");
    assert_non_null(out);
    assert_int_equal(PEM_write_X509(out, s->certificate), 1);
    fclose(out);
    out = fopen(key_path, "w");
    assert_non_null(out);
    assert_int_equal(
        PEM_write_PrivateKey(out, s->key, passphrase != NULL ? EVP_aes_128_cbc() : NULL,
            (const unsigned char *)passphrase, passphrase != NULL ? (int)strlen(passphrase) : 0,
            NULL, NULL),
        1);
    fclose(out);
}

static inline void signer_free(struct test_signer *s)
{
    EVP_PKEY_free(s->key);
    X509_free(s->certificate);
}

#endif
