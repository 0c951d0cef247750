#include "session/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "crypto/encode.h"
#include "privval/sign_bytes.h"

enum { LOG_CAP = 1 << 20 };

static const struct session_timing timing_for_tests = {
    .connect_ms = 500,
    .handshake_ms = 500,
    .write_ms = 300,
    .idle_unit_ms = 200,
    .redial_min_ms = 10,
    .redial_max_ms = 30,
    .lookup_ms = 100,
    .report_ms = 400,
    .sweep_ms = 20,
};

uint64_t rig_deadline(uint32_t ms)
{
    return clock_monotonic_us() + (uint64_t)ms * 1000;
}

int rig_setup(void **state)
{
    struct err err;
    if (!crypto_start(&err))
        return -1;
    struct rig *r = calloc(1, sizeof *r);
    static const uint8_t seed[ED25519_SEED_LEN] = {7};
    r->timing = timing_for_tests;
    r->control = r->log_fd = r->heard[0] = r->heard[1] = -1;
    pthread_mutex_init(&r->lock, NULL);
    r->monitor.config.validators =
        calloc(CONFIG_VALIDATORS_MAX, sizeof *r->monitor.config.validators);
    r->log = calloc(1, LOG_CAP);
    r->blob = malloc(SIGN_BLOB_MAX);
    snprintf(r->folder, sizeof r->folder, "/tmp/session.XXXXXX");
    if (mkdtemp(r->folder) == NULL || !signing_key_create(&r->consensus, KEY_ED25519, PRIVATE_SEED,
                                          bytes_of(seed, sizeof seed), &err))
        return -1;
    *state = r;
    return 0;
}

int rig_teardown(void **state)
{
    struct rig *r = *state;
    int code = 0;
    if (r->pid > 0) {
        uint64_t began = clock_monotonic_us();
        rig_hang_up(r);
        code = rig_wait_end(r);
        if (clock_monotonic_us() - began > 1000000)
            code = -2;
    }
    if (code != 0)
        fprintf(stderr, "the session ended with %d; its log:\n%s", code, r->log);
    rig_hang_up(r);
    fd_close(&r->log_fd);
    fd_close_pair(&r->heard);
    free(r->monitor.config.validators);
    signing_key_free(r->consensus);
    rmdir(r->folder);
    free(r->log);
    free(r->blob);
    free(r);
    return code;
}

static void *relay(void *arg)
{
    struct rig *r = arg;
    struct control msg;
    int fds[FD_PASS_MAX];
    size_t fds_n = 0;
    while (control_recv(r->control, &msg, fds, FD_PASS_MAX, &fds_n) == 1) {
        pthread_mutex_lock(&r->lock);
        if (msg.kind == CONTROL_DIAL && !r->dials_by_hand)
            dial_answer(&r->monitor, &msg.u.dial);
        else
            (void)!control_send(r->heard[1], &msg, fds, fds_n);
        pthread_mutex_unlock(&r->lock);
    }
    return NULL;
}

void rig_hang_up(struct rig *r)
{
    if (r->control < 0)
        return;
    shutdown(r->control, SHUT_RDWR);
    pthread_join(r->relay, NULL);
    fd_close(&r->control);
}

void rig_start(struct rig *r, bool is_sandboxed)
{
    int control[2], log_pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, log_pair), 0);
    r->pid = fork();
    assert_true(r->pid >= 0);
    if (r->pid == 0) {
        signal(SIGPIPE, SIG_IGN);
        tzset();                         /* this and the log are child_start's part */
        for (int fd = 3; fd < 256; fd++) /* a listener must not live on in the child */
            if (fd != control[1] && fd != log_pair[1])
                close(fd);
        log_set_output(log_pair[1], true);
        _exit(session_run(control[1], &r->timing, is_sandboxed));
    }
    close(control[1]);
    close(log_pair[1]);
    r->control = control[0];
    r->log_fd = log_pair[0];
    r->monitor.session.control = r->control;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, r->heard), 0);
    assert_int_equal(pthread_create(&r->relay, NULL, relay, r), 0);
}

int rig_wait_end(struct rig *r)
{
    int status = 0;
    uint64_t deadline = rig_deadline(WAIT_MS);
    while (waitpid(r->pid, &status, WNOHANG) == 0) {
        if (clock_monotonic_us() > deadline)
            kill(r->pid, SIGKILL);
        usleep(2000);
    }
    r->pid = 0;
    rig_log_count(r, "");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ---- the monitor ---- */

static void tell(struct rig *r, const struct control *msg, int fd)
{
    assert_true(control_send(r->control, msg, &fd, fd >= 0 ? 1 : 0));
    if (fd >= 0)
        close(fd);
}

int rig_chain_with(struct rig *r, const char *chain_id, bool sign_raw_bytes)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    struct control msg = {.kind = CONTROL_CHAIN_ADD_S};
    snprintf(msg.u.channel.id, sizeof msg.u.channel.id, "%s", chain_id);
    msg.u.channel.key = *signing_key_public(r->consensus);
    msg.u.channel.sign_raw_bytes = sign_raw_bytes;
    tell(r, &msg, pair[1]);
    return pair[0];
}

