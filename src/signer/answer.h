/* answer: one request of one chain, from guard to signature: settle -> guard -> commit -> token ->
 * sign -> reply. */
#ifndef TMKMS_SIGNER_ANSWER_H
#define TMKMS_SIGNER_ANSWER_H

#include "guard/guard.h"
#include "ipc/request.h"
#include "state/state.h"

/* What is needed to sign for one chain. The pointers are borrowed; used by one thread at a time. */
struct signer_chain {
    char id[CHAIN_ID_MAX + 1];
    const struct signing_key *key;
    struct state *state;
    struct guard_policy policy;
    bool sign_raw_bytes;
    uint8_t *scratch; /* SIGNER_SCRATCH bytes for the sign-bytes of extensions and raw bytes */
};

enum { SIGNER_SCRATCH = SIGN_BLOB_MAX + 1024 };

/* signer_answer fills *reply, refusals included; a record that is pending is a refusal too. false:
 * the state could not be made durable; nothing was signed, nothing may be sent, and the process must
 * end (err says why). */
bool signer_answer(struct signer_chain *chain, const struct sign_request *req, struct bytes blob,
    struct sign_reply *reply, struct err *err) ATTR_MUST_USE;

#endif
