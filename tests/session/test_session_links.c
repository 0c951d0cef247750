/* The session over tcp and noise, by name, and inside its sandbox. */
#include "session/rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "link/vsock.h"

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER 0 /* a sanitizer's own system calls are not on the list */
#endif

static const char chain[] = "test-1";

static struct node_listener *listen_on(const char *address, struct signing_key **ret_identity)
{
    struct err err;
    *ret_identity = node_identity_new(NULL, &err);
    assert_non_null(*ret_identity);
    struct node_listener *l = node_listen(address, *ret_identity, &err);
    if (l == NULL)
        fail_msg("%s", err.text);
    return l;
}

/* A vote and a large precommit over one kind of link, sandboxed, twice with a reconnect in between.
 */
static void goes_through(struct rig *r, const char *listen_address, const char *dial_to)
{
    struct signing_key *identity;
    struct node_listener *l = listen_on(listen_address, &identity);
    char address[LINK_TEXT_MAX];
    snprintf(address, sizeof address, "%s", node_address(l));
    if (dial_to != NULL)
        snprintf(address, sizeof address, "%s%s", dial_to, strrchr(node_address(l), ':') + 1);
    struct config_validator v = rig_validator(chain, address);
    int channel = rig_chain(r, chain);
    rig_add(r, &v);
    for (int i = 0; i < 2; i++) {
        struct node_conn *c = rig_accept(l);
        rig_signs(r, c, channel, chain, 5 + i);
        static uint8_t extension[300000];
        struct node_request vote = rig_vote(chain, 5 + i, STEP_PRECOMMIT);
        vote.extension = bytes_of(extension, sizeof extension);
        struct sign_request taken;
        struct node_reply reply;
        struct err err;
        rig_send(c, WIRE_P1, &vote);
        signer_take(r, channel, &taken);
        assert_true(bytes_equal(bytes_of(r->blob, taken.blob_n), vote.extension));
        signer_sign(r, channel, chain, &taken);
        rig_receive(c, WIRE_P1, &reply);
        if (!node_check(&vote, &reply, signing_key_public(r->consensus), &err))
            fail_msg("%s", err.text);
        node_hang_up(c);
    }
    node_unlisten(l);
    signing_key_free(identity);
    close(channel);
}

static void test_tcp(void **state)
{
    struct rig *r = *state;
    rig_start(r, !UNDER_SANITIZER);
    goes_through(r, "tcp://127.0.0.1:0", NULL);
    rig_log_has(r, " INFO tmkms::connection::tcp: KMS node ID: PublicKey::Ed25519(", 1);
    assert_int_equal(rig_log_count(r, "unverified"), 0); /* the node's address carries its id */
}

static void test_tcp_without_a_peer_id(void **state)
{
    struct rig *r = *state;
    rig_start(r, !UNDER_SANITIZER);
    goes_through(r, "tcp://127.0.0.1:0", "tcp://127.0.0.1:");
    rig_log_has(r, "]: unverified validator peer ID! (", 1);
    const char *line = strstr(r->log, "peer ID! (");
    assert_int_equal(strspn(line + strlen("peer ID! ("), "0123456789abcdef"), 40);
}

static void test_tcp_by_name(void **state)
{
    struct rig *r = *state;
    rig_start(r, !UNDER_SANITIZER);
    goes_through(r, "tcp://127.0.0.1:0", "tcp://localhost:");
}

static void test_noise(void **state)
{
    struct rig *r = *state;
    rig_start(r, !UNDER_SANITIZER);
    goes_through(r, "noise://127.0.0.1:0", NULL);
}

