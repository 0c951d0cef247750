/* sign: the only place where a consensus key signs a vote or a proposal. */
#ifndef TMKMS_SIGNER_SIGN_H
#define TMKMS_SIGNER_SIGN_H

#include "crypto/key.h"
#include "state/state.h"

/* sign_durable signs the record behind the token, and nothing else: chain id, fields and timestamp
 * come from what is on stable storage, never from a request. A repeat signs again: our keys sign
 * deterministically. */
void sign_durable(
    const struct signing_key *key, const struct durable *record, uint8_t sig[SIGNATURE_LEN]);

#endif
