/* Attestation documents: a real one of AWS, and everything that must not pass for one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/hash.h"
#include "nitro/attestation.h"
#include "nitro/attestation_chain.h"
#include "nitro/cbor.h"
#include "nitro/document.h"
#include "nitro/pcr.h"
#include "run.h"

static const struct attestation_policy now_is_then = {.now_s = REAL_TIME_S + 5};
static struct err err;

static bool passes(struct bytes document, const struct attestation_policy *policy)
{
    struct attestation a;
    err.text[0] = '\0';
    bool ok = attestation_verify(&a, document, policy, NULL, NULL, &err);
    assert_true(ok == (err.text[0] == '\0'));
    return ok;
}

static void refused(struct bytes document, const struct attestation_policy *policy, const char *why)
{
    assert_false(passes(document, policy));
    assert_contains(err.text, why);
}

/* ---- the real document -------------------------------------------------------------- */

static void the_pinned_root_is_that_of_aws(void **state)
{
    (void)state;
    uint8_t hash[SHA256_LEN];
    sha256(bytes_of(attestation_aws_root, ATTESTATION_AWS_ROOT_LEN), hash);
    assert_hex(bytes_of(hash, sizeof hash),
        "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b");
}

static void the_real_document_is_read(void **state)
{
    (void)state;
    struct attestation a;
    assert_true(attestation_parse(&a, real_document(), &err));
    assert_true(bytes_equal(a.module_id, bytes_of_text("i-0340e0cb833504eb6-enc019c12d31f78864d")));
    assert_true(a.timestamp_ms == 1770065027502);
    assert_int_equal(a.pcrs_present, 0xffff);
    assert_int_equal(a.cabundle_n, 4);
    assert_int_equal(a.certificate.n, 640);
    assert_true(bytes_equal(a.public_key, bytes_of_text("dummy")));
    assert_int_equal(a.user_data.n, 68);
    assert_hex(a.nonce, "0123456789abcdef0123456789abcdef01234567");
    uint8_t pcr4[PCR_LEN];
    assert_true(pcr_of_instance("i-0340e0cb833504eb6", pcr4, &err));
    assert_memory_equal(a.pcrs[4], pcr4, PCR_LEN);
}

static void count_check(void *ctx, bool ok, const char *check)
{
    assert_true(ok && check[0] != '\0');
    ++*(unsigned *)ctx;
}

static void the_real_document_passes_at_its_time(void **state)
{
    (void)state;
    uint8_t nonce[20];
    struct attestation a;
    unsigned checks = 0;
    struct attestation_policy policy = {
        .now_s = REAL_TIME_S + 5, .max_age_s = 60, .pcrs_wanted = 1u << 4};
    policy.nonce = hex_into("0123456789abcdef0123456789abcdef01234567", nonce, sizeof nonce);
    assert_true(pcr_of_instance("i-0340e0cb833504eb6", policy.pcrs[4], &err));
    assert_true(attestation_verify(&a, real_document(), &policy, count_check, &checks, &err));
    assert_int_equal(checks, 7); /* form, chain, signature, mode, PCR4, nonce, age */
    const struct attestation_policy archived = {
        .at_document_time = true, .now_s = 2 * (int64_t)REAL_TIME_S};
    assert_true(passes(real_document(), &archived));
}

static void certificates_count_at_the_chosen_time(void **state)
{
    (void)state;
    /* The leaf: 20:34:28 to 23:34:31. */
    static const int64_t begins = 1770064468, ends = 1770075271;
    struct attestation_policy policy = {.now_s = begins};
    assert_true(passes(real_document(), &policy));
    policy.now_s = begins - ATTESTATION_SKEW_S;
    assert_true(passes(real_document(), &policy));
    policy.now_s--;
    refused(real_document(), &policy, "begins at 2026-02-02T20:34:28Z");
    policy.now_s = ends - 1;
    assert_true(passes(real_document(), &policy));
    policy.now_s = ends + 1;
    refused(real_document(), &policy, "expired at 2026-02-02T23:34:31Z");
    policy.now_s = 1790000000;
    refused(real_document(), &policy, "expired");
}

