/* encode: text forms of bytes: base64, bech32 (BIP 173, constant 1), base58 (Bitcoin alphabet). */
#ifndef TMKMS_CRYPTO_ENCODE_H
#define TMKMS_CRYPTO_ENCODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"

/* Standard alphabet with padding. out_cap includes the final zero; false when it does not fit. */
bool base64_encode(struct bytes in, char *out, size_t out_cap) ATTR_MUST_USE;
/* Padding optional, white space at either end ignored, nothing else tolerated.
 * For secrets too: the time does not depend on the characters. On false out may hold a part. */
bool base64_decode(struct bytes text, uint8_t *out, size_t out_cap, size_t *ret_n) ATTR_MUST_USE;

/* hrp: 1..83 lower-case characters. Any length of data that fits (amino keys exceed 90 characters
 * with long prefixes; as in the Cosmos SDK that is allowed up to 1023). */
bool bech32_encode(const char *hrp, struct bytes data, char *out, size_t out_cap) ATTR_MUST_USE;

/* Strict BIP 173: one case, a valid prefix, checksum constant 1, no padding but fewer than five zero
 * bits; up to 1023 characters, as above. prefix is in lower case; on false both may hold a part. */
bool bech32_decode(const char *text, char *prefix, size_t prefix_cap, uint8_t *out, size_t out_cap,
    size_t *ret_n) ATTR_MUST_USE;

bool base58_encode(struct bytes in, char *out, size_t out_cap) ATTR_MUST_USE;
bool base58_decode(
    const char *text, size_t text_n, uint8_t *out, size_t out_cap, size_t *ret_n) ATTR_MUST_USE;

#endif
