/* Validators that misbehave, and the others that must not notice. */
#include "session/rig.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

static const char chain[] = "test-1";

/* Two validators of one chain: one that behaves, one that does not. */
struct pair {
    int channel;
    struct node_listener *good_listener, *bad_listener;
    struct config_validator bad_validator;
    struct node_conn *good, *bad;
};

static struct pair pair_start_with(struct rig *r, uint32_t bad_timeout_secs)
{
    struct pair p = {.good_listener = rig_listen(r, "good"), .bad_listener = rig_listen(r, "bad")};
    struct config_validator good = rig_validator(chain, node_address(p.good_listener));
    p.bad_validator = rig_validator(chain, node_address(p.bad_listener));
    p.bad_validator.timeout_secs = bad_timeout_secs;
    rig_start(r, false);
    p.channel = rig_chain(r, chain);
    rig_add(r, &good);
    rig_add(r, &p.bad_validator);
    p.good = rig_accept(p.good_listener);
    p.bad = rig_accept(p.bad_listener);
    return p;
}

static struct pair pair_start(struct rig *r)
{
    return pair_start_with(r, 100);
}

static void pair_end(struct rig *r, struct pair *p)
{
    rig_signs(r, p->good, p->channel, chain, 1000);
    node_hang_up(p->good);
    node_hang_up(p->bad);
    node_unlisten(p->good_listener);
    node_unlisten(p->bad_listener);
    fd_close(&p->channel);
}

static void pair_bad_again(struct pair *p)
{
    node_hang_up(p->bad);
    p->bad = rig_accept(p->bad_listener);
}

static void send_raw(struct node_conn *c, const void *bytes, size_t n)
{
    struct err err;
    if (!node_send(c, bytes_of(bytes, n), &err))
        fail_msg("%s", err.text);
}

static struct bytes encode(const struct node_request *req, uint8_t *buf, size_t cap)
{
    struct bytes frame = node_encode(WIRE_P1, req, buf, cap);
    assert_true(frame.n > 0);
    return frame;
}

/* ---- chunking ---- */

static void test_one_byte_at_a_time(void **state)
{
    struct rig *r = *state;
    struct pair p = pair_start(r);
    struct node_request vote = rig_vote(chain, 7, STEP_PREVOTE);
    uint8_t buf[2048];
    struct bytes frame = encode(&vote, buf, sizeof buf);
    struct sign_request taken;
    struct node_reply reply;
    for (size_t i = 0; i < frame.n; i++) {
        assert_true(signer_is_quiet(p.channel, 1));
        send_raw(p.bad, frame.p + i, 1);
    }
    signer_take(r, p.channel, &taken);
    signer_sign(r, p.channel, chain, &taken);
    rig_receive(p.bad, WIRE_P1, &reply);
    assert_true(reply.has_signature);
    pair_end(r, &p);
}

/* More than one event's worth of requests in one write, with signatures among them, answered in
 * order. */
static void test_pipelined(void **state)
{
    enum { ROUNDS = 10, PINGS = 7 };
    struct rig *r = *state;
    struct pair p = pair_start(r);
    static uint8_t buf[ROUNDS * (PINGS + 1) * 1024];
    size_t n = 0;
    for (int64_t round = 1; round <= ROUNDS; round++) {
        struct node_request ping = rig_request(NODE_PING, "");
        struct node_request vote = rig_vote(chain, round, STEP_PREVOTE);
        for (int i = 0; i < PINGS; i++)
            n += encode(&ping, buf + n, sizeof buf - n).n;
        n += encode(&vote, buf + n, sizeof buf - n).n;
    }
    send_raw(p.bad, buf, n);
    for (int64_t round = 1; round <= ROUNDS; round++) {
        struct sign_request taken;
        struct node_reply reply;
        signer_take(r, p.channel, &taken);
        assert_int_equal(taken.signable.height, round);
        assert_true(signer_is_quiet(p.channel, 1));
        signer_sign(r, p.channel, chain, &taken);
        for (int i = 0; i < PINGS; i++) {
            rig_receive(p.bad, WIRE_P1, &reply);
            assert_int_equal(reply.kind, NODE_PING);
        }
        rig_receive(p.bad, WIRE_P1, &reply);
        assert_int_equal(reply.kind, NODE_VOTE);
        assert_true(reply.has_signature);
    }
    pair_end(r, &p);
}

