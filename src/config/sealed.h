/* sealed: what flatten does with the keys of the configuration that are for an enclave. */
#ifndef TMKMS_CONFIG_SEALED_H
#define TMKMS_CONFIG_SEALED_H

#include "config/walk.h"

/* Either a key file or a sealed key, with all that a sealed one needs. */
void sealed_check_softsign(const struct raw *raw, const struct raw_softsign *s);

/* The sealed key of s, and where KMS is, go to the chain. Complains about what cannot be kept. */
void sealed_fill_chain(const struct raw *raw, struct raw_chain *c, const struct raw_softsign *s);

/* Brings the address of a node behind vsock and the sealed identity key into their final form.
 * Before all other checks of the validator. */
void sealed_finish_validator(const struct raw *raw, struct raw_validator *v);

/* One port of the parent cannot serve two things. */
void sealed_check_ports(const struct raw *raw);

#endif