static void test_unix_in_the_sandbox(void **state)
{
    struct rig *r = *state;
    struct node_listener *l = rig_listen(r, "node");
    struct config_validator v = rig_validator(chain, node_address(l));
    rig_start(r, !UNDER_SANITIZER);
    int channel = rig_chain(r, chain);
    rig_add(r, &v);
    for (int i = 0; i < 3; i++) {
        struct node_conn *c = rig_accept(l);
        rig_signs(r, c, channel, chain, 5 + i);
        node_hang_up(c);
    }
    node_unlisten(l);
    rig_log_has(r, "I/O error: ", 1); /* a dial that fails uses no forbidden call either */
    close(channel);
}

/* An enclave's session: the node is a port of the parent, here its stand-in. */
static void test_vsock(void **state)
{
    struct rig *r = *state;
    char uds[VSOCK_PATH_MAX];
    snprintf(uds, sizeof uds, "%s/vm", r->folder);
    setenv("TMKMS_VSOCK_UDS", uds, 1);
    rig_start(r, !UNDER_SANITIZER);
    struct config_validator v = rig_validator(chain, "unix:///unused");
    memset(&v.address, 0, sizeof v.address);
    v.address.vsock_port = 5555;
    link_address_set_vsock(&v.address);
    int channel = rig_chain(r, chain);
    rig_add(r, &v);
    rig_log_has(r, "No such file or directory", 1);
    struct node_listener *l = rig_listen(r, "vm_5555");
    for (int i = 0; i < 3; i++) {
        struct node_conn *c = rig_accept(l);
        rig_signs(r, c, channel, chain, 5 + i);
        node_hang_up(c);
    }
    node_unlisten(l);
    rig_log_has(r, "[test-1@vsock://parent:5555] connected to validator successfully", 1);
    assert_int_equal(rig_log_count(r, "unverified"), 0);
    unsetenv("TMKMS_VSOCK_UDS");
    close(channel);
}

static void test_the_wrong_peer(void **state)
{
    struct rig *r = *state;
    struct signing_key *identity;
    struct node_listener *l = listen_on("tcp://127.0.0.1:0", &identity);
    char address[LINK_TEXT_MAX];
    snprintf(address, sizeof address, "tcp://00112233445566778899aabbccddeeff00112233@127.0.0.1:%s",
        strrchr(node_address(l), ':') + 1);
    struct config_validator v = rig_validator(chain, address);
    rig_start(r, false);
    int channel = rig_chain(r, chain);
    rig_add(r, &v);
    struct err err;
    struct node_conn *c = node_accept(l, rig_deadline(WAIT_MS), &err);
    if (c != NULL)
        rig_sees_close(c);
    rig_log_has(r, "validator peer ID mismatch!", 1);
    assert_int_equal(rig_log_count(r, "connected"), 0);
    node_hang_up(c);
    node_unlisten(l);
    signing_key_free(identity);
    close(channel);
}

static void test_a_silent_handshake(void **state)
{
    struct rig *r = *state;
    struct signing_key *identity;
    struct node_listener *l = listen_on("tcp://127.0.0.1:0", &identity);
    struct config_validator v = rig_validator(chain, node_address(l));
    rig_start(r, false);
    int channel = rig_chain(r, chain);
    rig_add(r, &v);
    struct err err;
    uint64_t began = clock_monotonic_us();
    struct node_conn *c = node_accept_raw(l, rig_deadline(WAIT_MS), &err);
    assert_non_null(c);
    rig_log_has(r, "protocol error: no handshake within 500 ms", 1);
    assert_in_range((clock_monotonic_us() - began) / 1000, 450, 2000);
    node_hang_up(c);
    c = rig_accept(l); /* it goes on trying */
    rig_pings(c);
    node_hang_up(c);
    node_unlisten(l);
    signing_key_free(identity);
    close(channel);
}

