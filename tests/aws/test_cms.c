/* Envelopes of KMS: every form opens with the right key; nothing else does. */
#include <openssl/bio.h>
#include <openssl/cms.h>
#include <openssl/pem.h>
#include <sys/wait.h>
#include <unistd.h>

#include "envelope.h"

#include "aws/aws.h"
#include "aws/cms_impl.h"
#include "crypto/key.h"
#include "crypto/secret.h"
#include "recipient_key.h"
#include "sandbox/sandbox.h"

enum { CAP = 4096 };

static struct recipient *right;
static uint8_t *out; /* secret memory of CAP bytes */
static const char secret_text[] = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

static EVP_PKEY *key_of_pem(void)
{
    BIO *bio = BIO_new_mem_buf(recipient_key_pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(key);
    return key;
}

static int setup(void **state)
{
    (void)state;
    struct err err;
    assert_true(crypto_start(&err) && aws_start(&err));
    assert_true(recipient_from(&right, key_of_pem(), &err));
    out = secret_alloc(CAP, &err);
    return out == NULL;
}

static int teardown(void **state)
{
    (void)state;
    recipient_free(right);
    secret_free(out);
    return 0;
}

/* Opens it with cap bytes of room. */
static bool opens(
    const struct recipient *r, struct bytes envelope, size_t cap, size_t *n, struct err *err)
{
    memset(out, 0xee, CAP);
    *n = 12345;
    return recipient_open(r, envelope, out, cap, n, err);
}

static void assert_opens(const struct piece *e, struct bytes secret)
{
    struct err err;
    size_t n;
    if (!opens(right, bytes_of(e->p, e->n), CAP, &n, &err))
        fail_msg("%s", err.text);
    assert_int_equal(n, secret.n);
    assert_memory_equal(out, secret.p, secret.n);
}

static void assert_refused(const struct piece *e, const char *why)
{
    struct err err = {0};
    size_t n;
    assert_false(opens(right, bytes_of(e->p, e->n), CAP, &n, &err));
    assert_int_equal(n, 12345);
    if (strstr(err.text, why) == NULL)
        fail_msg("'%s' does not say '%s'", err.text, why);
}

static void test_every_form_opens(void **state)
{
    (void)state;
    static uint8_t secret[CAP];
    static struct piece e;
    memset(secret, 0x5a, sizeof secret);
    for (enum envelope_form form = 0; form < ENVELOPE_FORMS; form++) {
        const size_t lengths[] = {1, 15, 16, 17, 32, 44, 1024};
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            envelope_make(&e, right->key, &(struct envelope_spec){.form = form},
                bytes_of(secret, lengths[i]));
            assert_opens(&e, bytes_of(secret, lengths[i]));
        }
    }
}

/* The sizes that AWS's own two vectors have for a 32-byte secret tell that the layout is KMS's. */
static void test_the_form_has_the_size_of_aws(void **state)
{
    (void)state;
    static struct piece e;
    uint8_t secret[32] = {1};
    envelope_make(&e, right->key, &(struct envelope_spec){.form = ENVELOPE_CONSTRUCTED},
        bytes_of(secret, 32));
    assert_int_equal(e.n, 493);
}

/* Another producer: OpenSSL's own CMS_encrypt, in definite DER with a version 0 recipient, as LocalStack sends it. */
static void test_an_envelope_of_another_producer_opens(void **state)
{
    (void)state;
    X509 *cert = X509_new();
    X509_NAME_add_entry_by_txt(
        X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const uint8_t *)"r", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 5);
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 1000);
    X509_set_pubkey(cert, right->key);
    assert_true(X509_sign(cert, right->key, EVP_sha256()) > 0);
    BIO *in = BIO_new_mem_buf(secret_text, -1);
    CMS_ContentInfo *cms = CMS_encrypt(NULL, NULL, EVP_aes_256_cbc(), CMS_BINARY | CMS_PARTIAL);
    CMS_RecipientInfo *info = CMS_add1_recipient_cert(cms, cert, CMS_KEY_PARAM);
    assert_non_null(info);
    EVP_PKEY_CTX *ctx = CMS_RecipientInfo_get0_pkey_ctx(info);
    EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING);
    EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256());
    EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha256());
    assert_int_equal(CMS_final(cms, in, NULL, CMS_BINARY), 1);
    static struct piece e;
    uint8_t *p = e.p;
    e.n = (size_t)i2d_CMS_ContentInfo(cms, &p);
    assert_opens(&e, bytes_of_text(secret_text));
    CMS_ContentInfo_free(cms);
    BIO_free(in);
    X509_free(cert);
}

static void test_other_algorithms_are_refused(void **state)
{
    (void)state;
    static const struct {
        struct envelope_spec spec;
        const char *why;
    } cases[] = {
        {{.oaep_sha1 = true}, "RSAES-OAEP"},
        {{.mgf_sha1 = true}, "RSAES-OAEP"},
        {{.oaep_sha1 = true, .mgf_sha1 = true, .form = ENVELOPE_DER}, "RSAES-OAEP"},
        {{.aes_128 = true}, "AES-256-CBC"},
        {{.recipients_n = 2}, "exactly one recipient"},
    };
    static struct piece e;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        envelope_make(&e, right->key, &cases[i].spec, bytes_of_text(secret_text));
        assert_refused(&e, cases[i].why);
    }
}

