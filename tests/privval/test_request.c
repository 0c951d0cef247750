/* Requests made by hand: what is refused with a sentence, what closes the connection, what is
 * tolerated. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "privval/message.h"
#include "privval/protobuf.h"
#include "privval/sign_bytes.h"

/* A vote (kind 3) or proposal (kind 5) request as raw as the wire allows. */
struct wish {
    uint32_t kind;
    int64_t type, height, round, pol_round, index, skip;
    size_t hash_n, parts_hash_n, address_n, extension_n, chain_id_n;
    uint64_t parts_total;
    int64_t seconds, nanos;
    const char *chain_id; /* NULL: chain_id_n times 'c' */
    bool no_thing, no_block_id, no_timestamp;
    struct bytes more_in_thing, more_in_request, more_in_message;
};

static struct wish a_vote(void)
{
    return (struct wish){.kind = 3,
        .type = 1,
        .height = 9,
        .round = 2,
        .hash_n = 32,
        .parts_hash_n = 32,
        .parts_total = 1,
        .address_n = 20,
        .chain_id_n = 5,
        .seconds = 1700000000};
}

static struct wish a_precommit(void)
{
    struct wish wish = a_vote();
    wish.type = 2;
    wish.extension_n = 9;
    return wish;
}

static struct wish a_nil_precommit(void)
{
    struct wish wish = a_vote();
    wish.type = 2;
    wish.hash_n = wish.parts_hash_n = wish.parts_total = 0;
    return wish;
}

static struct wish a_proposal(void)
{
    struct wish wish = a_vote();
    wish.kind = 5;
    wish.type = 32;
    wish.pol_round = -1;
    return wish;
}

static uint8_t FILLING[70000];
static uint8_t FRAME[80000];

static void put_block_id(struct writer *w, uint32_t field, const struct wish *wish)
{
    size_t block_id = pb_begin(w, field);
    pb_write_bytes(w, 1, bytes_of(FILLING, wish->hash_n));
    size_t header = pb_begin(w, 2);
    pb_write_uint64(w, 1, wish->parts_total);
    pb_write_bytes(w, 2, bytes_of(FILLING, wish->parts_hash_n));
    pb_end(w, header);
    pb_end(w, block_id);
}

static void put_thing(struct writer *w, const struct wish *wish)
{
    uint32_t after_pol = wish->kind == 5 ? 1 : 0;
    size_t thing = pb_begin(w, 1);
    pb_write_int64(w, 1, wish->type);
    pb_write_int64(w, 2, wish->height);
    pb_write_int64(w, 3, wish->round);
    if (wish->kind == 5)
        pb_write_int64(w, 4, wish->pol_round);
    if (!wish->no_block_id)
        put_block_id(w, 4 + after_pol, wish);
    if (!wish->no_timestamp) {
        size_t time = pb_begin(w, 5 + after_pol);
        pb_write_int64(w, 1, wish->seconds);
        pb_write_int64(w, 2, wish->nanos);
        pb_end(w, time);
    }
    if (wish->kind == 3) {
        pb_write_bytes(w, 6, bytes_of(FILLING, wish->address_n));
        pb_write_int64(w, 7, wish->index);
        pb_write_bytes(w, 9, bytes_of(FILLING, wish->extension_n));
    }
    write_bytes(w, wish->more_in_thing);
    pb_end(w, thing);
}

static struct bytes frame_of(const struct wish *wish)
{
    char id[300];
    memset(id, 'c', sizeof id);
    struct writer w = writer_of(FRAME, sizeof FRAME);
    size_t frame = pb_begin_delimited(&w), request = pb_begin(&w, wish->kind);
    if (!wish->no_thing)
        put_thing(&w, wish);
    pb_write_bytes(&w, 2, bytes_of(wish->chain_id != NULL ? wish->chain_id : id, wish->chain_id_n));
    pb_write_int64(&w, 3, wish->skip);
    write_bytes(&w, wish->more_in_request);
    pb_end(&w, request);
    write_bytes(&w, wish->more_in_message);
    pb_end(&w, frame);
    assert_false(w.bad);
    return written(&w);
}