static void test_handshake_garbage(void **state)
{
    struct rig *r = *state;
    rig_start(r, false);
    int channel = rig_chain(r, chain);
    static const char *const forms[] = {"tcp://127.0.0.1:0", "noise://127.0.0.1:0"};
    for (size_t i = 0; i < 2; i++) {
        struct signing_key *identity;
        struct node_listener *l = listen_on(forms[i], &identity);
        struct config_validator v = rig_validator(chain, node_address(l));
        rig_add(r, &v);
        struct err err;
        struct node_conn *c = node_accept_raw(l, rig_deadline(WAIT_MS), &err);
        assert_non_null(c);
        uint8_t garbage[2048];
        memset(garbage, 0xa5, sizeof garbage);
        assert_int_equal(send(node_fd(c), garbage, sizeof garbage, MSG_NOSIGNAL), sizeof garbage);
        node_hang_up(c);
        c = rig_accept(l);
        rig_pings(c);
        node_hang_up(c);
        node_unlisten(l);
        signing_key_free(identity);
    }
    close(channel);
}

static void test_an_unknown_name(void **state)
{
    struct rig *r = *state;
    rig_start(r, !UNDER_SANITIZER);
    int channel = rig_chain(r, chain);
    struct config_validator v = rig_validator(chain, "tcp://no-such-host.invalid:26658");
    rig_add(r, &v);
    rig_log_has(r, "I/O error: cannot resolve no-such-host.invalid", 1);
    rig_log_has(r, "no connection after", 1);
    rig_drop(r, &v);
    close(channel);
}

/* A listener whose queue is full drops the first packet of every further connection. */
static void test_no_answer_to_the_connect(void **state)
{
    enum { FILLERS = 4 };
    struct rig *r = *state;
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof in4;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&in4, sizeof in4), 0);
    assert_int_equal(listen(listener, 0), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&in4, &n), 0);
    int fillers[FILLERS];
    for (int i = 0; i < FILLERS; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)!connect(fillers[i], (struct sockaddr *)&in4, sizeof in4);
    }
    char address[64];
    snprintf(address, sizeof address, "tcp://127.0.0.1:%u", ntohs(in4.sin_port));
    struct config_validator v = rig_validator(chain, address);
    rig_start(r, !UNDER_SANITIZER);
    int channel = rig_chain(r, chain);
    uint64_t began = clock_monotonic_us();
    rig_add(r, &v);
    rig_log_has(r, "I/O error: no connection within 500 ms", 1);
    assert_in_range((clock_monotonic_us() - began) / 1000, 450, 2000);
    rig_log_has(r, "no connection after 2 attempts", 1); /* it goes on trying */
    rig_drop(r, &v);
    for (int i = 0; i < FILLERS; i++)
        close(fillers[i]);
    close(listener);
    close(channel);
}

static uint32_t hear_dial(struct rig *r, const char *address)
{
    struct control msg;
    rig_heard(r, &msg);
    assert_int_equal(msg.kind, CONTROL_DIAL);
    assert_string_equal(msg.u.dial.address, address);
    return msg.u.dial.id;
}

