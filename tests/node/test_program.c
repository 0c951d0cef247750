/* tmkms-test-node, the program: what it prints and how it ends with good, bad and vanishing signers. */
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "node.h"
#include "privval/message.h"
#include "privval/sign_bytes.h"
#include "run.h"

enum fault { HONEST, BAD_SIGNATURE, NO_EXTENSION, REFUSES, VANISHES };

struct fake_signer {
    enum fault fault;
    enum wire_line line;
    char path[64];
    struct signing_key *key;
    unsigned answered, connections;
    volatile bool stop;
};

static struct bytes answer(struct fake_signer *f, const struct request *req, uint8_t buf[REPLY_MAX])
{
    struct signed_reply reply = {.timestamp = req->signable.timestamp};
    uint8_t msg[SIGN_BYTES_MAX], extension[1024];
    if (req->kind == REQUEST_PING)
        return reply_ping(buf, REPLY_MAX);
    if (req->kind == REQUEST_PUBKEY)
        return reply_pubkey(f->line, signing_key_public(f->key), buf, REPLY_MAX);
    if (f->fault == REFUSES && req->signable.step == STEP_PREVOTE)
        return reply_error(f->line, req, 2, "not today", buf, REPLY_MAX);
    signing_key_sign(f->key, sign_bytes(&req->signable, req->chain_id, msg), reply.signature);
    reply.signature[5] ^= f->fault == BAD_SIGNATURE && req->signable.height == 3;
    reply.has_extension_signature =
        req->signable.step == STEP_PRECOMMIT && f->fault != NO_EXTENSION;
    if (reply.has_extension_signature)
        signing_key_sign(f->key,
            extension_sign_bytes(
                &req->signable, req->chain_id, req->extension, extension, sizeof extension),
            reply.extension_signature);
    return reply_signed(f->line, req, &reply, buf, REPLY_MAX);
}

/* Reads one request and answers it; false: the node hung up, or this signer had enough. */
static bool serve_one(struct fake_signer *f, int fd)
{
    static uint8_t in[4096];
    uint8_t buf[REPLY_MAX];
    size_t n = 0;
    for (long whole = 0; whole == 0 || n < (size_t)whole;) {
        ssize_t got = recv(fd, in + n, sizeof in - n, 0);
        if (got <= 0)
            return false;
        n += (size_t)got;
        whole = request_frame_len(bytes_of(in, n));
    }
    struct request req;
    if (!request_parse(&req, f->line, bytes_of(in, n)) || req.problem != NULL)
        return false;
    f->answered++;
    if (f->fault == VANISHES && f->answered % 4 == 0)
        return false;
    struct bytes out = answer(f, &req, buf);
    return send(fd, out.p, out.n, MSG_NOSIGNAL) == (ssize_t)out.n;
}

static void *signer_main(void *arg)
{
    struct fake_signer *f = arg;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", f->path);
    while (!f->stop) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0) {
            f->connections++;
            while (serve_one(f, fd))
                ;
        }
        close(fd);
        usleep(5000);
    }
    return NULL;
}

static void play(struct fake_signer *f, struct run_result *ret, enum fault fault,
    enum wire_line line, const char *pubkey)
{
    char listen_on[96], hex[2 * PUBLIC_KEY_MAX + 1];
    *f = (struct fake_signer){.fault = fault, .line = line};
    snprintf(f->path, sizeof f->path, "/tmp/tmkms-test-node-%d.sock", (int)getpid());
    snprintf(listen_on, sizeof listen_on, "unix://%s", f->path);
    f->key = node_identity_new(NULL, NULL);
    assert_non_null(f->key);
    hex_upper(bytes_of(signing_key_public(f->key)->bytes, 32), hex);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, signer_main, f), 0);
    run_in(ret, NULL,
        (const char *const[]){TEST_NODE_BINARY, "--listen", listen_on, "--chain-id", "chain-1",
            "--line", line == WIRE_P1 ? "p1" : "p2", "--blocks", "5", "--interval-ms", "0",
            "--pubkey", pubkey != NULL ? pubkey : hex, NULL});
    f->stop = true;
    pthread_join(thread, NULL);
    signing_key_free(f->key);
}

static void good_signers(void **state)
{
    (void)state;
    static const enum wire_line lines[] = {WIRE_P1, WIRE_P2};
    for (size_t i = 0; i < 2; i++) {
        struct run_result ret;
        struct fake_signer f;
        play(&f, &ret, HONEST, lines[i], NULL);
        assert_string_equal(ret.err, "");
        assert_int_equal(ret.exit_code, 0);
        assert_contains(ret.out, "public key ");
        assert_contains(ret.out, "block 5   proposal 5/0/0");
        assert_contains(ret.out, "(15 signatures)");
        assert_contains(ret.out, "15 signatures, p50 ");
        assert_int_equal(f.answered, 16);
    }
}

static void vanishing_signer(void **state)
{
    (void)state;
    struct run_result ret;
    struct fake_signer f;
    play(&f, &ret, VANISHES, WIRE_P1, NULL);
    assert_int_equal(ret.exit_code, 0);
    assert_contains(ret.out, "connection lost");
    assert_contains(ret.out, "15 signatures, p50 ");
    assert_true(f.connections >= 5);
}

static void bad_signers(void **state)
{
    (void)state;
    struct run_result ret;
    struct fake_signer f;
    play(&f, &ret, BAD_SIGNATURE, WIRE_P1, NULL);
    assert_int_equal(ret.exit_code, 1);
    assert_contains(ret.err, "bad consensus signature at 3/0/proposal");
    assert_contains(ret.out, "6 signatures, p50 ");
    play(&f, &ret, NO_EXTENSION, WIRE_P1, NULL);
    assert_int_equal(ret.exit_code, 1);
    assert_contains(ret.err, "extension signature is missing");
    play(&f, &ret, REFUSES, WIRE_P1, NULL);
    assert_int_equal(ret.exit_code, 1);
    assert_contains(ret.out, "REFUSED: not today");
    assert_contains(ret.err, "5 requests were refused");
    play(&f, &ret, HONEST, WIRE_P1,
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
    assert_int_equal(ret.exit_code, 1);
    assert_contains(ret.err, "public key is");
}

static void wrong_usage(void **state)
{
    (void)state;
    static const char *const cases[][8] = {
        {TEST_NODE_BINARY, NULL},
        {TEST_NODE_BINARY, "--listen", "unix:///tmp/x", NULL},
        {TEST_NODE_BINARY, "--listen", "unix:///tmp/x", "--chain-id", "c", "--line", "p3", NULL},
        {TEST_NODE_BINARY, "--listen", "unix:///tmp/x", "--chain-id", "c", "--blocks", "x", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct run_result ret;
        run_in(&ret, NULL, cases[i]);
        assert_int_equal(ret.exit_code, 2);
    }
}

static int start(void **state)
{
    (void)state;
    struct err err;
    return crypto_start(&err) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_signers),
        cmocka_unit_test(vanishing_signer),
        cmocka_unit_test(bad_signers),
        cmocka_unit_test(wrong_usage),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
