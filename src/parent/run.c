#include "parent/run.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "crypto/key.h"
#include "parent/kept.h"
#include "parent/run_impl.h"
#include "sandbox/sandbox.h"

static const char log_name[] = "tmkms::run";

enum {
    STARTS_MAX = 5,      /* that fail in a row, before the service manager is asked for help */
    LIVED_US = 10000000, /* an enclave that was ready so long starts again without a wait */
    STUCK_US = 60000000, /* more than the longest wait and the keeper's end */
    TICK_US = 250000,
    STOOD_STILL_US = 1000000,
};

/* ---- timers and phases ---- */

void run_due_in(struct event *timer, uint64_t us)
{
    struct timeval t = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};
    if (us == UINT64_MAX)
        event_del(timer);
    else
        event_add(timer, &t);
}

void run_enter(struct run *r, enum run_phase phase)
{
    static const char *const words[] = {
        [PHASE_OFF] = "no enclave runs",
        [PHASE_STARTING] = "the enclave starts",
        [PHASE_BOOTING] = "the enclave boots",
        [PHASE_ANSWERING] = "the enclave gets its configuration",
        [PHASE_READY] = "signing",
        [PHASE_ENDING] = "the enclave is ended",
    };
    r->phase = phase;
    r->phase_since_us = clock_monotonic_us();
    if (phase == PHASE_READY && r->ready_since_us == 0)
        r->ready_since_us = r->phase_since_us;
    if (phase == PHASE_READY)
        notify_ready(&r->notify, "%s", words[phase]);
    r->is_reloading &= phase != PHASE_READY;
    if (phase != PHASE_READY && !r->is_stopping)
        notify_status(&r->notify, "%s", words[phase]);
}

void run_leave(struct run *r, int exit_code)
{
    r->exit_code = exit_code;
    event_base_loopbreak(r->server.base);
}

void run_forget_enclave(struct run *r)
{
    run_push_stop(r);
    ping_stop(&r->ping);
    event_del(r->push_due);
    event_del(r->ping_due);
    r->pulse = (struct pulse){0};
}

/* Another enclave begins to be watched, or the one that somebody else starts. */
static void begin_pulse(struct run *r)
{
    r->pulse = (struct pulse){.since_us = clock_monotonic_us()};
    r->hangs = false;
    backoff_reset(&r->push_backoff);
    run_due_in(r->ping_due, 0);
}

/* ---- starts ---- */

static void start_failed(struct run *r, bool is_busy, const char *why)
{
    uint64_t wait_us = backoff_next_us(&r->start_backoff);
    if (!is_busy)
        r->starts_failed++;
    if (trouble_is_news(&r->start_trouble, why, clock_monotonic_us()))
        log_line(LOG_ERROR, log_name, "the enclave does not start: %s; tried again%s", why,
            is_busy ? " until there is room" : "");
    run_enter(r, PHASE_OFF);
    notify_status(&r->notify, "the enclave does not start: %s", why);
    if (r->starts_failed >= STARTS_MAX) {
        log_line(LOG_ERROR, log_name,
            "%d starts in a row have failed, the last one so: %s. This process ends, for the "
            "service manager to start it again",
            STARTS_MAX, why);
        run_leave(r, EXIT_FAILURE);
        return;
    }
    run_due_in(r->start_due, wait_us);
}

static void on_start_due(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct run *r = arg;
    struct err err;
    char words[512];
    if (r->is_stopping)
        return;
    run_enclave_words(r, words, sizeof words);
    if (r->start_trouble.words[0] == '\0')
        log_line(LOG_INFO, log_name, "starting the enclave %s", words);
    run_enter(r, PHASE_STARTING);
    if (!run_enclave_start(r, &err))
        start_failed(r, false, err.text);
}

