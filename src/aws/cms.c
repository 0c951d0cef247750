#include "aws/cms.h"

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/cms.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "aws/aws.h"
#include "aws/cms_impl.h"

enum { RSA_BITS = 2048, SECURE_HEAP_BYTES = 1 << 16, SECURE_HEAP_LEAST = 32, ENVELOPE_MAX = 6144 };

/* OpenSSL keeps the secret parts of RSA keys in its secure heap (guard pages, locked, not dumped) if there is one. */
static bool start_secure_heap(struct err *err)
{
    if (CRYPTO_secure_malloc_initialized() == 1 ||
        CRYPTO_secure_malloc_init(SECURE_HEAP_BYTES, SECURE_HEAP_LEAST) == 1)
        return true;
    CRYPTO_secure_malloc_done(); /* 2: it is there, but not locked; the next call must not take it for good */
    return err_set(err, "cannot lock memory for the recipient's key; raise the limit with "
                        "`LimitMEMLOCK=16M` in the systemd unit or `ulimit -l`");
}

bool recipient_from(struct recipient **ret, EVP_PKEY *key, struct err *err)
{
    struct recipient *r = calloc(1, sizeof *r);
    int n = key != NULL ? i2d_PUBKEY(key, NULL) : -1;
    if (r == NULL || n <= 0 || n > RECIPIENT_DER_MAX) {
        EVP_PKEY_free(key);
        free(r);
        return err_set(err, "cannot make the recipient's RSA key: %s", aws_openssl_reason());
    }
    uint8_t *p = r->der;
    r->key = key;
    r->der_n = (size_t)i2d_PUBKEY(key, &p);
    *ret = r;
    return true;
}

bool recipient_new(struct recipient **ret, struct err *err)
{
    /* Only now: most signers never need OpenSSL, and it costs megabytes. Without its configuration
     * it needs no file. */
    if (OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1)
        return err_set(err, "OpenSSL does not start: %s", aws_openssl_reason());
    return start_secure_heap(err) && recipient_from(ret, EVP_RSA_gen(RSA_BITS), err);
}

void recipient_free(struct recipient *r)
{
    if (r == NULL)
        return;
    EVP_PKEY_free(r->key); /* clears the private numbers */
    free(r);
}

struct bytes recipient_public_der(const struct recipient *r)
{
    return bytes_of(r->der, r->der_n);
}

/* ---- what the envelope says about itself --------------------------------------------- */

static bool is_algorithm(const X509_ALGOR *alg, int nid)
{
    const ASN1_OBJECT *oid = NULL;
    if (alg == NULL)
        return false;
    X509_ALGOR_get0(&oid, NULL, NULL, alg);
    return OBJ_obj2nid(oid) == nid;
}

static bool mask_is_mgf1_sha256(const X509_ALGOR *mask)
{
    int type = V_ASN1_UNDEF;
    const void *value = NULL;
    if (!is_algorithm(mask, NID_mgf1))
        return false;
    X509_ALGOR_get0(NULL, &type, &value, mask);
    if (type != V_ASN1_SEQUENCE)
        return false;
    const ASN1_STRING *sequence = value;
    const uint8_t *p = ASN1_STRING_get0_data(sequence);
    X509_ALGOR *hash = d2i_X509_ALGOR(NULL, &p, ASN1_STRING_length(sequence));
    bool ok = is_algorithm(hash, NID_sha256);
    X509_ALGOR_free(hash);
    return ok;
}

/* RSAES-OAEP with SHA-256 for both the label's hash and the mask, and no label (RFC 8017, A.2.1). */
static bool is_oaep_sha256(const X509_ALGOR *alg)
{
    int type = V_ASN1_UNDEF;
    const void *value = NULL;
    if (!is_algorithm(alg, NID_rsaesOaep))
        return false;
    X509_ALGOR_get0(NULL, &type, &value, alg);
    if (type != V_ASN1_SEQUENCE)
        return false;
    const ASN1_STRING *sequence = value;
    const uint8_t *p = ASN1_STRING_get0_data(sequence);
    RSA_OAEP_PARAMS *params = d2i_RSA_OAEP_PARAMS(NULL, &p, ASN1_STRING_length(sequence));
    bool ok = params != NULL && is_algorithm(params->hashFunc, NID_sha256) &&
              mask_is_mgf1_sha256(params->maskGenFunc) && params->pSourceFunc == NULL;
    RSA_OAEP_PARAMS_free(params);
    return ok;
}

