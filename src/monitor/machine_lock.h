/* machine_lock: at most one process of this machine (of this network namespace) signs for a chain and key, even with
 * two state files. The lock is an abstract unix socket named after both: it vanishes with its owner, and any user of
 * the machine can take it, which keeps the signer from starting but makes nothing unsafe. */
#ifndef TMKMS_MONITOR_MACHINE_LOCK_H
#define TMKMS_MONITOR_MACHINE_LOCK_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"
#include "crypto/key.h"

/* machine_lock_take: closing *ret_fd gives it back. */
bool machine_lock_take(
    int *ret_fd, const char *chain_id, const struct public_key *key, struct err *err) ATTR_MUST_USE;

/* machine_lock_check: false, in the words of machine_lock_take, when somebody has it. Takes nothing. */
bool machine_lock_check(
    const char *chain_id, const struct public_key *key, struct err *err) ATTR_MUST_USE;

#endif
