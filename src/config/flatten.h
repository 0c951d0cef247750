/* flatten: the records of the file brought together: one key for each chain, a chain for each
 * validator. */
#ifndef TMKMS_CONFIG_FLATTEN_H
#define TMKMS_CONFIG_FLATTEN_H

#include "config/walk.h"

/* Checks what no single key can tell and fills *ret when the problems hold no error; otherwise *ret
 * stays as it was. ret is the caller's; config_free. */
void flatten(struct config *ret, struct raw *raw);

#endif
