#include "sim/nsm_chain.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/clock.h"
#include "base/fd.h"

enum {
    MINUTE = 60,
    HOUR = 60 * MINUTE,
    DAY = 24 * HOUR,
    RENEW_BEFORE = 15 * MINUTE,
    SERIAL_LEN = 16,
    NAME_CAP = 192,
    PEM_MAX = 8192,
    ES384_HALF = 48,
};

/* Life times as in real documents; only the leaf is not back-dated. */
struct level {
    const char *name; /* behind the CN of the levels between root and instance */
    int64_t begins_before, lasts;
    const char *constraints, *usage;
};

static const struct level levels[NSM_CHAIN_LEVELS] = {
    {"aws.nitro-enclaves", 365 * DAY, (int64_t)30 * 365 * DAY, "critical,CA:TRUE",
        "critical,digitalSignature,keyCertSign,cRLSign"},
    {"97729fd67d43eaa0.sim-1.aws.nitro-enclaves", 4 * DAY, 20 * DAY, "critical,CA:TRUE,pathlen:2",
        "critical,digitalSignature,keyCertSign,cRLSign"},
    {"1cd8b161bb2cf219.zonal.sim-1.aws.nitro-enclaves", 8 * HOUR, 6 * DAY,
        "critical,CA:TRUE,pathlen:1", "critical,digitalSignature,keyCertSign,cRLSign"},
    {"instance", 3 * HOUR, DAY, "critical,CA:TRUE,pathlen:0", "critical,keyCertSign"},
    {"enclave", 0, 3 * HOUR, "critical,CA:FALSE", "digitalSignature,nonRepudiation"},
};

/* ---- one certificate -------------------------------------------------------------- */

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = extension != NULL && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

static bool set_name(X509 *cert, const char *common_name)
{
    static const char *const parts[][2] = {
        {"C", "US"}, {"O", "tmkms-sim"}, {"OU", "test root, not AWS"}};
    X509_NAME *name = X509_get_subject_name(cert);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (X509_NAME_add_entry_by_txt(name, parts[i][0], MBSTRING_ASC,
                (const unsigned char *)parts[i][1], -1, -1, 0) != 1)
            return false;
    return X509_NAME_add_entry_by_txt(
               name, "CN", MBSTRING_ASC, (const unsigned char *)common_name, -1, -1, 0) == 1;
}

static bool set_serial(X509 *cert)
{
    uint8_t serial[SERIAL_LEN];
    if (RAND_bytes(serial, sizeof serial) != 1)
        return false;
    serial[0] &= 0x7f;
    BIGNUM *n = BN_bin2bn(serial, sizeof serial, NULL);
    bool ok = n != NULL && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert)) != NULL;
    BN_free(n);
    return ok;
}

static bool set_times(X509 *cert, const struct level *level, int64_t now_s)
{
    time_t begins = (time_t)(now_s - level->begins_before);
    time_t ends = begins + (time_t)level->lasts;
    return ASN1_TIME_set(X509_getm_notBefore(cert), begins) != NULL &&
           ASN1_TIME_set(X509_getm_notAfter(cert), ends) != NULL;
}

/* issuer NULL: signed by its own key. */
static X509 *issue(const struct level *level, const char *name, EVP_PKEY *key, X509 *issuer,
    EVP_PKEY *issuer_key, int64_t now_s)
{
    X509 *cert = X509_new();
    X509 *by = issuer != NULL ? issuer : cert;
    bool ok = cert != NULL && X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
              set_times(cert, level, now_s) && set_name(cert, name) &&
              X509_set_pubkey(cert, key) == 1 &&
              X509_set_issuer_name(cert, X509_get_subject_name(by)) == 1 &&
              add_extension(cert, by, NID_basic_constraints, level->constraints) &&
              add_extension(cert, by, NID_key_usage, level->usage) &&
              X509_sign(cert, issuer_key, EVP_sha384()) > 0;
    if (ok)
        return cert;
    X509_free(cert);
    return NULL;
}

static bool keep_der(X509 *cert, struct nsm_certificate *ret)
{
    uint8_t *p = ret->der;
    int n = i2d_X509(cert, NULL);
    if (n <= 0 || n > NSM_CHAIN_DER_MAX)
        return false;
    ret->n = (size_t)i2d_X509(cert, &p);
    return true;
}

static X509 *certificate_of(const struct nsm_certificate *c)
{
    const uint8_t *p = c->der;
    return d2i_X509(NULL, &p, (long)c->n);
}

/* ---- the root --------------------------------------------------------------------- */

static bool make_root(struct nsm_chain *c, struct err *err)
{
    int64_t now_s = (int64_t)(clock_realtime_us() / 1000000);
    X509 *cert = NULL;
    c->root_key = EVP_EC_gen("P-384");
    if (c->root_key != NULL)
        cert = issue(&levels[0], levels[0].name, c->root_key, NULL, c->root_key, now_s);
    bool ok = cert != NULL && keep_der(cert, &c->certificates[0]);
    X509_free(cert);
    return ok || err_set(err, "cannot make the test root of the software NSM");
}

