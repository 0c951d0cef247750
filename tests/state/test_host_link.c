/* The state link against its parent: an honest one with every fault, and a hostile one with every lie.
 *
 * What must hold: a signature leaves only for a record that the parent acknowledged; over all restarts
 * of an enclave with an honest parent at most one sign-bytes for a height, round and step; no lie ends
 * the process. */
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "privval/sign_bytes.h"
#include "signer/answer.h"
#include "state/link_parent.h"

/* ---- the enclave ---- */

static struct state *open_link(struct err *err)
{
    struct state *s = NULL;
    return host_link_open(&s, link_chain_id, signing_key_public(link_key), link_mac_key,
               link_parent_dial, NULL, err)
               ? s
               : NULL;
}

static struct state *must_open(void)
{
    struct err err;
    struct state *s = open_link(&err);
    if (s == NULL)
        fail_msg("%s", err.text);
    return s;
}

static struct signable vote(int64_t height, uint8_t block)
{
    struct signable s = {.height = height, .step = STEP_PREVOTE, .timestamp = {1000, block}};
    s.block_id.hash_len = s.block_id.parts_hash_len = HASH_LEN;
    s.block_id.parts_total = 1;
    memset(s.block_id.hash, block, HASH_LEN);
    memset(s.block_id.parts_hash, block, HASH_LEN);
    return s;
}

static enum state_outcome commit(struct state *s, int64_t height, struct err *err)
{
    const struct durable *token = NULL;
    struct watermark next = {.last = vote(height, 'A')};
    enum state_outcome outcome = state_commit(s, &next, &token, err);
    assert_true(outcome == STATE_DURABLE || outcome == STATE_PENDING);
    if (outcome == STATE_DURABLE) {
        assert_int_equal(durable_watermark(token)->last.height, height);
        assert_ptr_equal(token, state_current(s));
    } else {
        assert_null(token);
    }
    return outcome;
}

static void assert_commit(struct state *s, int64_t height)
{
    struct err err;
    if (commit(s, height, &err) != STATE_DURABLE)
        fail_msg("height %d: %s", (int)height, err.text);
}

/* ---- tests ---- */

static void records_are_numbered_and_authentic(void **state)
{
    (void)state;
    link_parent_reset();
    struct state *s = must_open();
    for (int64_t h = 1; h <= 5; h++)
        assert_commit(s, h);
    assert_int_equal(parent.connections, 1);
    assert_int_equal(parent.n, 7); /* init, the one at open, five */
    state_close(s);
    link_parent_wait();
    for (size_t i = 1; i < parent.n; i++) {
        struct record rec = parent.history[i];
        assert_int_equal(rec.link_sequence, i);
        link_parent_put_mac(&rec);
        assert_memory_equal(rec.link_mac, parent.history[i].link_mac, SHA256_LEN);
        assert_memory_not_equal(rec.link_mac, parent.history[i - 1].link_mac, SHA256_LEN);
    }
    s = must_open();
    assert_int_equal(durable_watermark(state_current(s))->last.height, 5);
    assert_int_equal(link_parent_stored()->link_sequence, 7);
    state_close(s);
}

static const char *words_of(enum show how)
{
    switch (how) {
    case SHOW_OLD:
    case SHOW_INIT:
        return "older than";
    case SHOW_BAD_MAC:
    case SHOW_CHANGED:
        return "MAC is wrong";
    case SHOW_OTHER_ENCLAVE:
    case SHOW_FOREIGN:
        return "another enclave";
    case SHOW_GARBAGE:
    case SHOW_EMPTY:
    case SHOW_LONG:
        return "no frame";
    case SHOW_ACK:
        return "out of turn";
    case SHOW_REFUSE:
        return "refuses: no ?[31m entry?";
    case SHOW_STORED:
    case SHOW_BURN:
    case SHOW_CUT:
    case SHOW_HANGUP:
    case SHOW_N:
        break;
    }
    return NULL; /* nothing is wrong with it, or the next try makes it good */
}

