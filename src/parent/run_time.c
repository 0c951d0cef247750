#include "parent/run_time.h"

#include <stdio.h>
#include <string.h>

enum { SECOND = 1000000 };

uint64_t backoff_next_us(struct backoff *b)
{
    uint64_t s = b->failures < 4 ? 1U << b->failures : BACKOFF_MAX_S;
    b->failures++;
    return s * SECOND;
}

void backoff_reset(struct backoff *b)
{
    *b = (struct backoff){0};
}

bool trouble_is_news(struct trouble *t, const char *words, uint64_t now_us)
{
    bool is_first = t->words[0] == '\0';
    bool differs = strncmp(t->words, words, sizeof t->words - 1) != 0;
    if (!is_first && (!differs || now_us - t->told_us < TROUBLE_AGAIN_US))
        return false;
    snprintf(t->words, sizeof t->words, "%s", words);
    t->told_us = now_us;
    return true;
}

uint64_t renew_in_us(int64_t expires_s, uint64_t now_us, uint32_t random)
{
    if (expires_s <= 0)
        return UINT64_MAX;
    uint64_t end_us = (uint64_t)expires_s * SECOND;
    if (end_us <= now_us)
        return RENEW_LEAST_US;
    uint64_t half_us = (end_us - now_us) / 2;
    uint64_t fifth_us = half_us / 5;
    uint64_t in_us = half_us - fifth_us / 2 + (uint64_t)((double)fifth_us * random / UINT32_MAX);
    return in_us > RENEW_LEAST_US ? in_us : RENEW_LEAST_US;
}

const struct pulse_limits PULSE_LIMITS = {
    .start_us = 60ULL * SECOND,
    .answer_us = 5ULL * SECOND,
    .busy_us = 30ULL * SECOND,
    .silence_us = 12ULL * SECOND,
};

/* A machine in software is twenty times as slow, more when others run beside it. */
const struct pulse_limits PULSE_LIMITS_EMULATED = {
    .start_us = 300ULL * SECOND,
    .answer_us = 30ULL * SECOND,
    .busy_us = 120ULL * SECOND,
    .silence_us = 60ULL * SECOND,
};

bool pulse_question_hangs(const struct pulse *p, const struct pulse_limits *limits, uint64_t now_us)
{
    uint64_t answer_us = p->is_busy ? limits->busy_us : limits->answer_us;
    return p->asked_us != 0 && now_us - p->asked_us > answer_us;
}

bool pulse_is_lost(const struct pulse *p, const struct pulse_limits *limits, uint64_t now_us)
{
    if (p->since_us == 0)
        return false;
    if (!p->has_answered)
        return now_us - p->since_us > limits->start_us;
    uint64_t silence_us = p->is_busy ? limits->busy_us + limits->silence_us : limits->silence_us;
    return pulse_question_hangs(p, limits, now_us) || now_us - p->since_us > silence_us;
}

void pulse_begin_again(struct pulse *p, uint64_t now_us)
{
    if (p->since_us != 0)
        p->since_us = now_us;
    if (p->asked_us != 0)
        p->asked_us = now_us;
}
