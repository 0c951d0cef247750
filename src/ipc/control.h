/* control: what the monitor and its children tell each other, one SEQPACKET message each, with
 * descriptors. Host byte order, plain structs; the receiver checks lengths, zero-termination and
 * ranges.
 *
 *   config  -> monitor   CHAIN_ADD       config_chain      the whole file in frames;
 *                        VALIDATOR_ADD   config_validator  problems come as WARNING and FAILED texts
 *                        END                               nothing is missing
 *
 *   monitor -> signer    CHAIN_ADD       config_chain      fds: key file, state file
 *   signer  -> monitor   CHAIN_READY     control_chain     the public key (or FAILED with a text)
 *   monitor -> signer    CHAIN_GO        control_floor     the state is opened (and rewritten) only
 *                                                          now: the monitor holds the machine-wide lock
 *   signer  -> monitor   CHAIN_OPEN      chain id          (or FAILED)
 *   monitor -> signer    CHAIN_UPDATE    config_chain      new policy; same key and state file
 *                        CHANNEL         chain id          fd: the chain's socket pair to the session
 *                        CHAIN_DROP      chain id
 *
 *   monitor -> session   CHAIN_ADD_S     control_chain     fd: the chain's socket pair to the signer
 *                        CHAIN_DROP      chain id
 *                        VALIDATOR_ADD   config_validator  fd: identity key file (not for unix)
 *                        VALIDATOR_DROP  config_validator  the same bytes
 *                        END                               asks for the same message back: all
 *                                                          before it has been taken in
 *
 *   session -> monitor   DIAL            control_dial      the unix socket of a validator of the
 *                                                          configuration: the session cannot connect
 *   monitor -> session   DIALLED         control_dialled   fd: connected, non-blocking; none: os_error
 *
 *   In an enclave, where keys are sealed and the state is kept by the parent:
 *   monitor -> signer    NSM                               fd: the security module
 *                        DOCUMENT_ASK                      an attestation document for the signer's own
 *   signer  -> monitor   DOCUMENT        control_document  RSA key; KMS makes envelopes for it
 *   monitor -> signer    SEALED_ADD      control_sealed    a chain with its key in an envelope; READY follows
 *                        IDENTITY_OPEN   control_sealed    a connection identity key in an envelope
 *   signer  -> monitor   IDENTITY                          fd: a memory file with the key, for the session
 *   monitor -> signer    KEYGEN          control_keygen    a new key in an envelope
 *   signer  -> monitor   KEYGEN_DONE     control_keygen_done
 *   signer  -> monitor   LINK_ASK        chain id          the state's link to the parent is gone
 *   monitor -> signer    LINK            chain id          fd: a new one; none: there is none yet
 *
 *   monitor -> child     PING                              signer and session: does its loop still turn?
 *   child   -> monitor   PONG
 *   child   -> monitor   FAILED          text              what it could not do; it goes on if it can
 *   monitor -> child     end of file                       the child ends cleanly
 */
#ifndef TMKMS_IPC_CONTROL_H
#define TMKMS_IPC_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aws/kms.h"
#include "base/attr.h"
#include "config/config.h"
#include "nitro/nsm.h"

enum control_kind {
    CONTROL_CHAIN_ADD = 1,
    CONTROL_CHAIN_READY,
    CONTROL_CHAIN_GO,
    CONTROL_CHAIN_OPEN,
    CONTROL_CHANNEL,
    CONTROL_CHAIN_DROP,
    CONTROL_CHAIN_ADD_S,
    CONTROL_VALIDATOR_ADD,
    CONTROL_VALIDATOR_DROP,
    CONTROL_FAILED,
    CONTROL_WARNING,
    CONTROL_END,
    CONTROL_CHAIN_UPDATE,
    CONTROL_NSM,
    CONTROL_DOCUMENT_ASK,
    CONTROL_DOCUMENT,
    CONTROL_SEALED_ADD,
    CONTROL_IDENTITY_OPEN,
    CONTROL_IDENTITY,
    CONTROL_KEYGEN,
    CONTROL_KEYGEN_DONE,
    CONTROL_LINK_ASK,
    CONTROL_LINK,
    CONTROL_DIAL,
    CONTROL_DIALLED,
    CONTROL_PING,
    CONTROL_PONG,
};

enum { CONTROL_TEXT_MAX = 1024 };

struct control_chain {
    char id[CHAIN_ID_MAX + 1];
    struct public_key key;
    bool sign_raw_bytes;
};

struct control_floor {
    char id[CHAIN_ID_MAX + 1];
    int64_t hook_height; /* what the chain's state_hook said, -1: nothing */
};

struct control_document {
    uint32_t n;
    uint8_t document[NSM_DOCUMENT_MAX];
};

struct control_sealed {
    struct config_chain chain; /* SEALED_ADD */
    uint32_t envelope_n;
    uint8_t envelope[KMS_BLOB_MAX];
};

struct control_keygen {
    struct kms_place place; /* as it was asked for; bound in the document */
    uint32_t envelope_n, ciphertext_n, nonce_n;
    uint8_t envelope[KMS_BLOB_MAX];
    uint8_t ciphertext[KMS_BLOB_MAX];
    uint8_t nonce[64];
};

struct control_keygen_done {
    struct public_key key;
    struct control_document document; /* its user_data binds ciphertext and key (doc/keygen.md) */
};

struct control_dial {
    uint32_t id;                 /* the session's; comes back with the answer */
    char address[LINK_TEXT_MAX]; /* as in the configuration */
};

struct control_dialled {
    uint32_t id;
    int32_t os_error; /* 0: connected */
};

struct control {
    uint32_t kind; /* enum control_kind */
    union {
        char chain_id[CHAIN_ID_MAX + 1];
        struct config_chain chain;
        struct control_chain channel;
        struct control_floor floor;
        struct config_validator validator;
        struct control_document document;
        struct control_sealed sealed;
        struct control_keygen keygen;
        struct control_keygen_done keygen_done;
        struct control_dial dial;
        struct control_dialled dialled;
        char text[CONTROL_TEXT_MAX];
    } u;
};

/* control_send sends one message with fds_n descriptors (borrowed). false with errno set. */
bool control_send(int sock, const struct control *msg, const int *fds, size_t fds_n) ATTR_MUST_USE;

/* The same at once or not at all: false with errno EAGAIN when the receiver has left no room. */
bool control_send_now(
    int sock, const struct control *msg, const int *fds, size_t fds_n) ATTR_MUST_USE;

/* control_recv waits for one message. 1: *ret is checked (size for its kind, texts terminated,
 * enums in range) and fds hold *ret_fds_n descriptors that are the caller's; 0: end of file; -1:
 * error, or a message that does not pass. */
int control_recv(
    int sock, struct control *ret, int *fds, size_t fds_max, size_t *ret_fds_n) ATTR_MUST_USE;

/* control_fail sends CONTROL_FAILED with a text (best effort). */
void control_fail(int sock, const char *fmt, ...) ATTR_PRINTF(2, 3);

/* Descriptors a child starts with; everything else is closed. */
enum { CHILD_FD_CONTROL = 3, CHILD_FD_LOG = 4 };

#endif
