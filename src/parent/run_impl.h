/* run_impl: the parts of the supervisor and what they share: run.c the phases, run_enclave.c the keeper, run_push.c the
 * configuration and credentials, run_watch.c the pings, run_services.c what the enclave connects to. */
#ifndef TMKMS_PARENT_RUN_IMPL_H
#define TMKMS_PARENT_RUN_IMPL_H

#include <jansson.h>

#include "base/notify.h"
#include "monitor/child.h"
#include "nitro/push.h"
#include "parent/keeper.h"
#include "parent/logs.h"
#include "parent/persist.h"
#include "parent/proxy.h"
#include "parent/run_config.h"
#include "parent/run_ping.h"
#include "parent/run_time.h"
#include "parent/server.h"

/*   OFF -> STARTING -> BOOTING -> ANSWERING -> READY      any of them -> ENDING -> OFF
 *        start      RUNS       a ping       pushed         lost, or told to end
 * An enclave that somebody else starts (RUN_ATTACH) is BOOTING for as long as it does not answer. */
enum run_phase {
    PHASE_OFF,       /* none; a start is due */
    PHASE_STARTING,  /* the keeper is at it */
    PHASE_BOOTING,   /* it runs, and does not answer yet */
    PHASE_ANSWERING, /* it has no configuration yet */
    PHASE_READY,     /* it signs */
    PHASE_ENDING,    /* the keeper was told to end it */
};

struct run_keeper {
    struct child child;
    struct event *heard, *logged; /* control and log socket */
    uint64_t start_us;            /* so long a start may take */
    uint64_t end_by_us;           /* it is killed then; 0: it need not end */
    char last_words[KEEPER_TEXT_MAX];
    bool has_failed; /* KEEPER_FAILED was said */
    bool is_busy;
};

struct run_push {
    pid_t pid; /* 0: none */
    int out, errors;
    struct evbuffer *out_text, *errors_text;
    uint64_t since_us;
    bool is_slow_told; /* until it is ready */
    bool is_stale;     /* the configuration was read again meanwhile */
};

struct run_life {
    uint64_t probed_us;
    bool is_told; /* until it answers again */
};

struct run {
    const struct run_options *options;
    struct run_config config;
    struct server server;
    struct notify notify;
    struct vsock vsock;
    uint32_t cid;

    struct persist *persist;
    struct proxy *proxy;
    struct logs *logs;

    enum run_phase phase;
    uint64_t phase_since_us;
    bool is_stopping;
    int exit_code;
    struct event *start_due, *push_due, *ping_due, *tick, *on_child, *on_hup;

    struct run_keeper keeper;
    struct backoff start_backoff;
    bool is_start_free;     /* the next one waits for nothing */
    unsigned starts_failed; /* in a row */
    struct trouble start_trouble;
    uint64_t ready_since_us; /* 0: this one never was */

    struct run_push push;
    struct backoff push_backoff;
    bool is_pushed_again; /* the push under way follows a reload */
    bool is_reloading;    /* the service manager waits for the end of that */
    struct trouble push_trouble;
    int64_t expires_s;

    uint64_t ticked_us; /* when the loop turned last */
    struct run_life life;
    struct ping ping;
    struct pulse pulse;
    bool hangs;           /* it answers, but one of its processes does not */
    bool is_silence_told; /* of the enclave that somebody else starts */
    const struct pulse_limits *limits;
};

/* ---- run_services.c: what the enclave connects to ---- */

/* ret_is_state: a state file is missing or wrong. One that another process has is not: that passes. */
bool run_services_start(struct run *r, bool *ret_is_state, struct err *err) ATTR_MUST_USE;
void run_services_stop(struct run *r);
/* Which enclave may write the state, in the words of persist_new. */
uint32_t run_state_cid(const struct run *r);

/* ---- run_enclave.c: the keeper ---- */

/* What no later try would mend: is there an image, and anything to run it on? */
bool run_enclave_check(const struct run *r, struct err *err) ATTR_MUST_USE;
bool run_enclave_start(struct run *r, struct err *err) ATTR_MUST_USE;
/* Tells it to end; at_once: without the time that an enclave gets to end by itself. */
void run_enclave_end(struct run *r, bool at_once);
void run_enclave_reap(struct run *r); /* after SIGCHLD */
void run_enclave_tick(struct run *r, uint64_t now_us);
void run_enclave_stop(struct run *r); /* the last of it, blocking */
/* What would run, in words for the log. */
void run_enclave_words(const struct run *r, char *out, size_t cap);

/* ---- run_push.c: configuration and credentials ---- */

void run_push_due(evutil_socket_t fd, short what, void *run); /* of the timer: pushes now */
void run_push_reap(struct run *r);                            /* after SIGCHLD */
void run_push_tick(struct run *r, uint64_t now_us);
void run_push_stop(struct run *r);

/* ---- run_watch.c: does it answer? ---- */

/* Who waits for an enclave that does not come is told once. */
void run_watch_tick(struct run *r, uint64_t now_us);
void run_ping_due(evutil_socket_t fd, short what, void *run); /* of the timer: asks now */
void run_on_answer(void *run, enum ping_answer answer, const struct err *why);
/* It is given up, and ended unless somebody else started it. */
void run_lose_enclave(struct run *r, const char *why);

/* ---- run_life.c: what strangers on this machine do ---- */

void run_life_tick(struct run *r, uint64_t now_us);
/* Is an enclave that answers no ping alive all the same? */
bool run_life_is_proven(struct run *r, uint64_t now_us);
/* Does a push that was refused so tell that the enclave has another's configuration? run_on_foreign ends it; one that
 * somebody else started ends this process. */
bool run_is_foreign(const struct run *r, enum push_code code);
void run_on_foreign(struct run *r, const char *words);

/* ---- run.c: the phases ---- */

/* Ends the loop, and with it the process. */
void run_leave(struct run *r, int exit_code);
void run_enter(struct run *r, enum run_phase phase);
/* What SIGHUP asked for is done, or cannot be done now. */
void run_reloaded(struct run *r);
/* Is a phase overdue that ends by itself? A mistake of this program, from which another start helps. To wait for room,
 * or for an enclave that somebody else starts, is none. */
bool run_is_stuck(const struct run *r, uint64_t now_us);
/* UINT64_MAX: never. */
void run_due_in(struct event *timer, uint64_t us);
/* No push and no ping for an enclave that ends. */
void run_forget_enclave(struct run *r);
void run_on_runs(struct run *r, const struct machine_place *place);
/* The keeper is gone, and the enclave with it. */
void run_on_gone(struct run *r, const char *why);

#endif
