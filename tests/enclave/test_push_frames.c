/* Frames between the push child and the monitor: each kind arrives as it was sent, and nothing that
 * a taken-over child could send instead passes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "enclave/push_frames.h"

static int pair[2];
static struct push_frame sent, got;

static int enter(void **state)
{
    (void)state;
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
}

static int leave(void **state)
{
    (void)state;
    close(pair[0]);
    close(pair[1]);
    return 0;
}

static const char arn[] = "arn:aws:kms:eu-west-1:111122223333:key/1";

static void fill(uint32_t kind)
{
    sent = (struct push_frame){.kind = kind};
    if (kind == PUSH_KEYGEN) {
        memcpy(sent.u.keygen.place.key_id, arn, sizeof arn);
        sent.u.keygen.nonce_n = 32;
    } else if (kind == PUSH_CREDENTIALS) {
        snprintf(sent.u.credentials.key_id, AWS_KEY_ID_MAX, "ASIA");
        snprintf(sent.u.credentials.secret_key, AWS_SECRET_MAX, "a+b/c=");
    } else if (kind == PUSH_ANSWER_DOCUMENT) {
        sent.u.document.document_n = NSM_DOCUMENT_MAX;
        sent.u.document.ciphertext_n = KMS_BLOB_MAX;
    } else if (kind == PUSH_ANSWER_ERROR) {
        snprintf(sent.u.error.text, sizeof sent.u.error.text, "words");
    }
}

static void every_kind_passes(void **state)
{
    (void)state;
    for (uint32_t kind = PUSH_CONFIG; kind <= PUSH_ANSWER_ERROR; kind++) {
        fill(kind);
        memset(&got, 0xee, sizeof got);
        assert_true(push_frame_send(pair[0], &sent));
        assert_int_equal(push_frame_recv(pair[1], &got), 1);
        assert_int_equal(got.kind, kind);
        size_t n = sizeof got.u.state;
        assert_memory_equal(&got.u, &sent.u, n);
    }
    fill(PUSH_ANSWER_ERROR + 1);
    assert_false(push_frame_send(pair[0], &sent));
}

static void control_frames_pass_too(void **state)
{
    (void)state;
    struct control failed = {.kind = CONTROL_FAILED, .u.text = "no"}, end = {.kind = CONTROL_END};
    assert_true(control_send(pair[0], &failed, NULL, 0));
    assert_true(control_send(pair[0], &end, NULL, 0));
    assert_int_equal(push_frame_recv(pair[1], &got), 1);
    assert_int_equal(got.kind, CONTROL_FAILED);
    assert_string_equal(got.u.control.u.text, "no");
    assert_int_equal(push_frame_recv(pair[1], &got), 1);
    assert_int_equal(got.kind, CONTROL_END);
    close(pair[0]);
    assert_int_equal(push_frame_recv(pair[1], &got), 0);
}

static void assert_refused(const void *bytes, size_t n)
{
    assert_int_equal(send(pair[0], bytes, n, 0), n);
    assert_int_equal(push_frame_recv(pair[1], &got), -1);
}

static void wrong_sizes(void **state)
{
    (void)state;
    unsigned tried = 0;
    for (uint32_t kind = PUSH_CONFIG; kind <= PUSH_ANSWER_ERROR; kind++) {
        fill(kind);
        assert_true(push_frame_send(pair[0], &sent));
        static char bytes[sizeof sent + 8];
        ssize_t n = recv(pair[1], bytes, sizeof bytes, 0);
        assert_true(n > 4);
        assert_refused(bytes, (size_t)n - 1);
        assert_refused(bytes, (size_t)n + 1);
        assert_refused(bytes, 4);
        tried++;
    }
    assert_int_equal(tried, 10);
    assert_refused("abc", 3);
    fill(PUSH_ANSWER_ERROR + 1);
    assert_refused(&sent, sizeof sent);
    static char too_long[sizeof sent + 1];
    memcpy(too_long, &sent, sizeof sent);
    assert_refused(too_long, sizeof too_long);
}

#define REFUSED(k, change)                                                                         \
    do {                                                                                           \
        fill(k);                                                                                   \
        change;                                                                                    \
        assert_true(push_frame_send(pair[0], &sent));                                              \
        assert_int_equal(push_frame_recv(pair[1], &got), -1);                                      \
        assert_int_equal(errno, EPROTO);                                                           \
    } while (0)

static void wrong_values(void **state)
{
    (void)state;
    REFUSED(PUSH_CONFIG, sent.u.config.chains_n = CONFIG_CHAINS_MAX + 1);
    REFUSED(PUSH_CONFIG, sent.u.config.validators_n = CONFIG_VALIDATORS_MAX + 1);
    REFUSED(PUSH_CONFIG, sent.u.config.is_verbose = 2);
    REFUSED(PUSH_CREDENTIALS, memset(sent.u.credentials.key_id, 'a', AWS_KEY_ID_MAX));
    REFUSED(PUSH_CREDENTIALS, memset(sent.u.credentials.secret_key, 'a', AWS_SECRET_MAX));
    REFUSED(PUSH_CREDENTIALS, memset(sent.u.credentials.session_token, 'a', AWS_TOKEN_MAX));
    REFUSED(PUSH_CREDENTIALS, sent.u.credentials.key_id[1] = '\n');
    REFUSED(PUSH_CREDENTIALS, sent.u.credentials.secret_key[1] = ' ');
    REFUSED(PUSH_CREDENTIALS, sent.u.credentials.secret_key[1] = (char)0x80);
    REFUSED(PUSH_CREDENTIALS, sent.u.credentials.expires_s = -1);
    REFUSED(PUSH_KEYGEN, sent.u.keygen.nonce_n = PUSH_NONCE_MIN - 1);
    REFUSED(PUSH_KEYGEN, sent.u.keygen.nonce_n = PUSH_NONCE_MAX + 1);
    REFUSED(PUSH_KEYGEN, sent.u.keygen.place.key_id[0] = 'x');
    REFUSED(PUSH_KEYGEN, memset(sent.u.keygen.place.host, 'a', KMS_HOST_MAX));
    REFUSED(PUSH_ATTEST, sent.u.attest.nonce_n = PUSH_NONCE_MAX + 1);
    REFUSED(PUSH_ATTEST, sent.u.attest.user_data_n = PUSH_USER_DATA_MAX + 1);
    REFUSED(PUSH_ATTEST, {
        sent.u.attest.user_data_n = 8;
        memcpy(sent.u.attest.user_data, "tmkms ke", 8);
    });
    REFUSED(PUSH_PING, sent.u.state.is_ready = 2);
    REFUSED(PUSH_ANSWER_KEY, memset(sent.u.key.text, 'a', sizeof sent.u.key.text));
    REFUSED(PUSH_ANSWER_KEY, sent.u.key.key.len = PUBLIC_KEY_MAX + 1);
    REFUSED(PUSH_ANSWER_READY, sent.u.ready.keys_n = CONFIG_CHAINS_MAX + 1);
    REFUSED(PUSH_ANSWER_DOCUMENT, sent.u.document.document_n++);
    REFUSED(PUSH_ANSWER_DOCUMENT, sent.u.document.ciphertext_n++);
    REFUSED(PUSH_ANSWER_STATE, sent.u.state.is_ready = 2);
    REFUSED(PUSH_ANSWER_STATE, sent.u.state.signer = PUSH_SILENT + 1);
    REFUSED(PUSH_ANSWER_STATE, sent.u.state.session = PUSH_SILENT + 1);
    REFUSED(PUSH_ANSWER_ERROR, sent.u.error.code = PUSH_CODE_CONFIG + 1);
    REFUSED(PUSH_ANSWER_ERROR, memset(sent.u.error.text, 'a', sizeof sent.u.error.text));
}

static void failure_in_words(void **state)
{
    (void)state;
    push_frame_fail(pair[0], PUSH_CODE_MEASURED, "chain %s", "hub");
    assert_int_equal(push_frame_recv(pair[1], &got), 1);
    assert_int_equal(got.kind, PUSH_ANSWER_ERROR);
    assert_string_equal(got.u.error.text, "chain hub");
    assert_int_equal(got.u.error.code, PUSH_CODE_MEASURED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_kind_passes, enter, leave),
        cmocka_unit_test_setup_teardown(control_frames_pass_too, enter, leave),
        cmocka_unit_test_setup_teardown(wrong_sizes, enter, leave),
        cmocka_unit_test_setup_teardown(wrong_values, enter, leave),
        cmocka_unit_test_setup_teardown(failure_in_words, enter, leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