static void test_a_flood_of_pings(void **state)
{
    enum { PINGS = 20000 };
    struct rig *r = *state;
    struct pair p = pair_start(r);
    uint8_t one[64];
    struct node_request ping = rig_request(NODE_PING, "");
    struct bytes frame = encode(&ping, one, sizeof one);
    uint8_t *flood = malloc(PINGS * frame.n);
    for (size_t i = 0; i < PINGS; i++)
        memcpy(flood + i * frame.n, frame.p, frame.n);
    size_t sent = 0;
    unsigned answered = 0;
    while (answered < PINGS) {
        ssize_t put = sent < PINGS * frame.n
                          ? send(node_fd(p.bad), flood + sent, PINGS * frame.n - sent, MSG_DONTWAIT)
                          : 0;
        sent += put > 0 ? (size_t)put : 0;
        for (int i = 0; i < 100 && answered < PINGS; i++, answered++) {
            struct node_reply reply;
            rig_receive(p.bad, WIRE_P1, &reply);
        }
        if (answered % 5000 == 0)
            rig_pings(p.good);
    }
    free(flood);
    pair_end(r, &p);
}

static void test_large_extension(void **state)
{
    struct rig *r = *state;
    struct pair p = pair_start(r);
    enum { LARGE = 1048576 };
    uint8_t *extension = malloc(LARGE);
    for (size_t i = 0; i < LARGE; i++)
        extension[i] = (uint8_t)(i * 31 >> 4);
    for (int i = 0; i < 3; i++) {
        struct node_request vote = rig_vote(chain, 7 + i, STEP_PRECOMMIT);
        vote.extension = bytes_of(extension, LARGE);
        struct sign_request taken;
        struct node_reply reply;
        struct err err;
        rig_send(p.bad, WIRE_P1, &vote);
        signer_take(r, p.channel, &taken);
        assert_true(bytes_equal(bytes_of(r->blob, taken.blob_n), vote.extension));
        signer_sign(r, p.channel, chain, &taken);
        rig_receive(p.bad, WIRE_P1, &reply);
        if (!node_check(&vote, &reply, signing_key_public(r->consensus), &err))
            fail_msg("%s", err.text);
    }
    free(extension);
    pair_end(r, &p);
}

/* ---- fairness ---- */

static void test_requests_of_a_chain_wait_in_order(void **state)
{
    struct rig *r = *state;
    struct pair p = pair_start(r);
    uint8_t buf[8192];
    size_t n = 0;
    for (int64_t height = 1; height <= 4; height++) {
        struct node_request vote = rig_vote(chain, height, STEP_PREVOTE);
        n += encode(&vote, buf + n, sizeof buf - n).n;
    }
    send_raw(p.bad, buf, n); /* greedy: four at once */
    struct sign_request taken;
    struct node_reply reply;
    signer_take(r, p.channel, &taken);
    assert_int_equal(taken.signable.height, 1);
    struct node_request vote = rig_vote(chain, 100, STEP_PREVOTE);
    rig_send(p.good, WIRE_P1, &vote);
    usleep(30000);
    assert_true(signer_is_quiet(p.channel, 0)); /* one in flight */
    signer_sign(r, p.channel, chain, &taken);
    signer_take(r, p.channel, &taken);
    assert_int_equal(taken.signable.height, 100); /* the modest one has its turn at once */
    signer_sign(r, p.channel, chain, &taken);
    rig_receive(p.good, WIRE_P1, &reply);
    for (int64_t height = 2; height <= 4; height++) {
        signer_take(r, p.channel, &taken);
        assert_int_equal(taken.signable.height, height);
        signer_sign(r, p.channel, chain, &taken);
    }
    for (int i = 0; i < 4; i++)
        rig_receive(p.bad, WIRE_P1, &reply);
    pair_end(r, &p);
}

