/* machine: an enclave that runs, from the parent's side: how it is started, on what, and how it ends. Used by the
 * process that keeps one (keeper.h). */
#ifndef TMKMS_PARENT_MACHINE_H
#define TMKMS_PARENT_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "link/vsock.h"

enum {
    MACHINE_NAME_MAX = 64,
    MACHINE_PATH_MAX = 256,
    MACHINE_ID_MAX = 96,
    MACHINE_CPUS_MAX = 64,
    MACHINE_ROLE_MAX = 160,
    MACHINE_INSTANCE_MAX = 24,
};

enum machine_kind {
    MACHINE_NITRO_CLI, /* AWS's tool runs it: nitro-cli on the PATH */
    MACHINE_DEVICE,    /* this program, through /dev/nitro_enclaves */
    MACHINE_QEMU, /* the `nitro-enclave` machine of QEMU ($TMKMS_QEMU, else qemu-system-x86_64 on the PATH), with
                          vhost-device-vsock ($TMKMS_VHOST_VSOCK, else on the PATH) */
    MACHINE_SIMULATED, /* no machine: tmkms-sim ($TMKMS_SIM, else beside the running program) as a local process */
};
enum { MACHINE_KINDS = 4 };

/* What is wanted. Plain data: it crosses to the keeper in one message. */
struct machine_options {
    uint32_t kind;        /* enum machine_kind */
    uint32_t cpus;        /* 0: 2, or 1 under QEMU */
    uint32_t memory_mib;  /* 0: 64, or four times the image if that is more */
    uint32_t cid;         /* 0: chosen when it starts; not 1, 2, 3. For enclaves on AF_VSOCK */
    uint32_t is_debug;    /* 0 or 1: every PCR is zero, and the console can be read */
    uint32_t port;        /* of the config port, MACHINE_SIMULATED only; 0: PUSH_PORT */
    uint32_t is_detached; /* 0 or 1: once it runs, the end of the control socket ends nothing */
    char name[MACHINE_NAME_MAX]; /* unique among those that run; letters, digits, ".", "_", "-" */
    char eif[MACHINE_PATH_MAX];  /* absolute; empty for MACHINE_SIMULATED */
    char uds
        [VSOCK_PATH_MAX]; /* stand-in for vsock; "": chosen below the run folder where one is needed */
    /* What PCR3 and PCR4 are made from; only where no hardware says it (QEMU, MACHINE_SIMULATED). "": left zero by
     * QEMU, made up by tmkms-sim. */
    char role[MACHINE_ROLE_MAX];
    char instance[MACHINE_INSTANCE_MAX];
};

/* What runs. */
struct machine_place {
    uint32_t cid; /* 0: reached through uds */
    uint32_t cpus, memory_mib;
    uint32_t cpu_ids[MACHINE_CPUS_MAX]; /* of the parent, given away to the enclave; */
    uint32_t cpu_ids_n;                 /* where the kind tells */
    char id[MACHINE_ID_MAX];            /* as nitro-cli shows it */
    char uds[VSOCK_PATH_MAX];           /* "": AF_VSOCK */
    char console[MACHINE_PATH_MAX];     /* the file its console is written to; "": none */
};

/* The default: AWS's tool where it is installed, otherwise the device. */
enum machine_kind machine_kind_here(void);
const char *machine_kind_name(
    enum machine_kind kind); /* "nitro-cli", "device", "qemu", "simulated" */

/* machine_options_check: are texts terminated, numbers in range, and does all fit together? */
bool machine_options_check(const struct machine_options *o, struct err *err) ATTR_MUST_USE;

/* In MiB: four times the image, at least 64, a multiple of 2 (the huge pages of an enclave). */
uint32_t machine_memory_for(uint64_t eif_size);

/* May an enclave have this CID? Those below the first, and the last number, are the system's. */
enum { MACHINE_CID_MIN = 4 };
bool machine_cid_is_free(uint32_t cid);

/* machine_end_abandoned ends the enclave of this name that AWS's tool runs although its keeper is dead. */
bool machine_end_abandoned(const char *name, struct err *err) ATTR_MUST_USE;

/* How long a start may take until the heartbeat, at most; for who waits for a keeper. */
uint64_t machine_start_us(const struct machine_options *o);

#endif
