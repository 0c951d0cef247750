/* The push child at work in its sandbox: what clients send becomes checked frames or an error in
 * words, and the monitor's verdict becomes the answer. */
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "../nitro/push_rig.h"
#include "../run.h"
#include "enclave/push_child.h"
#include "enclave/push_frames.h"
#include "nitro/keygen.h"

/* A child with a client and a monitor, both played by the test. */
static struct {
    pid_t pid;
    int client, control, log;
} rig;

static struct push_frame frame;

static void become_child(int client, int control, int log)
{
    enum { ABOVE = 64 };
    int from[] = {dup2(client, ABOVE), dup2(control, ABOVE + 1), dup2(log, ABOVE + 2)};
    dup2(from[0], STDIN_FILENO);
    dup2(from[1], CHILD_FD_CONTROL);
    dup2(from[2], CHILD_FD_LOG);
    close_range(CHILD_FD_LOG + 1, ~0U, 0);
    _exit(push_child_main("5050"));
}

static int enter(void **state)
{
    (void)state;
    int client[2], control[2], log[2];
    rig_pair(client);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, log), 0);
    rig.pid = fork();
    assert_true(rig.pid >= 0);
    if (rig.pid == 0)
        become_child(client[1], control[1], log[1]);
    close(client[1]);
    close(control[1]);
    close(log[1]);
    rig.client = client[0];
    rig.control = control[0];
    rig.log = log[0];
    return 0;
}

static int exit_of_child(void)
{
    int status;
    for (unsigned i = 0; i < 5000; i++) {
        if (waitpid(rig.pid, &status, WNOHANG) == rig.pid) {
            rig.pid = 0;
            return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        }
        usleep(2000);
    }
    return -1000;
}

static int leave(void **state)
{
    (void)state;
    close(rig.client);
    close(rig.control);
    close(rig.log);
    if (rig.pid > 0) {
        kill(rig.pid, SIGKILL);
        waitpid(rig.pid, NULL, 0);
    }
    return 0;
}

/* ---- requests ------------------------------------------------------------------- */

#define CREDENTIALS                                                                                \
    "{\"aws_key_id\":\"ASIA\",\"aws_secret_key\":\"s+/"                                            \
    "=\",\"aws_session_token\":\"t\",\"expires\":"                                                 \
    "99}"
#define CHAIN                                                                                      \
    "{\"id\":\"hub\",\"key_format\":{\"type\":\"hex\"},\"state_vsock_port\":6666,\"public_key\":"  \
    "\"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\"}"
#define SOFTSIGN                                                                                   \
    "{\"chain_ids\":[\"hub\"],\"key_type\":\"consensus\",\"encrypted_key_b64\":\"AQIDBA==\","      \
    "\"aws_region\":\"eu-west-1\"}"
#define VALIDATOR                                                                                  \
    "{\"chain_id\":\"hub\",\"addr\":{\"port\":5555,\"secret_connection\":false},"                  \
    "\"protocol_version\":\"v0.34\"}"
#define TREE                                                                                       \
    "{\"chain\":[" CHAIN "],\"providers\":{\"softsign\":[" SOFTSIGN "]},\"validator\":[" VALIDATOR \
    "]}"
#define CONFIG                                                                                     \
    "{\"op\":\"config\",\"config\":" TREE ",\"credentials\":" CREDENTIALS ",\"verbose\":true}"

#define ARN "arn:aws:kms:eu-west-1:111122223333:key/1"
#define NONCE "00112233445566778899aabbccddeeff"
#define PLACE                                                                                      \
    "{\"region\":\"eu-west-1\",\"key_id\":\"" ARN                                                  \
    "\",\"host\":\"kms.test\",\"port\":4443,\"context\":{\"chain\":\"hub\"}}"
#define KEYGEN                                                                                     \
    "{\"op\":\"keygen\",\"kms\":" PLACE ",\"credentials\":" CREDENTIALS ",\"nonce\":\"" NONCE "\"" \
    "}"

static void say(const char *text)
{
    uint8_t bytes[8192];
    assert_true(strlen(text) + RIG_HEADER <= sizeof bytes);
    assert_true(fd_write_exact(rig.client, bytes, rig_frame(bytes, strlen(text), text)));
}

static void expect(uint32_t kind)
{
    assert_true(fd_wait(rig.control, POLLIN, rig_in_ms(10000)));
    assert_int_equal(push_frame_recv(rig.control, &frame), 1);
    if (frame.kind == CONTROL_FAILED && kind != CONTROL_FAILED)
        fail_msg("refused: %s", frame.u.control.u.text);
    assert_int_equal(frame.kind, kind);
}

static void answer(const struct push_frame *f)
{
    assert_true(push_frame_send(rig.control, f));
}