static void test_a_cms_message_that_is_no_envelope_is_refused(void **state)
{
    (void)state;
    BIO *in = BIO_new_mem_buf(secret_text, -1);
    CMS_ContentInfo *cms = CMS_data_create(in, CMS_BINARY);
    static struct piece e;
    uint8_t *p = e.p;
    e.n = (size_t)i2d_CMS_ContentInfo(cms, &p);
    assert_refused(&e, "no envelope");
    CMS_ContentInfo_free(cms);
    BIO_free(in);
}

/* Plain CMS_decrypt() accepts a wrong key about once in 256 times. */
static void test_a_wrong_key_never_opens(void **state)
{
    (void)state;
    enum { TIMES = 2000 };
    struct err err;
    struct recipient *wrong;
    static struct piece e;
    assert_true(recipient_new(&wrong, &err));
    unsigned refused = 0;
    for (unsigned i = 0; i < TIMES; i++) {
        size_t n;
        envelope_make(&e, right->key, &(struct envelope_spec){.form = i % ENVELOPE_FORMS},
            bytes_of_text(secret_text));
        refused += !opens(wrong, bytes_of(e.p, e.n), CAP, &n, &err);
        assert_non_null(strstr(err.text, "not for this recipient"));
    }
    assert_int_equal(refused, TIMES);
    recipient_free(wrong);
}

static void test_a_cut_envelope_is_refused(void **state)
{
    (void)state;
    static struct piece e;
    for (enum envelope_form form = 0; form < ENVELOPE_FORMS; form++) {
        envelope_make(
            &e, right->key, &(struct envelope_spec){.form = form}, bytes_of_text(secret_text));
        for (size_t cut = 0; cut < e.n; cut++) {
            struct err err;
            size_t n;
            assert_false(opens(right, bytes_of(e.p, cut), CAP, &n, &err));
        }
        e.p[e.n++] = 0; /* and one that goes on */
        assert_refused(&e, "not a CMS envelope");
    }
}

/* A changed byte: refused, or ignored where nothing depends on it (version, subject key identifier), or, in the content
 * that has no authenticity, another plaintext; never a crash, never more than asked for. */
static void test_a_changed_byte_is_survived(void **state)
{
    (void)state;
    static struct piece e;
    unsigned refused = 0, same = 0, other = 0;
    for (enum envelope_form form = 0; form < ENVELOPE_FORMS; form++) {
        envelope_make(
            &e, right->key, &(struct envelope_spec){.form = form}, bytes_of_text(secret_text));
        for (size_t at = 0; at < e.n; at++) {
            struct err err;
            size_t n;
            e.p[at] ^= 0x41;
            bool ok = opens(right, bytes_of(e.p, e.n), CAP, &n, &err);
            e.p[at] ^= 0x41;
            bool is_same = ok && n == strlen(secret_text) && memcmp(out, secret_text, n) == 0;
            refused += !ok;
            same += is_same;
            other += ok && !is_same;
        }
    }
    assert_true(refused > 1200 && same > 100 && other > 16);
}

static void test_a_secret_that_does_not_fit_leaves_nothing(void **state)
{
    (void)state;
    static struct piece e;
    struct err err;
    size_t n, len = strlen(secret_text);
    envelope_make(&e, right->key, &(struct envelope_spec){.form = ENVELOPE_SPLIT},
        bytes_of_text(secret_text));
    assert_true(opens(right, bytes_of(e.p, e.n), len, &n, &err));
    assert_int_equal(n, len);
    for (size_t cap = 1; cap < len; cap++) {
        assert_false(opens(right, bytes_of(e.p, e.n), cap, &n, &err));
        for (size_t i = 0; i < cap; i++)
            assert_int_equal(out[i], 0);
        assert_int_equal(out[cap], 0xee);
    }
    assert_false(opens(right, bytes_of(e.p, e.n), 0, &n, &err));
}

static void test_a_new_recipient_in_the_signers_sandbox(void **state)
{
    (void)state;
    static struct piece e;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct err err;
        struct recipient *r;
        size_t n;
        uint8_t *secret = NULL;
        bool ok = sandbox_harden(true, &err) && sandbox_enter(SANDBOX_SIGNER, &err) &&
                  recipient_new(&r, &err) && (secret = secret_alloc(CAP, &err)) != NULL;
        if (!ok)
            _exit(2);
        struct bytes der = recipient_public_der(r);
        const uint8_t *p = der.p;
        EVP_PKEY *public = d2i_PUBKEY(NULL, &p, (long)der.n);
        envelope_make(&e, public, &(struct envelope_spec){0}, bytes_of_text(secret_text));
        ok = der.n == 294 && recipient_open(r, bytes_of(e.p, e.n), secret, CAP, &n, &err) &&
             n == strlen(secret_text) && memcmp(secret, secret_text, n) == 0;
        recipient_free(r);
        _exit(ok ? 0 : 3);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_form_opens),
        cmocka_unit_test(test_the_form_has_the_size_of_aws),
        cmocka_unit_test(test_an_envelope_of_another_producer_opens),
        cmocka_unit_test(test_other_algorithms_are_refused),
        cmocka_unit_test(test_a_cms_message_that_is_no_envelope_is_refused),
        cmocka_unit_test(test_a_wrong_key_never_opens),
        cmocka_unit_test(test_a_cut_envelope_is_refused),
        cmocka_unit_test(test_a_changed_byte_is_survived),
        cmocka_unit_test(test_a_secret_that_does_not_fit_leaves_nothing),
        cmocka_unit_test(test_a_new_recipient_in_the_signers_sandbox),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
