/* What may be signed, and when two things are the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "privval/sign_bytes.h"
#include "privval/signable.h"

static const struct block_id BLOCK = {
    .parts_total = 3,
    .hash_len = HASH_LEN,
    .parts_hash_len = HASH_LEN,
    .hash = {1, 2, 3},
    .parts_hash = {4, 5, 6},
};

static struct signable vote(void)
{
    return (struct signable){.height = 7, .round = 2, .step = STEP_PREVOTE, .block_id = BLOCK};
}

static struct signable proposal(void)
{
    return (struct signable){
        .height = 7, .round = 2, .pol_round = -1, .step = STEP_PROPOSAL, .block_id = BLOCK};
}

static void assert_problem(const struct signable *s, const char *words)
{
    const char *problem = signable_problem(s);
    if (words == NULL) {
        assert_null(problem);
        return;
    }
    assert_non_null(problem);
    if (strstr(problem, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", problem, words);
    uint8_t buf[SIGN_BYTES_MAX];
    assert_int_equal(sign_bytes(s, "chain", buf).n, 0);
}

#define CHECK(base, change, words)                                                                 \
    do {                                                                                           \
        struct signable s = base();                                                                \
        change;                                                                                    \
        assert_problem(&s, words);                                                                 \
    } while (0)

static void test_fields(void **state)
{
    (void)state;
    CHECK(vote, (void)0, NULL);
    CHECK(vote, s.step = STEP_PRECOMMIT, NULL);
    CHECK(proposal, (void)0, NULL);
    CHECK(vote, s.height = 1, NULL);
    CHECK(vote, s.height = INT64_MAX, NULL);
    CHECK(vote, s.height = 0, "height");
    CHECK(vote, s.height = -1, "height");
    CHECK(vote, s.height = INT64_MIN, "height");
    CHECK(vote, s.round = 0, NULL);
    CHECK(vote, s.round = INT32_MAX, NULL);
    CHECK(vote, s.round = -1, "round is negative");
    CHECK(vote, s.round = INT32_MIN, "round is negative");
    CHECK(vote, s.step = STEP_NONE, "neither a proposal");
    CHECK(vote, s.step = (enum step)4, "neither a proposal");
    CHECK(vote, s.step = (enum step) - 1, "neither a proposal");
    CHECK(vote, s.pol_round = -1, "POL round");
}

static void test_pol_round(void **state)
{
    (void)state;
    CHECK(proposal, s.pol_round = 0, NULL);
    CHECK(proposal, s.pol_round = 1, NULL);
    CHECK(proposal, s.pol_round = 2, "not below the round");
    CHECK(proposal, s.pol_round = INT32_MAX, "not below the round");
    CHECK(proposal, s.pol_round = -2, "below -1");
    CHECK(proposal, s.pol_round = INT32_MIN, "below -1");
    CHECK(proposal, (s.round = 0, s.pol_round = -1), NULL);
    CHECK(proposal, (s.round = 0, s.pol_round = 0), "not below the round");
}

static void test_block_id(void **state)
{
    (void)state;
    CHECK(vote, s.block_id = (struct block_id){0}, NULL);
    CHECK(proposal, s.block_id = (struct block_id){0}, "names no block");
    CHECK(vote, s.block_id.hash_len = 20, "block hash");
    CHECK(vote, s.block_id.hash_len = 33, "block hash");
    CHECK(vote, s.block_id.hash_len = 255, "block hash");
    CHECK(vote, s.block_id.parts_hash_len = 31, "parts is neither");
    CHECK(vote, s.block_id.parts_hash_len = 255, "parts is neither");
    CHECK(vote, s.block_id.parts_total = 0, "incomplete");
    CHECK(vote, s.block_id.parts_total = UINT32_MAX, NULL);
    CHECK(vote, s.block_id.hash_len = 0, "incomplete");
    CHECK(vote, s.block_id.parts_hash_len = 0, "incomplete");
    CHECK(vote, s.block_id = (struct block_id){.parts_total = 1}, "incomplete");
    CHECK(proposal, s.block_id.parts_total = 0, "incomplete");
    CHECK(vote, (s.block_id = (struct block_id){0}, s.block_id.hash[31] = 1), "stray");
    CHECK(vote, (s.block_id = (struct block_id){0}, s.block_id.parts_hash[0] = 1), "stray");
}

static void test_time(void **state)
{
    (void)state;
    CHECK(vote, s.timestamp.seconds = GO_ZERO_SECONDS, NULL);
    CHECK(vote, s.timestamp.seconds = GO_ZERO_SECONDS - 1, "years");
    CHECK(vote, s.timestamp.seconds = INT64_MIN, "years");
    CHECK(vote, s.timestamp.seconds = INT64_C(253402300799), NULL);
    CHECK(vote, s.timestamp.seconds = INT64_C(253402300800), "years");
    CHECK(vote, s.timestamp.seconds = INT64_MAX, "years");
    CHECK(vote, s.timestamp.nanos = 999999999, NULL);
    CHECK(vote, s.timestamp.nanos = 1000000000, "nanoseconds");
    CHECK(vote, s.timestamp.nanos = -1, "nanoseconds");
    CHECK(vote, s.timestamp.nanos = INT32_MIN, "nanoseconds");
}

/* Every field that enters the sign-bytes, changed alone, makes another thing and other bytes. */
static void test_equality_follows_the_bytes(void **state)
{
    (void)state;
    const struct signable a = proposal();
    struct signable changed[9];
    for (size_t i = 0; i < 9; i++)
        changed[i] = a;
    changed[0].height++;
    changed[1].round++;
    changed[2].pol_round++;
    changed[3].block_id.hash[31] ^= 1;
    changed[4].block_id.parts_hash[0] ^= 1;
    changed[5].block_id.parts_total++;
    changed[6].step = STEP_PRECOMMIT, changed[6].pol_round = 0;
    changed[7].timestamp.seconds++;
    changed[8].timestamp.nanos++;
    uint8_t buf_a[SIGN_BYTES_MAX], buf_b[SIGN_BYTES_MAX];
    struct bytes bytes_a = sign_bytes(&a, "chain", buf_a);
    assert_true(signable_same_but_time(&a, &a));
    for (size_t i = 0; i < 9; i++) {
        assert_int_equal(signable_same_but_time(&a, &changed[i]), i >= 7);
        assert_int_equal(timestamp_equal(&a.timestamp, &changed[i].timestamp), i < 7);
        struct bytes bytes_b = sign_bytes(&changed[i], "chain", buf_b);
        assert_true(bytes_b.n > 0);
        assert_false(bytes_equal(bytes_a, bytes_b));
    }
    assert_false(bytes_equal(bytes_a, sign_bytes(&a, "chaim", buf_b)));
}

