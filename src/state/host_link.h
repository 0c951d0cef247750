/* host_link: the durable watermark of a chain whose store is on the parent of the enclave (`tmkms nitro persist`).
 *
 * Wire, both directions: u32le length, then one frame of fixed form (doc/state-link.md): HELLO, RECORD, ACK, REFUSE.
 * The enclave says HELLO (chain id, public key, its sequence number, 16 random bytes that name this boot); the parent
 * answers with the record it holds. A record carries a sequence number and HMAC-SHA-256 over chain id, public key,
 * sequence and record, with a key derived from the consensus key (HKDF), so that the parent can store but not make
 * one. `tmkms state init` on the host makes the one record without a MAC (sequence 0), which is the trust that
 * design and SECURITY.md name. A record older than what this process remembers is refused.
 *
 * A record that was sent and not acknowledged stays pending: the same watermark sends the same sequence again, any
 * other is refused until it is settled. */
#ifndef TMKMS_STATE_HOST_LINK_H
#define TMKMS_STATE_HOST_LINK_H

#include "crypto/key.h"
#include "state/state.h"

/* Asks for a fresh connection to the parent's store: a blocking descriptor, or -1 when there is none yet. Called
 * from the thread of the chain. */
typedef int host_link_dial(void *ctx, uint64_t deadline_us, struct err *err);

/* host_link_open connects, loads the record, checks it and writes it again before it returns (as the journal does).
 * A parent without a record for this chain and key: an error that names `tmkms state init`. mac_key: 32 bytes,
 * derived from the consensus key, copied into secret memory. */
bool host_link_open(struct state **ret, const char *chain_id, const struct public_key *key,
    const uint8_t mac_key[32], host_link_dial *dial, void *ctx, struct err *err) ATTR_MUST_USE;

#endif
