/* secure: what lies between the socket and the privval stream, without any I/O: plain (unix),
 * SecretConnection (tcp) or noise. Bytes from the socket go in, plaintext and bytes for the socket
 * come out. This end always dials: for noise it is the initiator.
 *
 * Life: secure_new -> [secure_output / secure_input until secure_state is SECURE_OPEN] -> both
 * directions. A failure is final: close the socket. Only secure_new allocates. */
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

/* More than the plaintext that one call can yield from bytes of earlier calls (an unfinished noise
 * message). */
enum { SECURE_HELD_MAX = 65536 };

struct secure;

/* identity: this end's Ed25519 key, borrowed until the handshake is over, NULL for unix. Fresh
 * ephemeral keys are made here. NULL (and err) when there is no memory or the identity does not fit
 * the kind of link. */
struct secure *secure_new(
    const struct link_address *peer, const struct signing_key *identity, struct err *err);
void secure_free(struct secure *s); /* wipes; NULL is fine */
enum secure_state secure_state(const struct secure *s);

/* secure_input takes in.n bytes just read from the socket, in any chunking, and appends the
 * plaintext they complete to out, which must have room for in.n + SECURE_HELD_MAX bytes; an
 * unfinished frame is kept inside. Plaintext that follows the handshake in the same bytes is
 * delivered too. false: the peer broke the protocol, sent a bad tag, or is not who it should be;
 * err says which. */
bool secure_input(
    struct secure *s, struct bytes in, struct writer *out, struct err *err) ATTR_MUST_USE;

/* secure_seal turns plaintext into bytes for the socket: one call, one write. out must have room
 * for secure_sealed_max(plain.n) and may not overlap plain. Only when open. */
bool secure_seal(
    struct secure *s, struct bytes plain, struct writer *out, struct err *err) ATTR_MUST_USE;
size_t secure_sealed_max(size_t plain_n);

/* secure_output: handshake bytes to send now, each returned once and borrowed until the next call
 * of any function here; empty when there are none. Ask after secure_new and after each
 * secure_input, also after the one that opens the link. */
struct bytes secure_output(struct secure *s);

/* Once open (or refused for it): the peer's id as text, 40 lower hex (tcp) or base58 (noise); ""
 * for unix. */
const char *secure_peer_id(const struct secure *s);
bool secure_peer_is_verified(const struct secure *s); /* pinned by the configuration, and equal */

#endif
