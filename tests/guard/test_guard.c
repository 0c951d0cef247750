/* The double-sign rule: CometBFT's own verdicts, and every combination of a small domain against a
 * model. */
#include "guard/guard.h"

#include <stdio.h>

#include "privval/vector.h"

static const struct guard_policy no_policy;

enum answer { ANSWER_SIGN, ANSWER_REPEAT, ANSWER_REFUSE };

static enum answer answer_of(enum guard_verdict verdict)
{
    if (verdict == GUARD_SIGN)
        return ANSWER_SIGN;
    return verdict == GUARD_REPEAT ? ANSWER_REPEAT : ANSWER_REFUSE;
}

/* ---- CometBFT's verdicts -----------------------------------------------------------------------
 */

/* Where we are stricter than FilePV, and why. */
static const char *const stricter[] = {
    "fresh: prevote h0 r0 (height 0)",                       /* no chain has a height 0 */
    "fresh: prevote h1 r-1 (negative round, higher height)", /* no chain has a negative round */
};

/* Decided by other rooms before or after the guard: the chain id by the session (a chain has its
 * own guard), the rules for extensions by the signer. */
static bool is_for_others(const json_t *entry)
{
    const json_t *prev = json_object_get(entry, "prev");
    if (prev != NULL &&
        strcmp(vector_text(json_object_get(prev, "in"), "chain_id"),
            vector_text(json_object_get(json_object_get(entry, "next"), "in"), "chain_id")) != 0)
        return true;
    const char *error =
        json_string_value(json_object_get(json_object_get(entry, "result"), "error"));
    return error != NULL && strstr(error, "unexpected vote extension") != NULL;
}

static bool is_stricter(const char *name)
{
    for (size_t i = 0; i < sizeof stricter / sizeof *stricter; i++)
        if (strcmp(stricter[i], name) == 0)
            return true;
    return false;
}

static struct signable signable_of_call(const json_t *call)
{
    const json_t *in = json_object_get(call, "in");
    struct signable s = vector_signable(in);
    if (strcmp(vector_text(call, "call"), "SignProposal") == 0)
        s.step = STEP_PROPOSAL;
    else if (vector_int(in, "type") == 1)
        s.step = STEP_PREVOTE;
    else if (vector_int(in, "type") == 2)
        s.step = STEP_PRECOMMIT;
    return s;
}

static enum answer answer_of_vector(const json_t *result)
{
    const char *verdict = vector_text(result, "verdict");
    if (strcmp(verdict, "signed") == 0)
        return ANSWER_SIGN;
    if (strcmp(verdict, "stored") == 0 || strcmp(verdict, "stored_with_stored_timestamp") == 0)
        return ANSWER_REPEAT;
    assert_true(strcmp(verdict, "error") == 0 || strcmp(verdict, "panic") == 0);
    return ANSWER_REFUSE;
}

static void pairs_are_judged_as_by_comet(void **state)
{
    (void)state;
    json_t *root = vector_load("filepv_rules.json");
    int seen[3] = {0}, stricter_n = 0, for_others = 0;
    size_t i;
    const json_t *entry;
    json_array_foreach(json_object_get(root, "pairs"), i, entry)
    {
        if (json_is_true(json_object_get(entry, "state_was_edited")))
            continue; /* these are states of a file: tests/state/test_exchange.c imports them */
        if (is_for_others(entry)) {
            for_others++;
            continue;
        }
        struct watermark mark = {0};
        if (vector_has(entry, "prev"))
            mark.last = signable_of_call(json_object_get(entry, "prev"));
        struct signable next = signable_of_call(json_object_get(entry, "next"));
        enum answer got = answer_of(guard_check(&mark, &next, &no_policy));
        enum answer want = answer_of_vector(json_object_get(entry, "result"));
        if (is_stricter(vector_text(entry, "name"))) {
            assert_int_equal(want, ANSWER_SIGN);
            want = ANSWER_REFUSE;
            stricter_n++;
        }
        if (got != want)
            fail_msg("%s: %d, CometBFT %d", vector_text(entry, "name"), got, want);
        seen[got]++;
    }
    json_decref(root);
    assert_int_equal(stricter_n, sizeof stricter / sizeof *stricter);
    assert_true(for_others >= 3 && seen[ANSWER_SIGN] >= 12 && seen[ANSWER_REPEAT] >= 12 &&
                seen[ANSWER_REFUSE] >= 18);
}

static void sequences_are_judged_as_by_comet(void **state)
{
    (void)state;
    json_t *root = vector_load("filepv_rules.json");
    size_t i, j, steps = 0;
    const json_t *sequence, *step;
    json_array_foreach(json_object_get(root, "sequences"), i, sequence)
    {
        struct watermark mark = {0};
        json_array_foreach(json_object_get(sequence, "steps"), j, step)
        {
            struct signable next = signable_of_call(step);
            enum answer got = answer_of(guard_check(&mark, &next, &no_policy));
            if (got != answer_of_vector(json_object_get(step, "result")))
                fail_msg("%s, step %zu", vector_text(sequence, "name"), j);
            if (got == ANSWER_SIGN)
                mark.last = next;
            steps++;
        }
    }
    json_decref(root);
    assert_true(steps >= 20);
}

