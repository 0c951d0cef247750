/* merlin: Merlin transcripts over STROBE-128 (merlin.cool, strobe.sourceforge.io v1.0.2), as far as
 * SecretConnection needs them. */
#ifndef TMKMS_CRYPTO_MERLIN_H
#define TMKMS_CRYPTO_MERLIN_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

struct merlin {
    uint8_t state[200];
    uint8_t pos, pos_begin, flags;
};

void merlin_init(struct merlin *m, const char *protocol_label);
void merlin_append(struct merlin *m, const char *label, struct bytes data);
void merlin_challenge(struct merlin *m, const char *label, uint8_t *out, size_t n);
void merlin_wipe(struct merlin *m);

#endif
