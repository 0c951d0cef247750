/* What a well-behaved validator sees of the session, and what the monitor can do to it while it
 * runs. */
#include "session/rig.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

static const char chain[] = "test-1";

/* One chain, one validator, connected. */
struct simple {
    int channel;
    struct config_validator validator;
    struct node_listener *listener;
    struct node_conn *conn;
};

static struct simple simple_start(struct rig *r)
{
    struct simple s;
    s.listener = rig_listen(r, "node");
    s.validator = rig_validator(chain, node_address(s.listener));
    rig_start(r, false);
    s.channel = rig_chain(r, chain);
    rig_add(r, &s.validator);
    s.conn = rig_accept(s.listener);
    return s;
}

static void simple_end(struct simple *s)
{
    node_hang_up(s->conn);
    node_unlisten(s->listener);
    fd_close(&s->channel);
}

static void test_ping_and_pubkey(void **state)
{
    struct rig *r = *state;
    struct simple s = simple_start(r);
    rig_pings(s.conn);
    struct node_request ask = rig_request(NODE_PUBKEY, chain);
    struct node_reply reply;
    rig_send(s.conn, WIRE_P1, &ask);
    rig_receive(s.conn, WIRE_P1, &reply);
    assert_false(reply.is_error);
    assert_true(public_key_equal(&reply.key, signing_key_public(r->consensus)));
    assert_true(signer_is_quiet(s.channel, 0));
    rig_log_has(r, "connected to validator successfully", 1);
    simple_end(&s);
}

static void test_signatures(void **state)
{
    struct rig *r = *state;
    struct simple s = simple_start(r);
    static const uint8_t extension[] = "price: 17";
    static const enum step steps[] = {STEP_PROPOSAL, STEP_PREVOTE, STEP_PRECOMMIT};
    for (size_t i = 0; i < 3; i++) {
        struct node_request req = rig_vote(chain, 27, steps[i]);
        if (steps[i] == STEP_PRECOMMIT)
            req.extension = bytes_of(extension, sizeof extension);
        struct sign_request taken;
        struct node_reply reply;
        struct err err;
        rig_send(s.conn, WIRE_P1, &req);
        signer_take(r, s.channel, &taken);
        assert_int_equal(taken.kind, SIGN_VOTE_OR_PROPOSAL);
        assert_int_equal(taken.signable.step, steps[i]);
        assert_true(signable_same_but_time(&taken.signable, &req.signable));
        assert_true(bytes_equal(bytes_of(r->blob, taken.blob_n), req.extension));
        /* Nothing is said before the reply is written. */
        assert_int_equal(rig_log_count(r, "signed"), i);
        signer_sign(r, s.channel, chain, &taken);
        rig_receive(s.conn, WIRE_P1, &reply);
        if (!node_check(&req, &reply, signing_key_public(r->consensus), &err))
            fail_msg("%s", err.text);
        rig_log_has(r, "signed", (unsigned)i + 1);
    }
    rig_log_has(r, " INFO tmkms::session: [test-1@unix:///", 4);
    rig_log_has(r, "] signed Proposal:", 1);
    rig_log_has(r, "] signed Prevote:", 1);
    rig_log_has(r, "] signed Precommit:", 1);
    rig_log_has(r, "at h/r/s 27/0/0 (", 1);
    rig_log_has(r, "at h/r/s 27/0/1 (", 1);
    rig_log_has(r, "at h/r/s 27/0/2 (", 1);
    rig_log_has(r, "] signed vote extension (", 1);
    simple_end(&s);
}

static void test_the_signers_refusals(void **state)
{
    struct rig *r = *state;
    struct simple s = simple_start(r);
    struct node_request vote = rig_vote(chain, 27, STEP_PRECOMMIT);
    struct sign_request taken;
    struct node_reply reply;
    rig_send(s.conn, WIRE_P1, &vote);
    signer_take(r, s.channel, &taken);
    signer_answer_with(s.channel, SIGN_DOUBLE, "another block");
    rig_receive(s.conn, WIRE_P1, &reply);
    assert_true(reply.is_error);
    assert_int_equal(reply.error_code, 2);
    assert_string_equal(reply.error, "double signing requested at height: 27 (another block)");
    rig_log_has(r, "ERROR tmkms::session: [test-1@", 1);
    rig_log_has(r, "attempted double sign Precommit at h/r/s: 27/0/2 (another block)", 1);

    rig_send(s.conn, WIRE_P1, &vote);
    signer_take(r, s.channel, &taken);
    signer_answer_with(s.channel, SIGN_REFUSED, "height regression");
    rig_receive(s.conn, WIRE_P1, &reply);
    assert_true(reply.is_error);
    assert_int_equal(reply.error_code, 0);
    assert_string_equal(reply.error, "height regression");
    rig_signs(r, s.conn, s.channel, chain, 28);
    simple_end(&s);
}