/* words: NULL for accepted, "" for closed, else what the refusal says. On both lines. */
static void assert_wish(const struct wish *wish, const char *words)
{
    for (enum wire_line line = WIRE_P1; line <= WIRE_P2; line++) {
        struct request req;
        memset(&req, 0x77, sizeof req);
        const struct request before = req;
        bool parsed = request_parse(&req, line, frame_of(wish));
        assert_int_equal(parsed, words == NULL || words[0] != '\0');
        if (!parsed) {
            assert_memory_equal(&req, &before, sizeof req);
        } else if (words == NULL) {
            if (req.problem != NULL)
                fail_msg("refused: %s", req.problem);
            assert_null(signable_problem(&req.signable));
        } else {
            assert_non_null(req.problem);
            if (strstr(req.problem, words) == NULL)
                fail_msg("\"%s\" does not say \"%s\"", req.problem, words);
        }
    }
}

#define CHECK(base, change, words)                                                                 \
    do {                                                                                           \
        struct wish w = base();                                                                    \
        change;                                                                                    \
        assert_wish(&w, words);                                                                    \
    } while (0)

static void test_refusals_of_both(void **state)
{
    (void)state;
    struct wish (*const bases[])(void) = {a_vote, a_precommit, a_proposal};
    for (size_t i = 0; i < 3; i++) {
        struct wish (*base)(void) = bases[i];
        CHECK(base, (void)0, NULL);
        CHECK(base, w.height = 0, "height");
        CHECK(base, w.height = -1, "height");
        CHECK(base, w.round = -1, "round is negative");
        CHECK(base, w.hash_n = 0, "incomplete");
        CHECK(base, w.parts_hash_n = 0, "incomplete");
        CHECK(base, w.parts_total = 0, "incomplete");
        CHECK(base, w.no_timestamp = true, NULL);
        CHECK(base, w.seconds = INT64_C(253402300800), "years");
        CHECK(base, w.seconds = GO_ZERO_SECONDS - 1, "years");
        CHECK(base, w.nanos = 1000000000, "nanoseconds");
        CHECK(base, w.nanos = -1, "nanoseconds");
        CHECK(base, w.no_thing = true, "nothing to sign");
        static const size_t WRONG[] = {1, 20, 31, 33, 64, 255, 256, 287, 288, 1000, 65568};
        for (size_t n = 0; n < sizeof WRONG / sizeof WRONG[0]; n++) {
            CHECK(base, w.hash_n = WRONG[n], "block hash");
            CHECK(base, w.parts_hash_n = WRONG[n], "parts is neither");
        }
    }
}

static void test_refusals_of_votes(void **state)
{
    (void)state;
    static const int64_t TYPES[] = {0, 3, 31, 32, -1, INT32_MAX, 255, 257};
    for (size_t i = 0; i < sizeof TYPES / sizeof TYPES[0]; i++)
        CHECK(a_vote, w.type = TYPES[i], "neither a prevote");
    CHECK(a_vote, w.extension_n = 1, "extension");
    CHECK(a_vote, (w.extension_n = 1, w.skip = 1), "extension"); /* v1.0.1 signs this */
    CHECK(a_nil_precommit, (void)0, NULL);
    CHECK(a_nil_precommit, w.no_block_id = true, NULL);
    CHECK(a_nil_precommit, w.extension_n = 1, "extension");
    CHECK(a_nil_precommit, (w.extension_n = 1, w.skip = 1), "extension"); /* and this */
    CHECK(a_precommit, w.extension_n = 60000, NULL);
    CHECK(a_vote, w.address_n = 0, NULL);
    static const size_t ADDRESSES[] = {1, 19, 21, 32, 276, 65556};
    for (size_t i = 0; i < sizeof ADDRESSES / sizeof ADDRESSES[0]; i++)
        CHECK(a_vote, w.address_n = ADDRESSES[i], "validator address");
    CHECK(a_vote, w.index = -1, NULL);
    CHECK(a_vote, w.index = INT32_MAX, NULL);
}

static void test_refusals_of_proposals(void **state)
{
    (void)state;
    CHECK(a_proposal, w.pol_round = 0, NULL);
    CHECK(a_proposal, w.pol_round = 1, NULL);
    CHECK(a_proposal, w.pol_round = 2, "not below the round");
    CHECK(a_proposal, w.pol_round = 3, "not below the round");
    CHECK(a_proposal, w.pol_round = -2, "below -1");
    CHECK(a_proposal, w.no_block_id = true, "names no block");
    CHECK(a_proposal, w.type = 1, NULL); /* the type is ignored, as in CometBFT */
    CHECK(a_proposal, w.type = 0, NULL);
    CHECK(a_proposal, w.type = -5, NULL);
}