/* The client's answer, compared as JSON. */
static void expect_answer(const char *want_text)
{
    struct err err = {0};
    json_t *got = push_read(rig.client, rig_in_ms(10000), &err);
    json_t *want = push_parse(bytes_of_text(want_text), NULL);
    if (got == NULL)
        fail_msg("%s", err.text);
    assert_non_null(want);
    if (!json_equal(got, want)) {
        char *text = json_dumps(got, JSON_INDENT(1));
        fail_msg("answered %s", text);
    }
    json_decref(got);
    json_decref(want);
}

/* The child answers with an error that has these words, tells the monitor the same, and ends. */
static void expect_refusal(const char *words)
{
    struct err err = {0};
    json_t *got = push_read(rig.client, rig_in_ms(10000), &err);
    if (got == NULL)
        fail_msg("%s", err.text);
    const char *text = json_string_value(json_object_get(got, "error"));
    assert_non_null(text);
    assert_contains(text, words);
    assert_true(json_is_false(json_object_get(got, "ok")));
    close(rig.client);
    rig.client = -1;
    expect(CONTROL_FAILED);
    assert_string_equal(frame.u.control.u.text, text);
    json_decref(got);
    assert_int_equal(push_frame_recv(rig.control, &frame), 0);
    assert_int_equal(exit_of_child(), EXIT_FAILURE);
}

/* ---- tests ---------------------------------------------------------------------- */

static void config_becomes_frames(void **state)
{
    (void)state;
    say(CONFIG);
    expect(PUSH_CONFIG);
    assert_int_equal(frame.u.config.chains_n, 1);
    assert_int_equal(frame.u.config.validators_n, 1);
    assert_int_equal(frame.u.config.is_verbose, 1);
    expect(PUSH_CREDENTIALS);
    assert_string_equal(frame.u.credentials.key_id, "ASIA");
    assert_string_equal(frame.u.credentials.secret_key, "s+/=");
    assert_string_equal(frame.u.credentials.session_token, "t");
    assert_int_equal(frame.u.credentials.expires_s, 99);
    expect(CONTROL_CHAIN_ADD);
    assert_string_equal(frame.u.control.u.chain.id, "hub");
    assert_int_equal(frame.u.control.u.chain.state_port, 6666);
    assert_int_equal(frame.u.control.u.chain.sealed_n, 4);
    assert_string_equal(frame.u.control.u.chain.kms.region, "eu-west-1");
    expect(CONTROL_VALIDATOR_ADD);
    assert_int_equal(frame.u.control.u.validator.address.kind, LINK_VSOCK);
    expect(CONTROL_END);
    struct push_frame key = {.kind = PUSH_ANSWER_KEY,
        .u.key = {.chain_id = "hub", .key = {KEY_ED25519, 32, {0xab}}, .text = "{\"a\":1}"}};
    answer(&key);
    struct push_frame ready = {.kind = PUSH_ANSWER_READY,
        .u.ready = {.keys_n = 1, .measured_config = {0x01}, .pcr16 = {0x02}}};
    answer(&ready);
#define ZEROS46 "0000000000000000000000000000000000000000000000"
    expect_answer(
        "{\"ok\":true,\"state\":\"ready\",\"keys\":[{\"chain_id\":\"hub\",\"public_key\":"
        "\"{\\\"a\\\":1}\",\"hex\":"
        "\"AB00000000000000000000000000000000000000000000000000000000000000\"}],"
        "\"measured_config\":\"01" ZEROS46 ZEROS46 "00\",\"pcr16\":\"02" ZEROS46 ZEROS46 "00\"}");
    assert_int_equal(exit_of_child(), EXIT_SUCCESS);
}

static void keygen_becomes_frames(void **state)
{
    (void)state;
    say(KEYGEN);
    expect(PUSH_KEYGEN);
    const struct push_keygen *k = &frame.u.keygen;
    assert_string_equal(k->place.region, "eu-west-1");
    assert_string_equal(k->place.key_id, ARN);
    assert_string_equal(k->place.host, "kms.test");
    assert_int_equal(k->place.port, 4443);
    assert_int_equal(k->place.context_n, 1);
    assert_memory_equal(k->place.context, "chain\0hub", sizeof "chain\0hub");
    assert_int_equal(k->nonce_n, 16);
    assert_int_equal(k->nonce[15], 0xff);
    expect(PUSH_CREDENTIALS);
    struct push_frame done = {.kind = PUSH_ANSWER_DOCUMENT,
        .u.document = {.document_n = 3,
            .document = "abc",
            .ciphertext_n = 3,
            .ciphertext = "def",
            .key = {KEY_ED25519, 32, {0xab}}}};
    answer(&done);
    expect_answer("{\"ok\":true,\"ciphertext\":\"ZGVm\",\"document\":\"YWJj\",\"public_key\":"
                  "\"ab00000000000000000000000000000000000000000000000000000000000000\"}");
    assert_int_equal(exit_of_child(), EXIT_SUCCESS);
}

