/* signable: the vote or proposal that a validator may be asked to sign, in fields.
 *
 * The one form that crosses from the parser to the guard, the state and the sign-bytes. It holds
 * exactly what enters the canonical sign-bytes besides the chain id, so equal fields mean equal
 * bytes. */
#ifndef TMKMS_PRIVVAL_SIGNABLE_H
#define TMKMS_PRIVVAL_SIGNABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum { CHAIN_ID_MAX = 50, HASH_LEN = 32 };

/* Go's zero time, 0001-01-01: what an absent timestamp means. */
#define GO_ZERO_SECONDS (-INT64_C(62135596800))

/* CometBFT's numbering of steps within a round (FilePV). */
enum step { STEP_NONE = 0, STEP_PROPOSAL = 1, STEP_PREVOTE = 2, STEP_PRECOMMIT = 3 };

/* A block id. Nil: all zero. Complete: both hashes 32 bytes, total > 0. Only these two are signed;
 * the lengths exist so that every other form can be named and refused. */
struct block_id {
    uint32_t parts_total;
    uint8_t hash_len; /* 0 or 32 */
    uint8_t parts_hash_len;
    uint8_t hash[HASH_LEN]; /* zero when the length is 0 */
    uint8_t parts_hash[HASH_LEN];
};

struct timestamp {
    int64_t seconds; /* since 1970; Go's zero time is -62135596800 */
    int32_t nanos;   /* 0..999,999,999 */
};

struct signable {
    int64_t height;
    int32_t round;
    int32_t pol_round; /* proposals: -1 none; votes: 0 */
    enum step step;
    struct block_id block_id;
    struct timestamp timestamp;
};

bool block_id_is_nil(const struct block_id *id);
bool block_id_is_complete(const struct block_id *id);
bool block_id_equal(const struct block_id *a, const struct block_id *b);
bool timestamp_equal(const struct timestamp *a, const struct timestamp *b);
/* Equal in everything but the timestamp. */
bool signable_same_but_time(const struct signable *a, const struct signable *b);
const char *step_name(enum step step); /* "none", "proposal", "prevote", "precommit" */

/* signable_problem: NULL when CometBFT's own validation would accept the fields, else a sentence
 * that says what is wrong. Heights > 0, rounds >= 0, POL round in -1..round-1, a complete block id
 * for a proposal, nil or complete for a vote, times in years 1..9999, nanos in range. */
const char *signable_problem(const struct signable *s);

#endif