/* The monitor connects; one that is slow, silent or confused costs one attempt, and no descriptor. */
static void test_answers_to_dials(void **state)
{
    struct rig *r = *state;
    r->dials_by_hand = true;
    r->timing.connect_ms = 200;
    rig_start(r, !UNDER_SANITIZER);
    struct config_validator v = rig_validator(chain, "unix:///node");
    int channel = rig_chain(r, chain), pair[2];
    char byte;
    rig_add(r, &v);
    rig_dialled(r, hear_dial(r, v.address.text), -1, EACCES);
    rig_log_has(r, "I/O error: Permission denied (os error 13)", 1);
    uint32_t late = hear_dial(r, v.address.text), next = hear_dial(r, v.address.text);
    assert_int_not_equal(late, next);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    rig_dialled(r, late, pair[1], 0); /* too late: closed */
    assert_int_equal(read(pair[0], &byte, 1), 0);
    close(pair[0]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    rig_dialled(r, next + 1000, pair[1], 0); /* asked by nobody: closed */
    assert_int_equal(read(pair[0], &byte, 1), 0);
    close(pair[0]);
    next = hear_dial(r, v.address.text);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    rig_dialled(r, next, pair[1], 0);
    rig_log_has(r, "[test-1@unix:///node] connected to validator successfully", 1);
    /* A validator that is dropped while it dials takes no answer. */
    close(pair[0]);
    next = hear_dial(r, v.address.text);
    rig_drop(r, &v);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    rig_dialled(r, next, pair[1], 0);
    assert_int_equal(read(pair[0], &byte, 1), 0);
    close(pair[0]);
    close(channel);
}

/* Only what stands in the configuration is dialled, whatever the session asks for. */
static void test_only_configured_paths_are_dialled(void **state)
{
    struct rig *r = *state;
    struct node_listener *l = rig_listen(r, "node");
    int pair[2], fds[FD_PASS_MAX];
    size_t fds_n;
    struct control msg;
    struct config_validator v = rig_validator(chain, node_address(l)),
                            tcp = rig_validator(chain, "tcp://127.0.0.1:1");
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    struct monitor m = {.session.control = pair[0], .config = {.validators = &v, .validators_n = 1}};
    struct control_dial ask = {.id = 7};
    snprintf(ask.address, sizeof ask.address, "%s", node_address(l));
    dial_answer(&m, &ask);
    assert_int_equal(control_recv(pair[1], &msg, fds, FD_PASS_MAX, &fds_n), 1);
    assert_int_equal(msg.kind, CONTROL_DIALLED);
    assert_true(fds_n == 1 && msg.u.dialled.id == 7 && msg.u.dialled.os_error == 0);
    assert_true((fcntl(fds[0], F_GETFL) & O_NONBLOCK) != 0);
    close(fds[0]);
    static const char *const refused[] = {"unix:///run/docker.sock", "", "tcp://127.0.0.1:1"};
    for (int i = 0; i < 3; i++) {
        m.config.validators = i == 2 ? &tcp : &v;
        snprintf(ask.address, sizeof ask.address, "%s", refused[i]);
        dial_answer(&m, &ask);
        assert_int_equal(control_recv(pair[1], &msg, fds, FD_PASS_MAX, &fds_n), 1);
        assert_true(fds_n == 0 && msg.u.dialled.os_error == EACCES);
    }
    /* A session that does not read stops nobody. */
    for (int i = 0; i < 5000; i++)
        dial_answer(&m, &ask);
    close(pair[0]);
    close(pair[1]);
    node_unlisten(l);
}

static void test_a_bad_identity_file(void **state)
{
    struct rig *r = *state;
    rig_start(r, !UNDER_SANITIZER);
    struct config_validator v = rig_validator(chain, "tcp://127.0.0.1:1");
    struct control msg = {.kind = CONTROL_VALIDATOR_ADD};
    memcpy(&msg.u.validator, &v, sizeof v);
    FILE *file = tmpfile();
    fputs("not a key", file);
    rewind(file);
    int fd = fileno(file);
    assert_true(control_send(r->control, &msg, &fd, 1));
    rig_heard(r, &msg);
    assert_int_equal(msg.kind, CONTROL_FAILED);
    assert_non_null(strstr(msg.u.text, "identity.key"));
    fclose(file);
}

#define SESSION_TEST(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SESSION_TEST(test_tcp),
        SESSION_TEST(test_tcp_without_a_peer_id),
        SESSION_TEST(test_tcp_by_name),
        SESSION_TEST(test_noise),
        SESSION_TEST(test_unix_in_the_sandbox),
        SESSION_TEST(test_vsock),
        SESSION_TEST(test_the_wrong_peer),
        SESSION_TEST(test_a_silent_handshake),
        SESSION_TEST(test_handshake_garbage),
        SESSION_TEST(test_an_unknown_name),
        SESSION_TEST(test_no_answer_to_the_connect),
        SESSION_TEST(test_answers_to_dials),
        SESSION_TEST(test_only_configured_paths_are_dialled),
        SESSION_TEST(test_a_bad_identity_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
