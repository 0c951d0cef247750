/* address: where a validator listens. unix:///path, tcp://[ID@]host:port (no scheme: tcp),
 * noise://PEERID@ip:port; in an enclave a port of its parent. Plain data without pointers. */
#ifndef TMKMS_CONFIG_ADDRESS_H
#define TMKMS_CONFIG_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

enum link_kind { LINK_UNIX = 1, LINK_TCP, LINK_NOISE, LINK_VSOCK };

enum {
    LINK_TEXT_MAX = 384,
    LINK_HOST_MAX = 256,
    LINK_UNIX_PATH_MAX = 108,
    PEER_ID_LEN = 20,    /* SecretConnection */
    NOISE_PEER_LEN = 38, /* 00 24 08 01 12 20, then the Ed25519 key */
};

/* Zero in every field that does not belong to the kind. */
struct link_address {
    uint32_t kind;            /* enum link_kind */
    char text[LINK_TEXT_MAX]; /* as printed in the log, in the Rust tmkms's form */
    char host[LINK_HOST_MAX]; /* name or address without brackets */
    uint16_t port;            /* never 0 */
    char path[LINK_UNIX_PATH_MAX];
    uint32_t vsock_port;                /* vsock: of the parent (CID 3); never 0 */
    bool is_secret_connection;          /* vsock: SecretConnection, else plain */
    bool has_peer_id;                   /* tcp, vsock with SecretConnection */
    uint8_t peer_id[PEER_ID_LEN];       /* first 20 bytes of SHA-256 of the node's Ed25519 key */
    uint8_t noise_peer[NOISE_PEER_LEN]; /* noise: the node's libp2p peer id, decoded */
};

/* link_address_parse: false with a sentence that says which part of the text is wrong and what is
 * expected. A noise address needs a peer id (of an Ed25519 key) and an IP literal. Percent-encoding
 * is decoded in unix paths. */
bool link_address_parse(struct link_address *ret, const char *text, struct err *err) ATTR_MUST_USE;

/* link_address_set_vsock makes the address of a port of the parent out of vsock_port,
 * is_secret_connection and the peer id, which are set already: "vsock://[ID@]parent:PORT". */
void link_address_set_vsock(struct link_address *a);

/* Both ends prove who they are: this one needs an identity key. */
bool link_address_needs_identity(const struct link_address *a);

#endif
