/* core: what every monitor does, on a host and in an enclave: it waits on its children, its signals
 * and their log lines, starts the session again when it was killed, and ends everything in order. */
#ifndef TMKMS_MONITOR_CORE_H
#define TMKMS_MONITOR_CORE_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/notify.h"
#include "config/config.h"
#include "ipc/control.h"
#include "monitor/child.h"

/* A chain that the signer has open. */
struct chain {
    struct config_chain config;
    struct public_key key;
    int lock; /* the abstract socket that stops a second process with this chain and key */
    dev_t state_dev;
    ino_t state_ino;
};

struct monitor;

/* Where the parts of a chain come from: files on a host, sealed keys and links in an enclave. */
struct monitor_source {
    /* Gives the signer the chain's key (and state file); CHAIN_READY follows. */
    bool (*hand_over)(struct monitor *m, struct chain *chain, struct err *err);
    /* A descriptor of the validator's identity key, -1 and err on failure. */
    int (*open_identity)(struct monitor *m, const struct config_validator *v, struct err *err);
    /* The signer asks for a link to the chain's store on the parent. NULL: there are none. */
    void (*give_link)(struct monitor *m, const char *chain_id);
    /* One of m->aside has something. Called from within core_turn: it may not wait. NULL: there are none. */
    void (*hear_aside)(struct monitor *m);
};

enum { CORE_EXTRA_MAX = 16, CORE_ASIDE_MAX = 16 };

struct monitor {
    const struct monitor_source *source;
    const char *config_path;
    struct config config; /* as it runs */
    struct chain *chains; /* room for CONFIG_CHAINS_MAX */
    size_t chains_n;
    struct child signer;
    struct child session;
    struct notify notify; /* the service manager, if there is one */
    /* What is heard in every turn, whoever waits for whatever else; fd -1: nothing. */
    struct pollfd aside[CORE_ASIDE_MAX];
    size_t aside_n;
    const struct child *awaited; /* whose next message somebody waits for, NULL: nobody does */
    int signals;                 /* signalfd */
    bool stopping;               /* SIGTERM or SIGINT was seen */
    bool reload_wanted;          /* SIGHUP was seen */
    uint64_t session_due_us;     /* when a dead session is started again, 0: it runs */
};

/* core_start prepares the process: signals, limits, hardening. core_stop ends the children and
 * frees everything; it may follow a core_start that failed. */
bool core_start(struct monitor *m, struct err *err) ATTR_MUST_USE;
void core_stop(struct monitor *m);

/* core_check_descriptors: whether the limit of open files suffices for the configuration. */
bool core_check_descriptors(const struct config *config, struct err *err) ATTR_MUST_USE;

/* core_turn waits at most timeout_ms for anything at all, forwards log lines, takes signals, hears what the
 * children say unasked, and feeds the watchdog: whoever waits in the monitor waits here. extra: more descriptors
 * to wait on, n of them (at most CORE_EXTRA_MAX), with their revents filled in. */
void core_turn(struct monitor *m, struct pollfd *extra, size_t extra_n, int timeout_ms);

/* core_send sends a message to the signer or the session, with fds_n descriptors (borrowed). It waits for room like
 * core_turn; a child that takes nothing for too long is killed. false with errno set, also when the program is told to
 * end. */
bool core_send(struct monitor *m, struct child *to, const struct control *msg, const int *fds,
    size_t fds_n) ATTR_MUST_USE;

/* core_await waits for one message of the given kind from a child, forwarding log lines meanwhile.
 * A CONTROL_FAILED from that child becomes the err. */
bool core_await(struct monitor *m, struct child *from, uint32_t kind, struct control *ret,
    struct err *err) ATTR_MUST_USE;

/* The same for a message that carries a descriptor. */
bool core_await_fd(struct monitor *m, struct child *from, uint32_t kind, struct control *ret,
    int *ret_fd, struct err *err) ATTR_MUST_USE;

/* core_watch looks at the children: starts a killed session again. -1 to
 * go on, else the exit code of the program. */
int core_watch(struct monitor *m);

/* core_lost: why a child cannot be talked with, in words. Returns false. */
bool core_lost(const struct child *c, struct err *err);

bool core_session_runs(const struct monitor *m);
bool core_start_session(struct monitor *m, struct err *err) ATTR_MUST_USE;

#endif