/* ---- every combination of a small domain ---- */

enum { DOMAIN = 3 * 3 * 3 * 3 * 3 * 3 };

static struct block_id block(int n)
{
    struct block_id id = {0};
    if (n > 0) {
        id.hash_len = id.parts_hash_len = HASH_LEN;
        id.parts_total = 1;
        memset(id.hash, n, HASH_LEN);
        memset(id.parts_hash, 9, HASH_LEN);
    }
    return id;
}

/* Heights, rounds, blocks (0: nil) and seconds 0..2, all three steps, POL rounds -1..1. */
static struct signable nth(int n)
{
    struct signable s = {.height = n % 3, .round = n / 3 % 3, .step = (enum step)(1 + n / 9 % 3)};
    s.block_id = block(n / 27 % 3);
    s.pol_round = n / 81 % 3 - 1;
    s.timestamp.seconds = n / 243 % 3;
    return s;
}

static int order_key(const struct signable *s)
{
    return (int)(s->height * 100 + s->round * 10) + (int)s->step;
}

/* The rule again, in other words. */
static enum answer model(
    const struct watermark *mark, const struct signable *next, const struct guard_policy *policy)
{
    const struct signable *last = &mark->last;
    int64_t base = last->height > mark->floor ? last->height : mark->floor;
    if (signable_problem(next) != NULL || next->height <= mark->floor ||
        order_key(next) < order_key(last))
        return ANSWER_REFUSE;
    bool same_block = last->block_id.hash[0] == next->block_id.hash[0];
    if (order_key(next) == order_key(last))
        return same_block && last->pol_round == next->pol_round ? ANSWER_REPEAT : ANSWER_REFUSE;
    bool same_round = order_key(last) / 10 == order_key(next) / 10;
    bool both_blocks = last->block_id.hash_len > 0 && next->block_id.hash_len > 0;
    if (policy->one_block_per_round && same_round && both_blocks && !same_block)
        return ANSWER_REFUSE;
    bool too_far = policy->max_height_jump > 0 && next->height > base + policy->max_height_jump;
    return too_far ? ANSWER_REFUSE : ANSWER_SIGN;
}

static void sweep(const struct guard_policy *policy, long seen[3])
{
    for (int i = -1; i < DOMAIN; i++) {
        struct watermark mark = {0};
        if (i >= 0)
            mark.last = nth(i);
        if (i >= 0 && signable_problem(&mark.last) != NULL)
            continue; /* no such thing was ever signed */
        for (mark.floor = 0; mark.floor < 3; mark.floor++) {
            for (int j = 0; j < DOMAIN; j++) {
                struct signable next = nth(j);
                enum answer got = answer_of(guard_check(&mark, &next, policy));
                if (got != model(&mark, &next, policy))
                    fail_msg("last %d, floor %d, next %d: %d", i, (int)mark.floor, j, got);
                seen[got]++;
            }
        }
    }
}

static void every_combination_follows_the_model(void **state)
{
    (void)state;
    long plain[3] = {0}, one_block[3] = {0}, jump[3] = {0}, both[3] = {0};
    sweep(&no_policy, plain);
    sweep(&(struct guard_policy){.one_block_per_round = true}, one_block);
    sweep(&(struct guard_policy){.max_height_jump = 1}, jump);
    sweep(&(struct guard_policy){.one_block_per_round = true, .max_height_jump = 1}, both);
    print_message("signed %ld, repeated %ld, refused %ld\n", plain[0], plain[1], plain[2]);
    assert_true(
        plain[ANSWER_SIGN] > 10000 && plain[ANSWER_REPEAT] > 500 && plain[ANSWER_REFUSE] > 100000);
    assert_true(
        one_block[ANSWER_SIGN] < plain[ANSWER_SIGN] && jump[ANSWER_SIGN] < plain[ANSWER_SIGN]);
    assert_true(
        both[ANSWER_SIGN] < one_block[ANSWER_SIGN] && both[ANSWER_SIGN] < jump[ANSWER_SIGN]);
}

/* a covers b: whatever b refuses, a refuses; and the other way round, where it does not, something
 * gets through. */
