/* canonical: the encoder behind sign_bytes, wider than what we sign, so that tests can compare it
 * with everything CometBFT encodes (vote types 0 and 32, half block ids, long chain ids). Not for
 * other rooms. */
#ifndef TMKMS_PRIVVAL_CANONICAL_H
#define TMKMS_PRIVVAL_CANONICAL_H

#include "base/bytes.h"
#include "privval/signable.h"

/* SignedMsgType of CometBFT's types.proto. */
enum { TYPE_PREVOTE = 1, TYPE_PRECOMMIT = 2, TYPE_PROPOSAL = 32 };

/* Each writes a uvarint length and the message (types/canonical.go). s->step is not looked at. */
void canonical_write_vote(
    struct writer *w, int32_t type, const struct signable *s, struct bytes chain_id);
void canonical_write_proposal(struct writer *w, const struct signable *s, struct bytes chain_id);
void canonical_write_extension(
    struct writer *w, int64_t height, int32_t round, struct bytes chain_id, struct bytes extension);

#endif
