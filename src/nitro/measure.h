/* measure: the part of the configuration that decides what an enclave may sign, as one text and its hash. The enclave
 * extends PCR16 with the hash and locks it before it asks KMS for a key. doc/measured-config.md says what is covered
 * and why. */
#ifndef TMKMS_NITRO_MEASURE_H
#define TMKMS_NITRO_MEASURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "config/config.h"
#include "nitro/nsm.h"

/* hash is SHA-384 of the text. The order of sections in the file makes no difference. ret_text (may be NULL) gets the
 * text, which is the caller's. The configuration must have come through config_tree_read, so that roots in files have
 * been read. */
bool measure_config(
    const struct config *c, uint8_t hash[PCR_LEN], char **ret_text, struct err *err) ATTR_MUST_USE;

#endif
