/* control: what the monitor tells session and signer, one SEQPACKET message each, with descriptors.
 * Host byte order, plain structs; the receiver checks lengths, zero-termination and ranges.
 *
 *   monitor -> signer   CONTROL_CHAIN_ADD   config_chain          fds: key file, state file
 *   signer  -> monitor  CONTROL_CHAIN_READY chain id, public key  (or CONTROL_FAILED with a text)
 *   monitor -> signer   CONTROL_CHAIN_GO    chain id              state is opened (rewritten) only now: the monitor
 *                                                                 has taken the machine-wide lock of chain and key
 *   signer  -> monitor  CONTROL_CHAIN_OPEN  chain id
 *   monitor -> signer   CONTROL_CHANNEL     chain id              fd: the chain's socket pair to the session
 *   monitor -> signer   CONTROL_CHAIN_DROP  chain id
 *   monitor -> session  CONTROL_CHAIN_ADD_S control_chain         fd: the chain's socket pair to the signer
 *   monitor -> session  CONTROL_CHAIN_DROP  chain id
 *   monitor -> session  CONTROL_VALIDATOR_ADD  config_validator   fd: identity key file (not for unix)
 *   monitor -> session  CONTROL_VALIDATOR_DROP config_validator   (the same bytes)
 *   either  -> monitor  CONTROL_FAILED      text
 *   monitor -> either   end of file: end cleanly
 */
#ifndef TMKMS_IPC_CONTROL_H
#define TMKMS_IPC_CONTROL_H

#include <stdint.h>

#include "config/config.h"

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
};

struct control_chain {
    char id[CHAIN_ID_MAX + 1];
    struct public_key key;
    bool sign_raw_bytes;
};

struct control {
    uint32_t kind; /* enum control_kind */
    union {
        char chain_id[CHAIN_ID_MAX + 1];
        struct config_chain chain;
        struct control_chain channel;
        struct config_validator validator;
        char text[1024];
    } u;
};

/* Descriptors a child starts with; everything else is closed. */
enum { CHILD_FD_CONTROL = 3, CHILD_FD_LOG = 4 };

#endif
