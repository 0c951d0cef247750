/* run: `tmkms nitro run`, the supervisor of an enclave on its parent. One event loop carries the enclave's connections
 * (KMS, validators), keeps its state, prints its log and asks it every few seconds whether it lives. What blocks is in
 * children: `@keeper`, which starts the enclave and ends it when this process is gone, and `nitro push-config`. */
#ifndef TMKMS_PARENT_RUN_H
#define TMKMS_PARENT_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "link/vsock.h"

enum run_how {
    RUN_START,     /* through nitro-cli, or the device */
    RUN_ATTACH,    /* somebody else starts it, and it has this CID, or is behind the stand-in */
    RUN_QEMU,      /* in a virtual machine of QEMU */
    RUN_SIMULATED, /* as a process of this machine */
};

/* Texts are borrowed; NULL: the configuration says it. */
struct run_options {
    enum run_how how;
    const char *config;          /* path */
    const char *eif;             /* instead of [enclave] eif */
    const char *state_file;      /* instead of the state_file of the only chain */
    const char *node_unix;       /* instead of the node of the only validator: a socket's path */
    const char *role, *instance; /* of machine_options; RUN_QEMU and RUN_SIMULATED */
    struct vsock vsock;          /* "": AF_VSOCK, or chosen below the run folder */
    uint32_t cid;                /* RUN_ATTACH; otherwise 0, or instead of [enclave] cid */
    uint32_t port;               /* config port of the enclave */
    bool is_debug;               /* an enclave in debug mode */
    bool is_verbose;
};

/* A state file is missing, wrong, or cannot be written any more. One that another process has is EXIT_FAILURE. */
enum { RUN_EXIT_STATE = 3 };

/* run_supervise returns the exit code: 0 after SIGTERM or SIGINT, RUN_EXIT_STATE, else EXIT_FAILURE, where another try
 * may help. problems: what is wrong with the configuration, when nothing was even begun; all else is logged. */
int run_supervise(const struct run_options *options, struct problems *problems);

#endif
