#include "nitro/eif_sign.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/fd.h"
#include "crypto/secret.h"
#include "nitro/attestation.h"
#include "nitro/attestation_chain.h"
#include "nitro/cbor.h"
#include "nitro/cose.h"
#include "nitro/pcr.h"

enum { PEM_FILE_MAX = 65536, PAYLOAD_MAX = 256, COSE_MAX = 1024, SIGNATURE_TEXT_MAX = 4096 };

/* ---- certificates -------------------------------------------------------------------- */

static X509 *certificate_of(struct bytes der, struct err *err)
{
    const uint8_t *p = der.p;
    X509 *cert = der.n <= LONG_MAX ? d2i_X509(NULL, &p, (long)der.n) : NULL;
    if (cert == NULL)
        err_set(err, "the signing certificate is no X.509 certificate");
    ERR_clear_error();
    return cert;
}

bool eif_certificate_read(
    const char *path, uint8_t out[static EIF_CERTIFICATE_MAX], size_t *ret_n, struct err *err)
{
    struct eif_file file = {0};
    if (!eif_part_open(&file, path, err))
        return false;
    bool ok = attestation_root_from_pem(file.content, out, EIF_CERTIFICATE_MAX, ret_n, err);
    eif_file_close(&file);
    return ok || err_prefix(err, "%s", path);
}

static bool time_of(const ASN1_TIME *time, int64_t *ret_s, char text[TIME_TEXT_LEN])
{
    struct tm tm;
    if (time == NULL || ASN1_TIME_to_tm(time, &tm) != 1)
        return false;
    *ret_s = (int64_t)timegm(&tm);
    time_text(*ret_s, text);
    return true;
}

bool eif_certificate_is_valid(struct bytes der, int64_t now_s, struct err *err)
{
    int64_t begin = 0, end = 0;
    char begin_text[TIME_TEXT_LEN], end_text[TIME_TEXT_LEN];
    X509 *cert = certificate_of(der, err);
    if (cert == NULL)
        return false;
    bool ok = time_of(X509_get0_notBefore(cert), &begin, begin_text) &&
              time_of(X509_get0_notAfter(cert), &end, end_text);
    X509_free(cert);
    if (!ok)
        return err_set(err, "the signing certificate does not say when it is valid");
    return (begin <= now_s && now_s <= end) ||
           err_set(err,
               "the signing certificate is valid from %s to %s and not now; the hypervisor starts "
               "no image that is signed with it",
               begin_text, end_text);
}

/* ---- certificates as nitro-cli describes them ---------------------------------------- */

static json_t *describe_issuer(X509 *cert)
{
    json_t *names = json_object();
    const X509_NAME *issuer = X509_get_issuer_name(cert);
    for (int i = 0; i < X509_NAME_entry_count(issuer); i++) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(issuer, i);
        char key[128];
        unsigned char *value = NULL;
        int n = ASN1_STRING_to_UTF8(&value, X509_NAME_ENTRY_get_data(entry));
        if (n >= 0 && OBJ_obj2txt(key, sizeof key, X509_NAME_ENTRY_get_object(entry), 0) > 0)
            json_object_set_new(names, key, json_stringn((const char *)value, (size_t)n));
        OPENSSL_free(value);
    }
    return names;
}

/* As OpenSSL prints it: Nov 23 17:00:00 2026 GMT */
static json_t *describe_time(const ASN1_TIME *time)
{
    char text[64];
    BIO *out = BIO_new(BIO_s_mem());
    int n = out != NULL && ASN1_TIME_print(out, time) == 1 ? BIO_read(out, text, sizeof text) : 0;
    BIO_free(out);
    return json_stringn(text, n > 0 ? (size_t)n : 0);
}

static json_t *describe_signature(X509 *cert)
{
    char text[SIGNATURE_TEXT_MAX];
    const ASN1_BIT_STRING *signature = NULL;
    X509_get0_signature(&signature, NULL, cert);
    size_t at = 0;
    for (int i = 0; i < signature->length && at + 4 < sizeof text; i++)
        at += (size_t)snprintf(
            text + at, sizeof text - at, "%s%02X", i > 0 ? ":" : "", signature->data[i]);
    return json_stringn(text, at);
}

json_t *eif_certificate_describe(struct bytes der, struct err *err)
{
    X509 *cert = certificate_of(der, err);
    if (cert == NULL)
        return NULL;
    json_t *ret = json_pack("{s:o, s:s, s:o, s:o, s:o}", "IssuerName", describe_issuer(cert),
        "Algorithm", OBJ_nid2ln(X509_get_signature_nid(cert)), "NotBefore",
        describe_time(X509_get0_notBefore(cert)), "NotAfter",
        describe_time(X509_get0_notAfter(cert)), "Signature", describe_signature(cert));
    X509_free(cert);
    ERR_clear_error();
    if (ret == NULL)
        err_set(err, "the signing certificate cannot be described");
    return ret;
}

