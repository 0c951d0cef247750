/* public_key: a public key as people write it into the configuration. */
#ifndef TMKMS_CONFIG_PUBLIC_KEY_H
#define TMKMS_CONFIG_PUBLIC_KEY_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"
#include "crypto/key.h"

/* public_key_parse takes hex (64 digits: Ed25519, 66: secp256k1), base64 of the same bytes, or
 * bech32 with the amino type in front (cosmosvalconspub1zcjduepq...), of any prefix. */
bool public_key_parse(struct public_key *ret, const char *text, struct err *err) ATTR_MUST_USE;

#endif