static void expect_refusal(struct rig *r, struct simple *s, enum wire_line line,
    const struct node_request *req, const char *why)
{
    struct node_reply reply;
    rig_send(s->conn, line, req);
    rig_receive(s->conn, line, &reply);
    assert_true(reply.is_error);
    if (strstr(reply.error, why) == NULL)
        fail_msg("refused with: %s", reply.error);
    rig_log_has(r, why, 1);
    assert_true(signer_is_quiet(s->channel, 0));
}

static void test_refused_without_the_signer(void **state)
{
    struct rig *r = *state;
    struct simple s = {.listener = rig_listen(r, "node")};
    s.validator = rig_validator(chain, node_address(s.listener));
    s.validator.max_height = 100;
    rig_start(r, false);
    s.channel = rig_chain(r, chain);
    rig_add(r, &s.validator);
    s.conn = rig_accept(s.listener);

    struct node_request foreign = rig_vote("other-1", 5, STEP_PREVOTE);
    expect_refusal(r, &s, WIRE_P1, &foreign,
        "chain ID error: got unexpected chain ID: other-1 (expecting: test-1)");
    struct node_request foreign_key = rig_request(NODE_PUBKEY, "other-2");
    expect_refusal(r, &s, WIRE_P1, &foreign_key, "got unexpected chain ID: other-2");
    struct node_request high = rig_vote(chain, 101, STEP_PREVOTE);
    expect_refusal(r, &s, WIRE_P1, &high,
        "requested signature above stop height: attempted to sign at height 101 which is greater "
        "than 100");
    struct node_request broken = rig_vote(chain, 5, STEP_PREVOTE);
    broken.signable.height = -5;
    expect_refusal(r, &s, WIRE_P1, &broken, "height");
    struct node_request raw = rig_request(NODE_CELESTIA, chain);
    raw.raw = bytes_of_text("anything");
    raw.unique_id = bytes_of_text("id-1");
    expect_refusal(r, &s, WIRE_P1, &raw, "sign_raw_bytes");
    rig_signs(r, s.conn, s.channel, chain, 100);
    simple_end(&s);
}

static void test_raw_bytes_when_allowed(void **state)
{
    struct rig *r = *state;
    struct node_listener *p1 = rig_listen(r, "p1"), *p2 = rig_listen(r, "p2");
    struct config_validator v1 = rig_validator(chain, node_address(p1));
    struct config_validator v2 = rig_validator(chain, node_address(p2));
    v2.line = WIRE_P2;
    rig_start(r, false);
    int channel = rig_chain_with(r, chain, true);
    rig_add(r, &v1);
    rig_add(r, &v2);
    struct node_conn *c1 = rig_accept(p1), *c2 = rig_accept(p2);
    struct sign_request taken;
    struct node_reply reply;

    struct node_request celestia = rig_request(NODE_CELESTIA, chain);
    celestia.raw = bytes_of_text("raw bytes");
    celestia.unique_id = bytes_of_text("request\n7");
    rig_send(c1, WIRE_P1, &celestia);
    signer_take(r, channel, &taken);
    assert_int_equal(taken.kind, SIGN_RAW_CELESTIA);
    assert_int_equal(taken.unique_id_n, 9);
    assert_true(bytes_equal(bytes_of(r->blob, taken.blob_n), bytes_of_text("raw bytesrequest\n7")));
    signer_answer_with(channel, SIGN_DONE, "");
    rig_receive(c1, WIRE_P1, &reply);
    assert_true(reply.has_signature && !reply.is_error);
    rig_log_has(r, "signed raw bytes: request?7 (", 1);

    struct node_request value = rig_request(NODE_SIGN_BYTES, "");
    value.raw = bytes_of_text("value");
    rig_send(c2, WIRE_P2, &value);
    signer_take(r, channel, &taken);
    assert_int_equal(taken.kind, SIGN_RAW_P2);
    assert_true(bytes_equal(bytes_of(r->blob, taken.blob_n), bytes_of_text("value")));
    signer_answer_with(channel, SIGN_DONE, "");
    rig_receive(c2, WIRE_P2, &reply);
    assert_true(reply.has_signature && !reply.is_error);
    node_hang_up(c1);
    node_hang_up(c2);
    node_unlisten(p1);
    node_unlisten(p2);
    close(channel);
}

/* ---- reload ---- */