int rig_chain(struct rig *r, const char *chain_id)
{
    return rig_chain_with(r, chain_id, false);
}

void rig_chain_drop(struct rig *r, const char *chain_id)
{
    struct control msg = {.kind = CONTROL_CHAIN_DROP};
    snprintf(msg.u.chain_id, sizeof msg.u.chain_id, "%s", chain_id);
    tell(r, &msg, -1);
}

struct config_validator rig_validator(const char *chain_id, const char *address)
{
    struct config_validator v;
    struct err err;
    memset(&v, 0, sizeof v);
    snprintf(v.chain_id, sizeof v.chain_id, "%s", chain_id);
    assert_true(link_address_parse(&v.address, address, &err));
    v.timeout_secs = 100; /* of idle_unit_ms */
    v.line = WIRE_P1;
    v.max_height = -1;
    v.reconnect = true;
    if (link_address_needs_identity(&v.address))
        snprintf(v.secret_key, sizeof v.secret_key, "identity.key");
    return v;
}

static int identity_file(void)
{
    static const uint8_t seed[ED25519_SEED_LEN] = {42};
    char text[64];
    assert_true(base64_encode(bytes_of(seed, sizeof seed), text, sizeof text));
    int fd = open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

void rig_add(struct rig *r, const struct config_validator *v)
{
    struct control msg = {.kind = CONTROL_VALIDATOR_ADD};
    memcpy(&msg.u.validator, v, sizeof *v);
    pthread_mutex_lock(&r->lock);
    r->monitor.config.validators[r->monitor.config.validators_n++] = *v;
    pthread_mutex_unlock(&r->lock);
    tell(r, &msg, link_address_needs_identity(&v->address) ? identity_file() : -1);
}

void rig_drop(struct rig *r, const struct config_validator *v)
{
    struct control msg = {.kind = CONTROL_VALIDATOR_DROP};
    memcpy(&msg.u.validator, v, sizeof *v);
    tell(r, &msg, -1);
}

void rig_heard(struct rig *r, struct control *ret)
{
    struct pollfd p = {.fd = r->heard[0], .events = POLLIN};
    int fds[FD_PASS_MAX];
    size_t fds_n = 0;
    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    assert_int_equal(control_recv(r->heard[0], ret, fds, FD_PASS_MAX, &fds_n), 1);
}

void rig_dialled(struct rig *r, uint32_t id, int fd, int os_error)
{
    struct control msg = {.kind = CONTROL_DIALLED, .u.dialled = {.id = id, .os_error = os_error}};
    tell(r, &msg, fd);
}

static void read_log(struct rig *r)
{
    ssize_t n;
    while (r->log_n + LOG_LINE_MAX < LOG_CAP &&
           (n = recv(r->log_fd, r->log + r->log_n, LOG_LINE_MAX, MSG_DONTWAIT)) > 0)
        r->log_n += (size_t)n;
    r->log[r->log_n] = '\0';
}

unsigned rig_log_count(struct rig *r, const char *text)
{
    read_log(r);
    unsigned n = 0;
    if (text[0] == '\0')
        return 0;
    for (const char *p = strstr(r->log, text); p != NULL; p = strstr(p + 1, text))
        n++;
    return n;
}

void rig_log_has(struct rig *r, const char *text, unsigned times)
{
    uint64_t deadline = rig_deadline(WAIT_MS);
    while (rig_log_count(r, text) < times) {
        if (clock_monotonic_us() > deadline)
            fail_msg("not in the log %u times: %s\nthe log's end:\n%s", times, text,
                r->log + (r->log_n > 600 ? r->log_n - 600 : 0));
        usleep(1000);
    }
}

/* ---- the signer ---- */

static void read_exactly(int fd, void *buf, size_t n)
{
    for (size_t got = 0; got < n;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, WAIT_MS) != 1)
            fail_msg("the session asked the signer nothing");
        ssize_t more = read(fd, (uint8_t *)buf + got, n - got);
        if (more <= 0)
            fail_msg("the session closed the channel");
        got += (size_t)more;
    }
}

void signer_take(struct rig *r, int channel, struct sign_request *ret)
{
    read_exactly(channel, ret, sizeof *ret);
    assert_true(ret->blob_n <= SIGN_BLOB_MAX);
    read_exactly(channel, r->blob, ret->blob_n);
}

