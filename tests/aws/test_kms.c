/* What is asked of KMS and what its answers mean. */
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "aws/aws.h"
#include "aws/kms_body.h"
#include "base/clock.h"
#include "base/fd.h"
#include "crypto/key.h"
#include "server.h"

enum { NOW_S = 1795000000, SECOND_US = 1000000 };

static struct kms_request request;
static struct kms_answer answer;
static uint8_t body[KMS_BODY_MAX];

static void set(char *field, size_t cap, const char *text)
{
    assert_true((size_t)snprintf(field, cap, "%s", text) < cap);
}
#define SET(field, text) set(field, sizeof(field), text)

static void start_request(enum kms_op op)
{
    memset(&request, 0, sizeof request);
    request.op = op;
    SET(request.place.region, "eu-west-1");
    request.blob_n = op == KMS_GENERATE_DATA_KEY ? 0 : 3;
    memcpy(request.blob, "\1\2\3", 3);
    request.document_n = op == KMS_ENCRYPT ? 0 : 5;
    memcpy(request.document, "hello", 5);
}

/* The body as JSON, sorted and compact. */
static void assert_body(const char *want)
{
    struct writer w = writer_of(body, sizeof body);
    assert_true(kms_body_write(&request, &w));
    json_t *root = json_loadb((const char *)body, w.n, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    char *text = json_dumps(root, JSON_SORT_KEYS | JSON_COMPACT);
    assert_string_equal(text, want);
    free(text);
    json_decref(root);
}

static void test_bodies(void **state)
{
    (void)state;
    start_request(KMS_DECRYPT);
    assert_body(
        "{\"CiphertextBlob\":\"AQID\",\"EncryptionAlgorithm\":\"SYMMETRIC_DEFAULT\",\"Recipient\":"
        "{\"AttestationDocument\":\"aGVsbG8=\",\"KeyEncryptionAlgorithm\":\"RSAES_OAEP_SHA_256\"}"
        "}");
    SET(request.place.key_id, "alias/k");
    request.place.context_n = 2;
    memcpy(request.place.context, "a\"\\\n\0v=1\0b\0", 11);
    assert_body("{\"CiphertextBlob\":\"AQID\",\"EncryptionAlgorithm\":\"SYMMETRIC_DEFAULT\","
                "\"EncryptionContext\":"
                "{\"a\\\"\\\\\\n\":\"v=1\",\"b\":\"\"},\"KeyId\":\"alias/k\",\"Recipient\":"
                "{\"AttestationDocument\":\"aGVsbG8=\",\"KeyEncryptionAlgorithm\":\"RSAES_OAEP_SHA_"
                "256\"}}");
    start_request(KMS_GENERATE_DATA_KEY);
    assert_body("{\"NumberOfBytes\":32,\"Recipient\":"
                "{\"AttestationDocument\":\"aGVsbG8=\",\"KeyEncryptionAlgorithm\":\"RSAES_OAEP_SHA_"
                "256\"}}");
    start_request(KMS_ENCRYPT);
    assert_body("{\"EncryptionAlgorithm\":\"SYMMETRIC_DEFAULT\",\"Plaintext\":\"AQID\"}");
}

static void test_the_largest_request_fits(void **state)
{
    (void)state;
    start_request(KMS_DECRYPT);
    request.blob_n = KMS_BLOB_MAX;
    request.document_n = sizeof request.document;
    memset(request.place.key_id, '"', sizeof request.place.key_id - 1);
    memset(request.place.context, 1, sizeof request.place.context);
    request.place.context[100] = request.place.context[KMS_CONTEXT_MAX - 1] = '\0';
    request.place.context_n = 1;
    struct writer w = writer_of(body, sizeof body);
    assert_true(kms_body_write(&request, &w));
    json_t *root = json_loadb((const char *)body, w.n, 0, NULL);
    assert_non_null(root);
    json_decref(root);
    for (size_t cap = 0; cap < w.n; cap += 97) {
        struct writer small = writer_of(body, cap);
        assert_false(kms_body_write(&request, &small));
    }
}

static void test_unsound_requests_are_refused(void **state)
{
    (void)state;
    struct writer w = writer_of(body, sizeof body);
    start_request(KMS_DECRYPT);
    request.document_n = 0; /* a decryption that KMS would answer in clear */
    assert_false(kms_body_write(&request, &w));
    start_request(KMS_GENERATE_DATA_KEY);
    request.document_n = 0;
    assert_false(kms_body_write(&request, &w));
    start_request(KMS_ENCRYPT);
    request.document_n = 5;
    assert_false(kms_body_write(&request, &w));
    start_request(KMS_DECRYPT);
    request.blob_n = KMS_BLOB_MAX + 1;
    assert_false(kms_body_write(&request, &w));
    start_request(KMS_DECRYPT);
    request.blob_n = 0;
    assert_false(kms_body_write(&request, &w));
    start_request(KMS_DECRYPT);
    memset(request.place.context, 'x', sizeof request.place.context);
    request.place.context_n = 1;
    assert_false(kms_body_write(&request, &w));
    start_request(KMS_DECRYPT);
    request.op = 9;
    assert_false(kms_body_write(&request, &w));
}

/* ---- answers ------------------------------------------------------------------------- */

static void test_what_answers_mean(void **state)
{
    (void)state;
    static const struct {
        enum kms_op op;
        int status;
        const char *body;
        enum kms_verdict verdict;
        const char *error;
    } cases[] = {
        {KMS_DECRYPT, 200, "{\"CiphertextForRecipient\":\"AQI=\"}", KMS_OK, ""},
        {KMS_DECRYPT, 200, "{\"CiphertextForRecipient\":\"AQI=\",\"Plaintext\":null}", KMS_OK, ""},
        {KMS_GENERATE_DATA_KEY, 200,
            "{\"CiphertextForRecipient\":\"AQI=\",\"CiphertextBlob\":\"Aw==\"}", KMS_OK, ""},
        {KMS_ENCRYPT, 200, "{\"CiphertextBlob\":\"Aw==\"}", KMS_OK, ""},
        {KMS_DECRYPT, 200, "{\"Plaintext\":\"AQI=\"}", KMS_NO, "plaintext itself"},
        {KMS_DECRYPT, 200, "{\"CiphertextForRecipient\":\"AQI=\",\"Plaintext\":\"AQI=\"}", KMS_NO,
            "plaintext itself"},
        {KMS_DECRYPT, 200, "{\"CiphertextForRecipient\":\"AQI=\",\"Plaintext\":\"\"}", KMS_NO,
            "plaintext itself"},
        {KMS_GENERATE_DATA_KEY, 200, "{\"CiphertextBlob\":\"Aw==\",\"Plaintext\":\"AQI=\"}", KMS_NO,
            "plaintext"},
        {KMS_GENERATE_DATA_KEY, 200, "{\"CiphertextForRecipient\":\"AQI=\"}", KMS_NO,
            "CiphertextBlob"},
        {KMS_DECRYPT, 200, "{}", KMS_NO, "CiphertextForRecipient"},
        {KMS_DECRYPT, 200, "{\"CiphertextForRecipient\":\"\"}", KMS_NO, "CiphertextForRecipient"},
        {KMS_DECRYPT, 200, "{\"CiphertextForRecipient\":\"*\"}", KMS_NO, "CiphertextForRecipient"},
        {KMS_DECRYPT, 200, "{\"CiphertextForRecipient\":7}", KMS_NO, "CiphertextForRecipient"},
        {KMS_DECRYPT, 200, "", KMS_NO, "not JSON"},
        {KMS_DECRYPT, 200, "[]", KMS_NO, "not JSON"},
        {KMS_DECRYPT, 200, "<html>", KMS_NO, "not JSON"},
        {KMS_DECRYPT, 400,
            "{\"__type\":\"com.amazonaws.kms#AccessDeniedException\",\"Message\":\"no\"}", KMS_NO,
            "AccessDeniedException: no (the key policy"},
        {KMS_ENCRYPT, 400, "{\"__type\":\"AccessDeniedException\",\"Message\":\"no\"}", KMS_NO,
            "kms:Encrypt"},
        {KMS_DECRYPT, 400, "{\"__type\":\"InvalidCiphertextException\"}", KMS_NO,
            "InvalidCiphertextException (the"},
        {KMS_DECRYPT, 400, "{\"__type\":\"ExpiredTokenException\",\"message\":\"old\"}", KMS_NO,
            "push-config"},
        {KMS_DECRYPT, 400, "{\"__type\":\"Strange\",\"message\":\"a\\u0007\\nb\\u00e9\"}", KMS_NO,
            "Strange: a??b"},
        {KMS_DECRYPT, 400, "{\"__type\":\"ThrottlingException\",\"message\":\"x\"}", KMS_AGAIN,
            "ThrottlingException"},
        {KMS_DECRYPT, 400, "{\"__type\":\"KeyUnavailableException\"}", KMS_AGAIN,
            "KeyUnavailableException"},
        {KMS_DECRYPT, 500, "{\"__type\":\"KMSInternalException\"}", KMS_AGAIN,
            "KMSInternalException"},
        {KMS_DECRYPT, 500, "{\"__type\":\"SomethingNew\"}", KMS_AGAIN, "SomethingNew"},
        {KMS_DECRYPT, 503, "busy", KMS_AGAIN, "HTTP status 503"},
        {KMS_DECRYPT, 429, "", KMS_AGAIN, "HTTP status 429"},
        {KMS_DECRYPT, 403, "", KMS_NO, "kms_endpoint"},
        {KMS_DECRYPT, 301, "{\"CiphertextForRecipient\":\"AQI=\"}", KMS_NO, "HTTP status 301"},
        {KMS_DECRYPT, 400, "{\"__type\":7}", KMS_NO, "HTTP status 400"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        start_request(cases[i].op);
        memset(&answer, 0xff, sizeof answer);
        enum kms_verdict got =
            kms_answer_read(&request, cases[i].status, bytes_of_text(cases[i].body), &answer);
        if (got != cases[i].verdict || strstr(answer.error, cases[i].error) == NULL)
            fail_msg("%s: %d, '%s'", cases[i].body, got, answer.error);
        assert_int_equal(answer.ok, got == KMS_OK);
        if (got != KMS_OK)
            assert_true(
                answer.envelope_n == 0 && answer.ciphertext_n == 0 && answer.envelope[0] == 0);
    }
}

/* Every type that KMS documents for Decrypt and GenerateDataKey tells the operator what to do. */
static void test_errors_come_with_a_remedy(void **state)
{
    (void)state;
    static const char *const types[] = {"AccessDeniedException", "DependencyTimeoutException",
        "DisabledException", "IncorrectKeyException", "InvalidCiphertextException",
        "InvalidGrantTokenException", "InvalidKeyUsageException", "KeyUnavailableException",
        "KMSInternalException", "KMSInvalidStateException", "NotFoundException",
        "ThrottlingException", "UnrecognizedClientException", "ExpiredTokenException",
        "InvalidSignatureException", "ValidationException"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "{\"__type\":\"%s\",\"message\":\"m\"}", types[i]);
        start_request(KMS_DECRYPT);
        assert_int_not_equal(kms_answer_read(&request, 400, bytes_of_text(text), &answer), KMS_OK);
        snprintf(text, sizeof text, "%s: m (", types[i]);
        assert_memory_equal(answer.error, text, strlen(text));
    }
}

static void test_a_long_message_is_cut(void **state)
{
    (void)state;
    static char text[4096] = "{\"__type\":\"AccessDeniedException\",\"message\":\"";
    size_t n = strlen(text);
    memset(text + n, 'm', 3000);
    memcpy(text + n + 3000, "\"}", 3);
    start_request(KMS_DECRYPT);
    assert_int_equal(kms_answer_read(&request, 400, bytes_of_text(text), &answer), KMS_NO);
    assert_non_null(memchr(answer.error, '\0', sizeof answer.error));
    assert_non_null(strstr(answer.error, "(the key policy"));
}

/* ---- names --------------------------------------------------------------------------- */

static void test_hosts(void **state)
{
    (void)state;
    static const struct {
        const char *region, *host, *want; /* NULL: refused */
    } cases[] = {
        {"eu-west-1", "", "kms.eu-west-1.amazonaws.com"},
        {"cn-north-1", "", "kms.cn-north-1.amazonaws.com.cn"},
        {"us-iso-east-1", "", "kms.us-iso-east-1.c2s.ic.gov"},
        {"us-isob-east-1", "", "kms.us-isob-east-1.sc2s.sgov.gov"},
        {"us-isof-south-1", "", "kms.us-isof-south-1.csp.hci.ic.gov"},
        {"eu-isoe-west-1", "", "kms.eu-isoe-west-1.cloud.adc-e.uk"},
        {"eusc-de-east-1", "", "kms.eusc-de-east-1.amazonaws.eu"},
        {"us-gov-west-1", "", "kms.us-gov-west-1.amazonaws.com"},
        {"eu-west-1", "kms-fips.eu-west-1.amazonaws.com", "kms-fips.eu-west-1.amazonaws.com"},
        {"eu-west-1", "localhost", "localhost"},
        {"", "", NULL},
        {"", "localhost", NULL},
        {"eu-west-1\r\nX: y", "", NULL},
        {"../../etc", "", NULL},
        {"eu-west-1", "a\r\nb", NULL},
        {"eu-west-1", "a b", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kms_place place = {0};
        struct err err;
        char host[KMS_HOST_MAX];
        SET(place.region, cases[i].region);
        SET(place.host, cases[i].host);
        assert_int_equal(kms_host(&place, host, &err), cases[i].want != NULL);
        if (cases[i].want != NULL)
            assert_string_equal(host, cases[i].want);
    }
}

/* ---- calls --------------------------------------------------------------------------- */

static unsigned dials;

static int dial(void *ctx, uint64_t deadline_us, struct err *err)
{
    (void)err;
    assert_true(deadline_us > clock_monotonic_us() - SECOND_US);
    dials++;
    return server_dial(ctx);
}

static bool call(struct server *s, const struct aws_credentials *creds, unsigned seconds)
{
    start_request(KMS_DECRYPT);
    SET(request.place.host, "kms.test");
    SET(request.place.root_pem, s->root_pem);
    request.place.port = 8443;
    dials = 0;
    return kms_call(
        &request, creds, NOW_S, dial, s, clock_monotonic_us() + seconds * SECOND_US, &answer);
}

#define ANSWER(status, text) "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n" text
#define OK_ANSWER ANSWER("200 OK", "{\"CiphertextForRecipient\":\"AQI=\"}")

static struct server make_server(const char *first, const char *second)
{
    return (struct server){.host = "kms.test",
        .valid_from_s = NOW_S - 1000,
        .valid_to_s = NOW_S + 1000,
        .answers = {{.text = first}, {.text = second}},
        .answers_n = 2};
}

static const struct aws_credentials good_credentials = {
    .key_id = "AKIDEXAMPLE", .secret_key = "wJalr/+secret"};

static void test_what_may_pass_is_tried_again(void **state)
{
    (void)state;
    static const char *const firsts[] = {NULL, ANSWER("503 Busy", ""),
        ANSWER("500 x", "{\"__type\":\"InternalFailure\"}"),
        ANSWER("400 x", "{\"__type\":\"ThrottlingException\"}"),
        "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"};
    for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++) {
        struct server s = make_server(firsts[i], OK_ANSWER);
        server_start(&s);
        if (!call(&s, &good_credentials, 10))
            fail_msg("%s", answer.error);
        assert_int_equal(dials, 2);
        server_stop(&s);
    }
}

static void test_what_stays_is_not_tried_again(void **state)
{
    (void)state;
    static const char *const firsts[] = {ANSWER("400 x", "{\"__type\":\"AccessDeniedException\"}"),
        ANSWER("400 x", "{\"__type\":\"ExpiredTokenException\"}"),
        ANSWER("200 OK", "{\"Plaintext\":\"AQI=\"}"), ANSWER("404 x", ""), "220 mail\r\n"};
    for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++) {
        struct server s = make_server(firsts[i], OK_ANSWER);
        server_start(&s);
        assert_false(call(&s, &good_credentials, 10));
        assert_int_equal(dials, 1);
        assert_true(strlen(answer.error) > 10);
        server_stop(&s);
    }
}

