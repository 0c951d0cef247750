/* attestation: a Nitro attestation document (COSE_Sign1, ES384), read with strict limits and
 * verified in full. Reference: AWS "Verifying the root of trust", nitro_enclaves attestation_process.md. */
#ifndef TMKMS_NITRO_ATTESTATION_H
#define TMKMS_NITRO_ATTESTATION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"
#include "nitro/nsm.h"

enum { ATTESTATION_CHAIN_MAX = 8, ATTESTATION_DOCUMENT_MAX = 16384 };

/* Fields of the payload; slices are borrowed from the document. */
struct attestation {
    struct bytes protected_header, payload, signature; /* of the COSE_Sign1 */
    struct bytes module_id;
    uint64_t timestamp_ms;
    uint32_t pcrs_present; /* bit i: PCR i is there */
    uint8_t pcrs[PCR_COUNT][PCR_LEN];
    struct bytes certificate;
    struct bytes cabundle[ATTESTATION_CHAIN_MAX];
    unsigned cabundle_n;
    struct bytes public_key, user_data, nonce; /* empty: null or absent */
};

/* What must hold beyond signature and chain. Zero-initialised: nothing. */
struct attestation_policy {
    uint32_t pcrs_wanted; /* bit i: pcrs[i] must be equal */
    uint8_t pcrs[PCR_COUNT][PCR_LEN];
    struct bytes nonce;    /* empty: any */
    bool accept_debug;     /* all-zero PCR0 */
    int64_t now_s;         /* for certificates, and for freshness with max_age_s */
    bool at_document_time; /* certificates at the document's own time: a replay passes too */
    uint32_t max_age_s;    /* 0: any */
    struct bytes root_der; /* empty: the AWS root that is compiled in */
};

/* The DER of the first certificate in a PEM text, to stand for root_der. */
bool attestation_root_from_pem(
    struct bytes pem, uint8_t *out, size_t cap, size_t *ret_n, struct err *err) ATTR_MUST_USE;

bool attestation_parse(
    struct attestation *ret, struct bytes document, struct err *err) ATTR_MUST_USE;

/* attestation_verify parses and checks everything; each check is told to `said` (may be NULL) with its outcome
 * before the first failure ends it. */
typedef void attestation_said(void *ctx, bool ok, const char *check);
bool attestation_verify(struct attestation *ret, struct bytes document,
    const struct attestation_policy *policy, attestation_said *said, void *ctx,
    struct err *err) ATTR_MUST_USE;

#endif