/* After a reconnect, with a record pending and without. */
static void what_a_parent_shows_later_is_judged(void **state)
{
    (void)state;
    size_t refused = 0;
    for (int i = 0; i < 2 * SHOW_N; i++) {
        enum show how = (enum show)(i / 2);
        struct err err;
        link_parent_reset();
        struct state *s = must_open();
        assert_commit(s, 1);
        assert_commit(s, 2);
        if (i % 2 != 0) { /* the last record is pending: stored, not acknowledged */
            parent.answer = ANSWER_STORE_REFUSE;
            parent.times = 1;
            assert_int_equal(commit(s, 3, &err), STATE_PENDING);
            parent.answer = ANSWER_HONEST;
        } else {
            shutdown(parent.fd, SHUT_RDWR);
        }
        parent.show = how;
        parent.times = 1;
        enum state_outcome outcome = commit(s, 3, &err);
        const char *words = words_of(how);
        if (i % 2 != 0 && how == SHOW_OLD)
            words = NULL; /* the record before the pending one: it may never have come */
        if ((outcome == STATE_PENDING) != (words != NULL))
            fail_msg("case %d: outcome %d", i, (int)outcome);
        if (words != NULL && strstr(err.text, words) == NULL)
            fail_msg("case %d: %s", i, err.text);
        refused += words != NULL;
        int64_t sure = outcome == STATE_DURABLE ? 3 : 2;
        assert_int_equal(durable_watermark(state_current(s))->last.height, sure);
        if (how == SHOW_OLD && i % 2 != 0)
            parent.n--; /* what it showed is what it has now */
        parent.show = SHOW_STORED;
        assert_int_equal(state_settle(s, &err), STATE_DURABLE); /* the parent is honest again */
        assert_int_equal(durable_watermark(state_current(s))->last.height, 3);
        assert_commit(s, 4);
        assert_int_equal(link_parent_stored()->mark.last.height, 4);
        state_close(s);
    }
    assert_true(refused >= 20);
}

static void what_a_parent_shows_first_is_judged(void **state)
{
    (void)state;
    for (enum show how = SHOW_STORED; how < SHOW_N; how++) {
        struct err err;
        link_parent_reset();
        struct state *s = must_open();
        assert_commit(s, 7);
        state_close(s);
        size_t had = parent.n;
        parent.show = how;
        parent.times = 1;
        s = open_link(&err);
        bool is_trusted = how == SHOW_STORED || how == SHOW_OLD || how == SHOW_INIT ||
                          how == SHOW_BURN || how == SHOW_OTHER_ENCLAVE;
        bool is_lost = how == SHOW_CUT || how == SHOW_HANGUP; /* and tried again */
        /* OLD and OTHER_ENCLAVE then meet their own lie: what was shown is not what is held. */
        if ((s != NULL) != (is_trusted || is_lost))
            fail_msg("case %d: %s", (int)how, s == NULL ? err.text : "opened");
        if (s != NULL)
            assert_int_equal(state_burns_first(s), how == SHOW_BURN);
        else
            assert_int_equal(parent.n, had); /* nothing was written over it */
        state_close(s);
    }
}

/* The height that a damaged slot may have been for is given up, also over a restart before that. */
static void a_burn_is_not_forgotten(void **state)
{
    (void)state;
    link_parent_reset();
    parent.show = SHOW_BURN;
    parent.times = 1;
    struct state *s = must_open();
    assert_true(state_burns_first(s));
    assert_true(link_parent_stored()->burn_next);
    state_close(s);
    s = must_open();
    assert_true(state_burns_first(s));
    assert_commit(s, 1);
    assert_false(state_burns_first(s));
    assert_false(link_parent_stored()->burn_next);
    state_close(s);
}

static void answers_to_a_record_are_judged(void **state)
{
    (void)state;
    for (enum answer how = ANSWER_HONEST; how < ANSWER_N; how++) {
        struct err err;
        link_parent_reset();
        struct state *s = must_open();
        assert_commit(s, 1);
        size_t had = parent.n;
        parent.answer = how;
        parent.times = 1;
        enum state_outcome outcome = commit(s, 2, &err);
        bool is_retried =
            how == ANSWER_STORE_HANGUP || how == ANSWER_DROP_HANGUP || how == ANSWER_CUT;
        bool is_good = how == ANSWER_HONEST || how == ANSWER_PROBED || how == ANSWER_TWICE ||
                       how == ANSWER_UNSTORED;
        if ((outcome == STATE_DURABLE) != (is_good || is_retried))
            fail_msg("answer %d: outcome %d", (int)how, (int)outcome);
        parent.answer = ANSWER_HONEST;
        if (how == ANSWER_UNSTORED) { /* it shows at the next reconnect, and nothing is signed */
            shutdown(parent.fd, SHUT_RDWR);
            assert_int_equal(commit(s, 3, &err), STATE_PENDING);
            assert_non_null(strstr(err.text, "older than 3"));
            state_close(s);
            continue;
        }
        assert_int_equal(state_settle(s, &err), STATE_DURABLE);
        assert_int_equal(parent.n, had + 1); /* one record, whatever it took */
        assert_int_equal(link_parent_stored()->link_sequence, 3);
        if (how == ANSWER_TWICE) { /* the stale number is no answer to the next record */
            assert_int_equal(commit(s, 3, &err), STATE_PENDING);
            assert_non_null(strstr(err.text, "acknowledged record 3 instead of 4"));
        }
        assert_commit(s, 3);
        assert_int_equal(link_parent_stored()->link_sequence, 4);
        assert_int_equal(parent.alive_answers, how == ANSWER_PROBED ? 1 : 0);
        state_close(s);
    }
}

