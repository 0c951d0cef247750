/* Proof of life besides the ping, and enclaves whose configuration is not ours. Strangers on this machine reach the
 * config port as we do: they can crowd it, and push before us. */
#include <event2/event.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "parent/run_impl.h"

static const char log_name[] = "tmkms::run";

enum {
    PROBE_AFTER_US = 7000000, /* without an answer; one is asked for every 5 s */
    PROBE_EVERY_US = 1000000,
    ALIVE_US = 3000000,
};

/* A question that hangs has met nobody who closes it: a stopped monitor looks so, a crowded port does not. And what the
 * monitor said of its other processes counts. */
static bool hangs(const struct run *r, uint64_t now_us)
{
    return r->hangs || pulse_question_hangs(&r->pulse, r->limits, now_us);
}

void run_life_tick(struct run *r, uint64_t now_us)
{
    struct run_life *l = &r->life;
    bool is_silent = r->pulse.has_answered && now_us - r->pulse.since_us > PROBE_AFTER_US;
    if (!is_silent)
        l->is_told = false;
    if (!is_silent || now_us - l->probed_us < PROBE_EVERY_US)
        return;
    l->probed_us = now_us;
    persist_probe(r->persist);
}

bool run_life_is_proven(struct run *r, uint64_t now_us)
{
    uint64_t alive_us = persist_alive_us(r->persist);
    if (hangs(r, now_us) || alive_us == 0 || now_us - alive_us > ALIVE_US)
        return false;
    if (!r->life.is_told)
        log_line(LOG_WARN, log_name,
            "the enclave is alive and signs, but its config port is crowded: questions of this "
            "service get no answer. Which process of this machine connects to it?");
    r->life.is_told = true;
    return true;
}

/* ---- another's configuration ---- */

bool run_is_foreign(const struct run *r, enum push_code code)
{
    switch (code) {
    case PUSH_CODE_MEASURED:
        return true;
    case PUSH_CODE_CONFIG: /* of a running one the operator may have changed a file that it names */
        return r->phase != PHASE_READY;
    case PUSH_CODE_NONE:
        break;
    }
    return false;
}

void run_on_foreign(struct run *r, const char *words)
{
    if (r->options->how == RUN_ATTACH) {
        log_line(LOG_ERROR, log_name,
            "the enclave runs under a configuration that this service did not push: %s. Whoever "
            "started it has to end it and start it anew; this process ends",
            words);
        run_leave(r, EXIT_FAILURE);
        return;
    }
    log_line(LOG_ERROR, log_name,
        "somebody else has pushed a configuration to the enclave. Which process of this machine?");
    if (r->phase == PHASE_BOOTING) /* it has started well: this is no start that failed */
        run_enter(r, PHASE_ANSWERING);
    run_lose_enclave(r, words);
}
