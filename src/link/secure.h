/* secure: what lies between the socket and the privval stream, without any I/O: plain (unix),
 * SecretConnection (tcp) or noise. Bytes from the socket go in, plaintext and bytes for the socket
 * come out.
 *
 * Life: secure_new -> [secure_output / secure_input until secure_state is SECURE_OPEN] -> both
 * directions. A failure is final: close the socket. */
#ifndef TMKMS_LINK_SECURE_H
#define TMKMS_LINK_SECURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"
#include "config/address.h"
#include "crypto/key.h"

enum secure_state { SECURE_HANDSHAKE = 1, SECURE_OPEN, SECURE_FAILED };

struct secure;

/* identity: this end's Ed25519 key, borrowed, NULL for unix. Fresh ephemeral keys are made here. */
struct secure *secure_new(
    const struct link_address *peer, const struct signing_key *identity, struct err *err);
void secure_free(struct secure *s); /* wipes; NULL is fine */
enum secure_state secure_state(const struct secure *s);

/* secure_input takes n bytes just read from the socket, in any chunking, and appends the plaintext
 * they complete to out (the caller gives room for at least n bytes; the rest of an unfinished frame
 * is kept inside). false: the peer broke the protocol, sent a bad tag, or is not who it should be;
 * err says which. */
bool secure_input(
    struct secure *s, struct bytes in, struct writer *out, struct err *err) ATTR_MUST_USE;

/* secure_seal turns plaintext into bytes for the socket: one call, one write. cap of out must be at
 * least secure_sealed_max(plain.n). Only when open. */
bool secure_seal(
    struct secure *s, struct bytes plain, struct writer *out, struct err *err) ATTR_MUST_USE;
size_t secure_sealed_max(size_t plain_n);

/* secure_output: handshake bytes waiting to be sent (borrowed until the next call), then empty. */
struct bytes secure_output(struct secure *s);

/* After the handshake: the peer's Ed25519 identity (tcp, noise), its id as text: 40 lower hex (tcp)
 * or base58 (noise); "" for unix. */
const char *secure_peer_id(const struct secure *s);
bool secure_peer_is_verified(const struct secure *s); /* pinned by the configuration, and equal */

#endif
