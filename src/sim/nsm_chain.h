/* nsm_chain: the certificates of the software NSM: a P-384 root, and under it the same four levels with the same
 * life times and constraints that AWS uses (regional, zonal, instance, enclave). */
#ifndef TMKMS_SIM_NSM_CHAIN_H
#define TMKMS_SIM_NSM_CHAIN_H

#include <openssl/evp.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"

enum { NSM_CHAIN_LEVELS = 5, NSM_CHAIN_LEAF = NSM_CHAIN_LEVELS - 1, NSM_CHAIN_DER_MAX = 1024 };

struct nsm_chain {
    EVP_PKEY *root_key; /* kept to issue again */
    EVP_PKEY *leaf_key;
    struct nsm_certificate {
        size_t n;
        uint8_t der[NSM_CHAIN_DER_MAX];
    } certificates[NSM_CHAIN_LEVELS]; /* root first, leaf last */
    int64_t leaf_ends_s;
};

/* nsm_chain_load takes the root from dir, or makes it there; "": makes one without a file. */
bool nsm_chain_load(struct nsm_chain *c, const char *dir, struct err *err) ATTR_MUST_USE;
/* Issues everything below the root, as of now_s, unless the leaf is still good for a while. */
bool nsm_chain_renew(
    struct nsm_chain *c, const char *module_id, int64_t now_s, struct err *err) ATTR_MUST_USE;
void nsm_chain_free(struct nsm_chain *c);

/* ES384: r and s, 48 bytes each. */
bool nsm_chain_sign(const struct nsm_chain *c, struct bytes message, uint8_t ret[96]) ATTR_MUST_USE;

#endif
