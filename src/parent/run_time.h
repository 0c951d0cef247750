/* run_time: when the supervisor tries again, and when credentials are renewed. Pure. */
#ifndef TMKMS_PARENT_RUN_TIME_H
#define TMKMS_PARENT_RUN_TIME_H

#include <stdbool.h>
#include <stdint.h>

/* ---- after a failure ---- */

/* 1, 2, 4, 8, 15, 15 ... seconds. Zero: nothing has failed yet. */
struct backoff {
    unsigned failures; /* in a row */
};
enum { BACKOFF_MAX_S = 15 };

/* One more failure: how long to wait. */
uint64_t backoff_next_us(struct backoff *b);
void backoff_reset(struct backoff *b);

/* What goes wrong, as it was told last. */
enum { TROUBLE_MAX = 512, TROUBLE_AGAIN_US = 60000000 };
struct trouble {
    char words[TROUBLE_MAX]; /* "": nothing does */
    uint64_t told_us;
};

/* trouble_is_news: are these words to be told? The first are; the same again are not; others are when a minute has
 * gone by, as words of AWS hold numbers that differ each time. */
bool trouble_is_news(struct trouble *t, const char *words, uint64_t now_us);

/* ---- credentials ---- */

/* How long to wait before they are renewed: half of what is left, some tenth more or less (random: any number, so that
 * a fleet does not ask in one moment), and at least RENEW_LEAST_US. New ones come 5 minutes before the old ones end;
 * halving meets that moment whatever their life, and asks about ten times in six hours. UINT64_MAX: never
 * (expires_s 0). */
enum { RENEW_LEAST_US = 5000000 };
uint64_t renew_in_us(int64_t expires_s, uint64_t now_us, uint32_t random);

/* ---- an enclave's signs of life ---- */

/* What is known about an enclave that should answer. Times are monotonic. */
struct pulse {
    uint64_t since_us; /* the last answer, or the start; 0: nothing is watched */
    uint64_t asked_us; /* the question under way; 0: none */
    bool has_answered;
    bool is_busy; /* a push is in work */
};

struct pulse_limits {
    uint64_t start_us;   /* until the first answer */
    uint64_t answer_us;  /* an answer to one question */
    uint64_t busy_us;    /* the same during a push */
    uint64_t silence_us; /* no answer, though connections fail at once rather than hang */
};

extern const struct pulse_limits PULSE_LIMITS, PULSE_LIMITS_EMULATED;

/* pulse_begin_again: what was silent so far is no sign; it has all its time from now on. For when limits get shorter (a
 * push has ended), and when it was this process that stood still. */
void pulse_begin_again(struct pulse *p, uint64_t now_us);

/* pulse_question_hangs: has a ping waited too long for its answer? */
bool pulse_question_hangs(
    const struct pulse *p, const struct pulse_limits *limits, uint64_t now_us);

/* pulse_is_lost: is it to be given up? */
bool pulse_is_lost(const struct pulse *p, const struct pulse_limits *limits, uint64_t now_us);

#endif
