/* flatten: the records of the file brought together: one key for each chain, a chain for each
 * validator. */
#ifndef TMKMS_CONFIG_FLATTEN_H
#define TMKMS_CONFIG_FLATTEN_H

#include "config/walk.h"

/* Checks what no single key can tell and fills *ret, as far as it goes where the problems hold an error.
 * ret is the caller's; config_free. */
void flatten(struct config *ret, struct raw *raw);

#endif