static void test_any_order_of_messages(void **state)
{
    struct rig *r = *state;
    struct node_listener *l = rig_listen(r, "node");
    struct config_validator v = rig_validator(chain, node_address(l));
    rig_start(r, false);
    rig_add(r, &v);
    struct pollfd p = {.fd = node_listener_fd(l), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 100), 0); /* no signer, no connection */
    int channel = rig_chain(r, chain);
    struct node_conn *c = rig_accept(l);
    rig_signs(r, c, channel, chain, 1);
    node_hang_up(c);
    node_unlisten(l);
    close(channel);
}

static void test_add_and_drop_leave_the_others_alone(void **state)
{
    struct rig *r = *state;
    struct simple s = simple_start(r);
    rig_pings(s.conn);
    struct node_listener *l = rig_listen(r, "second");
    struct config_validator v = rig_validator("test-2", node_address(l));
    for (int i = 0; i < 3; i++) {
        int channel = rig_chain(r, "test-2");
        rig_add(r, &v);
        struct node_conn *c = rig_accept(l);
        rig_signs(r, c, channel, "test-2", 10 + i);
        rig_drop(r, &v);
        rig_sees_close(c);
        rig_chain_drop(r, "test-2");
        struct pollfd p = {.fd = channel, .events = POLLIN};
        assert_int_equal(poll(&p, 1, WAIT_MS), 1); /* the session closed the channel */
        char byte;
        assert_int_equal(read(channel, &byte, 1), 0);
        rig_signs(r, s.conn, s.channel, chain, 20 + i);
        node_hang_up(c);
        close(channel);
    }
    rig_log_has(r, "test-1@", 4);
    assert_int_equal(rig_log_count(r, "test-1@"), 4); /* connected once, signed three times */
    node_unlisten(l);
    simple_end(&s);
}

static void test_dropped_after_the_request_in_flight(void **state)
{
    struct rig *r = *state;
    for (int with_chain = 0; with_chain < 2; with_chain++) {
        struct simple s;
        if (with_chain == 0) {
            s = simple_start(r);
        } else {
            s = (struct simple){.listener = rig_listen(r, "node")};
            s.channel = rig_chain(r, chain);
            s.validator = rig_validator(chain, node_address(s.listener));
            rig_add(r, &s.validator);
            s.conn = rig_accept(s.listener);
        }
        struct node_request vote = rig_vote(chain, 3, STEP_PREVOTE);
        struct sign_request taken;
        struct node_reply reply;
        rig_send(s.conn, WIRE_P1, &vote);
        signer_take(r, s.channel, &taken);
        rig_drop(r, &s.validator);
        if (with_chain)
            rig_chain_drop(r, chain);
        usleep(50000);
        signer_sign(r, s.channel, chain, &taken);
        rig_receive(s.conn, WIRE_P1, &reply);
        assert_true(reply.has_signature);
        rig_sees_close(s.conn);
        struct pollfd p = {.fd = node_listener_fd(s.listener), .events = POLLIN};
        assert_int_equal(poll(&p, 1, 100), 0);
        simple_end(&s);
    }
}

static void test_a_changed_validator(void **state)
{
    struct rig *r = *state;
    struct simple s = simple_start(r);
    rig_pings(s.conn);
    struct config_validator changed = s.validator;
    changed.max_height = 50;
    rig_drop(r, &s.validator);
    rig_add(r, &changed);
    rig_sees_close(s.conn);
    node_hang_up(s.conn);
    s.conn = rig_accept(s.listener);
    struct node_request high = rig_vote(chain, 51, STEP_PREVOTE);
    expect_refusal(r, &s, WIRE_P1, &high, "stop height");
    simple_end(&s);
}

/* ---- the signer comes and goes ---- */

static void test_the_channel_is_replaced(void **state)
{
    struct rig *r = *state;
    struct simple s = simple_start(r);
    struct node_listener *l = rig_listen(r, "second");
    struct config_validator v = rig_validator(chain, node_address(l));
    rig_add(r, &v);
    struct node_conn *waiting = rig_accept(l);
    rig_signs(r, waiting, s.channel, chain, 1);

    /* One request in flight, one in the queue. */
    struct node_request vote = rig_vote(chain, 5, STEP_PREVOTE);
    struct sign_request taken;
    struct node_reply reply;
    rig_send(s.conn, WIRE_P1, &vote);
    signer_take(r, s.channel, &taken);
    rig_send(waiting, WIRE_P1, &vote);
    usleep(50000);
    int channel = rig_chain(r, chain);
    rig_sees_close(s.conn); /* nobody knows whether it was signed: the node asks again */
    signer_take(r, channel, &taken);
    signer_sign(r, channel, chain, &taken);
    rig_receive(waiting, WIRE_P1, &reply);
    assert_true(reply.has_signature);
    node_hang_up(s.conn);
    s.conn = rig_accept(s.listener);
    rig_signs(r, s.conn, channel, chain, 6);
    rig_signs(r, waiting, channel, chain, 7);
    node_hang_up(waiting);
    node_unlisten(l);
    close(channel);
    simple_end(&s);
}

