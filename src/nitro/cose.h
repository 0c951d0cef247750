/* cose: signatures of COSE_Sign1 messages (RFC 9052, RFC 9053): ECDSA on P-256, P-384 and P-521. Used by the room's
 * own parsers; keys are OpenSSL's. */
#ifndef TMKMS_NITRO_COSE_H
#define TMKMS_NITRO_COSE_H

#include <openssl/evp.h>

#include "base/attr.h"
#include "base/bytes.h"

enum { COSE_SIGN1_TAG = 18, COSE_HEADER_MAX = 4, COSE_SIGNATURE_MAX = 132 };

struct cose_algorithm {
    const char *group; /* of the key, OpenSSL's name */
    const char *name;  /* "ES384" */
    const char *hash;
    size_t half;                     /* bytes of r, and of s */
    uint8_t header[COSE_HEADER_MAX]; /* the protected header: {1: algorithm} */
    size_t header_n;
};

/* The one algorithm that goes with the key; NULL: none does. */
const struct cose_algorithm *cose_algorithm_of(EVP_PKEY *key);

/* What is signed: ["Signature1", protected, no external data, payload]. The header is compared by the caller. */
struct cose_sign1 {
    struct bytes header, payload, signature; /* protected header; r and s, one behind the other */
};
bool cose_verify(
    const struct cose_sign1 *message, EVP_PKEY *key, const struct cose_algorithm *a) ATTR_MUST_USE;
/* r and s, 2 * half bytes. */
bool cose_sign(struct bytes payload, EVP_PKEY *key, const struct cose_algorithm *a,
    uint8_t ret[COSE_SIGNATURE_MAX]) ATTR_MUST_USE;

#endif