static void demands_are_checked(void **state)
{
    (void)state;
    const struct bytes document = real_document();
    struct attestation_policy policy = {.now_s = REAL_TIME_S, .pcrs_wanted = 1};
    refused(document, &policy, "PCR0 is 9baef839");
    policy = (struct attestation_policy){.now_s = REAL_TIME_S, .pcrs_wanted = 1u << 16};
    refused(document, &policy, "PCR16 is not in the document");
    policy = (struct attestation_policy){.now_s = REAL_TIME_S, .nonce = bytes_of_text("other")};
    refused(document, &policy, "nonce");
    policy = (struct attestation_policy){.now_s = REAL_TIME_S + 61, .max_age_s = 60};
    refused(document, &policy, "61 seconds old");
    policy.now_s = REAL_TIME_S + 60;
    assert_true(passes(document, &policy));
    policy.now_s = REAL_TIME_S - ATTESTATION_SKEW_S;
    assert_true(passes(document, &policy));
    policy.now_s--;
    refused(document, &policy, "after this clock");
    policy =
        (struct attestation_policy){.now_s = REAL_TIME_S, .root_der = bytes_of_text("another")};
    refused(document, &policy, "expected root");
}

/* ---- damage ------------------------------------------------------------------------- */

static void every_truncation_is_refused(void **state)
{
    (void)state;
    const struct bytes document = real_document();
    for (size_t n = 0; n < document.n; n++) {
        uint8_t *copy = malloc(n + 1);
        memcpy(copy, document.p, n);
        assert_false(passes(bytes_of(copy, n), &now_is_then));
        free(copy);
    }
}

/* A changed byte of the payload fails at the signature when everything else still holds. Each check of
 * a chain costs milliseconds, so neighbours take turns in how they are changed. */
static void every_changed_byte_is_refused(void **state)
{
    (void)state;
    static const uint8_t changes[] = {0x01, 0x80, 0xff};
    const struct bytes document = real_document();
    uint8_t copy[REAL_LEN];
    size_t n = 0;
    for (size_t i = 0; i < document.n; i++, n++) {
        memcpy(copy, document.p, sizeof copy);
        copy[i] ^= changes[i % sizeof changes];
        if (passes(bytes_of(copy, sizeof copy), &now_is_then))
            fail_msg("byte %zu is changed, and the document passes", i);
    }
    assert_int_equal(n, REAL_LEN);
}

static void bytes_behind_the_end_are_refused(void **state)
{
    (void)state;
    uint8_t copy[REAL_LEN + 1] = {0};
    memcpy(copy, real_document().p, REAL_LEN);
    refused(bytes_of(copy, sizeof copy), &now_is_then, "1 bytes follow");
}

static void the_tag_of_cose_may_be_there(void **state)
{
    (void)state;
    uint8_t copy[REAL_LEN + 1] = {0xd2};
    memcpy(copy + 1, real_document().p, REAL_LEN);
    assert_true(passes(bytes_of(copy, sizeof copy), &now_is_then));
    copy[0] = 0xd3;
    refused(bytes_of(copy, sizeof copy), &now_is_then, "not an attestation document");
}

static void an_oversized_document_is_refused(void **state)
{
    (void)state;
    static uint8_t big[ATTESTATION_DOCUMENT_MAX + 1];
    refused(bytes_of(big, sizeof big), &now_is_then, "too long");
}

/* ---- made by hand ------------------------------------------------------------------- */

/* A document with a payload of our own; what is not given is as QEMU's machine has it. */
struct made {
    const char *header;     /* hex */
    const char *pcr_digest; /* hex of the pcrs map's items behind the head, NULL: PCR0 is 01.. */
    const char *twice;      /* a field to add again */
    const char *without;
    unsigned certificates, certificate_n;
    size_t nonce_n;
};

static uint8_t zeros[2048];

