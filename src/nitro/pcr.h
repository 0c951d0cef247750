/* pcr: platform configuration registers: SHA-384 values that can be computed without an enclave. */
#ifndef TMKMS_NITRO_PCR_H
#define TMKMS_NITRO_PCR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"
#include "nitro/nsm.h"

void sha384(struct bytes data, uint8_t ret[PCR_LEN]);
void sha384_parts(
    const struct bytes *parts, size_t n, uint8_t ret[PCR_LEN]); /* one behind the other */

/* SHA-384(48 zero bytes || data): a fresh register extended once. PCR3 is this of the role's ARN,
 * PCR4 of the instance id, PCR16 of the measured config's hash; PCR0, 1, 2 and 8 of a SHA-384. */
void pcr_extend_zero(struct bytes data, uint8_t ret[PCR_LEN]);
/* SHA-384(old || data) */
void pcr_extend(const uint8_t old[PCR_LEN], struct bytes data, uint8_t ret[PCR_LEN]);

/* PCR3 of the parent's IAM role: `arn:aws:iam::123456789012:role/NAME`. The ARN of an instance
 * profile or of an assumed role is a common mistake and refused, as it measures something else. */
bool pcr_of_role(const char *role_arn, uint8_t ret[PCR_LEN], struct err *err) ATTR_MUST_USE;
/* PCR4 of the parent: `i-` and 8 or 17 hex digits. */
bool pcr_of_instance(const char *instance_id, uint8_t ret[PCR_LEN], struct err *err) ATTR_MUST_USE;

/* 96 hex digits of either case, optionally behind 0x. what: "PCR0", for messages. */
bool pcr_from_hex(
    const char *what, const char *hex, uint8_t ret[PCR_LEN], struct err *err) ATTR_MUST_USE;
bool pcr_is_zero(const uint8_t pcr[PCR_LEN]);

enum { PCR_HEX_LEN = 2 * PCR_LEN }; /* without the final zero */

/* Is it `arn:PARTITION:iam::ACCOUNT:role/NAME`? */
bool arn_is_role(const char *arn);

#endif
