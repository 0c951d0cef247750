/* pair: both ends of one connection in memory: the signer's (src/link) and a node's. */
#ifndef TMKMS_TESTS_LINK_PAIR_H
#define TMKMS_TESTS_LINK_PAIR_H

#include "noise_responder.h"
#include "recorded.h"

enum { PAIR_BUF = 256 * 1024 };

/* The same numbers in every run. */
static inline uint32_t dice(uint32_t *seed, uint32_t sides)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % sides;
}

static inline struct signing_key *key_of(uint8_t first)
{
    uint8_t seed[ED25519_SEED_LEN] = {first};
    struct signing_key *key;
    assert_true(
        signing_key_create(&key, KEY_ED25519, PRIVATE_SEED, bytes_of(seed, sizeof seed), NULL));
    return key;
}

static inline void noise_id(const struct signing_key *identity, uint8_t id[NOISE_PEER_LEN])
{
    memcpy(id, "\x00\x24\x08\x01\x12\x20", 6);
    memcpy(id + 6, signing_key_public(identity)->bytes, 32);
}

struct pair {
    enum link_kind kind;
    struct signing_key *signer_key, *node_key;
    struct link_address address; /* of the node, pinned */
    struct secure *signer;
    struct secure *node; /* unix, tcp */
    struct noise_responder responder;
    uint32_t seed;
    size_t chunk; /* 0: random */
};

static inline struct secure *signer_of(const struct link_address *a, const struct signing_key *key)
{
    struct err err;
    struct secure *s = secure_new(a, key, &err);
    if (s == NULL)
        fail_msg("%s", err.text);
    return s;
}

static inline void pair_new(struct pair *p, enum link_kind kind, size_t chunk)
{
    *p = (struct pair){.kind = kind, .chunk = chunk, .seed = 1};
    p->signer_key = key_of(1);
    p->node_key = key_of(2);
    p->address = (struct link_address){.kind = kind, .text = "tcp://node@10.0.0.1:26659"};
    uint8_t hash[SHA256_LEN];
    const struct public_key *node = signing_key_public(p->node_key);
    sha256(bytes_of(node->bytes, node->len), hash);
    p->address.is_secret_connection = kind == LINK_VSOCK;
    p->address.has_peer_id = kind == LINK_TCP || kind == LINK_VSOCK;
    if (p->address.has_peer_id)
        memcpy(p->address.peer_id, hash, PEER_ID_LEN);
    noise_id(p->node_key, p->address.noise_peer);
    p->signer = signer_of(&p->address, p->signer_key);
    struct link_address any = {.kind = kind, .is_secret_connection = kind == LINK_VSOCK};
    p->node = kind == LINK_NOISE ? NULL : signer_of(&any, p->node_key);
    random_bytes(p->responder.ephemeral, X25519_LEN);
    random_bytes(p->responder.fixed, X25519_LEN);
    p->responder.identity = p->node_key;
}

static inline void pair_free(struct pair *p)
{
    secure_free(p->signer);
    secure_free(p->node);
    signing_key_free(p->signer_key);
    signing_key_free(p->node_key);
}

/* Gives the bytes to s in the pair's chunking; false at the first refusal. out starts empty. */
static inline bool feed(
    struct pair *p, struct secure *s, struct bytes in, struct writer *out, struct err *err)
{
    for (struct reader r = reader_of(in); r.n > 0;) {
        size_t n = p->chunk > 0 ? p->chunk : 1 + dice(&p->seed, 3000);
        if (!secure_input(s, read_bytes(&r, n < r.n ? n : r.n), out, err))
            return false;
    }
    return true;
}

/* A copy of what s wants to send. */
static inline struct bytes take_output(struct secure *s, uint8_t *buf, size_t cap)
{
    struct writer w = writer_of(buf, cap);
    write_bytes(&w, secure_output(s));
    assert_false(w.bad);
    return written(&w);
}

/* What the node answers to the signer's first message, with its 2-byte length. */
static inline struct bytes noise_answer(struct pair *p, uint8_t *buf, size_t cap)
{
    uint8_t first[64];
    struct bytes message1 = take_output(p->signer, first, sizeof first);
    struct writer w = writer_of(buf + 2, cap - 2);
    assert_true(message1.n == 34 && message1.p[0] == 0 && message1.p[1] == 32);
    assert_true(noise_responder_answer(&p->responder, bytes_of(first + 2, 32), &w, NULL));
    buf[0] = (uint8_t)(w.n >> 8);
    buf[1] = (uint8_t)w.n;
    return bytes_of(buf, 2 + w.n);
}

static inline bool shake_noise(struct pair *p, struct err *err)
{
    uint8_t buf[1024], third[256];
    struct writer out = recorded_room(1024);
    struct bytes answer = noise_answer(p, buf, sizeof buf);
    bool ok = feed(p, p->signer, answer, &out, err);
    if (ok) {
        struct bytes message3 = take_output(p->signer, third, sizeof third);
        ok = noise_responder_finish(&p->responder, bytes_of(message3.p + 2, message3.n - 2), err);
    }
    free(out.buf);
    return ok;
}

static inline bool shake_secret_connection(struct pair *p, struct err *err)
{
    uint8_t buf[2048];
    struct writer out = recorded_room(2048);
    bool ok = true;
    for (int i = 0; ok && i < 3; i++) {
        struct bytes a = take_output(p->signer, buf, sizeof buf);
        ok = feed(p, p->node, a, &out, NULL);
        struct bytes b = take_output(p->node, buf, sizeof buf);
        ok = ok && feed(p, p->signer, b, &out, err);
    }
    assert_int_equal(out.n, 0);
    free(out.buf);
    return ok;
}

static inline bool shake(struct pair *p, struct err *err)
{
    if (p->kind == LINK_NOISE)
        return shake_noise(p, err);
    return shake_secret_connection(p, err);
}

/* n bytes from the node as they lie on the wire. */
static inline struct bytes node_seals(struct pair *p, struct bytes plain, uint8_t *buf, size_t cap)
{
    struct writer w = writer_of(buf, cap);
    if (p->kind != LINK_NOISE) {
        assert_true(secure_seal(p->node, plain, &w, NULL));
        return written(&w);
    }
    struct reader r = reader_of(plain);
    do {
        struct bytes part = read_bytes(&r, r.n < NOISE_PLAIN_MAX ? r.n : NOISE_PLAIN_MAX);
        write_u16be(&w, (uint16_t)(part.n + AEAD_TAG_LEN));
        uint8_t *room = secure_out_room(&w, part.n + AEAD_TAG_LEN);
        assert_true(
            room != NULL && aead_seal(&p->responder.to_signer, (struct bytes){0}, part, room));
    } while (r.n > 0);
    return written(&w);
}

#endif