static void covers_means_that_nothing_refused_is_signed(void **state)
{
    (void)state;
    long covers = 0, lowers = 0;
    for (int i = -1; i < DOMAIN; i += 2) {
        for (int j = -1; j < DOMAIN; j += 5) {
            struct watermark a = {.floor = i % 4 == 0}, b = {.floor = j % 3 == 0};
            if (i >= 0)
                a.last = nth(i);
            if (j >= 0)
                b.last = nth(j);
            if ((i >= 0 && signable_problem(&a.last) != NULL) ||
                (j >= 0 && signable_problem(&b.last) != NULL))
                continue;
            bool leaks = false;
            for (int k = 0; k < DOMAIN && !leaks; k++) {
                struct signable next = nth(k);
                enum guard_verdict by_a = guard_check(&a, &next, &no_policy);
                enum guard_verdict by_b = guard_check(&b, &next, &no_policy);
                leaks = by_a == GUARD_SIGN && by_b != GUARD_SIGN;
                leaks |= by_a == GUARD_REPEAT && answer_of(by_b) == ANSWER_REFUSE;
            }
            if (watermark_covers(&a, &b)) {
                assert_false(leaks);
                covers++;
            } else {
                lowers++;
            }
        }
    }
    assert_true(covers > 100 && lowers > 100);
}

static void covers_compares_what_was_signed(void **state)
{
    (void)state;
    struct watermark a = {.last = {.height = 5, .step = STEP_PREVOTE}}, b = a;
    assert_true(watermark_covers(&a, &b));
    b.last.timestamp.seconds = 1; /* a would be answered with another timestamp */
    assert_false(watermark_covers(&a, &b));
    b.last.timestamp.seconds = 0;
    b.last.block_id = block(1);
    assert_false(watermark_covers(&a, &b));
    a.floor = 5;
    assert_true(watermark_covers(&a, &b));
    assert_false(watermark_covers(&b, &a));
}

/* ---- single sentences ---- */

static void each_refusal_has_its_reason(void **state)
{
    (void)state;
    static const struct {
        int64_t height;
        int32_t round;
        enum step step;
        int block;
        enum guard_verdict verdict;
        const char *word;
    } rows[] = {
        {3, 9, STEP_PREVOTE, 1, GUARD_BELOW_FLOOR, "floor"},
        {9, 9, STEP_PREVOTE, 1, GUARD_HEIGHT_REGRESSION, "height went back"},
        {10, 1, STEP_PRECOMMIT, 1, GUARD_ROUND_REGRESSION, "round went back"},
        {10, 2, STEP_PROPOSAL, 1, GUARD_STEP_REGRESSION, "step went back"},
        {10, 2, STEP_PREVOTE, 2, GUARD_CONFLICT, "double sign"},
        {10, 2, STEP_PREVOTE, 0, GUARD_CONFLICT, "double sign"},
        {10, 2, STEP_PRECOMMIT, 2, GUARD_OTHER_BLOCK, "one_block_per_round"},
        {16, 0, STEP_PREVOTE, 1, GUARD_HEIGHT_JUMP, "max_height_jump"},
        {INT64_MAX, 0, STEP_PREVOTE, 1, GUARD_HEIGHT_JUMP, "9223372036854775807"},
        {0, 0, STEP_PREVOTE, 1, GUARD_INVALID, "height"},
        {10, 2, STEP_PREVOTE, 1, GUARD_REPEAT, "again"},
        {10, 2, STEP_PRECOMMIT, 0, GUARD_SIGN, "new"},
        {15, 0, STEP_PREVOTE, 2, GUARD_SIGN, "new"},
    };
    struct watermark mark = {
        .floor = 4, .last = {.height = 10, .round = 2, .step = STEP_PREVOTE, .block_id = block(1)}};
    struct guard_policy policy = {.one_block_per_round = true, .max_height_jump = 5};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct signable next = {
            .height = rows[i].height, .round = rows[i].round, .step = rows[i].step};
        next.block_id = block(rows[i].block);
        enum guard_verdict got = guard_check(&mark, &next, &policy);
        if (got != rows[i].verdict)
            fail_msg("row %zu: %d", i, got);
        char text[256];
        guard_explain(got, &mark, &next, text, sizeof text);
        if (strstr(text, rows[i].word) == NULL)
            fail_msg("row %zu: %s", i, text);
    }
}

static void a_jump_is_counted_from_the_floor_too(void **state)
{
    (void)state;
    struct watermark mark = {.floor = 1000};
    struct guard_policy policy = {.max_height_jump = 10};
    struct signable next = {.height = 1010, .step = STEP_PREVOTE};
    assert_int_equal(guard_check(&mark, &next, &policy), GUARD_SIGN);
    next.height++;
    assert_int_equal(guard_check(&mark, &next, &policy), GUARD_HEIGHT_JUMP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_are_judged_as_by_comet),
        cmocka_unit_test(sequences_are_judged_as_by_comet),
        cmocka_unit_test(every_combination_follows_the_model),
        cmocka_unit_test(covers_means_that_nothing_refused_is_signed),
        cmocka_unit_test(covers_compares_what_was_signed),
        cmocka_unit_test(each_refusal_has_its_reason),
        cmocka_unit_test(a_jump_is_counted_from_the_floor_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
