/* node: the validator's side of privval, for tests, the benchmark and the demo. It listens, takes
 * one signer at a time, asks and checks. Its codec and its half of noise are written apart from
 * those in src/, so that a mistake in one shows against the other.
 *
 * Deadlines are times of clock_monotonic_us. Blocking calls; any number of listeners and
 * connections, each used by one thread at a time. */
#ifndef TMKMS_TESTS_NODE_H
#define TMKMS_TESTS_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"
#include "crypto/key.h"
#include "privval/message.h" /* enum wire_line */
#include "privval/signable.h"

/* What nodes before v0.40 read of one reply. */
enum { NODE_REPLY_MAX = 10240 };

/* ---- connections (node_link.c) ---- */

struct node_listener;
struct node_conn;

/* A fresh Ed25519 identity for a node, or the one of this seed. */
struct signing_key *node_identity_new(const uint8_t *seed, struct err *err);

/* node_listen: address is unix://PATH (a socket file that is there is replaced), tcp://IP:PORT or
 * noise://IP:PORT; port 0 takes a free one. identity is borrowed (NULL for unix). NULL and err on
 * failure. */
struct node_listener *node_listen(
    const char *address, const struct signing_key *identity, struct err *err);
/* What the signer's configuration names: with the port, and for tcp and noise with this node's id.
 */
const char *node_address(const struct node_listener *l);
int node_listener_fd(const struct node_listener *l);
void node_unlisten(struct node_listener *l); /* NULL is fine; a unix socket file goes away */

/* node_accept waits for a signer and does the handshake. NULL and err on failure or at the
 * deadline. */
struct node_conn *node_accept(struct node_listener *l, uint64_t deadline, struct err *err);
/* The same without a handshake; only node_fd and node_hang_up may be used on the result. */
struct node_conn *node_accept_raw(struct node_listener *l, uint64_t deadline, struct err *err);
void node_hang_up(struct node_conn *c); /* NULL is fine */
int node_fd(const struct node_conn *c);

/* node_send seals plain, any bytes, and sends them in one write. */
bool node_send(struct node_conn *c, struct bytes plain, struct err *err) ATTR_MUST_USE;
/* node_receive returns the next reply with its length prefix, borrowed until the next call. false:
 * nothing whole by the deadline, the signer closed, or over NODE_REPLY_MAX. */
bool node_receive(
    struct node_conn *c, struct bytes *ret, uint64_t deadline, struct err *err) ATTR_MUST_USE;
/* The signer ended the connection (seen by a failed node_receive). */
bool node_closed_by_signer(const struct node_conn *c);

/* ---- messages (node_wire.c) ---- */

enum node_kind {
    NODE_PUBKEY = 1,
    NODE_VOTE,
    NODE_PROPOSAL,
    NODE_PING,
    NODE_SIGN_BYTES, /* P2 */
    NODE_CELESTIA,   /* P1, celestia-core's SignRawBytes */
};

struct node_request {
    enum node_kind kind;
    const char *chain_id;
    struct signable signable;       /* vote (by its step), proposal */
    struct bytes validator_address; /* vote; none: a made up one */
    int32_t validator_index;        /* vote */
    struct bytes extension;         /* vote */
    bool skip_extension;            /* vote, P2 */
    struct bytes raw;               /* sign bytes, celestia */
    struct bytes unique_id;         /* celestia */
};

struct node_reply {
    enum node_kind kind;
    bool is_error;
    int64_t error_code;
    char error[1024];
    bool has_signature, has_extension_signature, has_timestamp;
    uint8_t signature[SIGNATURE_LEN];
    uint8_t extension_signature[SIGNATURE_LEN];
    struct timestamp timestamp;
    struct public_key key; /* pubkey */
};

/* How many bytes node_encode may need beside the extension or raw bytes. */
enum { NODE_REQUEST_OVERHEAD = 1024 };

/* Whole frame with its length prefix, borrowed from buf; empty when it does not fit. */
struct bytes node_encode(
    enum wire_line line, const struct node_request *req, uint8_t *buf, size_t cap);
bool node_decode(
    struct node_reply *ret, enum wire_line line, struct bytes frame, struct err *err) ATTR_MUST_USE;

/* What the signature (extension = false) or the extension's signature must be over. */
struct bytes node_sign_bytes(
    const struct node_request *req, bool extension, uint8_t *buf, size_t cap);

/* ---- both ---- */

/* node_ask sends one request and decodes its reply. An error reply is true with is_error. */
bool node_ask(struct node_conn *c, enum wire_line line, const struct node_request *req,
    uint64_t deadline, struct node_reply *ret, struct err *err) ATTR_MUST_USE;

/* node_check judges a reply as a node with vote extensions does: the kind of the request, no error,
 * a signature over the request with the reply's timestamp (votes) or its own (proposals), an
 * extension's signature for non-nil precommits and nowhere else. */
bool node_check(const struct node_request *req, const struct node_reply *reply,
    const struct public_key *key, struct err *err) ATTR_MUST_USE;

/* Fields for a height, round and step: a block made up from the height, the time now; POL round -1.
 */
struct signable node_signable(int64_t height, int32_t round, enum step step);

#endif
