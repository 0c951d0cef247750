/* The fetch process as the monitor runs it: started anew from this program, in its sandbox, against a TLS server. */
#include <openssl/evp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "../aws/server.h"
#include "aws/aws.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "crypto/key.h"
#include "fetch/fetch.h"
#include "fetch/message.h"
#include "monitor/child.h"
#include "monitor/fetch_child.h"

enum { NOW_S = 1795000000, SECOND_US = 1000000 };

#define ANSWER(status, body) "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n" body
#define ENVELOPE ANSWER("200 OK", "{\"CiphertextForRecipient\":\"AQIDBA==\",\"KeyId\":\"k\"}")
#define THROTTLED                                                                                  \
    ANSWER("400 Bad Request", "{\"__type\":\"ThrottlingException\",\"message\":\"slow down\"}")
#define DENIED                                                                                     \
    ANSWER("400 Bad Request", "{\"__type\":\"AccessDeniedException\",\"Message\":\"no\"}")

static struct kms_request request;
static const struct aws_credentials credentials = {
    .key_id = "AKIDEXAMPLE", .secret_key = "secret-secret", .session_token = "TOKEN"};
static struct monitor monitor = {
    .signer = {.control = -1, .log = -1}, .session = {.control = -1, .log = -1}, .signals = -1};
static struct kms_answer answer;

struct dialling {
    const struct server *server;
    unsigned asked, refused; /* the first `refused` times there is no connection */
};

static int dial(void *ctx, uint64_t deadline_us, struct err *err)
{
    struct dialling *d = ctx;
    (void)deadline_us;
    if (d->asked++ < d->refused) {
        err_set(err, "the proxy sleeps");
        return -1;
    }
    return server_dial(d->server);
}

static struct server make_server(size_t n, const char *const *texts)
{
    struct server s = {.host = "kms.test",
        .valid_from_s = NOW_S - 1000,
        .valid_to_s = NOW_S + 1000,
        .answers_n = n};
    for (size_t i = 0; i < n; i++)
        s.answers[i].text = texts[i];
    return s;
}

static bool run(struct server *s, struct dialling *d, unsigned seconds, struct err *err)
{
    memset(&request, 0, sizeof request);
    request.op = KMS_DECRYPT;
    snprintf(request.place.region, sizeof request.place.region, "eu-west-1");
    snprintf(request.place.host, sizeof request.place.host, "kms.test");
    snprintf(request.place.root_pem, sizeof request.place.root_pem, "%s", s->root_pem);
    request.blob_n = 3;
    request.document_n = sizeof request.document;
    d->server = s;
    return fetch_run(&monitor, &request, &credentials, NOW_S, dial, d,
        clock_monotonic_us() + seconds * SECOND_US, &answer, err);
}

static void test_an_envelope_comes_back(void **state)
{
    (void)state;
    struct err err = {0};
    struct dialling d = {0};
    static char text[65536];
    const char *const texts[] = {ENVELOPE};
    struct server s = make_server(1, texts);
    server_start(&s);
    if (!run(&s, &d, 10, &err))
        fail_msg("%s", err.text);
    assert_int_equal(answer.envelope_n, 4);
    assert_memory_equal(answer.envelope, "\1\2\3\4", 4);
    server_request(&s, text, sizeof text);
    assert_non_null(strstr(text, "X-Amz-Target: TrentService.Decrypt\r\n"));
    assert_non_null(strstr(text, "X-Amz-Security-Token: TOKEN\r\n"));
    assert_null(strstr(text, "secret-secret"));
    server_stop(&s);
}

static void test_it_asks_for_another_connection_until_one_works(void **state)
{
    (void)state;
    struct err err = {0};
    struct dialling d = {.refused = 2};
    const char *const texts[] = {NULL, THROTTLED, ENVELOPE};
    struct server s = make_server(3, texts);
    server_start(&s);
    if (!run(&s, &d, 20, &err))
        fail_msg("%s", err.text);
    assert_int_equal(d.asked, 5);
    server_stop(&s);
}

static void test_what_kms_refuses_is_told_at_once(void **state)
{
    (void)state;
    struct err err = {0};
    struct dialling d = {0};
    const char *const texts[] = {DENIED};
    struct server s = make_server(1, texts);
    server_start(&s);
    assert_false(run(&s, &d, 20, &err));
    assert_non_null(strstr(err.text, "AccessDeniedException: no"));
    assert_int_equal(d.asked, 1);
    server_stop(&s);
}

