/* cms_impl: what a recipient is, for cms.c and for tests that need a certain key. */
#ifndef TMKMS_AWS_CMS_IMPL_H
#define TMKMS_AWS_CMS_IMPL_H

#include <openssl/evp.h>
#include <stdint.h>

#include "aws/cms.h"

enum { RECIPIENT_DER_MAX = 512 }; /* 294 bytes for RSA-2048 */

struct recipient {
    EVP_PKEY *key;
    uint8_t der[RECIPIENT_DER_MAX];
    size_t der_n;
};

/* Takes the key over, even when it fails. */
bool recipient_from(struct recipient **ret, EVP_PKEY *key, struct err *err) ATTR_MUST_USE;

#endif
