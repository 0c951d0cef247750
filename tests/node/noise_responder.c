#include "noise_responder.h"

#include <string.h>

static const char name[] = "Noise_XX_25519_ChaChaPoly_SHA256";
static const char prefix[] = "noise-libp2p-static-key:";

enum { SIGNED = 24 + X25519_LEN, SEALED_KEY = X25519_LEN + AEAD_TAG_LEN, PAYLOAD = 106 };

static void mix_hash(struct noise_responder *r, const void *data, size_t n)
{
    uint8_t next[SHA256_LEN];
    sha256_2(bytes_of(r->h, sizeof r->h), bytes_of(data, n), next);
    memcpy(r->h, next, sizeof next);
}

/* HKDF as the Noise specification writes it (§4.3), two outputs. */
static void noise_hkdf(const uint8_t ck[SHA256_LEN], struct bytes ikm, uint8_t one[SHA256_LEN],
    uint8_t two[SHA256_LEN])
{
    uint8_t temp[SHA256_LEN], last[SHA256_LEN + 1];
    hmac_sha256(bytes_of(ck, SHA256_LEN), ikm, temp);
    hmac_sha256(bytes_of(temp, sizeof temp), bytes_of("\x01", 1), one);
    memcpy(last, one, SHA256_LEN);
    last[SHA256_LEN] = 2;
    hmac_sha256(bytes_of(temp, sizeof temp), bytes_of(last, sizeof last), two);
}

static bool mix_dh(struct noise_responder *r, const uint8_t secret[X25519_LEN], const uint8_t *peer)
{
    uint8_t dh[X25519_LEN], ck[SHA256_LEN];
    if (!x25519_shared(secret, peer, dh))
        return false;
    noise_hkdf(r->ck, bytes_of(dh, sizeof dh), ck, r->cipher.key);
    memcpy(r->ck, ck, sizeof ck);
    r->cipher.counter = 0;
    return true;
}

static bool seal(struct noise_responder *r, const uint8_t *plain, size_t n, struct writer *out)
{
    uint8_t sealed[RESPONDER_PAYLOAD_MAX + AEAD_TAG_LEN];
    if (n + AEAD_TAG_LEN > sizeof sealed ||
        !aead_seal(&r->cipher, bytes_of(r->h, sizeof r->h), bytes_of(plain, n), sealed))
        return false;
    mix_hash(r, sealed, n + AEAD_TAG_LEN);
    write_bytes(out, bytes_of(sealed, n + AEAD_TAG_LEN));
    return true;
}

static bool open_part(struct noise_responder *r, struct bytes sealed, uint8_t *plain)
{
    if (!aead_open(&r->cipher, bytes_of(r->h, sizeof r->h), sealed, plain))
        return false;
    mix_hash(r, sealed.p, sealed.n);
    return true;
}

static struct bytes signed_text(const uint8_t key[X25519_LEN], uint8_t buf[SIGNED])
{
    struct writer w = writer_of(buf, SIGNED);
    write_text(&w, prefix);
    write_bytes(&w, bytes_of(key, X25519_LEN));
    return written(&w);
}

static struct bytes payload_of(
    const struct noise_responder *r, const uint8_t own[X25519_LEN], uint8_t buf[PAYLOAD])
{
    uint8_t text[SIGNED], sig[SIGNATURE_LEN];
    signing_key_sign(r->identity, signed_text(own, text), sig);
    struct writer w = writer_of(buf, PAYLOAD);
    write_bytes(&w, bytes_of("\x0a\x24\x08\x01\x12\x20", 6));
    write_bytes(&w, bytes_of(signing_key_public(r->identity)->bytes, 32));
    write_bytes(&w, bytes_of("\x12\x40", 2));
    write_bytes(&w, bytes_of(sig, sizeof sig));
    if (r->sends_extensions)
        write_bytes(&w, bytes_of("\x22\x00", 2));
    return written(&w);
}

bool noise_responder_answer(
    struct noise_responder *r, struct bytes message1, struct writer *message2, struct err *err)
{
    uint8_t own_ephemeral[X25519_LEN], own[X25519_LEN], payload[PAYLOAD];
    if (message1.n != X25519_LEN)
        return err_set(err, "message 1 has %zu bytes", message1.n);
    memcpy(r->h, name, sizeof r->h);
    memcpy(r->ck, name, sizeof r->ck);
    mix_hash(r, NULL, 0);
    mix_hash(r, message1.p, message1.n);
    mix_hash(r, NULL, 0);

    x25519_public(r->ephemeral, own_ephemeral);
    x25519_public(r->fixed, own);
    write_bytes(message2, bytes_of(own_ephemeral, sizeof own_ephemeral));
    mix_hash(r, own_ephemeral, sizeof own_ephemeral);
    struct bytes text = r->payload.n > 0 ? r->payload : payload_of(r, own, payload);
    if (!mix_dh(r, r->ephemeral, message1.p) || !seal(r, own, sizeof own, message2) ||
        !mix_dh(r, r->fixed, message1.p) || !seal(r, text.p, text.n, message2) || message2->bad)
        return err_set(err, "message 2 cannot be made");
    return true;
}

bool noise_responder_finish(struct noise_responder *r, struct bytes message3, struct err *err)
{
    uint8_t signer_static[X25519_LEN], payload[PAYLOAD], text[SIGNED];
    struct reader in = reader_of(message3);
    struct bytes sealed_static = read_bytes(&in, SEALED_KEY);
    struct bytes sealed = read_bytes(&in, in.n);
    size_t n = sealed.n - AEAD_TAG_LEN;
    /* Our signer sends 104 bytes; an empty extensions field would make it 106. */
    if (sealed.n < AEAD_TAG_LEN || (n != PAYLOAD && n != PAYLOAD - 2))
        return err_set(err, "message 3 has %zu bytes", message3.n);
    if (!open_part(r, sealed_static, signer_static) || !mix_dh(r, r->ephemeral, signer_static) ||
        !open_part(r, sealed, payload))
        return err_set(err, "message 3 has a bad tag");
    struct public_key key = {.type = KEY_ED25519, .len = 32};
    memcpy(key.bytes, payload + 6, 32);
    if (memcmp(payload, "\x0a\x24\x08\x01\x12\x20", 6) != 0 ||
        memcmp(payload + 38, "\x12\x40", 2) != 0)
        return err_set(err, "the signer's payload is unreadable");
    if (!public_key_verify(&key, signed_text(signer_static, text), payload + 40))
        return err_set(err, "the signer's identity signature is wrong");
    memcpy(r->signer_key, key.bytes, 32);
    noise_hkdf(r->ck, (struct bytes){0}, r->from_signer.key, r->to_signer.key);
    return true;
}