/* Silence has an end: connection and handshake, acknowledgement, and a parent that is not there. */
static void silence_ends_at_its_deadline(void **state)
{
    (void)state;
    struct err err;
    link_parent_reset();
    struct state *s = must_open();
    parent.is_deaf = true;
    uint64_t began = clock_monotonic_us();
    assert_int_equal(commit(s, 1, &err), STATE_PENDING);
    assert_in_range(clock_monotonic_us() - began, HOST_LINK_ACK_US, HOST_LINK_COMMIT_US + 1000000);
    began = clock_monotonic_us();
    struct state *other = open_link(&err);
    assert_null(other);
    assert_in_range(clock_monotonic_us() - began, HOST_LINK_CONNECT_US - 100000,
        HOST_LINK_CONNECT_US + 1000000);
    parent.is_deaf = false;
    assert_commit(s, 1);
    state_close(s);
}

/* What may come between two requests. */
static void an_idle_link_answers_probes_and_nothing_else(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        bool survives;
    } all[] = {
        {"\1\0\0\0\5", 5, true}, {"\1\0\0\0\5\1\0\0\0\5", 10, true},
        {"\1\0\0", 3, true}, /* a part of a frame: the rest may come */
        {"\1\0\0\0\6", 5, false}, {"\11\0\0\0\3\1\0\0\0\0\0\0\0", 13, false},
        {"\0\0\0\0", 4, false}, {"\377\377\377\377", 4, false}, {"\3\0\0\0\4no", 7, false},
        {NULL, 0, false}, /* the end */
    };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        link_parent_reset();
        struct state *s = must_open();
        if (all[i].n > 0)
            link_parent_say(all[i].bytes, all[i].n);
        else
            shutdown(parent.fd, SHUT_WR);
        assert_true(fd_wait(state_attention_fd(s), POLLIN, clock_monotonic_us() + 1000000));
        state_attend(s);
        assert_int_equal(state_attention_fd(s) >= 0, all[i].survives);
        if (i == 2)
            link_parent_say("\0\5", 2);
        assert_commit(s, 1);
        state_close(s);
        link_parent_wait();
        assert_int_equal(parent.alive_answers, i == 0 || i == 2 ? 1 : i == 1 ? 2 : 0);
    }
}

/* ---- every order of faults, restarts and requests ---- */

enum { HEIGHTS = 3 };

static uint8_t scratch[SIGNER_SCRATCH];
static uint64_t released[HEIGHTS + 1];
static struct {
    long worlds, signatures, repeats, pending, refused;
} count;

static void check_release(int64_t height, const struct signable *asked, const struct sign_reply *r)
{
    uint8_t buf[SIGN_BYTES_MAX], sum[SHA256_LEN];
    struct signable s = *asked;
    s.timestamp = r->timestamp;
    struct bytes msg = sign_bytes(&s, link_chain_id, buf);
    assert_true(public_key_verify(signing_key_public(link_key), msg, r->signature));
    sha256(msg, sum);
    uint64_t print;
    memcpy(&print, sum, sizeof print);
    if (released[height] != 0 && released[height] != print)
        fail_msg("DOUBLE SIGN at height %d", (int)height);
    released[height] = print;
    /* Durable first: the parent holds a record that forbids any other block. */
    const struct signable *held = &link_parent_stored()->mark.last;
    if (held->height < height || (held->height == height && !signable_same_but_time(held, asked)))
        fail_msg("a signature of height %d left before its record was stored", (int)height);
}

static void ask(struct signer_chain *chain, int64_t height, uint8_t block)
{
    struct sign_request req = {.kind = SIGN_VOTE_OR_PROPOSAL, .signable = vote(height, block)};
    struct sign_reply reply;
    struct err err;
    if (!signer_answer(chain, &req, bytes_of(NULL, 0), &reply, &err))
        fail_msg("the process would end: %s", err.text);
    if (reply.outcome == SIGN_DONE || reply.outcome == SIGN_REPEATED)
        check_release(height, &req.signable, &reply);
    count.signatures += reply.outcome == SIGN_DONE;
    count.repeats += reply.outcome == SIGN_REPEATED;
    count.pending += strstr(reply.reason, "not now") != NULL;
    count.refused += reply.outcome == SIGN_DOUBLE;
}

/* Whoever asks next settles what is pending: another block is told that it conflicts, and the same
 * vote with another time, as a restarted node sends it, gets the first one's signature. */