static bool write_pem(const char *path, const struct nsm_chain *c, bool with_key, struct err *err)
{
    char *text = NULL;
    BIO *out = BIO_new(BIO_s_mem());
    X509 *cert = certificate_of(&c->certificates[0]);
    bool ok =
        out != NULL && cert != NULL && PEM_write_bio_X509(out, cert) == 1 &&
        (!with_key || PEM_write_bio_PrivateKey(out, c->root_key, NULL, NULL, 0, NULL, NULL) == 1);
    long n = ok ? BIO_get_mem_data(out, &text) : 0;
    ok = ok && fd_create_durable(path, text, (size_t)n, !with_key, err);
    X509_free(cert);
    BIO_free(out);
    return ok;
}

static bool read_root(struct nsm_chain *c, const char *path, struct err *err)
{
    char pem[PEM_MAX];
    size_t n = 0;
    int fd ATTR_CLEANUP(fd_close) = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "cannot open %s", path);
    if (!fd_read_all(fd, pem, sizeof pem, &n, err))
        return err_prefix(err, "%s", path);
    BIO *in = BIO_new_mem_buf(pem, (int)n);
    X509 *cert = PEM_read_bio_X509(in, NULL, NULL, NULL);
    c->root_key = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
    bool ok = cert != NULL && c->root_key != NULL && keep_der(cert, &c->certificates[0]);
    X509_free(cert);
    BIO_free(in);
    return ok || err_set(err, "%s is not a test root", path);
}

bool nsm_chain_load(struct nsm_chain *c, const char *dir, struct err *err)
{
    char secret[NAME_CAP * 8], public[NAME_CAP * 8];
    *c = (struct nsm_chain){0};
    if (dir[0] == '\0')
        return make_root(c, err);
    snprintf(secret, sizeof secret, "%s/root-key.pem", dir);
    snprintf(public, sizeof public, "%s/root.pem", dir);
    /* Two that start at once: the first to create the file wins, and both read it. */
    if (access(secret, F_OK) != 0) {
        bool made = make_root(c, err) && write_pem(secret, c, true, err);
        nsm_chain_free(c);
        if (!made && access(secret, F_OK) != 0)
            return false;
    }
    return read_root(c, secret, err) && write_pem(public, c, false, err);
}

/* ---- what is below it -------------------------------------------------------------- */

static void name_level(int i, const char *module_id, char out[NAME_CAP])
{
    if (i == NSM_CHAIN_LEAF)
        snprintf(out, NAME_CAP, "%s.sim-1.aws", module_id);
    else if (i == NSM_CHAIN_LEAF - 1)
        snprintf(out, NAME_CAP, "%.*s.sim-1.aws.nitro-enclaves",
            (int)strcspn(module_id + 2, "-") + 2, module_id);
    else
        snprintf(out, NAME_CAP, "%s", levels[i].name);
}

static bool issue_all(struct nsm_chain *c, const char *module_id, int64_t now_s)
{
    X509 *issuer = certificate_of(&c->certificates[0]);
    EVP_PKEY *issuer_key = c->root_key;
    bool ok = issuer != NULL && EVP_PKEY_up_ref(issuer_key) == 1;
    for (int i = 1; ok && i < NSM_CHAIN_LEVELS; i++) {
        char name[NAME_CAP];
        name_level(i, module_id, name);
        EVP_PKEY *key = EVP_EC_gen("P-384");
        X509 *cert = key != NULL ? issue(&levels[i], name, key, issuer, issuer_key, now_s) : NULL;
        X509_free(issuer);
        EVP_PKEY_free(issuer_key);
        issuer = cert;
        issuer_key = key;
        ok = cert != NULL && keep_der(cert, &c->certificates[i]);
    }
    X509_free(issuer);
    EVP_PKEY_free(c->leaf_key);
    c->leaf_key = issuer_key;
    return ok;
}

bool nsm_chain_renew(struct nsm_chain *c, const char *module_id, int64_t now_s, struct err *err)
{
    if (c->leaf_key != NULL && now_s < c->leaf_ends_s - RENEW_BEFORE)
        return true;
    if (!issue_all(c, module_id, now_s))
        return err_set(err, "cannot make the certificates of the software NSM");
    c->leaf_ends_s = now_s + levels[NSM_CHAIN_LEAF].lasts;
    return true;
}

void nsm_chain_free(struct nsm_chain *c)
{
    EVP_PKEY_free(c->root_key);
    EVP_PKEY_free(c->leaf_key);
    *c = (struct nsm_chain){0};
}

bool nsm_chain_sign(const struct nsm_chain *c, struct bytes message, uint8_t ret[96])
{
    uint8_t der[128];
    size_t n = sizeof der;
    const uint8_t *p = der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx != NULL && EVP_DigestSignInit(ctx, NULL, EVP_sha384(), NULL, c->leaf_key) == 1 &&
              EVP_DigestSign(ctx, der, &n, message.p, message.n) == 1;
    EVP_MD_CTX_free(ctx);
    ECDSA_SIG *sig = ok ? d2i_ECDSA_SIG(NULL, &p, (long)n) : NULL;
    ok = sig != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(sig), ret, ES384_HALF) == ES384_HALF &&
         BN_bn2binpad(ECDSA_SIG_get0_s(sig), ret + ES384_HALF, ES384_HALF) == ES384_HALF;
    ECDSA_SIG_free(sig);
    return ok;
}
