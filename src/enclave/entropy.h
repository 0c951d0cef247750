/* entropy: nothing in an enclave is random but what the Nitro Secure Module gives. */
#ifndef TMKMS_ENCLAVE_ENTROPY_H
#define TMKMS_ENCLAVE_ENTROPY_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"

/* entropy_start: afterwards getrandom(2) does not wait and gives what was seeded by the module: by the kernel's driver
 * (/sys/class/misc/hw_random/rng_current is nsm-hwrng), or by us through GetRandom and RNDADDENTROPY. false: there is
 * no trustworthy randomness, and nothing may go on. root: see machine_file.h; nsm: of nsm_open. */
bool entropy_start(const char *root, int nsm, struct err *err) ATTR_MUST_USE;

/* entropy_is_from_nsm: what rng_current says. */
bool entropy_is_from_nsm(const char *root);

#endif
