/* nitro_demand: what the flags demand of an attestation document. */
#ifndef TMKMS_CLI_NITRO_DEMAND_H
#define TMKMS_CLI_NITRO_DEMAND_H

#include "cli/command.h"
#include "nitro/attestation.h"

enum { DEMAND_PCRS_N = 7, DEMAND_FLAGS_N = DEMAND_PCRS_N + 2, DEMAND_ROOT_MAX = 4096 };

/* Borrowed from argv. pcrs[0] is PCR0. */
struct demand_options {
    const char *pcrs[DEMAND_PCRS_N];
    const char *root;
    bool accept_debug;
};
#define DEMAND_OPTIONS_HELP                                                                        \
    "      --pcr0 HEX          Demand this image. Also --pcr1, --pcr2 (kernel, application),\n"    \
    "                          --pcr3 (role), --pcr4 (instance), --pcr8 (signer of the image),\n"  \
    "                          --pcr16 (measured configuration)\n"                                 \
    "      --accept-debug      Accept a debug enclave (PCR0 is zero)\n"                            \
    "      --root FILE         Another root than that of AWS, as PEM (for tests)\n"

/* Fills DEMAND_FLAGS_N entries of a command's table. */
void demand_flags(struct demand_options *o, struct command_flag *flags);

/* demand_from sets registers, root, accept_debug and the time of now; the root's bytes lie in `root`. */
bool demand_from(const struct demand_options *o, uint8_t root[DEMAND_ROOT_MAX],
    struct attestation_policy *ret, struct err *err) ATTR_MUST_USE;

#endif