static void write_field(struct writer *w, const struct made *m, const char *name)
{
    if (m->without != NULL && strcmp(m->without, name) == 0)
        return;
    cbor_write_text(w, name);
    if (strcmp(name, "module_id") == 0)
        cbor_write_text(w, "i-0123456789abcdef0-enc0123456789abcdef");
    else if (strcmp(name, "digest") == 0)
        cbor_write_text(w, "SHA384");
    else if (strcmp(name, "timestamp") == 0)
        cbor_write_uint(w, 1770065027502);
    else if (strcmp(name, "certificate") == 0)
        cbor_write_bytes(w, bytes_of(zeros, m->certificate_n));
    else if (strcmp(name, "nonce") == 0 && m->nonce_n > 0)
        cbor_write_bytes(w, bytes_of(zeros, m->nonce_n));
    else if (strcmp(name, "public_key") == 0 || strcmp(name, "user_data") == 0 ||
             strcmp(name, "nonce") == 0)
        cbor_write_null(w);
    if (strcmp(name, "cabundle") == 0) {
        cbor_write_array(w, m->certificates);
        for (unsigned i = 0; i < m->certificates; i++)
            cbor_write_bytes(w, bytes_of(zeros, m->certificate_n));
    }
    if (strcmp(name, "pcrs") == 0) {
        uint8_t raw[256];
        cbor_write_map(w, m->pcr_digest != NULL ? 2 : 1);
        if (m->pcr_digest != NULL)
            write_bytes(w, hex_into(m->pcr_digest, raw, sizeof raw));
        else {
            cbor_write_uint(w, 0);
            cbor_write_bytes(w, bytes_of(attestation_aws_root, PCR_LEN));
        }
    }
}

static struct bytes make(const struct made *m)
{
    static uint8_t document[2 * ATTESTATION_DOCUMENT_MAX];
    static uint8_t payload[2 * ATTESTATION_DOCUMENT_MAX];
    static const char *const fields[] = {"module_id", "digest", "timestamp", "pcrs", "certificate",
        "cabundle", "public_key", "user_data", "nonce"};
    uint8_t header[16];
    struct writer p = writer_of(payload, sizeof payload), w = writer_of(document, sizeof document);
    cbor_write_open_map(&p);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        write_field(&p, m, fields[i]);
    if (m->twice != NULL)
        write_field(&p, m, m->twice);
    cbor_write_break(&p);
    cbor_write_array(&w, 4);
    cbor_write_bytes(&w, hex_into(m->header, header, sizeof header));
    cbor_write_map(&w, 0);
    cbor_write_bytes(&w, written(&p));
    cbor_write_bytes(&w, bytes_of(zeros, 96));
    assert_false(w.bad);
    return written(&w);
}

#define MADE .header = "a1013822", .certificates = 1, .certificate_n = 64

static void parse_refused(const struct made *m, const char *why)
{
    struct attestation a;
    assert_false(attestation_parse(&a, make(m), &err));
    assert_contains(err.text, why);
}

static void a_field_may_come_once_and_must_come(void **state)
{
    (void)state;
    static const char *const needed[] = {
        "module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"};
    static const char *const optional[] = {"public_key", "user_data", "nonce"};
    struct attestation a;
    assert_true(attestation_parse(&a, make(&(struct made){MADE}), &err));
    for (size_t i = 0; i < 6; i++) {
        parse_refused(&(struct made){MADE, .without = needed[i]}, needed[i]);
        parse_refused(&(struct made){MADE, .twice = needed[i]}, "twice");
    }
    for (size_t i = 0; i < 3; i++) {
        assert_true(
            attestation_parse(&a, make(&(struct made){MADE, .without = optional[i]}), &err));
        parse_refused(&(struct made){MADE, .twice = optional[i]}, "twice");
    }
}

static void limits_hold(void **state)
{
    (void)state;
    struct attestation a;
    struct made m = {MADE, .nonce_n = 1024};
    assert_true(attestation_parse(&a, make(&m), &err));
    m.nonce_n++;
    parse_refused(&m, "nonce");
    m = (struct made){MADE};
    m.certificates = ATTESTATION_CHAIN_MAX;
    assert_true(attestation_parse(&a, make(&m), &err));
    m.certificates++;
    parse_refused(&m, "cabundle");
    m = (struct made){MADE};
    m.certificates = 0;
    parse_refused(&m, "cabundle");
    m = (struct made){MADE};
    m.certificate_n = 1024;
    assert_true(attestation_parse(&a, make(&m), &err));
    m.certificate_n++;
    parse_refused(&m, "certificate");
    m.certificate_n = 0;
    parse_refused(&m, "certificate");
}

