/* SecretConnection (CometBFT p2p/conn/secret_connection.go, the same bytes since v0.34).
 *
 * Both sides do the same, nobody waits for the other:
 *
 *   hello   22 0a 20 ‖ X25519 public key          in clear
 *   auth    66 0a 22 0a 20 ‖ Ed25519 key ‖ 12 40 ‖ its signature over the challenge       frame 0
 *   data    frames of exactly 1044 bytes: seal(u32 LE length ‖ data ‖ zeros to 1028)
 *
 * The challenge binds both ephemeral keys and their DH result (Merlin), the frame keys come from
 * HKDF. */
#include "link/secure_impl.h"

#include <string.h>

#include "crypto/merlin.h"
#include "crypto/secret.h"

/* Protobuf, with its length before it: BytesValue { value = 1 }, AuthSigMessage { pub_key = 1 {
 * ed25519 = 1 }, sig = 2 }. Go accepts more encodings of the same; no node sends them. */
static const uint8_t hello_head[] = {0x22, 0x0a, 0x20};
static const uint8_t auth_head[] = {0x66, 0x0a, 0x22, 0x0a, 0x20};
static const uint8_t auth_sig_head[] = {0x12, 0x40};

enum { AUTH_LEN = sizeof auth_head + ED25519_KEY_LEN + sizeof auth_sig_head + SIGNATURE_LEN };

static void start(struct secure *s)
{
    x25519_public(s->secrets.ephemeral, s->ephemeral_public);
    write_bytes(&s->handshake, bytes_of(hello_head, sizeof hello_head));
    write_bytes(&s->handshake, bytes_of(s->ephemeral_public, X25519_LEN));
}

static size_t frame_len(const struct secure *s, struct err *err)
{
    if (s->has_challenge)
        return SECRET_CONNECTION_FRAME;
    if (s->held_n < sizeof hello_head)
        return sizeof hello_head;
    if (memcmp(s->held, hello_head, sizeof hello_head) == 0)
        return SECRET_CONNECTION_HELLO;
    err_set(err,
        "the peer does not speak SecretConnection: its first bytes are no 32-byte ephemeral key");
    return 0;
}

/* Transcript challenge and frame keys. peer: its ephemeral public key. */
static void derive(struct secure *s, const uint8_t *peer, const uint8_t dh[X25519_LEN])
{
    bool is_lower = memcmp(s->ephemeral_public, peer, X25519_LEN) < 0;
    const uint8_t *lower = is_lower ? s->ephemeral_public : peer;
    const uint8_t *upper = is_lower ? peer : s->ephemeral_public;

    struct merlin transcript;
    merlin_init(&transcript, "TENDERMINT_SECRET_CONNECTION_TRANSCRIPT_HASH");
    merlin_append(&transcript, "EPHEMERAL_LOWER_PUBLIC_KEY", bytes_of(lower, X25519_LEN));
    merlin_append(&transcript, "EPHEMERAL_UPPER_PUBLIC_KEY", bytes_of(upper, X25519_LEN));
    merlin_append(&transcript, "DH_SECRET", bytes_of(dh, X25519_LEN));
    merlin_challenge(&transcript, "SECRET_CONNECTION_MAC", s->challenge, sizeof s->challenge);
    merlin_wipe(&transcript);

    uint8_t keys[2 * AEAD_KEY_LEN];
    hkdf_sha256((struct bytes){0}, bytes_of(dh, X25519_LEN),
        bytes_of_text("TENDERMINT_SECRET_CONNECTION_KEY_AND_CHALLENGE_GEN"), keys, sizeof keys);
    memcpy(s->from_peer.key, is_lower ? keys : keys + AEAD_KEY_LEN, AEAD_KEY_LEN);
    memcpy(s->to_peer.key, is_lower ? keys + AEAD_KEY_LEN : keys, AEAD_KEY_LEN);
    secret_wipe(keys, sizeof keys);
}

static bool seal_frame(struct secure *s, struct bytes data, struct writer *out, struct err *err)
{
    uint8_t *frame = secure_out_room(out, SECRET_CONNECTION_FRAME);
    if (frame == NULL)
        return true; /* out->bad says it */
    struct writer w = writer_of(frame, SECRET_CONNECTION_PLAIN);
    write_u32le(&w, (uint32_t)data.n);
    write_bytes(&w, data);
    memset(frame + w.n, 0, SECRET_CONNECTION_PLAIN - w.n);
    if (!aead_seal(&s->to_peer, (struct bytes){0}, bytes_of(frame, SECRET_CONNECTION_PLAIN), frame))
        return err_set(err, "the connection has used up its nonces");
    return true;
}

