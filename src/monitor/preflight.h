/* preflight: would `tmkms start` accept the files that a configuration names? Reads them; locks, writes and
 * dials nothing, so it may run beside a signer at work. */
#ifndef TMKMS_MONITOR_PREFLIGHT_H
#define TMKMS_MONITOR_PREFLIGHT_H

#include "config/config.h"

/* What was found of a chain. */
struct preflight_chain {
    struct public_key key; /* none when the key file cannot be used */
    bool has_state;        /* then: */
    int64_t height;        /* of the last signature, or the floor if that is higher */
};

/* preflight adds everything at once: key files, states, identity keys, hooks. Errors are what start would
 * refuse, warnings what an operator should know. file is the configuration's name, for messages.
 * ret has config->chains_n entries. crypto_start must have been called. */
void preflight(struct preflight_chain *ret, const struct config *config, const char *file,
    struct problems *problems);

/* The same for the configuration of an enclave: what `tmkms nitro run` reads on the parent, as far as it is named. What
 * is not there is only warned of: this may be another machine. */
void preflight_parent(const struct config *config, const char *file, struct problems *problems);

#endif
