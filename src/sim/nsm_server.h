/* nsm_server: a Nitro Secure Module in software, for tests and `tmkms-sim` only: the same requests and answers in
 * CBOR, registers with the same rules, and documents of the same shape, signed under a root of its own. No release
 * program is linked with this folder.
 *
 * One process forked off serves one client descriptor, which any number of processes may share: a request comes as
 * one SEQPACKET message that carries the socket for its answer. It ends when the last copy of the descriptor does. */
#ifndef TMKMS_SIM_NSM_SERVER_H
#define TMKMS_SIM_NSM_SERVER_H

#include <stdint.h>

#include "nitro/nsm.h"

enum { NSM_SIM_BOOT_PCRS = 16, NSM_SIM_MODULE_MAX = 64, NSM_SIM_PATH_MAX = 1024 };

struct nsm_sim_options {
    /* Folder of the test root: `root.pem` (the certificate, for verifiers) and `root-key.pem`; made
     * when it lacks them. "": a root that lives as long as the server. */
    char dir[NSM_SIM_PATH_MAX];
    char module_id[NSM_SIM_MODULE_MAX];       /* i-...-enc... */
    uint8_t pcrs[NSM_SIM_BOOT_PCRS][PCR_LEN]; /* 0 to 15, locked at boot */
    int64_t clock_offset_ms; /* of the module's clock against that of this machine */
};

/* nsm_sim_options_default: a production enclave: PCR0 to 2 of an image without a name, PCR3 and 4 of the role
 * arn:aws:iam::123456789012:role/tmkms and the instance i-0123456789abcdef0.
 *
 * The environment changes it: TMKMS_SIM_DIR; TMKMS_SIM_PCR0, 1, 2, 3, 4, 8 (hex); TMKMS_SIM_ROLE (an ARN: PCR3);
 * TMKMS_SIM_INSTANCE (PCR4 and module id); TMKMS_SIM_DEBUG=1 (every boot register zero, as in an enclave that was
 * started in debug mode); TMKMS_SIM_CLOCK_OFFSET_MS. */
bool nsm_sim_options_default(struct nsm_sim_options *ret, struct err *err) ATTR_MUST_USE;

/* Forks the server; the client's descriptor, or -1. */
int nsm_server_start(const struct nsm_sim_options *options, struct err *err);

#endif