/* The largest document and ciphertext fit through. */
static void large_answer(void **state)
{
    (void)state;
    say("{\"op\":\"attest\",\"nonce\":\"\",\"user_data\":\"00ff\"}");
    expect(PUSH_ATTEST);
    assert_int_equal(frame.u.attest.nonce_n, 0);
    assert_int_equal(frame.u.attest.user_data_n, 2);
    frame = (struct push_frame){.kind = PUSH_ANSWER_DOCUMENT,
        .u.document = {.document_n = NSM_DOCUMENT_MAX, .ciphertext_n = KMS_BLOB_MAX}};
    answer(&frame);
    struct err err = {0};
    json_t *got = push_read(rig.client, rig_in_ms(10000), &err);
    assert_non_null(got);
    assert_int_equal(
        json_string_length(json_object_get(got, "document")), NSM_DOCUMENT_MAX / 3 * 4);
    json_decref(got);
}

static void ping(void **state)
{
    (void)state;
    say("{\"op\":\"ping\"}");
    expect(PUSH_PING);
    struct push_frame ready = {.kind = PUSH_ANSWER_STATE,
        .u.state = {
            .is_ready = 1, .signer = PUSH_ALIVE, .session = PUSH_SILENT, .log_vsock_port = 6050}};
    answer(&ready);
    expect_answer("{\"ok\":true,\"state\":\"ready\",\"signer\":\"alive\",\"session\":\"silent\","
                  "\"log_vsock_port\":6050}");
}

static void verdict_of_the_monitor(void **state)
{
    (void)state;
    say(CONFIG);
    for (int i = 0; i < 5; i++) {
        assert_true(fd_wait(rig.control, POLLIN, rig_in_ms(10000)));
        assert_int_equal(push_frame_recv(rig.control, &frame), 1);
    }
    push_frame_fail(rig.control, PUSH_CODE_MEASURED, "restart the enclave");
    expect_answer(
        "{\"ok\":false,\"error\":\"restart the enclave\",\"code\":\"measured_config_differs\"}");
}

static void monitor_that_ends(void **state)
{
    (void)state;
    say("{\"op\":\"ping\"}");
    expect(PUSH_PING);
    close(rig.control);
    rig.control = -1;
    expect_answer(
        "{\"ok\":false,\"error\":\"the enclave ended before it was done; its log says why\"}");
}

/* Fewer keys than announced: something was lost on the way, so it is not `ready`. */
static void monitor_that_forgets_a_key(void **state)
{
    (void)state;
    say("{\"op\":\"ping\"}");
    expect(PUSH_PING);
    struct push_frame ready = {.kind = PUSH_ANSWER_READY, .u.ready.keys_n = 1};
    answer(&ready);
    expect_answer("{\"ok\":false,\"error\":\"the enclave answered with something else than was "
                  "asked for\"}");
}

/* A client that has gone does not hold the child up. */
static void client_that_leaves(void **state)
{
    (void)state;
    say("{\"op\":\"ping\"}");
    expect(PUSH_PING);
    close(rig.client);
    rig.client = -1;
    struct push_frame waiting = {.kind = PUSH_ANSWER_STATE};
    answer(&waiting);
    assert_int_equal(exit_of_child(), EXIT_SUCCESS);
}