void run_on_runs(struct run *r, const struct machine_place *place)
{
    r->cid = place->cid;
    persist_set_cid(r->persist, run_state_cid(r));
    if (r->vsock.uds[0] == '\0')
        logs_set_cid(r->logs, r->cid);
    if (r->vsock.uds[0] == '\0')
        log_line(LOG_INFO, log_name, "the enclave %s runs with CID %" PRIu32, place->id, r->cid);
    else
        log_line(LOG_INFO, log_name, "the enclave %s runs behind %s; its console is in %s",
            place->id, r->vsock.uds, place->console[0] != '\0' ? place->console : "no file");
    run_enter(r, PHASE_BOOTING);
    begin_pulse(r);
}

void run_on_gone(struct run *r, const char *why)
{
    uint64_t now = clock_monotonic_us();
    enum run_phase was = r->phase;
    bool lived = r->ready_since_us != 0 && now - r->ready_since_us > LIVED_US;
    run_forget_enclave(r);
    r->ready_since_us = 0;
    r->cid = 0;
    persist_set_cid(r->persist, run_state_cid(r));
    if (r->is_stopping) {
        run_enter(r, PHASE_OFF);
        event_base_loopbreak(r->server.base);
        return;
    }
    if (was == PHASE_STARTING || was == PHASE_BOOTING || was == PHASE_ANSWERING) {
        start_failed(r, r->keeper.has_failed && r->keeper.is_busy, why);
        return;
    }
    if (was != PHASE_ENDING)
        log_line(LOG_ERROR, log_name, "the enclave has ended: %s; another is started", why);
    if (lived)
        backoff_reset(&r->start_backoff);
    r->is_start_free |= lived;
    run_enter(r, PHASE_OFF);
    /* The first time at once: every moment costs signatures. */
    run_due_in(r->start_due, r->is_start_free ? 0 : backoff_next_us(&r->start_backoff));
    r->is_start_free = false;
}

/* ---- the service manager, deadlines ---- */

bool run_is_stuck(const struct run *r, uint64_t now_us)
{
    uint64_t in_us = now_us > r->phase_since_us ? now_us - r->phase_since_us : 0;
    switch (r->phase) {
    case PHASE_STARTING:
        return in_us > r->keeper.start_us + STUCK_US;
    case PHASE_BOOTING:
        return r->options->how != RUN_ATTACH && in_us > r->limits->start_us + STUCK_US;
    case PHASE_OFF:
    case PHASE_ENDING:
        return in_us > STUCK_US;
    case PHASE_ANSWERING:
    case PHASE_READY:
        break;
    }
    return false;
}

static void leave_stuck(struct run *r)
{
    log_line(LOG_ERROR, log_name,
        "nothing has happened for too long; this process ends, for the service manager to start it "
        "again");
    run_leave(r, EXIT_FAILURE);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct run *r = arg;
    uint64_t now = clock_monotonic_us();
    /* Its answers may wait behind this very event: a disk that took its time, a process that was stopped. */
    if (now - r->ticked_us > STOOD_STILL_US)
        pulse_begin_again(&r->pulse, now);
    r->ticked_us = now;
    run_push_tick(r, now);
    run_enclave_tick(r, now);
    run_life_tick(r, now);
    run_watch_tick(r, now);
    if (!r->is_stopping && pulse_is_lost(&r->pulse, r->limits, now) && !run_life_is_proven(r, now))
        run_lose_enclave(r, r->hangs                ? "a process in it hangs"
                            : r->pulse.has_answered ? "it does not answer"
                                                    : "it has never answered since it was started");
    if (!r->is_stopping && run_is_stuck(r, now))
        leave_stuck(r);
    notify_watchdog(&r->notify);
}

/* ---- signals ---- */

static void on_child(evutil_socket_t signal, short what, void *arg)
{
    (void)signal;
    (void)what;
    struct run *r = arg;
    run_push_reap(r);
    run_enclave_reap(r);
}

static void take_config(struct run *r, struct run_config *next)
{
    run_config_free(&r->config);
    r->config = *next;
    *next = RUN_CONFIG_NONE;
    r->is_pushed_again = true;
    /* One that is under way is not cut short (run_ping.h says why), and followed by another. */
    r->push.is_stale = r->push.pid != 0;
    if (r->phase == PHASE_READY || r->phase == PHASE_ANSWERING)
        run_due_in(r->push_due, 0);
}

