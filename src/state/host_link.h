/* host_link: the durable watermark of a chain whose store is on the parent of the enclave (`tmkms
 * nitro persist`). Frames and every outcome: link_frame.h, doc/state-link.md.
 *
 * The enclave says HELLO; the parent answers with the record it holds. A record carries a sequence
 * number and HMAC-SHA-256 over sequence, chain id, public key and content, with a key derived from
 * the consensus key, so that the parent can store a record but not make one. `tmkms state init` on
 * the host makes the one record without a MAC (sequence 0), which is accepted at open alone: the
 * trust that SECURITY.md names. Once open, a record older than what this process remembers, or
 * another enclave's, is refused.
 *
 * A record that was sent and not acknowledged stays pending: every later request first sends the
 * same sequence again. It is settled when it is acknowledged, or when the parent shows after a
 * reconnect that it holds exactly this record.
 *
 * Nothing that the parent does ends the process, as its memory is the floor against a parent that
 * rolls the store back: whatever is wrong with the parent is STATE_PENDING, in words, and tried
 * again with the next request. */
#ifndef TMKMS_STATE_HOST_LINK_H
#define TMKMS_STATE_HOST_LINK_H

#include "crypto/key.h"
#include "state/state.h"

enum {
    HOST_LINK_CONNECT_US = 2000000, /* connection and handshake */
    HOST_LINK_ACK_US = 2000000,     /* one try */
    HOST_LINK_COMMIT_US = 4000000,  /* all tries of one commit */
};

/* Asks for a fresh connection to the parent's store: a blocking descriptor, or -1 when there is none
 * yet. Called from the thread that opens, commits or settles. */
typedef int host_link_dial(void *ctx, uint64_t deadline_us, struct err *err);

/* host_link_open connects, loads the record, checks it, writes it again with the next sequence and
 * waits for its acknowledgement before it returns (as the journal does). A parent without a record
 * for this chain and key: an error that names `tmkms state init`. mac_key: 32 bytes, derived from the
 * consensus key, copied into secret memory. */
bool host_link_open(struct state **ret, const char *chain_id, const struct public_key *key,
    const uint8_t mac_key[32], host_link_dial *dial, void *ctx, struct err *err) ATTR_MUST_USE;

#endif
