/* policy: the key policy of a KMS key that opens for one enclave only. */
#ifndef TMKMS_NITRO_POLICY_H
#define TMKMS_NITRO_POLICY_H

#include <jansson.h>

#include "base/attr.h"
#include "base/err.h"
#include "config/config.h"
#include "nitro/nsm.h"

/* Texts are borrowed. */
struct policy_request {
    const char *account; /* 12 digits */
    const char *role;    /* ARN of the role of the instance that starts the enclave */
    const char *admin;   /* ARN; NULL: whomever IAM policies of the account allow */
    uint32_t pcrs_present;
    uint8_t pcrs[PCR_COUNT][PCR_LEN]; /* 0, 1, 2, 3, 4, 8, 16 */
    uint32_t other_present; /* the same registers of a second image, while one is exchanged */
    uint8_t other[PCR_COUNT][PCR_LEN]; /* for the other: either is let in. 0: one image */
    const struct config *config;       /* for the encryption context; NULL: no condition on it */
    const char *measured_hex;          /* of config */
    bool is_debug;                     /* every boot register is zero, PCR16 is left out */
};

/* policy_make returns a new reference, or NULL and err. The statements:
 *   Administer  the admin, without any right that reveals what the key encrypts
 *   Seal        the admin may encrypt
 *   Unseal      the role may Decrypt: only into an enclave with these registers
 *   Keygen      the role may GenerateDataKey: the same without PCR16, which is empty before there is a config
 *   NeverInClear  nobody gets plaintext of this key without an attestation document, whatever grants and IAM
 *                 policies say */
json_t *policy_make(const struct policy_request *request, struct err *err);

#endif