static bool seal_auth(struct secure *s, struct err *err)
{
    uint8_t auth[AUTH_LEN], sig[SIGNATURE_LEN];
    signing_key_sign(s->identity, bytes_of(s->challenge, sizeof s->challenge), sig);
    struct writer w = writer_of(auth, sizeof auth);
    write_bytes(&w, bytes_of(auth_head, sizeof auth_head));
    write_bytes(&w, bytes_of(signing_key_public(s->identity)->bytes, ED25519_KEY_LEN));
    write_bytes(&w, bytes_of(auth_sig_head, sizeof auth_sig_head));
    write_bytes(&w, bytes_of(sig, sizeof sig));
    return seal_frame(s, written(&w), &s->handshake, err);
}

static bool take_hello(struct secure *s, struct err *err)
{
    const uint8_t *peer = s->held + sizeof hello_head;
    if (memcmp(peer, s->ephemeral_public, X25519_LEN) == 0)
        return err_set(err, "the peer sent our own ephemeral key back");
    uint8_t dh[X25519_LEN];
    if (!x25519_shared(s->secrets.ephemeral, peer, dh))
        return err_set(err, "the peer's ephemeral key is a low-order point");
    derive(s, peer, dh);
    secret_wipe(dh, sizeof dh);
    secret_wipe(&s->secrets, sizeof s->secrets);
    s->has_challenge = true;
    return seal_auth(s, err);
}

static bool take_auth(struct secure *s, struct bytes data, struct err *err)
{
    struct reader r = reader_of(data);
    struct bytes head = read_bytes(&r, sizeof auth_head);
    struct bytes key = read_bytes(&r, ED25519_KEY_LEN);
    struct bytes sig_head = read_bytes(&r, sizeof auth_sig_head);
    struct bytes sig = read_bytes(&r, SIGNATURE_LEN);
    if (!reader_done(&r) || !bytes_equal(head, bytes_of(auth_head, sizeof auth_head)) ||
        !bytes_equal(sig_head, bytes_of(auth_sig_head, sizeof auth_sig_head)))
        return err_set(err, "the peer's auth message is not one of an Ed25519 key");
    struct public_key peer = {.type = KEY_ED25519, .len = ED25519_KEY_LEN};
    memcpy(peer.bytes, key.p, key.n);
    if (!public_key_verify(&peer, bytes_of(s->challenge, sizeof s->challenge), sig.p))
        return err_set(err, "the signature in the peer's auth message is wrong");

    uint8_t hash[SHA256_LEN];
    sha256(key, hash);
    const uint8_t *pinned = s->peer.has_peer_id ? s->peer.peer_id : NULL;
    if (!secure_peer_proved(s, key, bytes_of(hash, PEER_ID_LEN), pinned, err))
        return false;
    s->state = SECURE_OPEN;
    return true;
}

static bool take_frame(struct secure *s, struct writer *out, struct err *err)
{
    if (!s->has_challenge)
        return take_hello(s, err);
    uint8_t plain[SECRET_CONNECTION_PLAIN];
    if (!aead_open(
            &s->from_peer, (struct bytes){0}, bytes_of(s->held, SECRET_CONNECTION_FRAME), plain))
        return err_set(err, "a frame from the peer has a bad tag");
    /* What is behind the data is padding with whatever the peer had in its buffer. */
    struct reader r = reader_of(bytes_of(plain, sizeof plain));
    uint32_t n = read_u32le(&r);
    struct bytes data = read_bytes(&r, n);
    if (r.bad)
        return err_set(err, "a frame from the peer claims %u bytes, the limit is %d", (unsigned)n,
            SECRET_CONNECTION_DATA_MAX);
    if (s->state == SECURE_HANDSHAKE)
        return take_auth(s, data, err);
    write_bytes(out, data);
    return true;
}

static bool seal(struct secure *s, struct bytes plain, struct writer *out, struct err *err)
{
    struct reader r = reader_of(plain);
    while (r.n > 0) {
        size_t n = r.n < SECRET_CONNECTION_DATA_MAX ? r.n : SECRET_CONNECTION_DATA_MAX;
        if (!seal_frame(s, read_bytes(&r, n), out, err))
            return false;
    }
    return true;
}

const struct secure_kind secure_secret_connection = {
    .frame_max = SECRET_CONNECTION_FRAME,
    .start = start,
    .frame_len = frame_len,
    .take_frame = take_frame,
    .seal = seal,
};
