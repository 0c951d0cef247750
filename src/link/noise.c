/* noise://: libp2p's Noise_XX_25519_ChaChaPoly_SHA256 as CometBFT v0.40 speaks it
 * (privval/noise_listener.go, go-libp2p p2p/security/noise; Noise specification rev. 34). We are
 * the initiator:
 *
 *   1  ->  e
 *   2  <-  e, ee, s, es, payload
 *   3  ->  s, se, payload
 *
 * Each message, later too, follows its length in 2 bytes, big-endian. A payload is protobuf {
 * identity_key = 1, identity_sig = 2 }: the long-term key's signature over the static key of this
 * one connection. */
#include "link/secure_impl.h"

#include <string.h>

#include "crypto/secret.h"
#include "privval/protobuf.h"

static const char protocol_name[] =
    "Noise_XX_25519_ChaChaPoly_SHA256"; /* just 32 bytes: its own hash */
static const char signed_prefix[] = "noise-libp2p-static-key:";
static const uint8_t identity_key_head[] = {
    0x08, 0x01, 0x12, 0x20}; /* PublicKey { type = ED25519, data } */

enum {
    HANDSHAKE_MAX = 1024,
    SEALED_STATIC = X25519_LEN + AEAD_TAG_LEN,
    MESSAGE2_MIN = X25519_LEN + SEALED_STATIC + AEAD_TAG_LEN,
    IDENTITY_KEY_LEN = sizeof identity_key_head + ED25519_KEY_LEN,
    SIGNED_LEN = sizeof signed_prefix - 1 + X25519_LEN,
    PAYLOAD_LEN = 2 + IDENTITY_KEY_LEN + 2 + SIGNATURE_LEN,
    MESSAGE3_LEN = SEALED_STATIC + PAYLOAD_LEN + AEAD_TAG_LEN,
};

/* ---- symmetric state ---- */

static void mix_hash(struct noise_symmetric *n, struct bytes data)
{
    sha256_2(bytes_of(n->h, sizeof n->h), data, n->h);
}

static void mix_key(struct noise_symmetric *n, const uint8_t dh[X25519_LEN])
{
    uint8_t out[2 * SHA256_LEN];
    hkdf_sha256(bytes_of(n->ck, sizeof n->ck), bytes_of(dh, X25519_LEN), (struct bytes){0}, out,
        sizeof out);
    memcpy(n->ck, out, SHA256_LEN);
    memcpy(n->cipher.key, out + SHA256_LEN, AEAD_KEY_LEN);
    n->cipher.counter = 0;
    secret_wipe(out, sizeof out);
}

static bool mix_dh(struct noise_symmetric *n, const uint8_t secret[X25519_LEN], const uint8_t *peer)
{
    uint8_t dh[X25519_LEN];
    bool ok = x25519_shared(secret, peer, dh);
    if (ok)
        mix_key(n, dh);
    secret_wipe(dh, sizeof dh);
    return ok;
}

static bool encrypt_and_hash(struct noise_symmetric *n, struct bytes plain, struct writer *out)
{
    uint8_t *sealed = secure_out_room(out, plain.n + AEAD_TAG_LEN);
    if (sealed == NULL || !aead_seal(&n->cipher, bytes_of(n->h, sizeof n->h), plain, sealed))
        return false;
    mix_hash(n, bytes_of(sealed, plain.n + AEAD_TAG_LEN));
    return true;
}

static bool decrypt_and_hash(struct noise_symmetric *n, struct bytes sealed, uint8_t *plain)
{
    if (!aead_open(&n->cipher, bytes_of(n->h, sizeof n->h), sealed, plain))
        return false;
    mix_hash(n, sealed);
    return true;
}

/* ---- the identity payload ---- */

static struct bytes what_identity_signs(
    const uint8_t static_public[X25519_LEN], uint8_t buf[SIGNED_LEN])
{
    struct writer w = writer_of(buf, SIGNED_LEN);
    write_text(&w, signed_prefix);
    write_bytes(&w, bytes_of(static_public, X25519_LEN));
    return written(&w);
}