static void test_a_slow_signer_delays_only_its_chain(void **state)
{
    struct rig *r = *state;
    struct pair p = pair_start(r);
    struct node_listener *l = rig_listen(r, "other");
    struct config_validator v = rig_validator("test-2", node_address(l));
    int channel = rig_chain(r, "test-2");
    rig_add(r, &v);
    struct node_conn *c = rig_accept(l);
    struct node_request vote = rig_vote(chain, 5, STEP_PREVOTE);
    struct sign_request taken;
    struct node_reply reply;
    rig_send(p.bad, WIRE_P1, &vote);
    signer_take(r, p.channel, &taken);
    for (int i = 0; i < 20; i++) {
        rig_pings(p.good); /* same chain: only signatures wait */
        rig_signs(r, c, channel, "test-2", 1 + i);
    }
    usleep(500000); /* longer than any deadline of the rig: a slow signer is not the validator's
                       fault */
    signer_sign(r, p.channel, chain, &taken);
    rig_receive(p.bad, WIRE_P1, &reply);
    assert_true(reply.has_signature);
    node_hang_up(c);
    node_unlisten(l);
    close(channel);
    pair_end(r, &p);
}

/* ---- bytes that are no request ---- */

static void test_garbage_ends_the_connection(void **state)
{
    struct rig *r = *state;
    struct pair p = pair_start(r);
    static const struct {
        const char *name;
        uint8_t bytes[24];
        size_t n;
    } garbage[] = {
        {"a length of ten bytes", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 10},
        {"an endless length", {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80},
            11},
        {"over the limit", {0x80, 0x80, 0x80, 1, 0x0a}, 5},
        {"no message", {3, 0xff, 0xff, 0xff}, 4},
        {"an answer", {2, 0x42, 0}, 3},
        {"http", "GET / HTTP/1.1\r\nHost: a", 23},
    };
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        send_raw(p.bad, garbage[i].bytes, garbage[i].n);
        if (strcmp(garbage[i].name, "http") == 0) { /* a length of 71: the rest never comes */
            uint8_t rest[64] = {0};
            send_raw(p.bad, rest, sizeof rest);
        }
        rig_sees_close(p.bad);
        pair_bad_again(&p);
        rig_pings(p.bad);
    }
    rig_log_has(r, "connection error: malformed protocol message", 6);
    pair_end(r, &p);
}

/* ---- deadlines ---- */

static uint64_t ms_since(uint64_t began)
{
    return (clock_monotonic_us() - began) / 1000;
}

static void test_half_a_request_and_silence(void **state)
{
    struct rig *r = *state;
    struct pair p = pair_start_with(r, 2); /* 400 ms */
    rig_pings(p.bad);
    struct node_request vote = rig_vote(chain, 7, STEP_PREVOTE);
    uint8_t buf[2048];
    struct bytes frame = encode(&vote, buf, sizeof buf);
    uint64_t began = clock_monotonic_us();
    send_raw(p.bad, frame.p, frame.n / 2);
    rig_sees_close(p.bad);
    assert_in_range(ms_since(began), 350, 2000);
    rig_log_has(r, "no complete message within 400 ms", 1);
    pair_end(r, &p);
}

static void test_a_trickle_does_not_hold_the_connection(void **state)
{
    struct rig *r = *state;
    struct pair p = pair_start_with(r, 2);
    uint8_t head[4] = {0xff, 0xff, 0x0f, 0x1a}; /* a message of 262143 bytes */
    uint64_t began = clock_monotonic_us();
    send_raw(p.bad, head, sizeof head);
    bool is_open = true;
    while (is_open && ms_since(began) < WAIT_MS) {
        uint8_t zero = 0;
        is_open = send(node_fd(p.bad), &zero, 1, MSG_NOSIGNAL) == 1;
        usleep(10000);
    }
    assert_false(is_open);
    assert_in_range(ms_since(began), 350, 2000);
    rig_log_has(r, "no complete message within 400 ms", 1);
    pair_end(r, &p);
}

