/* recorded: a signer's side of a recorded handshake, with the secrets it had. */
#ifndef TMKMS_TESTS_LINK_RECORDED_H
#define TMKMS_TESTS_LINK_RECORDED_H

#include <stdlib.h>

#include "crypto/encode.h"
#include "link/secure_impl.h"
#include "vectors.h"

struct recorded {
    struct link_address peer; /* with the node's id pinned */
    struct secure_secrets secrets;
    struct signing_key *identity;
};

static inline struct signing_key *recorded_identity(const json_t *side)
{
    uint8_t seed[ED25519_SEED_LEN];
    struct err err;
    struct signing_key *key;
    struct bytes raw = vectors_hex(side, "identity_seed", seed, sizeof seed);
    if (!signing_key_create(&key, KEY_ED25519, PRIVATE_SEED, raw, &err))
        fail_msg("%s", err.text);
    return key;
}

static inline void recorded_load(struct recorded *r, const json_t *scenario)
{
    const json_t *signer = json_object_get(scenario, "signer");
    const json_t *node = json_object_get(scenario, "node");
    bool noise = json_object_get(signer, "static_private") != NULL;
    memset(r, 0, sizeof *r);
    r->identity = recorded_identity(signer);
    vectors_hex(signer, "eph_private", r->secrets.ephemeral, X25519_LEN);
    char address[256];
    if (noise) {
        vectors_hex(signer, "static_private", r->secrets.noise_static, X25519_LEN);
        snprintf(address, sizeof address, "noise://%s@127.0.0.1:1", vectors_text(node, "peer_id"));
    } else {
        uint8_t key[32], hash[SHA256_LEN];
        char id[2 * PEER_ID_LEN + 1];
        sha256(vectors_hex(node, "identity_public", key, sizeof key), hash);
        hex_lower(bytes_of(hash, PEER_ID_LEN), id);
        snprintf(address, sizeof address, "tcp://%s@127.0.0.1:1", id);
    }
    assert_true(link_address_parse(&r->peer, address, NULL));
}

static inline struct secure *recorded_new(const struct recorded *r)
{
    struct err err;
    struct secure *s = secure_new_with(&r->peer, r->identity, &r->secrets, &err);
    if (s == NULL)
        fail_msg("%s", err.text);
    return s;
}

static inline void recorded_free(struct recorded *r)
{
    signing_key_free(r->identity);
}

/* Room for one call that receives n bytes. */
static inline struct writer recorded_room(size_t n)
{
    uint8_t *buf = malloc(n + SECURE_HELD_MAX);
    assert_non_null(buf);
    return writer_of(buf, n + SECURE_HELD_MAX);
}

#endif
