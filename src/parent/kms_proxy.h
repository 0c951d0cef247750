/* kms_proxy: where `tmkms nitro kms-proxy` may lead. The enclave checks the host's certificate itself; the
 * list keeps the port from becoming a way out to anywhere. */
#ifndef TMKMS_PARENT_KMS_PROXY_H
#define TMKMS_PARENT_KMS_PROXY_H

#include <stddef.h>

#include "base/attr.h"
#include "config/address.h"

/* kms_proxy_target: HOST:PORT (target), or with NULL the KMS of the region. Allowed are, letter for
 * letter, kms.REGION and kms-fips.REGION of amazonaws.com(.cn) on port 443, and what allow lists as
 * HOST:PORT. */
bool kms_proxy_target(struct link_address *ret, const char *region, const char *target,
    const char *const *allow, size_t allow_n, struct err *err) ATTR_MUST_USE;

#endif
