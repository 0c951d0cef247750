/* keeper: the process that keeps one enclave (`tmkms @keeper`). It gets what is wanted in one message, answers with
 * what runs, and ends the enclave when its control socket ends or on SIGTERM; so whoever holds the other end of the
 * socket cannot leave an enclave behind, however it dies. SEQPACKET, host byte order, plain structs. */
#ifndef TMKMS_PARENT_KEEPER_H
#define TMKMS_PARENT_KEEPER_H

#include "parent/machine.h"

enum keeper_kind {
    KEEPER_START = 1, /* to the keeper: machine_options */
    KEEPER_RUNS,      /* from it: the heartbeat came; machine_place */
    KEEPER_FAILED,    /* from it, the last: it did not start; text */
    KEEPER_ENDED,     /* from it, the last: the enclave ended by itself; text */
};

enum { KEEPER_TEXT_MAX = 1024 };

struct keeper_message {
    uint32_t kind;
    uint32_t is_busy; /* KEEPER_FAILED: memory, processors or the CID are taken; worth another try */
    union {
        struct machine_options options;
        struct machine_place place;
        char text[KEEPER_TEXT_MAX];
    } u;
};

int keeper_main(void);

#endif
