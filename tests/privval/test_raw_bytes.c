/* What may be signed as raw bytes: nothing that could be the sign-bytes of a vote, a proposal or a
 * vote extension, or what a handshake signs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "privval/canonical.h"
#include "privval/protobuf.h"
#include "privval/sign_bytes.h"

#define TEXT(text) bytes_of((text), sizeof(text) - 1)

static void assert_allowed(struct bytes value)
{
    const char *problem = raw_bytes_problem(value);
    if (problem != NULL)
        fail_msg("refused: %s", problem);
}

static void assert_refused(struct bytes value, const char *words)
{
    const char *problem = raw_bytes_problem(value);
    assert_non_null(problem);
    if (strstr(problem, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", problem, words);
}

/* Refused bare, behind its length, and behind an overlong form of its length. */
static void assert_message_refused(struct bytes message)
{
    uint8_t buf[1024];
    struct writer w = writer_of(buf, sizeof buf);
    pb_write_varint(&w, message.n);
    write_bytes(&w, message);
    assert_refused(written(&w), "sign-bytes");
    if (message.n == 0)
        return;
    assert_refused(message, "sign-bytes");
    assert_true(message.n < 128);
    w = writer_of(buf, sizeof buf);
    write_u8(&w, (uint8_t)(message.n | 0x80));
    write_u8(&w, 0);
    write_bytes(&w, message);
    assert_refused(written(&w), "sign-bytes");
}

static void test_allowed(void **state)
{
    (void)state;
    assert_allowed(TEXT("")); /* CometBFT v1 signs it */
    assert_allowed(TEXT("some bytes to sign"));
    assert_allowed(TEXT("x"));
    assert_allowed(TEXT("noise-libp2p-static-key"));
    assert_allowed(TEXT("COMET::RAW_BYTES::SIG"));
    assert_allowed(TEXT("{\"json\":true}"));
    assert_allowed(TEXT("\x02\x40\x01")); /* field 8 behind its length */
    assert_allowed(TEXT("\x02\x10\x01")); /* a height that is a varint */
    assert_allowed(TEXT("\x03\x08\x01")); /* a length that is wrong by one */
    assert_allowed(TEXT("\x01\x08\x01"));
    assert_allowed(TEXT("\x03\x28\x01\x08")); /* cut */
    uint8_t bytes[64];
    for (size_t n = 31; n <= 33; n++) {
        memset(bytes, 0xa5, sizeof bytes);
        if (n != 32)
            assert_allowed(bytes_of(bytes, n));
        else
            assert_refused(bytes_of(bytes, n), "SecretConnection");
    }
}

static void test_handshakes_and_prefixes(void **state)
{
    (void)state;
    char noise[24 + 32] = "noise-libp2p-static-key:";
    memset(noise + 24, 0x99, 32);
    assert_refused(bytes_of(noise, sizeof noise), "noise");
    assert_refused(bytes_of(noise, 24), "noise");
    assert_refused(TEXT("COMET::RAW_BYTES::SIGN"), "Celestia");
    assert_refused(TEXT("COMET::RAW_BYTES::SIGN\x0c\x0a\x01"
                        "c"),
        "Celestia");
}