static void test_credentials_cannot_add_headers(void **state)
{
    (void)state;
    struct aws_credentials bad[4] = {
        good_credentials, good_credentials, good_credentials, good_credentials};
    SET(bad[0].key_id, "AKID\r\nX-Evil: 1");
    SET(bad[1].session_token, "token\r\nX-Evil: 1");
    SET(bad[2].secret_key, "");
    SET(bad[3].key_id, "");
    struct server s = make_server(OK_ANSWER, OK_ANSWER);
    server_start(&s);
    for (size_t i = 0; i < 4; i++) {
        assert_false(call(&s, &bad[i], 5));
        assert_int_equal(dials, 0);
    }
    static char text[65536];
    struct aws_credentials full = good_credentials;
    memset(full.session_token, 'A', sizeof full.session_token - 1);
    assert_true(call(&s, &full, 5));
    server_request(&s, text, sizeof text);
    assert_non_null(strstr(text, "\r\nHost: kms.test:8443\r\n"));
    assert_non_null(strstr(text, "\r\nX-Amz-Date: 20261118T"));
    assert_null(strstr(text, full.secret_key));
    server_stop(&s);
}

static int setup(void **state)
{
    (void)state;
    struct err err;
    signal(SIGPIPE, SIG_IGN);
    return !(crypto_start(&err) && aws_start(&err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_the_largest_request_fits),
        cmocka_unit_test(test_unsound_requests_are_refused),
        cmocka_unit_test(test_what_answers_mean),
        cmocka_unit_test(test_errors_come_with_a_remedy),
        cmocka_unit_test(test_a_long_message_is_cut),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_what_may_pass_is_tried_again),
        cmocka_unit_test(test_what_stays_is_not_tried_again),
        cmocka_unit_test(test_credentials_cannot_add_headers),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
