#include "guard/guard.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

/* A point in the order in which a validator signs. A floor stands behind every step of its height.
 */
struct position {
    int64_t height;
    int32_t round;
    int step;
};

static struct position position_of(const struct signable *s)
{
    return (struct position){s->height, s->round, (int)s->step};
}

static int compare(struct position a, struct position b)
{
    if (a.height != b.height)
        return a.height < b.height ? -1 : 1;
    if (a.round != b.round)
        return a.round < b.round ? -1 : 1;
    if (a.step != b.step)
        return a.step < b.step ? -1 : 1;
    return 0;
}

static bool is_other_block(const struct signable *last, const struct signable *next)
{
    return last->height == next->height && last->round == next->round &&
           !block_id_is_nil(&last->block_id) && !block_id_is_nil(&next->block_id) &&
           !block_id_equal(&last->block_id, &next->block_id);
}

static bool is_jump(const struct watermark *mark, int64_t height, int64_t max_jump)
{
    int64_t known = mark->last.height > mark->floor ? mark->last.height : mark->floor;
    return max_jump > 0 && height > known && height - known > max_jump;
}

static enum guard_verdict check_order(const struct signable *last, const struct signable *next)
{
    int order = compare(position_of(next), position_of(last));
    if (order > 0)
        return GUARD_SIGN;
    if (order == 0)
        return signable_same_but_time(last, next) ? GUARD_REPEAT : GUARD_CONFLICT;
    if (next->height < last->height)
        return GUARD_HEIGHT_REGRESSION;
    return next->round < last->round ? GUARD_ROUND_REGRESSION : GUARD_STEP_REGRESSION;
}

enum guard_verdict guard_check(
    const struct watermark *mark, const struct signable *next, const struct guard_policy *policy)
{
    if (signable_problem(next) != NULL)
        return GUARD_INVALID;
    if (next->height <= mark->floor)
        return GUARD_BELOW_FLOOR;
    enum guard_verdict verdict = check_order(&mark->last, next);
    if (verdict != GUARD_SIGN)
        return verdict;
    if (policy->one_block_per_round && is_other_block(&mark->last, next))
        return GUARD_OTHER_BLOCK;
    if (is_jump(mark, next->height, policy->max_height_jump))
        return GUARD_HEIGHT_JUMP;
    return GUARD_SIGN;
}

static struct position refused_through(const struct watermark *mark)
{
    if (mark->floor >= mark->last.height)
        return (struct position){mark->floor, INT32_MAX, INT_MAX};
    return position_of(&mark->last);
}

bool watermark_covers(const struct watermark *a, const struct watermark *b)
{
    int order = compare(refused_through(a), refused_through(b));
    if (order != 0)
        return order > 0;
    return a->floor >= a->last.height ||
           (signable_same_but_time(&a->last, &b->last) &&
               timestamp_equal(&a->last.timestamp, &b->last.timestamp));
}

/* The sentence behind the numbers; the floor has one of its own. */
static const char *reason_of(enum guard_verdict verdict, const struct signable *next)
{
    switch (verdict) {
    case GUARD_SIGN:
        return "new";
    case GUARD_REPEAT:
        return "the same as the last one signed, which is answered again";
    case GUARD_INVALID:
        return signable_problem(next);
    case GUARD_BELOW_FLOOR:
        return "at or below the floor";
    case GUARD_HEIGHT_REGRESSION:
        return "the height went back";
    case GUARD_ROUND_REGRESSION:
        return "the round went back";
    case GUARD_STEP_REGRESSION:
        return "the step went back";
    case GUARD_CONFLICT:
        return "double sign: this height, round and step was signed with other content";
    case GUARD_OTHER_BLOCK:
        return "another block was signed in this round (one_block_per_round)";
    case GUARD_HEIGHT_JUMP:
        return "further ahead than max_height_jump; if that is right, raise the floor with "
               "`tmkms state repair --height`";
    }
    return "unknown verdict";
}

void guard_explain(enum guard_verdict verdict, const struct watermark *mark,
    const struct signable *next, char *out, size_t cap)
{
    const struct signable *last = &mark->last;
    if (verdict == GUARD_BELOW_FLOOR) {
        snprintf(out, cap,
            "%s at height %" PRId64 ": nothing is signed at or below %" PRId64
            ", the floor of the state file",
            step_name(next->step), next->height, mark->floor);
        return;
    }
    snprintf(out, cap, "%s at %" PRId64 "/%" PRId32 " after %s at %" PRId64 "/%" PRId32 ": %s",
        step_name(next->step), next->height, next->round, step_name(last->step), last->height,
        last->round, reason_of(verdict, next));
}