static void test_chain_ids(void **state)
{
    (void)state;
    CHECK(a_vote, w.chain_id_n = 0, "chain id is empty");
    CHECK(a_vote, w.chain_id_n = 50, NULL);
    CHECK(a_vote, w.chain_id_n = 51, "longer than 50");
    CHECK(a_vote, w.chain_id_n = 300, "longer than 50");
    CHECK(a_vote, (w.chain_id = "a\0b", w.chain_id_n = 3), "control character");
    CHECK(a_vote, (w.chain_id = "a\n", w.chain_id_n = 2), "control character");
    CHECK(a_vote, (w.chain_id = "\x7f", w.chain_id_n = 1), "control character");
    CHECK(a_vote, (w.chain_id = "\xe9\x93\xbe", w.chain_id_n = 3), NULL);
}

#define RAW(field, text) w.field = bytes_of((text), sizeof(text) - 1)

static void test_wire_rules(void **state)
{
    (void)state;
    /* The last of a repeated scalar counts. */
    CHECK(a_vote, RAW(more_in_thing, "\x08\x63"), "neither a prevote");
    CHECK(a_vote, RAW(more_in_thing, "\x08\x63\x08\x02"), NULL);
    CHECK(a_vote, RAW(more_in_request, "\x12\x00"), "chain id is empty");
    /* A sub-message may occur once. */
    CHECK(a_vote, RAW(more_in_thing, "\x22\x00"), "");
    CHECK(a_vote, RAW(more_in_thing, "\x2a\x00"), "");
    CHECK(a_proposal, RAW(more_in_thing, "\x2a\x00"), "");
    CHECK(a_proposal, RAW(more_in_thing, "\x32\x00"), "");
    CHECK(a_vote, RAW(more_in_request, "\x0a\x00"), "");
    /* Unknown fields are skipped, those of P2b's vote among them. */
    CHECK(a_vote, RAW(more_in_thing, "\x5a\x01\xff\x62\x00\x7d\x01\x02\x03\x04"), NULL);
    CHECK(a_vote, RAW(more_in_request, "\x3a\x01\xff"), NULL);
    CHECK(a_vote, RAW(more_in_message, "\x5a\x01\xff"), NULL);
    /* A known field of another type, a group, a cut field. */
    CHECK(a_vote, RAW(more_in_thing, "\x0a\x00"), "");
    CHECK(a_vote, RAW(more_in_thing, "\x40\x00"), "");
    CHECK(a_vote, RAW(more_in_thing, "\x50\x00"), "");
    CHECK(a_proposal, RAW(more_in_thing, "\x38\x00"), "");
    CHECK(a_vote, RAW(more_in_thing, "\x5b\x5c"), "");
    CHECK(a_vote, RAW(more_in_thing, "\x12"), "");
    CHECK(a_vote, RAW(more_in_request, "\x10\x01"), "");
    /* Heights and rounds beyond 32 bits: int64 whole, int32 cut as Go cuts it. */
    CHECK(a_vote, RAW(more_in_thing, "\x10\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"), "height");
    CHECK(a_vote, RAW(more_in_thing, "\x18\x80\x80\x80\x80\x08"), "round is negative");
    CHECK(a_vote, RAW(more_in_thing, "\x18\x85\x80\x80\x80\x10"), NULL);
}

static void test_one_message_of_a_frame(void **state)
{
    (void)state;
    CHECK(a_vote, RAW(more_in_message, "\x3a\x00"), ""); /* and a ping */
    CHECK(a_vote, RAW(more_in_message, "\x42\x00"), ""); /* and a reply */
    struct wish twice = a_vote();
    static uint8_t copy[1000];
    struct bytes frame = frame_of(&twice);
    struct reader r = reader_of(frame);
    pb_read_varint(&r);
    memcpy(copy, r.p, r.n);
    twice.more_in_message = bytes_of(copy, r.n);
    assert_wish(&twice, "");
}

/* text is a frame without its length. */
static bool parses(struct request *req, enum wire_line line, const char *text, size_t n)
{
    struct writer w = writer_of(FRAME, sizeof FRAME);
    pb_write_varint(&w, n);
    write_bytes(&w, bytes_of(text, n));
    return request_parse(req, line, written(&w));
}
#define PARSES(line, text) parses(&req, line, text, sizeof(text) - 1)