static void test_every_order_and_subset(void **state)
{
    (void)state;
    /* The fields of a proposal for round 1 with POL round -1, and of a vote. */
    static const struct bytes PROPOSAL[] = {
        {(const uint8_t *)"\x08\x20", 2},
        {(const uint8_t *)"\x11\x05\0\0\0\0\0\0\0", 9},
        {(const uint8_t *)"\x19\x01\0\0\0\0\0\0\0", 9},
        {(const uint8_t *)"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},
        {(const uint8_t *)"\x2a\x02\x12\x00", 4},
        {(const uint8_t *)"\x32\x00", 2},
        {(const uint8_t *)"\x3a\x01"
                          "c",
            3},
    };
    enum { FIELDS = sizeof PROPOSAL / sizeof PROPOSAL[0] };
    size_t seen = 0;
    for (unsigned subset = 0; subset < 1 << FIELDS; subset++) {
        for (size_t first = 0; first < FIELDS; first++) {
            uint8_t buf[128];
            struct writer w = writer_of(buf, sizeof buf);
            for (size_t i = 0; i < FIELDS; i++) {
                size_t field = (first + i) % FIELDS;
                if ((subset >> field & 1) != 0)
                    write_bytes(&w, PROPOSAL[field]);
            }
            if (w.n >= 30 && w.n <= 32)
                continue; /* one of its forms is refused for being 32 bytes long */
            assert_message_refused(written(&w));
            seen++;
        }
    }
    assert_true(seen > 800);
    assert_message_refused(TEXT("\x08\x02\x08\x01\x2a\x00\x2a\x00")); /* repeated */
    assert_message_refused(TEXT("\x0a\x03"
                                "ext\x11\1\0\0\0\0\0\0\0\x22\x01"
                                "c"));
    assert_message_refused(TEXT("\x21\xff\xff\xff\xff\xff\xff\xff\xff")); /* v0.33's POL round */
    assert_message_refused(TEXT("\x88\x00\x01"));                         /* overlong tag */
}

static uint64_t random_state = 1;
static uint64_t random_u64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static struct signable random_signable(void)
{
    struct signable s = {
        .height = (int64_t)(random_u64() >> (random_u64() & 63)),
        .round = (int32_t)(random_u64() >> (random_u64() & 63)),
        .pol_round = (int32_t)(random_u64() >> (random_u64() & 63)),
        .timestamp = {.seconds = (int64_t)random_u64(), .nanos = (int32_t)random_u64()},
    };
    s.block_id.parts_total = (uint32_t)random_u64() >> (random_u64() & 31);
    s.block_id.hash_len = (uint8_t)(random_u64() & HASH_LEN);
    s.block_id.parts_hash_len = (uint8_t)(random_u64() & HASH_LEN);
    for (size_t i = 0; i < HASH_LEN; i++) {
        s.block_id.hash[i] = (uint8_t)random_u64();
        s.block_id.parts_hash[i] = (uint8_t)random_u64();
    }
    return s;
}

/* Whatever a node could be brought to verify was written by this encoder. */
static void test_everything_canonical_is_refused(void **state)
{
    (void)state;
    uint8_t buf[1024], text[200];
    for (size_t i = 0; i < 20000; i++) {
        struct signable s = random_signable();
        for (size_t k = 0; k < sizeof text; k++)
            text[k] = (uint8_t)random_u64();
        struct bytes chain = bytes_of(text, random_u64() % 100);
        struct bytes extension = bytes_of(text + 100, random_u64() % 100);
        struct writer w = writer_of(buf, sizeof buf);
        if (i % 3 == 0)
            canonical_write_vote(&w, (int32_t)random_u64(), &s, chain);
        else if (i % 3 == 1)
            canonical_write_proposal(&w, &s, chain);
        else
            canonical_write_extension(&w, s.height, s.round, chain, extension);
        assert_true(written(&w).n > 0);
        assert_non_null(raw_bytes_problem(written(&w)));
        assert_true(w.n < 2 || memcmp(buf, "CO", 2) != 0);
    }
}

/* Values of random bytes are not refused by accident. */
static void test_random_values_are_allowed(void **state)
{
    (void)state;
    size_t refused = 0;
    for (size_t i = 0; i < 100000; i++) {
        uint8_t value[64];
        for (size_t k = 0; k < sizeof value; k++)
            value[k] = (uint8_t)random_u64();
        refused += raw_bytes_problem(bytes_of(value, sizeof value)) != NULL;
    }
    assert_true(refused < 200);
}

static void test_celestia_bytes(void **state)
{
    (void)state;
    uint8_t buf[22 + 1 + 12];
    struct bytes raw = TEXT("xyz"), id = TEXT("id");
    struct bytes got = celestia_sign_bytes("c", raw, id, buf, sizeof buf);
    assert_true(bytes_equal(got, TEXT("COMET::RAW_BYTES::SIGN\x0c\x0a\x01"
                                      "c"
                                      "\x12\x03xyz\x1a\x02id")));
    for (size_t cap = 0; cap < sizeof buf; cap++)
        assert_int_equal(celestia_sign_bytes("c", raw, id, buf, cap).n, 0);
}

static void test_celestia_room(void **state)
{
    (void)state;
    enum { BIG = 1 << 20 };
    uint8_t *raw = calloc(1, BIG), *buf = malloc(BIG + 300 + 256);
    char chain[CHAIN_ID_MAX + 1] = {0};
    memset(chain, 'c', CHAIN_ID_MAX);
    struct bytes got =
        celestia_sign_bytes(chain, bytes_of(raw, BIG), bytes_of(raw, 300), buf, BIG + 300 + 256);
    assert_int_equal(got.n, 22 + 3 + (2 + 50) + (1 + 3 + BIG) + (1 + 2 + 300));
    free(raw);
    free(buf);
}

/* Celestia's bytes begin with "CO". Nothing that does is canonical, whatever follows: as a length,
 * 'C' is 67, and 'O' behind it has wire type 7; as a tag, 'C' begins a group. */
static void test_celestia_is_never_canonical(void **state)
{
    (void)state;
    for (size_t i = 0; i < 10000; i++) {
        uint8_t value[1 + 67] = "CO";
        for (size_t k = 2; k < sizeof value; k++)
            value[k] = (uint8_t)random_u64();
        assert_allowed(bytes_of(value, sizeof value));
    }
    struct pb_field f;
    struct reader as_tag = reader_of(TEXT("OMET")), as_message = reader_of(TEXT("COMET"));
    assert_true(!pb_next(&as_tag, &f) && as_tag.bad);
    assert_true(!pb_next(&as_message, &f) && as_message.bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allowed),
        cmocka_unit_test(test_handshakes_and_prefixes),
        cmocka_unit_test(test_every_order_and_subset),
        cmocka_unit_test(test_everything_canonical_is_refused),
        cmocka_unit_test(test_random_values_are_allowed),
        cmocka_unit_test(test_celestia_bytes),
        cmocka_unit_test(test_celestia_room),
        cmocka_unit_test(test_celestia_is_never_canonical),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