void run_reloaded(struct run *r)
{
    if (!r->is_reloading || r->phase != PHASE_READY)
        return;
    r->is_reloading = false;
    notify_ready(&r->notify, "signing");
}

static void on_hup(evutil_socket_t signal, short what, void *arg)
{
    (void)signal;
    (void)what;
    static struct run_config next;
    struct run *r = arg;
    struct problems problems = {0};
    notify_reloading(&r->notify);
    r->is_reloading = true;
    next = RUN_CONFIG_NONE;
    bool ok = run_config_read(&next, r->options, &problems);
    for (size_t i = 0; i < problems.n; i++)
        log_line(problems.list[i].is_warning ? LOG_WARN : LOG_ERROR, log_name, "%s",
            problems.list[i].text);
    problems_free(&problems);
    const char *difference = ok ? run_config_difference(&r->config, &next) : NULL;
    if (!ok)
        log_line(LOG_ERROR, log_name, "%s is not taken: all goes on as before", r->config.file);
    else if (difference != NULL)
        log_line(LOG_ERROR, log_name,
            "%s differs in what needs a restart of this service: %s; all goes on as before",
            r->config.file, difference);
    else
        take_config(r, &next);
    run_config_free(&next);
    if (!ok || difference != NULL)
        run_reloaded(r);
}

/* ---- start and end ---- */

static struct event *timer(struct run *r, event_callback_fn fn)
{
    return event_new(r->server.base, -1, 0, fn, r);
}

static bool make_events(struct run *r, struct err *err)
{
    static const struct timeval tick = {.tv_usec = TICK_US};
    r->start_due = timer(r, on_start_due);
    r->push_due = timer(r, run_push_due);
    r->ping_due = timer(r, run_ping_due);
    r->tick = event_new(r->server.base, -1, EV_PERSIST, on_tick, r);
    r->on_child = evsignal_new(r->server.base, SIGCHLD, on_child, r);
    r->on_hup = evsignal_new(r->server.base, SIGHUP, on_hup, r);
    bool ok = r->start_due != NULL && r->push_due != NULL && r->ping_due != NULL &&
              r->tick != NULL && r->on_child != NULL && r->on_hup != NULL &&
              event_add(r->tick, &tick) == 0 && event_add(r->on_child, NULL) == 0 &&
              event_add(r->on_hup, NULL) == 0;
    return ok || err_set(err, "cannot make timers and wait for signals");
}

static void free_events(struct run *r)
{
    struct event *all[] = {r->start_due, r->push_due, r->ping_due, r->tick, r->on_child, r->on_hup};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i] != NULL)
            event_free(all[i]);
}

/* The enclave is given the time to end, while its store is still here. */
static void end_enclave(struct run *r)
{
    r->is_stopping = true;
    notify_stopping(&r->notify);
    log_line(LOG_INFO, log_name, "ending");
    run_forget_enclave(r);
    if (r->keeper.child.pid <= 0)
        return;
    run_enter(r, PHASE_ENDING);
    run_enclave_end(r, false);
    server_run(&r->server);
    /* Not run_on_gone ended that, but another SIGTERM, or a state file that fails still. The enclave must not outlive
     * this process: run_enclave_tick sees to it that this ends. */
    while (r->keeper.child.pid > 0) {
        run_enclave_end(r, true);
        server_run(&r->server);
    }
}

static void begin(struct run *r)
{
    if (r->options->how == RUN_SIMULATED)
        log_line(LOG_WARN, log_name,
            "SIMULATED: the enclave is a process of this machine, its attestation is made up, and "
            "the keys are NOT PROTECTED from whoever rules this machine. For trials only");
    if (r->options->how == RUN_QEMU)
        log_line(LOG_WARN, log_name,
            "UNDER QEMU: this machine can read the enclave's memory, its attestation is not "
            "signed, and the keys are NOT PROTECTED. For trials only");
    if (r->options->is_debug)
        log_line(LOG_WARN, log_name,
            "DEBUG MODE: every PCR of the enclave is zero and its console can be read: the keys "
            "are NOT PROTECTED");
    run_enter(r, r->options->how == RUN_ATTACH ? PHASE_BOOTING : PHASE_OFF);
    if (r->options->how == RUN_ATTACH)
        run_due_in(r->ping_due, 0);
    else
        run_due_in(r->start_due, 0);
}

