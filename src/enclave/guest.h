/* guest: the enclave's monitor (`tmkms nitro start`): waits for the config, unseals, signs. The same roles as on a host
 * (see monitor/core.h), and on top of them: the config port, the measured config in PCR16, KMS through the keyless
 * fetch child, links to the parent's stores, log lines to the parent. */
#ifndef TMKMS_ENCLAVE_GUEST_H
#define TMKMS_ENCLAVE_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "link/vsock.h"

struct guest_options {
    struct vsock vsock;
    uint32_t port; /* where configs are pushed to */
    /* What whoever starts it has opened already, and learns; 0 and NULL: nothing. The descriptors are taken over. */
    int nsm, listener;
    _Atomic uint32_t *log_port; /* gets the log port of the config */
};

/* guest_run: until SIGTERM or a fatal error; the exit code. What goes wrong is logged. */
int guest_run(const struct guest_options *options);

#endif