static void test_no_request(void **state)
{
    (void)state;
    struct request req;
    for (enum wire_line line = WIRE_P1; line <= WIRE_P2; line++) {
        assert_false(PARSES(line, ""));
        assert_false(PARSES(line, "\x12\x00"));
        assert_false(PARSES(line, "\x22\x00"));
        assert_false(PARSES(line, "\x32\x00"));
        assert_false(PARSES(line, "\x42\x00"));
        assert_false(PARSES(line, "\x52\x00"));
        assert_false(PARSES(line, "\x5a\x00")); /* unknown only */
        assert_false(PARSES(line, "\x38\x00")); /* a ping that is a number */
        assert_false(PARSES(line, "\x3a\x01"));
        assert_false(PARSES(line, "\x3a\x01\xff")); /* a ping holding half a varint */
        assert_true(PARSES(line, "\x3a\x00"));
        assert_int_equal(req.kind, REQUEST_PING);
        assert_true(PARSES(line, "\x3a\x02\x08\x01") && req.problem == NULL);
        assert_true(PARSES(line, "\x0a\x00") && req.kind == REQUEST_PUBKEY);
        assert_string_equal(req.problem, "the chain id is empty");
        assert_false(request_parse(&req, line, (struct bytes){0}));
        assert_false(request_parse(&req, line, bytes_of("\x00", 1)));
        assert_false(request_parse(&req, line, bytes_of("\x02\x3a\x00\x00", 4)));
        assert_false(request_parse(&req, line, bytes_of("\x82\x00\x3a\x00", 4)));
    }
}

static void test_absent_timestamp_is_zero_time(void **state)
{
    (void)state;
    struct wish wish = a_vote();
    struct request req;
    wish.no_timestamp = true;
    assert_true(request_parse(&req, WIRE_P1, frame_of(&wish)));
    assert_true(req.signable.timestamp.seconds == GO_ZERO_SECONDS);
    wish.no_timestamp = false;
    wish.seconds = 0;
    assert_true(request_parse(&req, WIRE_P1, frame_of(&wish)));
    assert_true(req.signable.timestamp.seconds == 0);
}

static void test_skip_flag_is_p2_only(void **state)
{
    (void)state;
    struct wish wish = a_precommit();
    struct request req;
    wish.skip = 1;
    assert_true(request_parse(&req, WIRE_P2, frame_of(&wish)) && req.skip_extension);
    assert_true(request_parse(&req, WIRE_P1, frame_of(&wish)) && !req.skip_extension);
}

static void test_raw_bytes(void **state)
{
    (void)state;
    struct request req;
    assert_true(PARSES(WIRE_P2, "\x4a\x00") && req.problem == NULL);
    assert_int_equal(req.raw_bytes.n, 0);
    assert_true(PARSES(WIRE_P2, "\x4a\x05\x0a\x03xyz") && req.problem == NULL);
    assert_true(bytes_equal(req.raw_bytes, bytes_of_text("xyz")) && req.chain_id[0] == '\0');
    assert_false(PARSES(WIRE_P2, "\x4a\x02\x08\x01"));

    assert_true(PARSES(WIRE_P1, "\x4a\x0c\x0a\x01"
                                "c"
                                "\x12\x03xyz\x1a\x02id"));
    assert_null(req.problem);
    assert_string_equal(req.chain_id, "c");
    assert_true(bytes_equal(req.raw_bytes, bytes_of_text("xyz")));
    assert_true(bytes_equal(req.unique_id, bytes_of_text("id")));
    assert_true(PARSES(WIRE_P1, "\x4a\x09\x12\x03xyz\x1a\x02id"));
    assert_string_equal(req.problem, "the chain id is empty");
    assert_true(PARSES(WIRE_P1, "\x4a\x07\x0a\x01"
                                "c"
                                "\x1a\x02id"));
    assert_string_equal(req.problem, "the raw bytes are empty");
    assert_true(PARSES(WIRE_P1, "\x4a\x08\x0a\x01"
                                "c"
                                "\x12\x03xyz"));
    assert_string_equal(req.problem, "the unique id is empty");
}

static long frame_len(const char *text, size_t n)
{
    return request_frame_len(bytes_of(text, n));
}

