/* secure_impl: what the kinds of links share. For this folder and its tests only.
 *
 * A kind sees whole frames: secure.c collects the bytes that frame_len asks for and hands them to
 * take_frame. */
#ifndef TMKMS_LINK_SECURE_IMPL_H
#define TMKMS_LINK_SECURE_IMPL_H

#include "crypto/aead.h"
#include "crypto/hash.h"
#include "link/secure.h"

enum {
    ED25519_KEY_LEN = 32,

    SECRET_CONNECTION_DATA_MAX = 1024,
    SECRET_CONNECTION_PLAIN = 4 + SECRET_CONNECTION_DATA_MAX,
    SECRET_CONNECTION_FRAME = SECRET_CONNECTION_PLAIN + AEAD_TAG_LEN,
    SECRET_CONNECTION_HELLO = 3 + X25519_LEN,

    NOISE_FRAME_MAX = 2 + 65535,
    NOISE_PLAIN_MAX = 65535 - AEAD_TAG_LEN,

    SECURE_ID_TEXT_MAX = 64,
    HANDSHAKE_OUTPUT_MAX = SECRET_CONNECTION_HELLO + SECRET_CONNECTION_FRAME,
};

/* The secrets of one connection. Random, but for tests against recorded handshakes. */
struct secure_secrets {
    uint8_t ephemeral[X25519_LEN];
    uint8_t noise_static[X25519_LEN];
};

/* Noise symmetric state (Noise specification rev. 34, §5.2). */
struct noise_symmetric {
    uint8_t h[SHA256_LEN];
    uint8_t ck[SHA256_LEN];
    struct aead cipher;
};

struct secure {
    const struct secure_kind *kind;
    enum secure_state state;
    struct link_address peer;
    const struct signing_key *identity; /* borrowed; not used once open */
    struct secure_secrets secrets;      /* wiped once they are used */
    uint8_t ephemeral_public[X25519_LEN];
    bool has_challenge; /* SecretConnection: the hello was taken, the auth message is next */
    uint8_t challenge[SHA256_LEN];
    struct noise_symmetric noise;
    struct aead to_peer, from_peer;
    char peer_id[SECURE_ID_TEXT_MAX];
    bool peer_is_verified;
    uint8_t output[HANDSHAKE_OUTPUT_MAX];
    struct writer handshake; /* into output */
    size_t handshake_sent;
    size_t held_n;  /* bytes of the unfinished frame */
    uint8_t held[]; /* kind->frame_max bytes */
};

/* No frame_len: no frames, the bytes pass through. */
struct secure_kind {
    size_t frame_max;
    /* Begins the handshake. */
    void (*start)(struct secure *s);
    /* How many bytes of the frame must be held for the next step: more than held_n, or held_n when
     * the frame is whole. 0 (and err): no frame begins like this. */
    size_t (*frame_len)(const struct secure *s, struct err *err);
    /* Takes the whole frame that is held. */
    bool (*take_frame)(struct secure *s, struct writer *out, struct err *err);
    bool (*seal)(struct secure *s, struct bytes plain, struct writer *out, struct err *err);
};

extern const struct secure_kind secure_secret_connection, secure_noise;

/* secure_new with given secrets (copied). */
struct secure *secure_new_with(const struct link_address *peer, const struct signing_key *identity,
    const struct secure_secrets *secrets, struct err *err);

/* secure_peer_proved ends a handshake in which the peer has proved that it owns key (32 bytes). id:
 * the bytes of its id; pinned: those the configuration wants (the same length), NULL for none.
 * False when the key is our own (our own messages came back) or the ids differ. */
bool secure_peer_proved(struct secure *s, struct bytes key, struct bytes id, const uint8_t *pinned,
    struct err *err) ATTR_MUST_USE;

/* The place for n bytes at the end of out, which then count as written; NULL when they do not fit.
 */
uint8_t *secure_out_room(struct writer *out, size_t n);

#endif