/* The payload proves that the owner of the pinned identity key made static_public. */
static bool take_payload(struct secure *s, struct bytes payload,
    const uint8_t static_public[X25519_LEN], struct err *err)
{
    struct bytes identity = {0}, sig = {0};
    struct reader r = reader_of(payload);
    for (struct pb_field f; pb_next(&r, &f);) {
        if (f.number == 1)
            identity = pb_bytes(&r, &f);
        else if (f.number == 2)
            sig = pb_bytes(&r, &f);
    }
    if (!reader_done(&r))
        return err_set(err, "the peer's handshake payload is not readable");
    struct bytes head = bytes_of(identity_key_head, sizeof identity_key_head);
    if (identity.n != IDENTITY_KEY_LEN || !bytes_equal(bytes_of(identity.p, head.n), head))
        return err_set(err, "the peer's identity key is not an Ed25519 key");
    struct public_key key = {.type = KEY_ED25519, .len = ED25519_KEY_LEN};
    memcpy(key.bytes, identity.p + head.n, ED25519_KEY_LEN);
    uint8_t buf[SIGNED_LEN];
    if (sig.n != SIGNATURE_LEN ||
        !public_key_verify(&key, what_identity_signs(static_public, buf), sig.p))
        return err_set(err, "the peer's identity key did not sign its key for this connection");

    uint8_t id[NOISE_PEER_LEN] = {0x00, IDENTITY_KEY_LEN};
    memcpy(id + 2, identity.p, identity.n);
    return secure_peer_proved(
        s, bytes_of(key.bytes, key.len), bytes_of(id, sizeof id), s->peer.noise_peer, err);
}

static void write_payload(
    const struct secure *s, const uint8_t static_public[X25519_LEN], struct writer *w)
{
    uint8_t buf[SIGNED_LEN], sig[SIGNATURE_LEN];
    signing_key_sign(s->identity, what_identity_signs(static_public, buf), sig);
    write_u8(w, 0x0a);
    write_u8(w, IDENTITY_KEY_LEN);
    write_bytes(w, bytes_of(identity_key_head, sizeof identity_key_head));
    write_bytes(w, bytes_of(signing_key_public(s->identity)->bytes, ED25519_KEY_LEN));
    write_u8(w, 0x12);
    write_u8(w, SIGNATURE_LEN);
    write_bytes(w, bytes_of(sig, sizeof sig));
}

/* ---- handshake ---- */

static void start(struct secure *s)
{
    struct noise_symmetric *n = &s->noise;
    memcpy(n->h, protocol_name, sizeof n->h);
    memcpy(n->ck, protocol_name, sizeof n->ck);
    mix_hash(n, (struct bytes){0}); /* prologue */
    x25519_public(s->secrets.ephemeral, s->ephemeral_public);
    write_u16be(&s->handshake, X25519_LEN);
    write_bytes(&s->handshake, bytes_of(s->ephemeral_public, X25519_LEN));
    mix_hash(n, bytes_of(s->ephemeral_public, X25519_LEN));
    mix_hash(n, (struct bytes){0}); /* the empty payload */
}

static bool read_message2(struct secure *s, struct err *err)
{
    struct noise_symmetric *n = &s->noise;
    uint8_t peer_static[X25519_LEN], payload[HANDSHAKE_MAX];
    struct reader r = reader_of(bytes_of(s->held + 2, s->held_n - 2));
    struct bytes peer_ephemeral = read_bytes(&r, X25519_LEN);
    struct bytes sealed_static = read_bytes(&r, SEALED_STATIC);
    struct bytes sealed_payload = read_bytes(&r, r.n);
    if (bytes_equal(peer_ephemeral, bytes_of(s->ephemeral_public, X25519_LEN)))
        return err_set(err, "the peer sent our own ephemeral key back");
    mix_hash(n, peer_ephemeral);
    if (!mix_dh(n, s->secrets.ephemeral, peer_ephemeral.p))
        return err_set(err, "the peer's ephemeral key is a low-order point");
    if (!decrypt_and_hash(n, sealed_static, peer_static))
        return err_set(err, "the peer's handshake message has a bad tag");
    if (!mix_dh(n, s->secrets.ephemeral, peer_static))
        return err_set(err, "the peer's static key is a low-order point");
    if (!decrypt_and_hash(n, sealed_payload, payload))
        return err_set(err, "the peer's handshake payload has a bad tag");
    return take_payload(s, bytes_of(payload, sealed_payload.n - AEAD_TAG_LEN), peer_static, err);
}

