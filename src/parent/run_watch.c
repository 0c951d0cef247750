/* Does the enclave answer? */
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "parent/run_impl.h"

static const char log_name[] = "tmkms::run";

enum {
    PING_EVERY_US = 5000000,
    PING_SOON_US = 20000,        /* until the first answer, */
    PING_SOON_FOR_US = 10000000, /* but not for ever */
    PING_AGAIN_US = 500000,      /* after one that failed */
    SILENCE_US = 8000000,
};

void run_lose_enclave(struct run *r, const char *why)
{
    if (r->options->how == RUN_ATTACH) {
        if (r->phase != PHASE_BOOTING)
            log_line(
                LOG_ERROR, log_name, "the enclave is lost: %s; it is asked until it answers", why);
        run_push_stop(r);
        event_del(r->push_due);
        run_enter(r, PHASE_BOOTING);
        r->pulse = (struct pulse){0};
        r->hangs = false;
        if (r->ping.fd < 0)
            run_due_in(r->ping_due, PING_AGAIN_US);
        return;
    }
    if (r->phase == PHASE_BOOTING) { /* a start that failed, and is told as one */
        snprintf(r->keeper.last_words, sizeof r->keeper.last_words, "%s", why);
    } else {
        log_line(
            LOG_ERROR, log_name, "the enclave is lost: %s; it is ended and another started", why);
        run_enter(r, PHASE_ENDING);
    }
    run_forget_enclave(r);
    run_enclave_end(r, true);
}

static uint64_t ping_again_us(const struct run *r)
{
    bool is_new = r->pulse.since_us != 0 && !r->pulse.has_answered &&
                  clock_monotonic_us() - r->pulse.since_us < PING_SOON_FOR_US;
    return is_new ? PING_SOON_US : PING_AGAIN_US;
}

void run_on_answer(void *ctx, enum ping_answer answer, const struct err *why)
{
    struct run *r = ctx;
    r->pulse.asked_us = 0;
    if (answer == PING_FAILED) {
        log_line(LOG_DEBUG, log_name, "a ping failed: %s", why->text);
        run_due_in(r->ping_due, ping_again_us(r));
        return;
    }
    bool hangs = answer == PING_SILENT && r->phase == PHASE_READY && !r->pulse.is_busy;
    if (hangs != r->hangs)
        log_line(hangs ? LOG_WARN : LOG_INFO, log_name, "the enclave's signer or session %s",
            hangs ? "does not answer the enclave's monitor" : "answers again");
    r->hangs = hangs;
    if (hangs) { /* which a long wait for a disk also looks like: the silence has to last */
        run_due_in(r->ping_due, PING_AGAIN_US);
        return;
    }
    r->pulse.since_us = clock_monotonic_us();
    r->pulse.has_answered = true;
    r->is_silence_told = false;
    run_due_in(r->ping_due, PING_EVERY_US);
    if (r->phase == PHASE_BOOTING && answer != PING_WAITING && r->options->how != RUN_ATTACH) {
        run_on_foreign(r, "it was ready before this service has pushed anything");
        return;
    }
    if (r->phase == PHASE_BOOTING || (r->phase == PHASE_READY && answer == PING_WAITING)) {
        run_enter(r, PHASE_ANSWERING);
        run_due_in(r->push_due, 0);
    }
}

void run_watch_tick(struct run *r, uint64_t now_us)
{
    char where[VSOCK_PATH_MAX + 64];
    bool is_silent = r->options->how == RUN_ATTACH && r->phase == PHASE_BOOTING;
    if (!is_silent || r->is_silence_told || now_us - r->phase_since_us < SILENCE_US)
        return;
    r->is_silence_told = true;
    if (r->vsock.uds[0] != '\0')
        snprintf(where, sizeof where, "behind %s", r->vsock.uds);
    else
        snprintf(where, sizeof where, "with CID %" PRIu32, r->cid);
    log_line(LOG_WARN, log_name,
        "no enclave %s answers on port %" PRIu32 ". `tmkms nitro describe-enclaves` (or `nitro-cli "
        "describe-enclaves`) shows those that run, with their CIDs; it is asked until it answers",
        where, r->options->port);
    notify_status(&r->notify, "no enclave %s answers", where);
}

void run_ping_due(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct run *r = arg;
    struct err err;
    if (r->ping.fd >= 0)
        return;
    if (!ping_ask(&r->ping, r->server.base, &r->vsock, r->cid, r->options->port, &err)) {
        run_on_answer(r, PING_FAILED, &err);
        return;
    }
    r->pulse.asked_us = clock_monotonic_us();
}