static void test_chain_ids(void **state)
{
    (void)state;
    struct signable s = vote();
    uint8_t buf[SIGN_BYTES_MAX], big[512];
    char id[CHAIN_ID_MAX + 2] = {0};
    for (size_t n = 0; n <= CHAIN_ID_MAX + 1; n++) {
        bool good = n > 0 && n <= CHAIN_ID_MAX;
        memset(id, 'a', n);
        assert_int_equal(sign_bytes(&s, id, buf).n > 0, good);
        s.step = STEP_PRECOMMIT;
        assert_int_equal(
            extension_sign_bytes(&s, id, (struct bytes){0}, big, sizeof big).n > 0, good);
        s.step = STEP_PREVOTE;
    }
}

static void test_longest_fits(void **state)
{
    (void)state;
    struct signable s = proposal();
    char id[CHAIN_ID_MAX + 1] = {0};
    memset(id, 'x', CHAIN_ID_MAX);
    s.height = INT64_MAX;
    s.round = INT32_MAX;
    s.block_id.parts_total = UINT32_MAX;
    s.timestamp = (struct timestamp){.seconds = GO_ZERO_SECONDS, .nanos = 999999999};
    uint8_t buf[SIGN_BYTES_MAX];
    assert_int_equal(sign_bytes(&s, id, buf).n, 182);
}

static void test_extension_only_for_a_block(void **state)
{
    (void)state;
    uint8_t buf[EXTENSION_OVERHEAD + 4];
    struct bytes extension = bytes_of_text("ext!");
    struct signable s = vote();
    assert_int_equal(extension_sign_bytes(&s, "chain", extension, buf, sizeof buf).n, 0);
    s.step = STEP_PRECOMMIT;
    size_t n = extension_sign_bytes(&s, "chain", extension, buf, sizeof buf).n;
    assert_int_equal(n, 1 + 6 + 9 + 9 + 7);
    for (size_t cap = 0; cap < n; cap++)
        assert_int_equal(extension_sign_bytes(&s, "chain", extension, buf, cap).n, 0);
    s.block_id = (struct block_id){0};
    assert_int_equal(extension_sign_bytes(&s, "chain", extension, buf, sizeof buf).n, 0);
    s = proposal();
    assert_int_equal(extension_sign_bytes(&s, "chain", extension, buf, sizeof buf).n, 0);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(step_name(STEP_NONE), "none");
    assert_string_equal(step_name(STEP_PROPOSAL), "proposal");
    assert_string_equal(step_name(STEP_PREVOTE), "prevote");
    assert_string_equal(step_name(STEP_PRECOMMIT), "precommit");
    assert_string_equal(step_name((enum step)9), "unknown step");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_pol_round),
        cmocka_unit_test(test_block_id),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_equality_follows_the_bytes),
        cmocka_unit_test(test_chain_ids),
        cmocka_unit_test(test_longest_fits),
        cmocka_unit_test(test_extension_only_for_a_block),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
