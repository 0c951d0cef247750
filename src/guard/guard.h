/* guard: the double-sign rule, a pure function (CometBFT privval/file.go, FilePV).
 *
 * Compare (height, round, step) with the last signed one. Greater: sign. Smaller: refuse. Equal:
 * repeat the stored one if the sign-bytes are identical or differ only in the timestamp, otherwise
 * refuse. A floor refuses every height at or below it. No I/O, no clock, no memory. */
#ifndef TMKMS_GUARD_GUARD_H
#define TMKMS_GUARD_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "privval/signable.h"

/* The watermark: what a chain's key has signed last, and the height at or below which it signs
 * nothing. */
struct watermark {
    int64_t floor;        /* >= 0 */
    struct signable last; /* step STEP_NONE: nothing signed yet */
};

struct guard_policy {
    bool one_block_per_round; /* the Rust tmkms's extra rule: another block in a later step is
                                 refused */
    int64_t max_height_jump;  /* 0: any; else refuse a height more than this above last and floor */
};

enum guard_verdict {
    GUARD_SIGN = 1, /* new: commit it, then sign it */
    GUARD_REPEAT,   /* the stored one again, with its own timestamp */
    GUARD_INVALID,  /* signable_problem says why */
    GUARD_BELOW_FLOOR,
    GUARD_HEIGHT_REGRESSION,
    GUARD_ROUND_REGRESSION,
    GUARD_STEP_REGRESSION,
    GUARD_CONFLICT,    /* same height, round and step, other content: a double sign */
    GUARD_OTHER_BLOCK, /* policy one_block_per_round */
    GUARD_HEIGHT_JUMP, /* policy max_height_jump */
};

enum guard_verdict guard_check(
    const struct watermark *mark, const struct signable *next, const struct guard_policy *policy);

/* watermark_covers: a refuses everything that b refuses, so a may take b's place. */
bool watermark_covers(const struct watermark *a, const struct watermark *b);

/* guard_explain writes why next was refused, in words with the numbers of both sides. */
void guard_explain(enum guard_verdict verdict, const struct watermark *mark,
    const struct signable *next, char *out, size_t cap);

#endif
