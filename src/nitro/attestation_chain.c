#include "nitro/attestation_chain.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "nitro/cose.h"

enum { NAME_MAX_LEN = 128 };

void time_text(int64_t seconds, char out[TIME_TEXT_LEN])
{
    time_t t = (time_t)seconds;
    struct tm tm;
    if (gmtime_r(&t, &tm) == NULL || strftime(out, TIME_TEXT_LEN, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        snprintf(out, TIME_TEXT_LEN, "out of range");
}

static bool seconds_of(const ASN1_TIME *time, int64_t *ret)
{
    struct tm tm;
    if (time == NULL || ASN1_TIME_to_tm(time, &tm) != 1)
        return false;
    *ret = (int64_t)timegm(&tm);
    return true;
}

/* The common name, with what a terminal might act on replaced. */
static void name_of(X509 *cert, char out[NAME_MAX_LEN])
{
    out[0] = '\0';
    if (X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, out, NAME_MAX_LEN) <=
        0)
        snprintf(out, NAME_MAX_LEN, "without a name");
    for (char *p = out; *p != '\0'; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
}

static X509 *certificate_of(struct bytes der)
{
    const uint8_t *p = der.p;
    X509 *cert = d2i_X509(NULL, &p, (long)der.n);
    if (cert != NULL && p != der.p + der.n) {
        X509_free(cert);
        cert = NULL;
    }
    return cert;
}

bool attestation_root_from_pem(
    struct bytes pem, uint8_t *out, size_t cap, size_t *ret_n, struct err *err)
{
    BIO *in = pem.n <= INT_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
    X509 *cert = in != NULL ? PEM_read_bio_X509(in, NULL, NULL, NULL) : NULL;
    int n = cert != NULL ? i2d_X509(cert, NULL) : 0;
    bool ok = n > 0 && (size_t)n <= cap;
    if (ok)
        *ret_n = (size_t)i2d_X509(cert, &out);
    X509_free(cert);
    BIO_free(in);
    ERR_clear_error();
    return ok || err_set(err, "there is no certificate in PEM form");
}

/* ---- each certificate by itself -------------------------------------------------- */

static bool key_is_p384(X509 *cert)
{
    EVP_PKEY *key = X509_get0_pubkey(cert);
    const struct cose_algorithm *algorithm = key != NULL ? cose_algorithm_of(key) : NULL;
    return algorithm != NULL && strcmp(algorithm->group, SN_secp384r1) == 0;
}

/* OpenSSL checks CA flags and key usages where the extensions are there; here they must be. */
static bool check_one(X509 *cert, bool is_ca, struct err *err)
{
    char name[NAME_MAX_LEN];
    name_of(cert, name);
    if (X509_get_signature_nid(cert) != NID_ecdsa_with_SHA384)
        return err_set(err, "the certificate of %s is not signed with ECDSA and SHA-384", name);
    if (!key_is_p384(cert))
        return err_set(err, "the certificate of %s holds no P-384 key", name);
    uint32_t flags = X509_get_extension_flags(cert), usage = X509_get_key_usage(cert);
    if ((flags & EXFLAG_INVALID) != 0 || (flags & EXFLAG_BCONS) == 0 ||
        (flags & EXFLAG_KUSAGE) == 0)
        return err_set(err, "the certificate of %s does not say what it is for", name);
    if (is_ca && ((flags & EXFLAG_CA) == 0 || (usage & KU_KEY_CERT_SIGN) == 0))
        return err_set(err, "%s may not sign certificates", name);
    if (!is_ca && ((flags & EXFLAG_CA) != 0 || (usage & KU_DIGITAL_SIGNATURE) == 0))
        return err_set(err, "the key of %s may not sign documents", name);
    return true;
}

/* ---- the chain ------------------------------------------------------------------- */

struct chain {
    STACK_OF(X509) * certs; /* the bundle from the root on, then the leaf */
    X509_STORE *store;      /* the root alone */
    X509_STORE_CTX *ctx;
};

static void chain_free(struct chain *c)
{
    X509_STORE_CTX_free(c->ctx);
    X509_STORE_free(c->store);
    sk_X509_pop_free(c->certs, X509_free);
}

static bool add_certificate(struct chain *c, struct bytes der, bool is_ca, struct err *err)
{
    int at = sk_X509_num(c->certs);
    X509 *cert = certificate_of(der);
    if (cert == NULL)
        return err_set(err, "certificate %d of the document is no X.509 certificate", at);
    if (sk_X509_push(c->certs, cert) <= 0) {
        X509_free(cert);
        return err_set(err, "out of memory");
    }
    return check_one(cert, is_ca, err);
}

static bool load(struct chain *c, const struct attestation *a, struct err *err)
{
    c->certs = sk_X509_new_null();
    c->store = X509_STORE_new();
    c->ctx = X509_STORE_CTX_new();
    if (c->certs == NULL || c->store == NULL || c->ctx == NULL)
        return err_set(err, "out of memory");
    for (unsigned i = 0; i < a->cabundle_n; i++)
        if (!add_certificate(c, a->cabundle[i], true, err))
            return false;
    return add_certificate(c, a->certificate, false, err);
}

static X509 *leaf_of(const struct chain *c)
{
    return sk_X509_value(c->certs, sk_X509_num(c->certs) - 1);
}

static bool refuse(X509_STORE_CTX *ctx, int64_t at_s, struct err *err)
{
    char name[NAME_MAX_LEN] = "the document", when[TIME_TEXT_LEN], limit[TIME_TEXT_LEN] = "";
    int why = X509_STORE_CTX_get_error(ctx);
    X509 *cert = X509_STORE_CTX_get_current_cert(ctx);
    int64_t limit_s = 0;
    if (cert != NULL)
        name_of(cert, name);
    time_text(at_s, when);
    if (why == X509_V_ERR_CERT_HAS_EXPIRED && seconds_of(X509_get0_notAfter(cert), &limit_s)) {
        time_text(limit_s, limit);
        return err_set(err, "the certificate of %s expired at %s, and it is checked for %s", name,
            limit, when);
    }
    if (why == X509_V_ERR_CERT_NOT_YET_VALID && seconds_of(X509_get0_notBefore(cert), &limit_s)) {
        time_text(limit_s, limit);
        return err_set(err,
            "the certificate of %s begins at %s, and it is checked for %s; is this clock right?",
            name, limit, when);
    }
    return err_set(err, "the certificate of %s is not acceptable: %s", name,
        X509_verify_cert_error_string(why));
}

/* Was the way that OpenSSL found the whole bundle, in its order? */
static bool is_whole_bundle(const struct chain *c)
{
    STACK_OF(X509) *way = X509_STORE_CTX_get0_chain(c->ctx);
    int n = sk_X509_num(c->certs);
    if (sk_X509_num(way) != n)
        return false;
    for (int i = 0; i < n; i++)
        if (X509_cmp(sk_X509_value(way, i), sk_X509_value(c->certs, n - 1 - i)) != 0)
            return false;
    return true;
}

static int64_t forgive_skew(X509 *leaf, int64_t now_s)
{
    int64_t begin = 0;
    bool is_near = seconds_of(X509_get0_notBefore(leaf), &begin) && begin > now_s &&
                   begin - now_s <= ATTESTATION_SKEW_S;
    return is_near ? begin : now_s;
}

static bool verify(struct chain *c, int64_t now_s, struct err *err)
{
    X509 *leaf = leaf_of(c);
    int64_t at_s = forgive_skew(leaf, now_s);
    if (X509_STORE_add_cert(c->store, sk_X509_value(c->certs, 0)) != 1 ||
        X509_STORE_CTX_init(c->ctx, c->store, leaf, c->certs) != 1)
        return err_set(err, "OpenSSL cannot check the certificates");
    X509_STORE_CTX_set_time(c->ctx, 0, (time_t)at_s);
    if (X509_verify_cert(c->ctx) != 1)
        return refuse(c->ctx, at_s, err);
    if (!is_whole_bundle(c))
        return err_set(err, "the certificates of the document are not one chain in order");
    return true;
}

EVP_PKEY *attestation_chain_verify(
    const struct attestation *a, struct bytes root_der, int64_t now_s, struct err *err)
{
    if (!bytes_equal(a->cabundle[0], root_der)) {
        err_set(err, "the document's chain of certificates does not begin at the expected root");
        return NULL;
    }
    struct chain c = {0};
    EVP_PKEY *key = NULL;
    if (load(&c, a, err) && verify(&c, now_s, err))
        key = X509_get_pubkey(leaf_of(&c));
    chain_free(&c);
    ERR_clear_error();
    return key;
}

/* ---- the signature --------------------------------------------------------------- */

bool attestation_signature_verify(const struct attestation *a, EVP_PKEY *key)
{
    const struct cose_algorithm *algorithm = cose_algorithm_of(key);
    const struct cose_sign1 message = {
        .header = a->protected_header, .payload = a->payload, .signature = a->signature};
    return algorithm != NULL && cose_verify(&message, key, algorithm);
}
