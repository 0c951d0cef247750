/* boot: PID 1 of an enclave. It makes a machine of what the kernel left it, starts the monitor (guest.h) as a child,
 * and from then on keeps the clock, buries orphans and copies the monitor's log to the console. When the monitor ends,
 * however it does, or a step fails or takes too long, it says why and restarts the machine, which ends an enclave.
 *
 * The monitor is a process of its own because it gives up the rights that PID 1 needs to the end: to set the clock and
 * to reboot. */
#ifndef TMKMS_ENCLAVE_BOOT_H
#define TMKMS_ENCLAVE_BOOT_H

#include <stdbool.h>

#include "link/vsock.h"

/* What differs between a machine and a test. */
struct boot_options {
    const char *root;   /* of the kernel's files, see machine_file.h */
    bool is_machine;    /* file systems are mounted, the console is opened, the clock is set */
    struct vsock vsock; /* its parent_cid comes from the command line */
};

/* boot_run does not return in a machine; elsewhere it returns the exit code. */
int boot_run(const struct boot_options *options);

#endif
