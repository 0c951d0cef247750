/* machine: an enclave that runs, from the parent's side: how it is started, on what, and how it ends. Used by the
 * process that keeps one (keeper.h); everything here may block until its deadline. */
#ifndef TMKMS_PARENT_MACHINE_H
#define TMKMS_PARENT_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "link/vsock.h"

enum { MACHINE_NAME_MAX = 64, MACHINE_PATH_MAX = 256, MACHINE_ID_MAX = 96 };

enum machine_kind {
    MACHINE_NITRO_CLI, /* AWS's tool runs it */
    MACHINE_DEVICE,    /* this program, through /dev/nitro_enclaves */
    MACHINE_QEMU,      /* the `nitro-enclave` machine of QEMU, with vhost-device-vsock */
    MACHINE_SIMULATED, /* no machine: tmkms-sim as a local process */
};

/* What is wanted. Plain data: it crosses to the keeper in one message. */
struct machine_options {
    uint32_t kind;               /* enum machine_kind */
    uint32_t cpus;               /* 0: 2, or 1 under QEMU */
    uint32_t memory_mib;         /* 0: what the image needs, see machine.c */
    uint32_t cid;                /* 0: chosen when it starts */
    uint32_t is_debug;           /* 0 or 1: every PCR is zero, and the console can be read */
    uint32_t port;               /* of the config port, MACHINE_SIMULATED only */
    char name[MACHINE_NAME_MAX]; /* unique among those that run */
    char eif[MACHINE_PATH_MAX];  /* absolute; empty for MACHINE_SIMULATED */
    char uds[VSOCK_PATH_MAX];    /* stand-in for vsock; "": chosen below the run folder where one is needed */
};

/* What runs. */
struct machine_place {
    uint32_t cid;             /* 0: reached through uds */
    uint32_t cpus, memory_mib;
    char id[MACHINE_ID_MAX];  /* as nitro-cli shows it */
    char uds[VSOCK_PATH_MAX]; /* "": AF_VSOCK */
};

#endif
