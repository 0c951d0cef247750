/* keeper: the process that keeps one enclave (`tmkms @keeper`). It gets what is wanted in one message, answers with
 * what runs, and ends the enclave when its control socket ends or on SIGTERM; so whoever holds the other end of the
 * socket cannot leave an enclave behind, however it dies. A keeper that is killed takes QEMU, vhost-device-vsock or
 * tmkms-sim with it, and the device ends an enclave whose descriptor is gone; only AWS's tool lets one live on, which
 * the next start with that name ends first. SEQPACKET, host byte order, plain structs. */
#ifndef TMKMS_PARENT_KEEPER_H
#define TMKMS_PARENT_KEEPER_H

#include "monitor/child.h"
#include "parent/machine.h"

enum keeper_kind {
    KEEPER_START = 1, /* to the keeper: machine_options */
    KEEPER_RUNS,      /* from it: the heartbeat came; machine_place */
    KEEPER_FAILED,    /* from it, the last: it did not start; text */
    KEEPER_ENDED, /* from it, the last: the enclave ended by itself, or the keeper got SIGTERM; text */
};

enum {
    KEEPER_TEXT_MAX = 1024,
    KEEPER_STOP_US =
        15000000, /* a keeper that was told to end is given so long: 3 s for what runs here, more for AWS's tool */
};

struct keeper_message {
    uint32_t kind;
    uint32_t
        is_busy; /* KEEPER_FAILED: memory, processors, the CID or a port are taken; worth another try */
    union {
        struct machine_options options;
        struct machine_place place;
        char text[KEEPER_TEXT_MAX];
    } u;
};

/* ---- on the side of who wants an enclave ---- */

/* keeper_spawn starts a keeper and tells it what is wanted. End it with child_stop(&child, now + KEEPER_STOP_US), and
 * pass its log on with child_forward_log. */
bool keeper_spawn(
    struct child *ret, const struct machine_options *options, struct err *err) ATTR_MUST_USE;

/* keeper_recv takes one message, waiting for it. 1: *ret is checked; 0: the keeper has ended; -1: not understood. */
int keeper_recv(int control, struct keeper_message *ret) ATTR_MUST_USE;

/* ---- the process itself ---- */

int keeper_main(void);

#endif
