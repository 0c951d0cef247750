/* ripemd: RIPEMD-160, for addresses of secp256k1 keys only. */
#ifndef TMKMS_CRYPTO_RIPEMD_H
#define TMKMS_CRYPTO_RIPEMD_H

#include <stdint.h>

#include "base/bytes.h"

void ripemd160(struct bytes in, uint8_t out[20]);

#endif
