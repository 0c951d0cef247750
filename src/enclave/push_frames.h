/* push_frames: what the push child and the monitor of the enclave tell each other, one SEQPACKET
 * message each, on the child's control socket. Host byte order, plain structs; the receiver checks
 * lengths, zero-termination and ranges.
 *
 *   push    -> monitor   CONFIG        push_config      then CREDENTIALS, then the frames of
 *                                                       ipc/control.h that the config child sends:
 *                                                       CHAIN_ADD, VALIDATOR_ADD, and END
 *                        CREDENTIALS   aws_credentials
 *                        KEYGEN        push_keygen      then CREDENTIALS
 *                        ATTEST        push_attest
 *                        PING
 *                        CONTROL_FAILED  text           the client was answered already, with this
 *
 *   monitor -> push      ANSWER_KEY       push_answer_key       one a chain, then
 *                        ANSWER_READY     push_answer_ready     the config has taken effect
 *                        ANSWER_DOCUMENT  push_answer_document  to KEYGEN and ATTEST
 *                        ANSWER_STATE     push_answer_state     to PING
 *                        ANSWER_ERROR     push_answer_error     to anything
 *
 * The child parses bytes of a stranger: the monitor believes nothing but the form of its frames. */
#ifndef TMKMS_ENCLAVE_PUSH_FRAMES_H
#define TMKMS_ENCLAVE_PUSH_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "aws/kms.h"
#include "base/attr.h"
#include "ipc/control.h"
#include "keyring/public_text.h"
#include "nitro/nsm.h"
#include "nitro/push.h"

/* Apart from those of enum control_kind, as both travel on one socket. */
enum push_kind {
    PUSH_CONFIG = 0x100,
    PUSH_CREDENTIALS,
    PUSH_KEYGEN,
    PUSH_ATTEST,
    PUSH_PING,
    PUSH_ANSWER_KEY,
    PUSH_ANSWER_READY,
    PUSH_ANSWER_DOCUMENT,
    PUSH_ANSWER_STATE,
    PUSH_ANSWER_ERROR,
};

enum { PUSH_NONCE_MIN = 16, PUSH_NONCE_MAX = 64, PUSH_USER_DATA_MAX = 512 };

struct push_config {
    uint32_t chains_n; /* how many frames follow */
    uint32_t validators_n;
    uint32_t log_vsock_port; /* 0: none */
    uint32_t is_verbose;     /* 0 or 1 */
};

struct push_keygen {
    struct kms_place place; /* key_id is an ARN, see nitro/keygen.h */
    uint32_t nonce_n;
    uint8_t nonce[PUSH_NONCE_MAX];
};

/* user_data never begins with KEYGEN_TAG's word: a document of this kind cannot pass for that of a
 * keygen. */
struct push_attest {
    uint32_t nonce_n; /* 0: none */
    uint8_t nonce[PUSH_NONCE_MAX];
    uint32_t user_data_n;
    uint8_t user_data[PUSH_USER_DATA_MAX];
};

struct push_answer_key {
    char chain_id[CHAIN_ID_MAX + 1];
    struct public_key key;
    char text[PUBLIC_TEXT_MAX]; /* in the chain's format */
};

struct push_answer_ready {
    uint32_t keys_n; /* ANSWER_KEY frames that went before */
    uint8_t measured_config[PCR_LEN];
    uint8_t pcr16[PCR_LEN];
};

struct push_answer_document {
    uint32_t document_n;
    uint8_t document[NSM_DOCUMENT_MAX];
    uint32_t ciphertext_n; /* of KEYGEN only, like the key */
    uint8_t ciphertext[KMS_BLOB_MAX];
    struct public_key key;
};

/* Whether a process of the enclave turns its loop. */
enum push_liveness {
    PUSH_NONE,   /* it does not run */
    PUSH_ALIVE,  /* it answered the monitor a moment ago */
    PUSH_SILENT, /* it runs, and does not answer (HEALTH_PATIENCE_US) */
};

struct push_answer_state {
    uint32_t is_ready;        /* 0: waits for a config */
    uint32_t signer, session; /* enum push_liveness */
    uint32_t log_vsock_port;  /* 0: none */
};

struct push_answer_error {
    uint32_t code; /* enum push_code */
    char text[CONTROL_TEXT_MAX];
};

/* kind tells which member holds: an enum push_kind, or an enum control_kind for `control`. */
struct push_frame {
    uint32_t kind;
    union {
        struct control control; /* with its own kind, the same */
        struct push_config config;
        struct aws_credentials credentials;
        struct push_keygen keygen;
        struct push_attest attest;
        struct push_answer_key key;
        struct push_answer_ready ready;
        struct push_answer_document document;
        struct push_answer_state state;
        struct push_answer_error error;
    } u;
};

/* push_frame_send sends a frame of enum push_kind. false with errno set, also when the other
 * side does not read. Credentials in a frame are
 * the caller's to wipe. */
bool push_frame_send(int sock, const struct push_frame *frame) ATTR_MUST_USE;

/* push_frame_recv waits for one message, of either kind. 1: *ret is checked; 0: end of file; -1:
 * error, or a message that does not pass. Descriptors that come along are closed. */
int push_frame_recv(int sock, struct push_frame *ret) ATTR_MUST_USE;

/* push_frame_peek waits like push_frame_recv for a message and leaves it where it is: 1 and its kind, 0 or -1. */
int push_frame_peek(int sock, uint32_t *ret_kind) ATTR_MUST_USE;

/* push_credentials_are_sound: texts end and hold printable characters only, as they become header
 * lines of a request. */
bool push_credentials_are_sound(const struct aws_credentials *c) ATTR_MUST_USE;

/* push_frame_fail sends ANSWER_ERROR with a text (best effort). */
void push_frame_fail(int sock, enum push_code code, const char *fmt, ...) ATTR_PRINTF(3, 4);

#endif
