/* The HTTP client: answers in every form, cut and spoilt, slow, endless; certificates that must not pass. */
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "aws/amazon_roots.h"
#include "aws/aws.h"
#include "aws/http.h"
#include "base/clock.h"
#include "base/fd.h"
#include "crypto/key.h"
#include "server.h"

enum { NOW_S = 1795000000, DAY_S = 86400 };

static struct http_answer answer;

static void feed(const char *text, size_t n, size_t step)
{
    answer = (struct http_answer){0};
    for (size_t at = 0; at < n; at += step)
        if (!http_answer_feed(&answer, bytes_of(text + at, n - at < step ? n - at : step)))
            return;
}

/* ---- reading answers ----------------------------------------------------------------- */

static const struct {
    const char *text;
    bool needs_close;
    int status;
    const char *body;
} good[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, 200, "hello"},
    {"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", false, 200, ""},
    {"HTTP/1.0 400\r\nContent-Length: 2  \r\n\r\nno", false, 400, "no"},
    {"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", false, 200, "ok"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: "
     "chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
        false, 200, "abc0123456789"},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", false, 200, "x"},
    {"HTTP/1.1 200 OK\r\n\r\nuntil the end", true, 200, "until the end"},
    {"HTTP/1.1 204 No Content\r\n\r\n", false, 204, ""},
};

static void test_every_form_of_answer_is_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        size_t n = strlen(good[i].text);
        for (size_t step = 1; step <= n; step++) {
            feed(good[i].text, n, step);
            if (good[i].needs_close)
                http_answer_close(&answer);
            assert_int_equal(answer.state, HTTP_DONE);
            assert_int_equal(answer.status, good[i].status);
            assert_string_equal(answer.body, good[i].body);
            assert_int_equal(answer.body_n, strlen(good[i].body));
        }
    }
}

static void test_a_cut_answer_is_not_complete(void **state)
{
    (void)state;
    unsigned cuts = 0;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        for (size_t cut = 0; cut < strlen(good[i].text) && !good[i].needs_close; cut++, cuts++) {
            feed(good[i].text, cut, 4096);
            assert_int_not_equal(answer.state, HTTP_DONE);
            http_answer_close(&answer);
            assert_int_equal(answer.state, HTTP_BAD);
        }
    }
    assert_true(cuts > 200);
}

static void test_spoilt_answers_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/2 200\r\n",
        "HTTP/1.1 99 x\r\n",
        "HTTP/1.1 600 x\r\n",
        "HTTP/1.1 2000 x\r\n",
        "HTTP/1.1 +20 x\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        feed(bad[i], strlen(bad[i]), 4096);
        if (answer.state != HTTP_BAD || answer.why == NULL)
            fail_msg("taken: %s", bad[i]);
    }
}

static void test_limits_hold(void **state)
{
    (void)state;
    static const char head[] = "HTTP/1.1 200 OK\r\n", open_end[] = "HTTP/1.1 200 OK\r\n\r\n";
    static char block[HTTP_BODY_MAX + 1];
    memset(block, 'a', sizeof block);
    feed(open_end, strlen(open_end), 4096);
    assert_true(http_answer_feed(&answer, bytes_of(block, HTTP_BODY_MAX)));
    assert_false(http_answer_feed(&answer, bytes_of(block, 1)));
    assert_int_equal(answer.state, HTTP_BAD);
    feed(head, strlen(head), 4096);
    assert_false(http_answer_feed(&answer, bytes_of(block, HTTP_LINE_MAX)));
    assert_int_equal(answer.state, HTTP_BAD);
    feed(head, strlen(head), 4096);
    unsigned lines = 0;
    while (http_answer_feed(&answer, bytes_of_text("A: b\r\n")))
        lines++;
    assert_int_equal(answer.state, HTTP_BAD);
    assert_in_range(lines, 64, HTTP_LINES_MAX);
}