/* The one RecipientInfo of an EnvelopedData, if it is as KMS makes it. */
static CMS_RecipientInfo *only_recipient(CMS_ContentInfo *cms, struct err *err)
{
    if (OBJ_obj2nid(CMS_get0_type(cms)) != NID_pkcs7_enveloped) {
        err_set(err, "the answer is a CMS message, but no envelope");
        return NULL;
    }
    STACK_OF(CMS_RecipientInfo) *list = CMS_get0_RecipientInfos(cms);
    if (list == NULL || sk_CMS_RecipientInfo_num(list) != 1) {
        err_set(err, "the envelope is not for exactly one recipient");
        return NULL;
    }
    CMS_RecipientInfo *info = sk_CMS_RecipientInfo_value(list, 0);
    X509_ALGOR *alg = NULL;
    if (CMS_RecipientInfo_type(info) != CMS_RECIPINFO_TRANS ||
        CMS_RecipientInfo_ktri_get0_algs(info, NULL, NULL, &alg) != 1 || !is_oaep_sha256(alg)) {
        err_set(err, "the envelope's key is not encrypted with RSAES-OAEP and SHA-256");
        return NULL;
    }
    return info;
}

static CMS_ContentInfo *parse(struct bytes envelope, struct err *err)
{
    const uint8_t *p = envelope.p;
    CMS_ContentInfo *cms = NULL;
    if (envelope.n > 0 && envelope.n <= ENVELOPE_MAX)
        cms = d2i_CMS_ContentInfo(NULL, &p, (long)envelope.n);
    if (cms != NULL && p == envelope.p + envelope.n)
        return cms;
    CMS_ContentInfo_free(cms);
    ERR_clear_error();
    err_set(err, "the answer is not a CMS envelope (%zu bytes)", envelope.n);
    return NULL;
}

/* ---- opening it ------------------------------------------------------------------- */

/* CMS_decrypt() would put a random key in the place of one it cannot decrypt and so, now and then, succeed; this
 * fails. */
static bool decrypt_key(const struct recipient *r, CMS_ContentInfo *cms, struct err *err)
{
    CMS_RecipientInfo *info = only_recipient(cms, err);
    if (info == NULL)
        return false;
    if (EVP_PKEY_up_ref(r->key) != 1)
        return err_set(err, "cannot use the recipient's key");
    if (CMS_RecipientInfo_set0_pkey(info, r->key) != 1) {
        EVP_PKEY_free(r->key);
        return err_set(err, "cannot use the recipient's key: %s", aws_openssl_reason());
    }
    if (CMS_RecipientInfo_decrypt(cms, info) == 1)
        return true;
    ERR_clear_error();
    return err_set(err, "the envelope is not for this recipient's key");
}

static bool is_aes_256_cbc(BIO *content)
{
    EVP_CIPHER_CTX *ctx = NULL;
    BIO *cipher = BIO_find_type(content, BIO_TYPE_CIPHER);
    return cipher != NULL && BIO_get_cipher_ctx(cipher, &ctx) == 1 && ctx != NULL &&
           EVP_CIPHER_CTX_get_nid(ctx) == NID_aes_256_cbc;
}

/* Straight into the caller's memory: no copy of the plaintext stays behind (the cipher's buffer is cleared by
 * OpenSSL). */
static bool read_content(BIO *content, uint8_t *out, size_t cap, size_t *ret_n, struct err *err)
{
    size_t n = 0;
    uint8_t beyond;
    int got = 1;
    while (got > 0 && n < cap) {
        got = BIO_read(content, out + n, (int)(cap - n));
        n += got > 0 ? (size_t)got : 0;
    }
    bool is_longer = got > 0 && BIO_read(content, &beyond, 1) > 0;
    OPENSSL_cleanse(&beyond, sizeof beyond);
    if (!is_longer && n > 0 && BIO_get_cipher_status(content) == 1) {
        *ret_n = n;
        return true;
    }
    OPENSSL_cleanse(out, cap);
    ERR_clear_error();
    return is_longer ? err_set(err, "the envelope holds more than %zu bytes", cap)
                     : err_set(err, "the envelope's content does not decrypt");
}

static bool decrypt_content(
    CMS_ContentInfo *cms, uint8_t *out, size_t cap, size_t *ret_n, struct err *err)
{
    BIO *content = CMS_dataInit(cms, NULL);
    if (content == NULL)
        return err_set(err, "the envelope has no content that decrypts: %s", aws_openssl_reason());
    bool ok = is_aes_256_cbc(content) ? read_content(content, out, cap, ret_n, err)
                                      : err_set(err, "the envelope's content is not AES-256-CBC");
    BIO_free_all(content);
    return ok;
}

bool recipient_open(const struct recipient *r, struct bytes envelope, uint8_t *out, size_t cap,
    size_t *ret_n, struct err *err)
{
    if (cap == 0 || cap > ENVELOPE_MAX)
        return err_set(err, "no room for the content of an envelope");
    CMS_ContentInfo *cms = parse(envelope, err);
    bool ok = cms != NULL && decrypt_key(r, cms, err) && decrypt_content(cms, out, cap, ret_n, err);
    CMS_ContentInfo_free(cms);
    return ok;
}