static void test_the_signer_dies(void **state)
{
    struct rig *r = *state;
    struct simple s = simple_start(r);
    rig_signs(r, s.conn, s.channel, chain, 1);
    struct node_request vote = rig_vote(chain, 2, STEP_PREVOTE);
    struct sign_request taken;
    rig_send(s.conn, WIRE_P1, &vote);
    signer_take(r, s.channel, &taken);
    fd_close(&s.channel);
    rig_sees_close(s.conn);
    node_hang_up(s.conn);
    rig_log_has(r, "the signer is gone", 1);
    struct pollfd p = {.fd = node_listener_fd(s.listener), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 100), 0);
    s.channel = rig_chain(r, chain);
    s.conn = rig_accept(s.listener);
    rig_signs(r, s.conn, s.channel, chain, 2);
    simple_end(&s);
}

static void test_a_signer_that_answers_nonsense(void **state)
{
    struct rig *r = *state;
    struct simple s = simple_start(r);
    struct sign_reply good = {.outcome = SIGN_DONE};
    /* An answer without a question, then answers that are no answers. */
    for (int i = 0; i < 4; i++) {
        struct sign_reply bad = good;
        if (i > 0) {
            struct node_request vote = rig_vote(chain, 2, STEP_PREVOTE);
            struct sign_request taken;
            rig_send(s.conn, WIRE_P1, &vote);
            signer_take(r, s.channel, &taken);
        }
        if (i == 1)
            bad.outcome = 99;
        else if (i == 2)
            bad.has_extension_signature = 2;
        else if (i == 3)
            memset(bad.reason, 'x', sizeof bad.reason);
        assert_true(fd_write_exact(s.channel, &bad, sizeof bad));
        rig_sees_close(s.conn);
        node_hang_up(s.conn);
        close(s.channel);
        s.channel = rig_chain(r, chain);
        s.conn = rig_accept(s.listener);
        rig_pings(s.conn);
    }
    simple_end(&s);
}

/* ---- the end ---- */

static void test_reconnect_off(void **state)
{
    struct rig *r = *state;
    struct node_listener *l = rig_listen(r, "node");
    struct config_validator v = rig_validator(chain, node_address(l));
    v.reconnect = false;
    rig_start(r, false);
    int channel = rig_chain(r, chain);
    rig_add(r, &v);
    struct node_conn *c = rig_accept(l);
    rig_pings(c);
    node_hang_up(c);
    struct control msg;
    rig_heard(r, &msg);
    assert_int_equal(msg.kind, CONTROL_FAILED);
    assert_non_null(strstr(msg.u.text, "client 'test-1@unix:///"));
    assert_non_null(strstr(msg.u.text, "exited with error: connection error"));
    assert_int_equal(rig_wait_end(r), 1);
    node_unlisten(l);
    close(channel);
}

static void test_ends_at_once_with_a_request_in_flight(void **state)
{
    struct rig *r = *state;
    struct simple s = simple_start(r);
    struct node_request vote = rig_vote(chain, 2, STEP_PREVOTE);
    struct sign_request taken;
    rig_send(s.conn, WIRE_P1, &vote);
    signer_take(r, s.channel, &taken);
    rig_hang_up(r);
    uint64_t began = clock_monotonic_us();
    assert_int_equal(rig_wait_end(r), 0);
    assert_true(clock_monotonic_us() - began < 1000000);
    rig_sees_close(s.conn);
    simple_end(&s);
}

#define SESSION_TEST(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SESSION_TEST(test_ping_and_pubkey),
        SESSION_TEST(test_signatures),
        SESSION_TEST(test_the_signers_refusals),
        SESSION_TEST(test_refused_without_the_signer),
        SESSION_TEST(test_raw_bytes_when_allowed),
        SESSION_TEST(test_any_order_of_messages),
        SESSION_TEST(test_add_and_drop_leave_the_others_alone),
        SESSION_TEST(test_dropped_after_the_request_in_flight),
        SESSION_TEST(test_a_changed_validator),
        SESSION_TEST(test_the_channel_is_replaced),
        SESSION_TEST(test_the_signer_dies),
        SESSION_TEST(test_a_signer_that_answers_nonsense),
        SESSION_TEST(test_reconnect_off),
        SESSION_TEST(test_ends_at_once_with_a_request_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