static void test_the_roots_are_those_that_amazon_publishes(void **state)
{
    (void)state;
    static const char *const fingerprints[AMAZON_ROOTS_COUNT] = {
        "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e",
        "1ba5b2aa8c65401a82960118f80bec4f62304d83cec4713a19c39c011ea46db4",
        "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4",
        "e35d28419ed02025cfa69038cd623962458da5c695fbdea3c22b0bfb25897092",
        "568d6905a2c88708a4b3025190edcfedb1974a606a13c6e5290fcb2ae63edab5",
    };
    for (size_t i = 0; i < AMAZON_ROOTS_COUNT; i++) {
        BIO *bio = BIO_new_mem_buf(amazon_roots_pem[i], -1);
        X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        uint8_t hash[32];
        char hex[65];
        assert_non_null(cert);
        assert_int_equal(X509_digest(cert, EVP_sha256(), hash, NULL), 1);
        hex_lower(bytes_of(hash, sizeof hash), hex);
        assert_string_equal(hex, fingerprints[i]);
        X509_free(cert);
        BIO_free(bio);
    }
}

/* ---- over a connection ---------------------------------------------------------------- */

#define OK_HELLO "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

static struct server make_server(const char *host, const char *text)
{
    return (struct server){.host = host,
        .valid_from_s = NOW_S - DAY_S,
        .valid_to_s = NOW_S + DAY_S,
        .answers = {{.text = text}},
        .answers_n = 1};
}

static enum http_outcome call(const struct server *s, const struct http_tls *tls, unsigned ms,
    struct bytes body, struct err *err)
{
    const struct http_request req = {
        .method = "POST", .path = "/", .host = "h", .headers = "X-Y: z\r\n", .body = body};
    int fd = server_dial(s);
    enum http_outcome outcome =
        http_call(fd, tls, &req, clock_monotonic_us() + ms * 1000U, &answer, err);
    fd_close(&fd);
    return outcome;
}

static void test_a_request_in_clear_and_under_tls(void **state)
{
    (void)state;
    static char request[70000];
    static uint8_t big[40000];
    memset(big, 'q', sizeof big);
    const char *hosts[] = {NULL, "kms.test", "127.0.0.1"};
    for (size_t i = 0; i < 3; i++) {
        struct err err = {0};
        struct server s = make_server(hosts[i], OK_HELLO);
        s.answers[0].is_dribbled = i == 1;
        server_start(&s);
        const struct http_tls tls = {.host = hosts[i], .root_pem = s.root_pem, .now_s = NOW_S};
        assert_int_equal(
            call(&s, hosts[i] != NULL ? &tls : NULL, 5000, bytes_of(big, sizeof big), &err),
            HTTP_ANSWERED);
        assert_int_equal(answer.status, 200);
        assert_string_equal(answer.body, "hello");
        server_request(&s, request, sizeof request);
        static const char head[] = "POST / HTTP/1.1\r\nHost: h\r\nX-Y: z\r\nContent-Length: "
                                   "40000\r\nConnection: close\r\n\r\nqqq";
        assert_memory_equal(request, head, strlen(head));
        assert_int_equal(strlen(request), strlen(head) - 3 + sizeof big);
        server_stop(&s);
    }
}

static void assert_tls_refused(
    struct server *s, const struct http_tls *tls, enum http_outcome want, const char *why)
{
    struct err err = {0};
    struct http_tls with_root = *tls;
    server_start(s);
    if (with_root.root_pem == NULL)
        with_root.root_pem = s->root_pem;
    assert_int_equal(call(s, &with_root, 5000, (struct bytes){0}, &err), want);
    if (strstr(err.text, why) == NULL)
        fail_msg("'%s' does not say '%s'", err.text, why);
    assert_int_equal(server_requests_left(s), 0);
    server_stop(s);
}

