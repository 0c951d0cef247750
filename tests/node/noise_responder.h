/* noise_responder: the node's half of a noise handshake (Noise_XX_25519_ChaChaPoly_SHA256 with
 * libp2p's payloads), without I/O. Messages are without their 2-byte length. */
#ifndef TMKMS_TESTS_NOISE_RESPONDER_H
#define TMKMS_TESTS_NOISE_RESPONDER_H

#include "crypto/aead.h"
#include "crypto/hash.h"
#include "crypto/key.h"

enum { RESPONDER_PAYLOAD_MAX = 512, RESPONDER_MESSAGE2_MAX = 32 + 48 + RESPONDER_PAYLOAD_MAX + 16 };

struct noise_responder {
    uint8_t ephemeral[X25519_LEN], fixed[X25519_LEN]; /* secrets; fixed: the static key */
    const struct signing_key *identity;
    bool sends_extensions; /* the empty field that Go sends */
    struct bytes payload;  /* sent instead of the proper one, for hostile nodes; empty: none */
    uint8_t h[SHA256_LEN], ck[SHA256_LEN];
    struct aead cipher;
    struct aead to_signer, from_signer; /* after message 3 */
    uint8_t signer_key[32];             /* Ed25519, after message 3 */
};

/* Takes message 1 and writes message 2. */
bool noise_responder_answer(struct noise_responder *r, struct bytes message1,
    struct writer *message2, struct err *err) ATTR_MUST_USE;
/* Takes message 3: checks the signer's identity and makes the two keys. */
bool noise_responder_finish(
    struct noise_responder *r, struct bytes message3, struct err *err) ATTR_MUST_USE;

#endif