static void test_frame_len(void **state)
{
    (void)state;
    assert_int_equal(frame_len("", 0), 0);
    assert_int_equal(frame_len("\x00", 1), 1);
    assert_int_equal(frame_len("\x02", 1), 3);
    assert_int_equal(frame_len("\x02\x3a\x00\x02", 4), 3);
    assert_int_equal(frame_len("\x7f", 1), 128);
    assert_int_equal(frame_len("\x80", 1), 0);
    assert_int_equal(frame_len("\x80\x01", 2), 130);
    assert_int_equal(frame_len("\xff\x7f", 2), 16385);
    assert_int_equal(frame_len("\x80\x80", 2), 0);
    assert_int_equal(frame_len("\x80\x80\x01", 3), 16387);
    /* Longer than it need be. */
    assert_int_equal(frame_len("\x80\x00", 2), -1);
    assert_int_equal(frame_len("\x82\x00", 2), -1);
    assert_int_equal(frame_len("\x82\x80\x00", 3), -1);
    /* Over the limit is known from the third byte on, whatever follows. */
    assert_int_equal(frame_len("\xff\xff\x7f", 3), -1);
    assert_int_equal(frame_len("\x80\x80\x80", 3), -1);
    assert_int_equal(frame_len("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 10), -1);
    assert_int_equal(frame_len("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 10), -1);
    assert_int_equal(frame_len("GET / HTTP/1.1\r\n", 16), 72); /* and is refused as a message */
}

static void test_frame_limit(void **state)
{
    (void)state;
    for (size_t body = REQUEST_MAX - 10; body < REQUEST_MAX + 10; body++) {
        uint8_t prefix[PB_VARINT_MAX];
        struct writer w = writer_of(prefix, sizeof prefix);
        pb_write_varint(&w, body);
        long want = body + 3 <= REQUEST_MAX ? (long)body + 3 : -1;
        assert_int_equal(request_frame_len(written(&w)), want);
    }
}

/* Error texts: cut to 512 bytes, between characters, and always within a reply. */
static void test_error_text(void **state)
{
    (void)state;
    char text[2001] = {0};
    uint8_t buf[REPLY_MAX];
    struct request req = {.kind = REQUEST_VOTE};
    memset(text, 'e', 2000);
    for (size_t cut = 505; cut < 516; cut++) {
        memcpy(text + cut, "\xe9\x93\xbe", 3);
        struct bytes frame = reply_error(WIRE_P1, &req, 2, text, buf, sizeof buf);
        assert_true(frame.n > 0);
        size_t end = cut <= 509 ? 512 : cut < 512 ? cut : 512;
        assert_memory_equal(frame.p + frame.n - end, text, end);
        assert_true(frame.p[frame.n - end - 2] == (end & 0x7f) + 0x80); /* its length, first byte */
        memset(text + cut, 'e', 3);
    }
}

static void test_what_cannot_be_said(void **state)
{
    (void)state;
    uint8_t buf[REPLY_MAX];
    struct request ping = {.kind = REQUEST_PING}, pubkey = {.kind = REQUEST_PUBKEY};
    struct signed_reply reply = {0};
    struct public_key none = {0}, strange = {.type = 9, .len = 32};
    assert_int_equal(reply_signed(WIRE_P1, &ping, &reply, buf, sizeof buf).n, 0);
    assert_int_equal(reply_signed(WIRE_P1, &pubkey, &reply, buf, sizeof buf).n, 0);
    assert_int_equal(reply_pubkey(WIRE_P1, &none, buf, sizeof buf).n, 0);
    assert_int_equal(reply_pubkey(WIRE_P2, &strange, buf, sizeof buf).n, 0);
    struct bytes pong = reply_error(WIRE_P2, &ping, 0, "no", buf, sizeof buf);
    assert_true(bytes_equal(pong, bytes_of("\x02\x42\x00", 3)));
    assert_int_equal(reply_ping(buf, 2).n, 0);
}

int main(void)
{
    for (size_t i = 0; i < sizeof FILLING; i++)
        FILLING[i] = (uint8_t)(i * 7 + 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals_of_both),
        cmocka_unit_test(test_refusals_of_votes),
        cmocka_unit_test(test_refusals_of_proposals),
        cmocka_unit_test(test_chain_ids),
        cmocka_unit_test(test_wire_rules),
        cmocka_unit_test(test_one_message_of_a_frame),
        cmocka_unit_test(test_no_request),
        cmocka_unit_test(test_absent_timestamp_is_zero_time),
        cmocka_unit_test(test_skip_flag_is_p2_only),
        cmocka_unit_test(test_raw_bytes),
        cmocka_unit_test(test_frame_len),
        cmocka_unit_test(test_frame_limit),
        cmocka_unit_test(test_error_text),
        cmocka_unit_test(test_what_cannot_be_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