/* ---- signing ------------------------------------------------------------------------- */

struct signer {
    X509 *certificate;
    EVP_PKEY *key;
    const struct cose_algorithm *algorithm;
};

static void signer_free(struct signer *s)
{
    X509_free(s->certificate);
    EVP_PKEY_free(s->key);
    ERR_clear_error();
}

/* Never asks at the terminal. */
static int no_passphrase(char *buf, int size, int for_writing, void *was_asked)
{
    (void)buf, (void)size, (void)for_writing;
    *(bool *)was_asked = true;
    return -1;
}

static EVP_PKEY *key_of(struct bytes pem, bool *ret_is_locked)
{
    BIO *in = BIO_new_mem_buf(pem.p, (int)pem.n);
    EVP_PKEY *key =
        in != NULL ? PEM_read_bio_PrivateKey(in, NULL, no_passphrase, ret_is_locked) : NULL;
    BIO_free(in);
    return key;
}

static bool read_key(struct signer *s, const char *path, struct err *err)
{
    uint8_t pem[PEM_FILE_MAX];
    size_t n = 0;
    bool is_locked = false;
    int fd ATTR_CLEANUP(fd_close) = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "cannot open %s", path);
    bool ok = fd_read_all(fd, pem, sizeof pem, &n, err);
    if (ok)
        s->key = key_of(bytes_of(pem, n), &is_locked);
    secret_wipe(pem, sizeof pem);
    if (!ok)
        return err_prefix(err, "%s", path);
    if (is_locked)
        return err_set(err,
            "the private key %s is encrypted; `openssl pkey -in %s -out FILE` writes it without a "
            "passphrase",
            path, path);
    if (s->key == NULL)
        return err_set(err, "%s holds no private key in PEM form", path);
    s->algorithm = cose_algorithm_of(s->key);
    return s->algorithm != NULL ||
           err_set(err, "%s is no key on P-256, P-384 or P-521 (AWS recommends P-384)", path);
}

static bool read_signer(struct signer *s, const char *certificate_path, const char *key_path,
    int64_t now_s, struct err *err)
{
    uint8_t der[EIF_CERTIFICATE_MAX];
    size_t der_n = 0;
    if (!eif_certificate_read(certificate_path, der, &der_n, err))
        return false;
    s->certificate = certificate_of(bytes_of(der, der_n), err);
    if (s->certificate == NULL || !eif_certificate_is_valid(bytes_of(der, der_n), now_s, err))
        return err_prefix(err, "%s", certificate_path);
    if (!read_key(s, key_path, err))
        return false;
    return X509_check_private_key(s->certificate, s->key) == 1 ||
           err_set(err, "the private key %s is not that of the certificate %s", key_path,
               certificate_path);
}

/* serde writes a Vec<u8> as a list of numbers, and readers of the reference take nothing else. */
static void write_numbers(struct writer *w, struct bytes b)
{
    cbor_write_array(w, b.n);
    for (size_t i = 0; i < b.n; i++)
        cbor_write_uint(w, b.p[i]);
}

static void write_payload(struct writer *w, const uint8_t pcr0[PCR_LEN])
{
    cbor_write_map(w, 2);
    cbor_write_text(w, "register_index");
    cbor_write_uint(w, 0);
    cbor_write_text(w, "register_value");
    write_numbers(w, bytes_of(pcr0, PCR_LEN));
}

static bool write_cose(struct writer *w, const struct signer *s, const uint8_t pcr0[PCR_LEN])
{
    uint8_t payload_buf[PAYLOAD_MAX], signature[COSE_SIGNATURE_MAX];
    struct writer payload = writer_of(payload_buf, sizeof payload_buf);
    write_payload(&payload, pcr0);
    if (payload.bad || !cose_sign(written(&payload), s->key, s->algorithm, signature))
        return false;
    cbor_write_array(w, 4);
    cbor_write_bytes(w, bytes_of(s->algorithm->header, s->algorithm->header_n));
    cbor_write_map(w, 0);
    cbor_write_bytes(w, written(&payload));
    cbor_write_bytes(w, bytes_of(signature, 2 * s->algorithm->half));
    return !w->bad;
}

