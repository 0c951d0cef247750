/* message: privval requests and replies on the wire (reference: CometBFT proto/tendermint/privval,
 * proto/cometbft/privval/v1). One codec per wire line; a frame is uvarint(length) || Message. */
#ifndef TMKMS_PRIVVAL_MESSAGE_H
#define TMKMS_PRIVVAL_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "crypto/key.h"
#include "privval/signable.h"

enum wire_line {
    WIRE_P1 = 1, /* tendermint.privval: v0.34, v0.37, v0.38, v0.39, v0.40 */
    WIRE_P2 = 2, /* cometbft.privval.v1: v1.0 */
};

/* 1 MiB extension + 2 x ML-DSA signature + 1 KiB, as CometBFT v0.40 computes it, + slack. */
enum { REQUEST_MAX = 1048576 + 2 * 3309 + 1024 + 4096, REPLY_MAX = 1024 };

enum request_kind {
    REQUEST_PUBKEY = 1,
    REQUEST_VOTE,
    REQUEST_PROPOSAL,
    REQUEST_PING,
    REQUEST_RAW_BYTES, /* P2 SignBytes, P1 Celestia's SignRawBytes */
};

struct request {
    enum request_kind kind;
    const char *problem; /* not NULL: well framed, but must be refused with this sentence */
    char chain_id[CHAIN_ID_MAX + 1]; /* "" for ping and P2 SignBytes; no control characters */
    struct signable signable;
    /* Echoed in the reply, in no sign-bytes: */
    int32_t type; /* as given: a proposal's may be anything */
    uint8_t validator_address[ADDRESS_LEN];
    uint8_t validator_address_len;
    int32_t validator_index;
    bool skip_extension;    /* P2 */
    struct bytes extension; /* borrowed from the input */
    struct bytes raw_bytes; /* borrowed */
    struct bytes unique_id; /* borrowed; Celestia */
};

/* request_frame_len looks at the first bytes of a stream. Returns 0: more bytes are needed to tell;
 * > 0: the whole frame's length with its prefix; -1: over REQUEST_MAX, or a prefix that is not the
 * shortest for its length, as every encoder writes it: close. */
long request_frame_len(struct bytes stream);

/* request_parse reads one whole frame. false: undecodable, no request, or more than one: close the
 * connection; *ret is untouched. true with problem set: answer with reply_error and keep the
 * connection; the other fields are then not to be signed. true without: signable_problem(signable)
 * is NULL and the chain id has 1..50 bytes. An absent timestamp is Go's zero time, as in the node.
 */
bool request_parse(struct request *ret, enum wire_line line, struct bytes frame);

/* Replies, written as a whole frame into buf; the result is borrowed from buf (cap REPLY_MAX, which
 * always suffices) and empty only for what cannot be said: a key of unknown type, a signature for a
 * ping. The vote's extension is left out, the timestamp always written. */
struct signed_reply {
    struct timestamp timestamp; /* the released one; may differ from the request's */
    uint8_t signature[SIGNATURE_LEN];
    uint8_t extension_signature[SIGNATURE_LEN];
    bool has_extension_signature;
};
struct bytes reply_ping(uint8_t *buf, size_t cap);
struct bytes reply_pubkey(
    enum wire_line line, const struct public_key *key, uint8_t *buf, size_t cap);
struct bytes reply_signed(enum wire_line line, const struct request *req,
    const struct signed_reply *reply, uint8_t *buf, size_t cap); /* vote, proposal, raw bytes */
/* code as the Rust tmkms: 2 for a double sign, else 0. The text is cut to 512 bytes. For a ping,
 * which has no error, the ping's reply. */
struct bytes reply_error(enum wire_line line, const struct request *req, int code, const char *text,
    uint8_t *buf, size_t cap);

#endif
