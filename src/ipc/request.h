/* request: what crosses between session and signer on a chain's socket pair: a fixed header and one
 * bounded blob each way, host byte order (both ends are one binary on one machine). A typed
 * request, never sign-bytes: a bug in a parser of the session reaches no key. */
#ifndef TMKMS_IPC_REQUEST_H
#define TMKMS_IPC_REQUEST_H

#include <stdint.h>

#include "crypto/key.h"
#include "privval/message.h"
#include "privval/signable.h"

enum { SIGN_BLOB_MAX = REQUEST_MAX, SIGN_REASON_MAX = 256 };

enum sign_kind {
    SIGN_VOTE_OR_PROPOSAL = 1,
    SIGN_RAW_P2,       /* blob: the value */
    SIGN_RAW_CELESTIA, /* blob: the raw bytes, then unique_id_n bytes of the unique id */
};

struct sign_request {
    uint32_t kind; /* enum sign_kind */
    uint32_t blob_n;
    uint32_t unique_id_n;
    uint32_t skip_extension; /* 0 or 1 */
    struct signable signable;
    /* then blob_n bytes: the extension of a precommit, or raw bytes */
};

enum sign_outcome {
    SIGN_DONE = 1, /* a new signature */
    SIGN_REPEATED, /* the stored one again, with its timestamp */
    SIGN_REFUSED,  /* reason says why */
    SIGN_DOUBLE,   /* refused: a double sign */
};

struct sign_reply {
    uint32_t outcome; /* enum sign_outcome */
    uint32_t has_extension_signature;
    struct timestamp timestamp;
    uint8_t signature[SIGNATURE_LEN];
    uint8_t extension_signature[SIGNATURE_LEN];
    uint32_t micros; /* time in the signer */
    char reason[SIGN_REASON_MAX];
};

#endif