static bool write_message3(struct secure *s, const uint8_t *peer_ephemeral, struct err *err)
{
    struct noise_symmetric *n = &s->noise;
    uint8_t own_static[X25519_LEN], payload[PAYLOAD_LEN];
    x25519_public(s->secrets.noise_static, own_static);
    struct writer w = writer_of(payload, sizeof payload);
    write_payload(s, own_static, &w);
    write_u16be(&s->handshake, MESSAGE3_LEN);
    if (!encrypt_and_hash(n, bytes_of(own_static, sizeof own_static), &s->handshake) ||
        !mix_dh(n, s->secrets.noise_static, peer_ephemeral) ||
        !encrypt_and_hash(n, written(&w), &s->handshake))
        return err_set(
            err, "the handshake's last message cannot be made: the peer's ephemeral key is unfit");
    return true;
}

static void split(struct secure *s)
{
    uint8_t keys[2 * AEAD_KEY_LEN];
    hkdf_sha256(bytes_of(s->noise.ck, sizeof s->noise.ck), (struct bytes){0}, (struct bytes){0},
        keys, sizeof keys);
    memcpy(s->to_peer.key, keys, AEAD_KEY_LEN);
    memcpy(s->from_peer.key, keys + AEAD_KEY_LEN, AEAD_KEY_LEN);
    secret_wipe(keys, sizeof keys);
    secret_wipe(&s->noise, sizeof s->noise);
    secret_wipe(&s->secrets, sizeof s->secrets);
}

/* ---- frames ---- */

static size_t frame_len(const struct secure *s, struct err *err)
{
    if (s->held_n < 2)
        return 2;
    struct reader r = reader_of(bytes_of(s->held, 2));
    size_t n = read_u16be(&r);
    if (s->state == SECURE_HANDSHAKE && (n < MESSAGE2_MIN || n > HANDSHAKE_MAX)) {
        err_set(
            err, "the peer does not speak noise: its first message is said to have %zu bytes", n);
        return 0;
    }
    if (n < AEAD_TAG_LEN) {
        err_set(err, "a message from the peer has %zu bytes, less than its tag", n);
        return 0;
    }
    return 2 + n;
}

static bool take_frame(struct secure *s, struct writer *out, struct err *err)
{
    if (s->state == SECURE_HANDSHAKE) {
        if (!read_message2(s, err) || !write_message3(s, s->held + 2, err))
            return false;
        split(s);
        s->state = SECURE_OPEN;
        return true;
    }
    struct bytes sealed = bytes_of(s->held + 2, s->held_n - 2);
    uint8_t *plain = secure_out_room(out, sealed.n - AEAD_TAG_LEN);
    if (plain == NULL)
        return true; /* out->bad says it */
    if (!aead_open(&s->from_peer, (struct bytes){0}, sealed, plain))
        return err_set(err, "a message from the peer has a bad tag");
    return true;
}

static bool seal(struct secure *s, struct bytes plain, struct writer *out, struct err *err)
{
    struct reader r = reader_of(plain);
    while (r.n > 0) {
        struct bytes part = read_bytes(&r, r.n < NOISE_PLAIN_MAX ? r.n : NOISE_PLAIN_MAX);
        write_u16be(out, (uint16_t)(part.n + AEAD_TAG_LEN));
        uint8_t *sealed = secure_out_room(out, part.n + AEAD_TAG_LEN);
        if (sealed == NULL)
            return true; /* out->bad says it */
        if (!aead_seal(&s->to_peer, (struct bytes){0}, part, sealed))
            return err_set(err, "the connection has used up its nonces");
    }
    return true;
}

const struct secure_kind secure_noise = {
    .frame_max = NOISE_FRAME_MAX,
    .start = start,
    .frame_len = frame_len,
    .take_frame = take_frame,
    .seal = seal,
};