static void bad_requests(void **state)
{
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"{}", "op: one of"},
        {"{\"op\":1}", "op: one of"},
        {"{\"op\":\"shutdown\"}", "op: one of"},
        {"[]", "not a JSON object"},
        {"{\"op\":\"ping\"} {\"op\":\"ping\"}", "no JSON"},
        {"{\"op\":\"ping\",\"more\":1}", "more"},
        {"{\"op\":\"config\"}", "config"},
        {"{\"op\":\"config\",\"config\":{},\"credentials\":" CREDENTIALS "}", "chain"},
        {"{\"op\":\"config\",\"config\":[],\"credentials\":" CREDENTIALS "}", "no table"},
        {"{\"op\":\"config\",\"config\":{\"a\":1},\"credentials\":" CREDENTIALS "}", "config: a"},
        {"{\"op\":\"config\",\"config\":" TREE ",\"credentials\":{}}", "credentials: "},
        {"{\"op\":\"config\",\"config\":" TREE ",\"credentials\":" CREDENTIALS ",\"verbose\":3}",
            "true or false"},
        {"{\"op\":\"config\",\"config\":" TREE
         ",\"credentials\":{\"aws_key_id\":\"A\\n\",\"aws_secret_key\":\"b\"}}",
            "no credential has"},
        {"{\"op\":\"config\",\"config\":" TREE
         ",\"credentials\":{\"aws_key_id\":\"A\",\"aws_secret_key\":\"b\",\"expires\":-1}}",
            "negative time"},
        {"{\"op\":\"keygen\",\"kms\":" PLACE ",\"credentials\":" CREDENTIALS ",\"nonce\":\"00\"}",
            "nonce: shorter than 16"},
        {"{\"op\":\"keygen\",\"kms\":" PLACE ",\"credentials\":" CREDENTIALS ",\"nonce\":\"0g\"}",
            "nonce: not an even"},
        {"{\"op\":\"keygen\",\"kms\":{\"region\":\"eu-west-1\",\"key_id\":\"alias/mine\"},"
         "\"credentials\":" CREDENTIALS ",\"nonce\":\"" NONCE "\"}",
            "not the ARN"},
        {"{\"op\":\"keygen\",\"kms\":{\"region\":\"a\\nb\",\"key_id\":\"" ARN
         "\"},\"credentials\":" CREDENTIALS ",\"nonce\":\"" NONCE "\"}",
            "control characters"},
        {"{\"op\":\"keygen\",\"kms\":{\"region\":\"a\",\"port\":65536,\"key_id\":\"" ARN
         "\"},\"credentials\":" CREDENTIALS ",\"nonce\":\"" NONCE "\"}",
            "no such port"},
        {"{\"op\":\"keygen\",\"kms\":{\"region\":\"a\",\"context\":{\"k\":1},\"key_id\":\"" ARN
         "\"},\"credentials\":" CREDENTIALS ",\"nonce\":\"" NONCE "\"}",
            "context"},
        {"{\"op\":\"attest\",\"user_data\":\"746d6b6d73206b657967656e\"}",
            "for the enclave itself"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        enter(state);
        say(bad[i].text);
        expect_refusal(bad[i].words);
        leave(state);
    }
}

/* The files of the host are not there: a config for a host is refused in words. */
static void config_of_a_host(void **state)
{
    (void)state;
    say("{\"op\":\"config\",\"config\":{\"chain\":[{\"id\":\"hub\",\"key_format\":{\"type\":"
        "\"hex\"},"
        "\"state_file\":\"/s\"}],\"providers\":{\"softsign\":[{\"chain_ids\":[\"hub\"],\"path\":"
        "\"/k\"}]},\"validator\":[" VALIDATOR "]},\"credentials\":" CREDENTIALS "}");
    expect_refusal("encrypted_key_b64");
}

static void oversized(void **state)
{
    (void)state;
    uint8_t header[RIG_HEADER];
    rig_frame(header, PUSH_MAX + 1, "");
    assert_true(fd_write_exact(rig.client, header, sizeof header));
    /* it goes on sending, and still hears why it was refused */
    char junk[65536] = {0};
    assert_true(fd_write_before(rig.client, junk, sizeof junk, rig_in_ms(5000)));
    expect_refusal("at most 262144");
}

static void prototype_push(void **state)
{
    (void)state;
    static const char text[] = TREE;
    assert_true(fd_write_exact(rig.client, text, strlen(text)));
    shutdown(rig.client, SHUT_WR);
    expect_refusal("same version");
}

static void cut_short(void **state)
{
    static const char text[] = "{\"op\":\"ping\"}";
    uint8_t bytes[64];
    size_t whole = rig_frame(bytes, strlen(text), text);
    for (size_t n = 0; n < whole; n += 3) {
        enter(state);
        assert_true(fd_write_exact(rig.client, bytes, n));
        shutdown(rig.client, SHUT_WR);
        expect_refusal("cut short");
        leave(state);
    }
}

static void silent_client(void **state)
{
    (void)state;
    uint64_t before = clock_monotonic_us();
    expect_refusal("deadline");
    uint64_t took = clock_monotonic_us() - before;
    assert_true(took > 4500000 && took < 8000000);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, enter, leave)
    const struct CMUnitTest tests[] = {
        TEST(config_becomes_frames),
        TEST(keygen_becomes_frames),
        TEST(large_answer),
        TEST(ping),
        TEST(verdict_of_the_monitor),
        TEST(monitor_that_ends),
        TEST(monitor_that_forgets_a_key),
        TEST(client_that_leaves),
        cmocka_unit_test(bad_requests),
        TEST(config_of_a_host),
        TEST(oversized),
        TEST(prototype_push),
        cmocka_unit_test(cut_short),
        TEST(silent_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