static bool write_section(
    struct writer *w, const struct signer *s, const uint8_t pcr0[PCR_LEN], struct err *err)
{
    uint8_t cose_buf[COSE_MAX];
    char *pem = NULL;
    struct writer cose = writer_of(cose_buf, sizeof cose_buf);
    BIO *out = BIO_new(BIO_s_mem());
    long pem_n = out != NULL && PEM_write_bio_X509(out, s->certificate) == 1
                     ? BIO_get_mem_data(out, &pem)
                     : 0;
    bool ok = pem_n > 0 && write_cose(&cose, s, pcr0);
    if (ok) {
        cbor_write_array(w, 1);
        cbor_write_map(w, 2);
        cbor_write_text(w, "signing_certificate");
        write_numbers(w, bytes_of(pem, (size_t)pem_n));
        cbor_write_text(w, "signature");
        write_numbers(w, written(&cose));
    }
    BIO_free(out);
    if (!ok)
        return err_set(err, "OpenSSL cannot sign the image");
    return !w->bad || err_set(err,
                          "the signature has no room in %d bytes: the certificate is too "
                          "large",
                          EIF_SIGNATURE_MAX);
}

bool eif_sign(struct eif *eif, const char *certificate_path, const char *key_path, int64_t now_s,
    uint8_t out[static EIF_SIGNATURE_MAX], struct err *err)
{
    struct signer signer = {0};
    struct eif_pcrs pcrs;
    struct writer w = writer_of(out, EIF_SIGNATURE_MAX);
    struct eif unsigned_one = *eif;
    unsigned_one.signature = (struct bytes){0};
    bool ok = eif_measure(&unsigned_one, &pcrs, err) &&
              read_signer(&signer, certificate_path, key_path, now_s, err) &&
              write_section(&w, &signer, pcrs.values[0], err);
    if (ok)
        eif->signature = written(&w);
    signer_free(&signer);
    return ok;
}

/* ---- checking ------------------------------------------------------------------------ */

static bool payload_is_of(struct bytes payload, const uint8_t pcr0[PCR_LEN])
{
    struct reader r = reader_of(payload);
    uint8_t value[PCR_LEN] = {0};
    uint64_t index = UINT64_MAX;
    size_t value_n = 0;
    struct cbor_list map = cbor_read_map(&r);
    while (cbor_more(&r, &map)) {
        struct bytes name = cbor_read_text(&r);
        if (bytes_equal(name, bytes_of_text("register_index")))
            index = cbor_read_uint(&r);
        else if (bytes_equal(name, bytes_of_text("register_value")))
            value_n = cbor_read_octets(&r, value, sizeof value);
        else
            r.bad = true;
    }
    return reader_done(&r) && index == 0 && value_n == PCR_LEN && memcmp(value, pcr0, PCR_LEN) == 0;
}

static bool read_cose(struct cose_sign1 *ret, struct bytes cose)
{
    struct reader r = reader_of(cose);
    if (cbor_peek(&r) == CBOR_TAG && cbor_read_tag(&r) != COSE_SIGN1_TAG)
        return false;
    struct cbor_list list = cbor_read_array(&r);
    if (list.is_indefinite || list.left != 4)
        return false;
    ret->header = cbor_read_bytes(&r);
    cbor_skip(&r); /* what is not protected means nothing here */
    ret->payload = cbor_read_bytes(&r);
    ret->signature = cbor_read_bytes(&r);
    return reader_done(&r);
}

static bool check_with_key(
    const struct cose_sign1 *message, EVP_PKEY *key, const uint8_t pcr0[PCR_LEN], struct err *err)
{
    const struct cose_algorithm *a = key != NULL ? cose_algorithm_of(key) : NULL;
    if (a == NULL)
        return err_set(err, "the certificate's key is not on P-256, P-384 or P-521");
    if (!bytes_equal(message->header, bytes_of(a->header, a->header_n)))
        return err_set(
            err, "it is not made with %s, which goes with the certificate's key", a->name);
    if (!cose_verify(message, key, a))
        return err_set(err, "it was not made by the certificate's key, or has been changed");
    return payload_is_of(message->payload, pcr0) ||
           err_set(err, "it is that of another image: it signs another PCR0");
}

bool eif_signature_check(const struct eif *eif, const uint8_t pcr0[PCR_LEN], struct err *err)
{
    struct eif_signature signature;
    struct cose_sign1 message;
    if (!eif_signature_parse(&signature, eif->signature, err))
        return false;
    X509 *cert = certificate_of(bytes_of(signature.certificate, signature.certificate_n), err);
    if (cert == NULL)
        return false;
    bool ok = read_cose(&message, bytes_of(signature.cose, signature.cose_n))
                  ? check_with_key(&message, X509_get0_pubkey(cert), pcr0, err)
                  : err_set(err, "it is no COSE_Sign1 message");
    X509_free(cert);
    ERR_clear_error();
    return ok || err_prefix(err, "the signature of the image");
}
