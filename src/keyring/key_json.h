/* key_json: CometBFT's priv_validator_key.json. Inside this room only. */
#ifndef TMKMS_KEYRING_KEY_JSON_H
#define TMKMS_KEYRING_KEY_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"
#include "crypto/key.h"

/* What the file says, nothing of it compared yet. Holds a private key: for secret memory only. */
struct key_json {
    enum key_type type;
    uint8_t private[64]; /* seed and public key, or a secp256k1 scalar */
    size_t private_n;
    struct public_key public;
    uint8_t address[ADDRESS_LEN];
};

/* key_json_parse reads the text: the three fields address, pub_key and priv_key are required, both
 * keys of one type, others are ignored as CometBFT ignores them; a field that stands there twice is
 * an error. Leaves no private byte in ordinary memory, and none in err. */
bool key_json_parse(struct key_json *ret, struct bytes text, struct err *err) ATTR_MUST_USE;

#endif