static void test_silence(void **state)
{
    struct rig *r = *state;
    struct pair p = pair_start_with(r, 2);
    rig_pings(p.bad);
    uint64_t began = clock_monotonic_us();
    rig_sees_close(p.bad);
    assert_in_range(ms_since(began), 350, 2000);
    rig_log_has(r, "no request within 400 ms", 1);
    pair_bad_again(&p); /* and it is dialled again */
    rig_pings(p.bad);
    pair_end(r, &p);
}

static void test_a_validator_that_does_not_read(void **state)
{
    struct rig *r = *state;
    struct pair p = pair_start(r);
    int small = 4096;
    setsockopt(node_fd(p.bad), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    uint8_t buf[2048];
    struct node_request ask = rig_request(NODE_PUBKEY, "foreign-chain-so-that-replies-are-long");
    struct bytes frame = encode(&ask, buf, sizeof buf);
    uint64_t began = clock_monotonic_us();
    bool is_open = true;
    unsigned pings = 0;
    while (is_open && ms_since(began) < WAIT_MS) {
        ssize_t put = send(node_fd(p.bad), frame.p, frame.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        is_open = put >= 0 || ms_since(began) < 50;
        if (put < 0) { /* both directions are full now */
            rig_pings(p.good);
            pings++;
            struct pollfd hang = {.fd = node_fd(p.bad), .events = 0};
            is_open = poll(&hang, 1, 5) == 0;
        }
    }
    assert_false(is_open);
    assert_true(pings > 10);
    rig_log_has(r, "did not take a reply within 300 ms", 1);
    pair_end(r, &p);
}

/* ---- the connection ends ---- */

static void test_closed_in_the_middle_of_a_signature(void **state)
{
    struct rig *r = *state;
    struct pair p = pair_start(r);
    rig_pings(p.bad);
    struct node_request vote = rig_vote(chain, 7, STEP_PREVOTE);
    struct sign_request taken;
    struct node_reply reply;
    rig_send(p.bad, WIRE_P1, &vote);
    signer_take(r, p.channel, &taken);
    node_hang_up(p.bad);
    usleep(30000);
    signer_sign(r, p.channel, chain, &taken);
    p.bad = rig_accept(p.bad_listener);
    /* The old answer is not given to the new connection. */
    rig_pings(p.bad);
    vote = rig_vote(chain, 8, STEP_PREVOTE);
    rig_send(p.bad, WIRE_P1, &vote);
    signer_take(r, p.channel, &taken);
    assert_int_equal(taken.signable.height, 8);
    signer_sign(r, p.channel, chain, &taken);
    rig_receive(p.bad, WIRE_P1, &reply);
    assert_true(reply.has_signature);
    pair_end(r, &p);
}

static void test_dialled_again_at_once(void **state)
{
    struct rig *r = *state;
    r->timing.redial_min_ms = 400;
    r->timing.redial_max_ms = 500;
    struct pair p = pair_start(r);
    for (int i = 0; i < 5; i++) {
        rig_pings(p.bad);
        uint64_t began = clock_monotonic_us();
        pair_bad_again(&p);
        assert_true(ms_since(began) < 300);
    }
    /* Without a request in between it counts as failed, as on a noise link that refuses us. */
    for (int i = 0; i < 3; i++) {
        rig_pings(p.bad);
        pair_bad_again(&p);
        uint64_t began = clock_monotonic_us();
        pair_bad_again(&p);
        assert_in_range(ms_since(began), 395, 1500);
    }
    pair_end(r, &p);
}

/* Each kind of line that a peer can provoke has its own measure: the one that matters is seen. */
static void test_floods_of_lines_hide_no_double_sign(void **state)
{
    struct rig *r = *state;
    struct pair p = pair_start(r);
    enum { FLOOD = 200, LINES = 60 };
    static const struct {
        enum sign_outcome outcome;
        unsigned times, lines;
        const char *words;
    } rounds[] = {
        {SIGN_REFUSED, FLOOD, LINES, "] refused Prevote"},
        {SIGN_REPEATED, FLOOD, LINES, ", again"},
        {SIGN_DOUBLE, 3, 3, "] attempted double sign Prevote"},
        {SIGN_DONE, 3, 3, "h/r/s 9/0/1 (0 ms)"},
    };
    for (size_t i = 0; i < sizeof rounds / sizeof rounds[0]; i++) {
        for (unsigned n = 0; n < rounds[i].times; n++) {
            struct node_request vote = rig_vote(chain, i == 3 ? 9 : 7, STEP_PREVOTE);
            struct sign_request taken;
            struct node_reply reply;
            rig_send(p.bad, WIRE_P1, &vote);
            signer_take(r, p.channel, &taken);
            signer_answer_with(p.channel, rounds[i].outcome, "because");
            rig_receive(p.bad, WIRE_P1, &reply);
        }
        rig_log_has(r, rounds[i].words, rounds[i].lines);
    }
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(rig_log_count(r, rounds[i].words), rounds[i].lines);
    pair_end(r, &p);
}

static void test_back_off_and_its_log_lines(void **state)
{
    struct rig *r = *state;
    struct pair p = pair_start(r);
    rig_pings(p.bad);
    node_hang_up(p.bad);
    node_unlisten(p.bad_listener);
    p.bad = NULL;
    uint64_t began = clock_monotonic_us();
    rig_log_has(r, "I/O error: No such file or directory (os error 2)", 1);
    rig_log_has(r, "no connection after", 2);
    assert_true(ms_since(began) >= 750); /* two lines, each after report_ms */
    unsigned attempts = 0;
    const char *line = strstr(r->log, "no connection after ");
    assert_int_equal(sscanf(line, "no connection after %u attempts", &attempts), 1);
    assert_in_range(
        attempts, 400 / 30 / 3, 400 / 10 + 5); /* every 10 to 30 ms, on a busy machine less often */
    p.bad_listener = rig_listen(r, "bad");
    began = clock_monotonic_us();
    p.bad = rig_accept(p.bad_listener);
    assert_true(ms_since(began) < 300);
    rig_pings(p.bad);
    rig_log_has(r, "the connection works again after ", 1);
    pair_end(r, &p);
}

/* A peer that accepts and hangs up fills neither the log nor the processor. */
static void test_a_revolving_door(void **state)
{
    struct rig *r = *state;
    struct pair p = pair_start(r);
    for (int i = 0; i < 20; i++)
        pair_bad_again(&p);
    assert_in_range(rig_log_count(r, "/bad] connected to validator successfully"), 1, 1);
    assert_in_range(rig_log_count(r, "/bad] "), 1, 5);
    /* With a request each time there is something to say each time, up to a limit. */
    for (int i = 0; i < 100; i++) {
        rig_pings(p.bad);
        pair_bad_again(&p);
    }
    assert_in_range(rig_log_count(r, "/bad] "), 30, 65);
    pair_end(r, &p);
}

#define SESSION_TEST(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SESSION_TEST(test_one_byte_at_a_time),
        SESSION_TEST(test_pipelined),
        SESSION_TEST(test_a_flood_of_pings),
        SESSION_TEST(test_large_extension),
        SESSION_TEST(test_requests_of_a_chain_wait_in_order),
        SESSION_TEST(test_a_slow_signer_delays_only_its_chain),
        SESSION_TEST(test_garbage_ends_the_connection),
        SESSION_TEST(test_half_a_request_and_silence),
        SESSION_TEST(test_a_trickle_does_not_hold_the_connection),
        SESSION_TEST(test_silence),
        SESSION_TEST(test_a_validator_that_does_not_read),
        SESSION_TEST(test_closed_in_the_middle_of_a_signature),
        SESSION_TEST(test_dialled_again_at_once),
        SESSION_TEST(test_floods_of_lines_hide_no_double_sign),
        SESSION_TEST(test_back_off_and_its_log_lines),
        SESSION_TEST(test_a_revolving_door),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
