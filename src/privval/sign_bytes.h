/* sign_bytes: the canonical bytes that are signed (CometBFT types/canonical.go; identical v0.34 ..
 * v1). uvarint length, then the protobuf of CanonicalVote, CanonicalProposal or
 * CanonicalVoteExtension. */
#ifndef TMKMS_PRIVVAL_SIGN_BYTES_H
#define TMKMS_PRIVVAL_SIGN_BYTES_H

#include "base/bytes.h"
#include "privval/signable.h"

enum { SIGN_BYTES_MAX = 256 }; /* a vote or a proposal always fits */

/* Encodes s for chain_id into buf. The result is borrowed from buf. Empty, and not to be signed, if
 * signable_problem has something against s or the chain id has not 1..50 bytes; else never empty.
 */
struct bytes sign_bytes(
    const struct signable *s, const char *chain_id, uint8_t buf[SIGN_BYTES_MAX]);

/* For vote extensions: buf must hold extension.n + EXTENSION_OVERHEAD bytes. Empty as above, when
 * it did not fit, and for anything but a precommit for a block; an empty extension has sign-bytes.
 */
enum { EXTENSION_OVERHEAD = 128 };
struct bytes extension_sign_bytes(const struct signable *precommit, const char *chain_id,
    struct bytes extension, uint8_t *buf, size_t cap);

/* raw_bytes_problem: NULL when value may be signed as application bytes; otherwise why not: it
 * parses (with or without its length prefix) as a canonical vote, proposal or vote extension of any
 * chain, or is what a connection handshake signs: a 32-byte challenge (SecretConnection),
 * "noise-libp2p-static-key:" + 32, or begins like Celestia's form. Strict: in doubt a problem. The
 * empty value may be signed, as CometBFT v1 does: no canonical message is empty. */
const char *raw_bytes_problem(struct bytes value);

/* What Celestia's SignRawBytes signs: "COMET::RAW_BYTES::SIGN", uvarint length, the request's
 * protobuf. buf must hold raw.n + unique_id.n + 256 bytes. Empty result: it did not fit. */
struct bytes celestia_sign_bytes(
    const char *chain_id, struct bytes raw, struct bytes unique_id, uint8_t *buf, size_t cap);

#endif