static int serve(struct run *r)
{
    struct err err;
    bool is_state = false;
    if (!make_events(r, &err) || !run_services_start(r, &is_state, &err)) {
        log_line(LOG_ERROR, log_name, "%s", err.text);
        return is_state ? RUN_EXIT_STATE : EXIT_FAILURE;
    }
    begin(r);
    server_run(&r->server);
    end_enclave(r);
    /* Only persist makes the server fail. */
    return r->server.has_failed ? RUN_EXIT_STATE : r->exit_code;
}

static int start(struct run *r)
{
    struct err err;
    if (!crypto_start(&err) || !sandbox_harden(false, &err) || !notify_open(&r->notify, &err) ||
        !server_start(&r->server, &err)) {
        log_line(LOG_ERROR, log_name, "%s", err.text);
        return EXIT_FAILURE;
    }
    int code = serve(r);
    run_push_stop(r);
    ping_stop(&r->ping);
    run_enclave_stop(r);
    run_services_stop(r);
    free_events(r);
    server_stop(&r->server);
    if (code == EXIT_SUCCESS)
        log_line(LOG_INFO, log_name, "Shutdown completed successfully");
    notify_close(&r->notify);
    return code;
}

/* Its own file names, beside the folder that the keeper makes and empties. */
static bool choose_uds(struct run *r, struct err *err)
{
    char folder[MACHINE_PATH_MAX];
    r->vsock = r->options->vsock;
    bool needs_one = r->options->how == RUN_QEMU || r->options->how == RUN_SIMULATED;
    if (!needs_one || r->vsock.uds[0] != '\0')
        return true;
    if (!kept_run_folder(folder, err))
        return false;
    int n = snprintf(
        r->vsock.uds, sizeof r->vsock.uds, "%s/%s.vsock", folder, r->config.config.enclave.name);
    return (n > 0 && (size_t)n < sizeof r->vsock.uds) ||
           err_set(err,
               "the path %s/%s.vsock is too long for a socket: set TMKMS_RUN_DIR to a shorter one",
               folder, r->config.config.enclave.name);
}

static bool prepare(struct run *r, struct problems *problems)
{
    struct err err;
    const struct run_options *o = r->options;
    if (!run_config_read(&r->config, o, problems))
        return false;
    bool needs_eif = o->how == RUN_START || o->how == RUN_QEMU;
    if (needs_eif && o->eif == NULL && r->config.config.enclave.eif[0] == '\0')
        problems_add(problems, false,
            "which image? Give it with --eif FILE, or write eif into the [enclave] section of %s",
            o->config);
    else if (!choose_uds(r, &err) || (o->how != RUN_ATTACH && !run_enclave_check(r, &err)))
        problems_add(problems, false, "%s", err.text);
    return problems->errors_n == 0;
}

int run_supervise(const struct run_options *options, struct problems *problems)
{
    static struct run r;
    r = (struct run){.options = options,
        .config = RUN_CONFIG_NONE,
        .cid = options->cid,
        .is_start_free = true,
        .notify = NOTIFY_NONE,
        .limits = options->how == RUN_QEMU ? &PULSE_LIMITS_EMULATED : &PULSE_LIMITS,
        .keeper.child = CHILD_NONE,
        .push = {.out = -1, .errors = -1},
        .ping = {.fd = -1, .done = run_on_answer, .ctx = &r}};
    int code = EXIT_FAILURE;
    if (prepare(&r, problems)) {
        for (size_t i = 0; i < problems->n; i++)
            log_line(LOG_WARN, log_name, "%s", problems->list[i].text);
        code = start(&r);
    }
    run_config_free(&r.config);
    return code;
}