static void any_request_settles_what_is_pending(void **state)
{
    (void)state;
    struct signer_chain chain = {.key = link_key, .scratch = scratch};
    snprintf(chain.id, sizeof chain.id, "%s", link_chain_id);
    for (uint8_t next = 'A'; next <= 'B'; next++) {
        struct sign_request req = {.kind = SIGN_VOTE_OR_PROPOSAL, .signable = vote(1, 'A')};
        struct sign_reply reply;
        struct err err;
        link_parent_reset();
        chain.state = must_open();
        parent.answer = ANSWER_DROP_REFUSE;
        parent.times = 1;
        assert_true(signer_answer(&chain, &req, bytes_of(NULL, 0), &reply, &err));
        assert_int_equal(reply.outcome, SIGN_REFUSED);
        req.signable = vote(1, next);
        req.signable.timestamp.seconds += 60;
        assert_true(signer_answer(&chain, &req, bytes_of(NULL, 0), &reply, &err));
        assert_int_equal(reply.outcome, next == 'A' ? SIGN_REPEATED : SIGN_DOUBLE);
        assert_int_equal(link_parent_stored()->mark.last.timestamp.seconds, 1000);
        if (next == 'A')
            assert_int_equal(reply.timestamp.seconds, 1000);
        state_close(chain.state);
    }
}

/* A new process, with what the parent holds; a fault may hit the record that it writes at open. */
static void restart(struct signer_chain *chain, enum answer fault)
{
    struct err err;
    state_close(chain->state);
    parent.answer = fault;
    parent.times = 1;
    chain->state = open_link(&err);
    parent.times = 0;
    if (chain->state == NULL)
        chain->state = must_open();
}

/* world: for each height what the parent does with the record of the first node's request (honest,
 * stored or dropped without an acknowledgement), whether the enclave restarts then, and both once
 * more for the second node's, which asks for another block. */
static void live(unsigned world)
{
    static const enum answer answers[] = {ANSWER_HONEST, ANSWER_STORE_REFUSE, ANSWER_DROP_REFUSE};
    struct signer_chain chain = {.key = link_key, .scratch = scratch};
    snprintf(chain.id, sizeof chain.id, "%s", link_chain_id);
    link_parent_reset();
    memset(released, 0, sizeof released);
    chain.state = must_open();
    for (int64_t height = 1; height <= HEIGHTS; height++) {
        for (uint8_t block = 'A'; block <= 'B'; block++) {
            enum answer fault = answers[world % 3];
            bool restarts = world / 3 % 2 != 0;
            world /= 6;
            parent.answer = fault;
            parent.times = 1;
            ask(&chain, height, block);
            parent.times = 0;
            if (restarts)
                restart(&chain, fault);
        }
        for (int i = 0; i < 4; i++)
            ask(&chain, height, i % 2 == 0 ? 'B' : 'A');
        assert_true(released[height] != 0); /* it is of use again */
    }
    state_close(chain.state);
    count.worlds++;
}

static void at_most_one_sign_bytes_over_all_faults(void **state)
{
    enum { WORLDS = 6 * 6 * 6 * 6 * 6 * 6 };
    (void)state;
    memset(&count, 0, sizeof count);
    const char *text = getenv("TMKMS_TEST_DEPTH");
    unsigned step = text != NULL && strtol(text, NULL, 10) >= 2 ? 1 : 17;
    for (unsigned world = 0; world < WORLDS; world += step)
        live(world);
    print_message(
        "%ld worlds, %ld signatures, %ld repeats, %ld pending, %ld double signs refused\n",
        count.worlds, count.signatures, count.repeats, count.pending, count.refused);
    assert_int_equal(count.worlds, (WORLDS + step - 1) / step);
    assert_true(count.signatures > 2000 && count.repeats > 2000);
    assert_true(count.pending > 2000 && count.refused > 2000);
}

static int set_up(void **state)
{
    struct err err;
    uint8_t seed[ED25519_SEED_LEN] = {3};
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    log_set_level(LOG_ERROR);
    if (!crypto_start(&err) || !signing_key_create(&link_key, KEY_ED25519, PRIVATE_SEED,
                                   bytes_of(seed, sizeof seed), &err))
        fail_msg("%s", err.text);
    signing_key_derive(link_key, bytes_of_text("test"), link_mac_key);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    link_parent_wait();
    signing_key_free(link_key);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_numbered_and_authentic),
        cmocka_unit_test(what_a_parent_shows_later_is_judged),
        cmocka_unit_test(what_a_parent_shows_first_is_judged),
        cmocka_unit_test(a_burn_is_not_forgotten),
        cmocka_unit_test(answers_to_a_record_are_judged),
        cmocka_unit_test(silence_ends_at_its_deadline),
        cmocka_unit_test(an_idle_link_answers_probes_and_nothing_else),
        cmocka_unit_test(any_request_settles_what_is_pending),
        cmocka_unit_test(at_most_one_sign_bytes_over_all_faults),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