static void test_no_connection_ends_at_the_deadline(void **state)
{
    (void)state;
    struct err err = {0};
    struct dialling d = {.refused = 1000};
    const char *const texts[] = {ENVELOPE};
    struct server s = make_server(1, texts);
    server_start(&s);
    uint64_t start = clock_monotonic_us();
    assert_false(run(&s, &d, 1, &err));
    assert_non_null(strstr(err.text, "the proxy sleeps"));
    assert_true(d.asked > 1);
    assert_true(clock_monotonic_us() - start < 3 * SECOND_US);
    server_stop(&s);
}

static void test_a_silent_server_ends_at_the_deadline(void **state)
{
    (void)state;
    struct err err = {0};
    struct dialling d = {0};
    const char *const texts[] = {ENVELOPE};
    struct server s = make_server(1, texts);
    s.answers[0].stays_silent = true;
    server_start(&s);
    uint64_t start = clock_monotonic_us();
    assert_false(run(&s, &d, 1, &err));
    assert_non_null(strstr(err.text, "no answer in time"));
    assert_true(clock_monotonic_us() - start < 3 * SECOND_US);
    server_stop(&s);
}

/* ---- messages ------------------------------------------------------------------------ */

static bool passes(const void *msg, size_t n)
{
    static struct fetch_message got;
    int pair[2], fd;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_true(fd_send_msg(pair[0], msg, n, NULL, 0));
    int verdict = fetch_recv(pair[1], &got, &fd);
    close(pair[0]);
    close(pair[1]);
    return verdict == 1;
}

static void test_messages_are_checked(void **state)
{
    (void)state;
    static struct fetch_message m;
    const size_t head = offsetof(struct fetch_message, u);
    m.kind = FETCH_DIAL;
    assert_true(passes(&m, head));
    assert_false(passes(&m, head + 1));
    m.kind = FETCH_ANSWER;
    assert_true(passes(&m, head + sizeof m.u.answer));
    assert_false(passes(&m, head + sizeof m.u.answer - 1));
    m.u.answer.envelope_n = KMS_BLOB_MAX + 1;
    assert_false(passes(&m, head + sizeof m.u.answer));
    m.u.answer.envelope_n = 0;
    m.u.answer.ciphertext_n = KMS_BLOB_MAX + 1;
    assert_false(passes(&m, head + sizeof m.u.answer));
    m.u.answer.ciphertext_n = 0;
    memset(m.u.answer.error, 'x', sizeof m.u.answer.error);
    assert_false(passes(&m, head + sizeof m.u.answer));
    memset(&m, 0, sizeof m);
    m.kind = FETCH_JOB;
    assert_false(passes(&m, head + sizeof m.u.job));
    m.u.job.request.op = KMS_DECRYPT;
    assert_true(passes(&m, head + sizeof m.u.job));
    m.u.job.request.document_n = sizeof m.u.job.request.document + 1;
    assert_false(passes(&m, head + sizeof m.u.job));
    for (uint32_t kind = 0; kind < 20; kind++) {
        m.kind = kind;
        assert_false(passes(&m, 1));
        assert_false(passes(&m, sizeof m.kind - 1));
    }
    m.kind = 0;
    assert_false(passes(&m, head));
}

static void test_nonsense_from_the_child_is_an_end(void **state)
{
    (void)state;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_true(fd_send_msg(pair[0], "nonsense", 8, NULL, 0));
    assert_int_equal(fetch_feed(pair[1], &answer), FETCH_ENDED);
    close(pair[0]);
    assert_int_equal(fetch_feed(pair[1], &answer), FETCH_ENDED);
    close(pair[1]);
}

static int setup(void **state)
{
    (void)state;
    struct err err;
    return !(crypto_start(&err) && aws_start(&err));
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "@fetch") == 0)
        return fetch_main();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_envelope_comes_back),
        cmocka_unit_test(test_it_asks_for_another_connection_until_one_works),
        cmocka_unit_test(test_what_kms_refuses_is_told_at_once),
        cmocka_unit_test(test_no_connection_ends_at_the_deadline),
        cmocka_unit_test(test_a_silent_server_ends_at_the_deadline),
        cmocka_unit_test(test_messages_are_checked),
        cmocka_unit_test(test_nonsense_from_the_child_is_an_end),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