bool signer_is_quiet(int channel, int ms)
{
    struct pollfd p = {.fd = channel, .events = POLLIN};
    return poll(&p, 1, ms) == 0;
}

static void put_reply(int channel, const struct sign_reply *reply)
{
    assert_true(fd_write_exact(channel, reply, sizeof *reply));
}

void signer_sign(struct rig *r, int channel, const char *chain_id, const struct sign_request *req)
{
    uint8_t buf[SIGN_BYTES_MAX];
    struct sign_reply reply = {.outcome = SIGN_DONE, .timestamp = req->signable.timestamp};
    signing_key_sign(r->consensus, sign_bytes(&req->signable, chain_id, buf), reply.signature);
    if (req->signable.step == STEP_PRECOMMIT && !block_id_is_nil(&req->signable.block_id)) {
        size_t cap = req->blob_n + EXTENSION_OVERHEAD;
        uint8_t *space = malloc(cap);
        struct bytes msg = extension_sign_bytes(
            &req->signable, chain_id, bytes_of(r->blob, req->blob_n), space, cap);
        signing_key_sign(r->consensus, msg, reply.extension_signature);
        reply.has_extension_signature = 1;
        free(space);
    }
    put_reply(channel, &reply);
}

void signer_answer_with(int channel, enum sign_outcome outcome, const char *reason)
{
    struct sign_reply reply = {.outcome = outcome};
    snprintf(reply.reason, sizeof reply.reason, "%s", reason);
    put_reply(channel, &reply);
}

/* ---- nodes ---- */

struct node_listener *rig_listen(struct rig *r, const char *name)
{
    char address[128];
    struct err err;
    snprintf(address, sizeof address, "unix://%s/%s", r->folder, name);
    struct node_listener *l = node_listen(address, NULL, &err);
    if (l == NULL)
        fail_msg("%s", err.text);
    return l;
}

struct node_conn *rig_accept(struct node_listener *l)
{
    struct err err;
    struct node_conn *c = node_accept(l, rig_deadline(WAIT_MS), &err);
    if (c == NULL)
        fail_msg("%s", err.text);
    return c;
}

struct node_request rig_request(enum node_kind kind, const char *chain_id)
{
    return (struct node_request){.kind = kind, .chain_id = chain_id};
}

struct node_request rig_vote(const char *chain_id, int64_t height, enum step step)
{
    struct node_request req =
        rig_request(step == STEP_PROPOSAL ? NODE_PROPOSAL : NODE_VOTE, chain_id);
    req.signable = node_signable(height, 0, step);
    return req;
}

void rig_send(struct node_conn *c, enum wire_line line, const struct node_request *req)
{
    struct err err;
    size_t cap = NODE_REQUEST_OVERHEAD + req->extension.n + req->raw.n + req->unique_id.n;
    uint8_t *buf = malloc(cap);
    struct bytes frame = node_encode(line, req, buf, cap);
    assert_true(frame.n > 0);
    if (!node_send(c, frame, &err))
        fail_msg("%s", err.text);
    free(buf);
}

void rig_receive(struct node_conn *c, enum wire_line line, struct node_reply *ret)
{
    struct err err;
    struct bytes frame;
    if (!node_receive(c, &frame, rig_deadline(WAIT_MS), &err) ||
        !node_decode(ret, line, frame, &err))
        fail_msg("%s", err.text);
}

void rig_pings(struct node_conn *c)
{
    struct node_reply reply;
    struct node_request ping = rig_request(NODE_PING, "");
    rig_send(c, WIRE_P1, &ping);
    rig_receive(c, WIRE_P1, &reply);
    assert_int_equal(reply.kind, NODE_PING);
}

void rig_signs(
    struct rig *r, struct node_conn *c, int channel, const char *chain_id, int64_t height)
{
    struct node_request vote = rig_vote(chain_id, height, STEP_PREVOTE);
    struct sign_request taken;
    struct node_reply reply;
    struct err err;
    rig_send(c, WIRE_P1, &vote);
    signer_take(r, channel, &taken);
    assert_int_equal(taken.signable.height, height);
    signer_sign(r, channel, chain_id, &taken);
    rig_receive(c, WIRE_P1, &reply);
    if (!node_check(&vote, &reply, signing_key_public(r->consensus), &err))
        fail_msg("%s", err.text);
}

void rig_sees_close(struct node_conn *c)
{
    struct err err;
    struct bytes frame;
    assert_false(node_receive(c, &frame, rig_deadline(WAIT_MS), &err));
    assert_true(node_closed_by_signer(c));
}
