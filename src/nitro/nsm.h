/* nsm: the Nitro Secure Module, as far as we need it: requests and answers in CBOR over one handle.
 * Release binaries speak to /dev/nsm (NSM_IOCTL_RAW); tmkms-sim links nsm_sim.c instead of
 * nsm_device.c and speaks to a software NSM over a SEQPACKET socket. Reference: Linux
 * drivers/misc/nsm.c, aws-nitro-enclaves-nsm-api. */
#ifndef TMKMS_NITRO_NSM_H
#define TMKMS_NITRO_NSM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"

enum {
    NSM_REQUEST_MAX = 0x1000,
    NSM_RESPONSE_MAX = 0x3000,
    PCR_LEN = 48,
    PCR_COUNT = 32,
    NSM_DOCUMENT_MAX = NSM_RESPONSE_MAX,
};

/* ---- the device: exactly one of nsm_device.c and nsm_sim.c is linked ---- */

/* nsm_open: a descriptor to pass to other processes, or -1. */
int nsm_open(struct err *err);
/* One request and its answer. The descriptor may be shared by processes: one exchange is atomic. */
bool nsm_exchange(int fd, struct bytes request, uint8_t response[NSM_RESPONSE_MAX], size_t *ret_n, struct err *err)
    ATTR_MUST_USE;
extern const bool nsm_is_simulated;

/* ---- requests (nsm.c) ---- */

struct nsm_pcr {
    bool is_locked;
    uint8_t value[PCR_LEN];
};

bool nsm_describe_pcr(int fd, unsigned index, struct nsm_pcr *ret, struct err *err) ATTR_MUST_USE;
bool nsm_extend_pcr(int fd, unsigned index, struct bytes data, uint8_t ret[PCR_LEN], struct err *err) ATTR_MUST_USE;
bool nsm_lock_pcr(int fd, unsigned index, struct err *err) ATTR_MUST_USE;
bool nsm_random(int fd, uint8_t *out, size_t n, struct err *err) ATTR_MUST_USE;
/* Empty slices are sent as null. The document is borrowed from buf. */
bool nsm_attest(int fd, struct bytes user_data, struct bytes nonce, struct bytes public_key,
    uint8_t buf[NSM_RESPONSE_MAX], struct bytes *ret_document, struct err *err) ATTR_MUST_USE;
/* Milliseconds since 1970 out of a fresh document: the enclave's clock where there is no /dev/ptp0. */
bool nsm_time_ms(int fd, uint64_t *ret, struct err *err) ATTR_MUST_USE;

#endif