/* Two registers: the same twice, one beyond the last, one too short. */
static void registers_are_checked(void **state)
{
    (void)state;
    char hex[512];
    static const struct {
        const char *first, *second;
        unsigned second_n;
        bool ok;
    } cases[] = {
        {"00", "01", 48, true},
        {"00", "00", 48, false},
        {"00", "1800", 48, false},
        {"00", "181f", 48, true},
        {"00", "1820", 48, false},
        {"00", "01", 32, false},
        {"00", "20", 48, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char zero[97];
        memset(zero, '0', 96);
        zero[96] = '\0';
        snprintf(hex, sizeof hex, "%s5830%s%s58%02x%.*s", cases[i].first, zero, cases[i].second,
            cases[i].second_n, 2 * (int)cases[i].second_n, zero);
        const struct made m = {MADE, .pcr_digest = hex};
        struct attestation a;
        assert_int_equal(attestation_parse(&a, make(&m), &err), cases[i].ok);
    }
}

static void an_unsigned_document_of_qemu_is_refused(void **state)
{
    (void)state;
    struct attestation a;
    const struct made m = {.header = "a10120", .certificates = 1, .certificate_n = 64};
    assert_true(
        attestation_parse(&a, make(&m), &err)); /* its time is of use, where it is trusted */
    refused(make(&m), &now_is_then, "QEMU");
    refused(make(&(struct made){MADE}), &now_is_then, "expected root");
    refused(make(&(struct made){.header = "a10126", .certificates = 1, .certificate_n = 64}),
        &now_is_then, "ES384");
}

/* ---- registers ---------------------------------------------------------------------- */

static void registers_can_be_computed(void **state)
{
    (void)state;
    uint8_t pcr[PCR_LEN];
    assert_true(pcr_of_role("arn:aws:iam::123456789012:role/enclave", pcr, &err));
    assert_hex(bytes_of(pcr, PCR_LEN), "b1fd651ff7878eaff12dd954c8af010570acf204ad3c60b3832e3e8f109"
                                       "f2ce9fa7e9ee8b3e848a415da9e8d720d7158");
    assert_true(pcr_of_instance("i-0123456789abcdef0", pcr, &err));
    assert_hex(bytes_of(pcr, PCR_LEN), "d6432900ac1c343cb40286898792c55e962aef0cc35c4910c0c286145b5"
                                       "1af19e782cb21cc31a042671d7dfbd398251c");
    assert_true(pcr_of_role("arn:aws-cn:iam::123456789012:role/path/enclave", pcr, &err));
    static const char *const not_roles[] = {"", "enclave", "arn:aws:iam::123456789012:role/",
        "arn:aws:iam::1234:role/enclave", "arn:aws:iam::123456789012:user/enclave",
        "arn:aws:iam::123456789012:role/two words", "arn:aws:sts::123456789012:assumed-role/a/b",
        "arn:aws:iam::123456789012:instance-profile/a"};
    for (size_t i = 0; i < sizeof not_roles / sizeof not_roles[0]; i++)
        assert_false(pcr_of_role(not_roles[i], pcr, &err));
    static const char *const not_instances[] = {"", "i-", "i-0123456789abcdef",
        "i-0123456789abcdef01", "i-0123456789ABCDEF0", "x-0123456789abcdef0",
        "i-0123456789abcdefg"};
    for (size_t i = 0; i < sizeof not_instances / sizeof not_instances[0]; i++)
        assert_false(pcr_of_instance(not_instances[i], pcr, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pinned_root_is_that_of_aws),
        cmocka_unit_test(the_real_document_is_read),
        cmocka_unit_test(the_real_document_passes_at_its_time),
        cmocka_unit_test(certificates_count_at_the_chosen_time),
        cmocka_unit_test(demands_are_checked),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_changed_byte_is_refused),
        cmocka_unit_test(bytes_behind_the_end_are_refused),
        cmocka_unit_test(the_tag_of_cose_may_be_there),
        cmocka_unit_test(an_oversized_document_is_refused),
        cmocka_unit_test(a_field_may_come_once_and_must_come),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(registers_are_checked),
        cmocka_unit_test(an_unsigned_document_of_qemu_is_refused),
        cmocka_unit_test(registers_can_be_computed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
