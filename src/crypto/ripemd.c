/* Cosmos addresses of secp256k1 keys need RIPEMD-160. OpenSSL 3 has it behind EVP only in the
 * "legacy" provider, a module loaded at run time that a static program does not have; the one-shot
 * function works without it and, linked statically, brings in that one object. It is marked as
 * deprecated, hence the macro, in this file only. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/ripemd.h>

#include "crypto/ripemd.h"

void ripemd160(struct bytes in, uint8_t out[20])
{
    RIPEMD160(in.p, in.n, out);
}