static void test_certificates_that_do_not_pass(void **state)
{
    (void)state;
    struct server s = make_server("kms.test", OK_HELLO);
    const struct http_tls right = {.host = "kms.test", .now_s = NOW_S};
    struct http_tls tls = right;
    tls.host = "other.test";
    assert_tls_refused(&s, &tls, HTTP_REFUSED, "hostname mismatch");
    tls = right;
    tls.root_pem = "";
    assert_tls_refused(&s, &tls, HTTP_REFUSED, "only Amazon's roots");
    tls.root_pem = "not PEM";
    assert_tls_refused(&s, &tls, HTTP_REFUSED, "not PEM");
    tls = right;
    tls.now_s = NOW_S + 2 * DAY_S;
    assert_tls_refused(&s, &tls, HTTP_REFUSED, "expired");
    tls.now_s = NOW_S - 2 * DAY_S;
    assert_tls_refused(&s, &tls, HTTP_REFUSED, "not yet valid");
    tls = right;
    s.has_old_tls = true;
    assert_tls_refused(&s, &tls, HTTP_BROKEN, "TLS");
    s = make_server("127.0.0.2", OK_HELLO);
    tls.host = "127.0.0.1";
    assert_tls_refused(&s, &tls, HTTP_REFUSED, "IP address mismatch");
}

/* No place to wait for ever: a server that says nothing, during the handshake or after the request; a slow one. */
static void test_deadlines_hold(void **state)
{
    (void)state;
    const char *hosts[] = {NULL, "kms.test"};
    for (size_t i = 0; i < 2; i++) {
        struct err err = {0};
        struct server s = make_server(hosts[i], OK_HELLO);
        s.answers[0].stays_silent = true;
        server_start(&s);
        const struct http_tls tls = {.host = "kms.test", .root_pem = s.root_pem, .now_s = NOW_S};
        uint64_t start = clock_monotonic_us();
        assert_int_equal(call(&s, i == 1 ? &tls : NULL, 300, (struct bytes){0}, &err), HTTP_BROKEN);
        assert_string_equal(err.text, "no answer in time");
        assert_in_range(clock_monotonic_us() - start, 300000, 2000000);
        /* The server still waits for the first connection: a handshake with it does not even begin. */
        assert_int_equal(call(&s, &tls, 200, (struct bytes){0}, &err), HTTP_BROKEN);
        assert_non_null(strstr(err.text, "no answer in time"));
        server_stop(&s);
    }
}

static void test_broken_connections_may_be_tried_again_and_nonsense_may_not(void **state)
{
    (void)state;
    const struct {
        const char *text;
        enum http_outcome outcome;
    } cases[] = {{NULL, HTTP_BROKEN},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut", HTTP_BROKEN},
        {"HTTP/1.1 200 OK\r\nContent-Le", HTTP_BROKEN},
        {"220 smtp.example ESMTP\r\n", HTTP_REFUSED},
        {"HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n", HTTP_REFUSED}};
    const char *hosts[] = {NULL, "kms.test"};
    for (size_t h = 0; h < 2; h++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            struct err err = {0};
            struct server s = make_server(hosts[h], cases[i].text);
            server_start(&s);
            const struct http_tls tls = {
                .host = "kms.test", .root_pem = s.root_pem, .now_s = NOW_S};
            assert_int_equal(
                call(&s, h == 1 ? &tls : NULL, 5000, (struct bytes){0}, &err), cases[i].outcome);
            assert_true(strlen(err.text) > 10);
            server_stop(&s);
        }
    }
}

static void test_a_server_in_clear_is_no_tls_server(void **state)
{
    (void)state;
    struct err err = {0};
    struct server s = make_server(NULL, OK_HELLO);
    server_start(&s);
    const struct http_tls tls = {.host = "kms.test", .now_s = NOW_S};
    assert_int_equal(call(&s, &tls, 300, (struct bytes){0}, &err), HTTP_BROKEN);
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
        cmocka_unit_test(test_every_form_of_answer_is_read),
        cmocka_unit_test(test_a_cut_answer_is_not_complete),
        cmocka_unit_test(test_spoilt_answers_are_refused),
        cmocka_unit_test(test_limits_hold),
        cmocka_unit_test(test_the_roots_are_those_that_amazon_publishes),
        cmocka_unit_test(test_a_request_in_clear_and_under_tls),
        cmocka_unit_test(test_certificates_that_do_not_pass),
        cmocka_unit_test(test_deadlines_hold),
        cmocka_unit_test(test_broken_connections_may_be_tried_again_and_nonsense_may_not),
        cmocka_unit_test(test_a_server_in_clear_is_no_tls_server),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
