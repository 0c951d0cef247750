#include "privval/signable.h"

#include <string.h>

/* 0001-01-01 and the last second of 9999, the range of google.protobuf.Timestamp. */
static const int64_t SECONDS_MIN = GO_ZERO_SECONDS;
static const int64_t SECONDS_MAX = INT64_C(253402300799);
enum { NANOS_MAX = 999999999 };

bool block_id_is_nil(const struct block_id *id)
{
    return id->hash_len == 0 && id->parts_total == 0 && id->parts_hash_len == 0;
}

bool block_id_is_complete(const struct block_id *id)
{
    return id->hash_len == HASH_LEN && id->parts_total > 0 && id->parts_hash_len == HASH_LEN;
}

/* All of both arrays is compared: the lengths may come from another process. */
bool block_id_equal(const struct block_id *a, const struct block_id *b)
{
    return a->parts_total == b->parts_total && a->hash_len == b->hash_len &&
           a->parts_hash_len == b->parts_hash_len && memcmp(a->hash, b->hash, HASH_LEN) == 0 &&
           memcmp(a->parts_hash, b->parts_hash, HASH_LEN) == 0;
}

bool timestamp_equal(const struct timestamp *a, const struct timestamp *b)
{
    return a->seconds == b->seconds && a->nanos == b->nanos;
}

bool signable_same_but_time(const struct signable *a, const struct signable *b)
{
    return a->height == b->height && a->round == b->round && a->pol_round == b->pol_round &&
           a->step == b->step && block_id_equal(&a->block_id, &b->block_id);
}

const char *step_name(enum step step)
{
    switch (step) {
    case STEP_NONE:
        return "none";
    case STEP_PROPOSAL:
        return "proposal";
    case STEP_PREVOTE:
        return "prevote";
    case STEP_PRECOMMIT:
        return "precommit";
    }
    return "unknown step";
}

static bool is_zero(const uint8_t hash[HASH_LEN])
{
    static const uint8_t ZERO[HASH_LEN];
    return memcmp(hash, ZERO, HASH_LEN) == 0;
}

static const char *block_id_problem(const struct block_id *id)
{
    if (id->hash_len != 0 && id->hash_len != HASH_LEN)
        return "the block hash is neither empty nor 32 bytes long";
    if (id->parts_hash_len != 0 && id->parts_hash_len != HASH_LEN)
        return "the hash of the block's parts is neither empty nor 32 bytes long";
    if (!block_id_is_nil(id) && !block_id_is_complete(id))
        return "the block id is incomplete: block hash, number of parts and hash of the parts must "
               "be "
               "all there or all absent";
    /* Equal sign-bytes must mean equal fields. */
    if (block_id_is_nil(id) && !(is_zero(id->hash) && is_zero(id->parts_hash)))
        return "the nil block id holds stray bytes";
    return NULL;
}

static const char *timestamp_problem(const struct timestamp *time)
{
    if (time->seconds < SECONDS_MIN || time->seconds > SECONDS_MAX)
        return "the timestamp is outside the years 1 to 9999";
    if (time->nanos < 0 || time->nanos > NANOS_MAX)
        return "the timestamp's nanoseconds are outside 0 to 999,999,999";
    return NULL;
}

static const char *proposal_problem(const struct signable *s)
{
    if (s->pol_round < -1)
        return "the POL round is below -1";
    if (s->pol_round >= s->round)
        return "the POL round is not below the round";
    if (block_id_is_nil(&s->block_id))
        return "the proposal names no block";
    return NULL;
}

static const char *step_problem(const struct signable *s)
{
    switch (s->step) {
    case STEP_PROPOSAL:
        return proposal_problem(s);
    case STEP_PREVOTE:
    case STEP_PRECOMMIT:
        return s->pol_round == 0 ? NULL : "a vote has no POL round";
    case STEP_NONE:
        break;
    }
    return "it is neither a proposal nor a prevote nor a precommit";
}

const char *signable_problem(const struct signable *s)
{
    if (s->height <= 0)
        return "the height is not above 0";
    if (s->round < 0)
        return "the round is negative";
    const char *problem = block_id_problem(&s->block_id);
    if (problem == NULL)
        problem = timestamp_problem(&s->timestamp);
    if (problem == NULL)
        problem = step_problem(s);
    return problem;
}
