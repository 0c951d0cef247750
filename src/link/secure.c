#include "link/secure_impl.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/encode.h"
#include "crypto/secret.h"

static bool plain_seal(struct secure *s, struct bytes plain, struct writer *out, struct err *err)
{
    (void)s;
    (void)err;
    write_bytes(out, plain);
    return true;
}

static const struct secure_kind secure_plain = {.seal = plain_seal};

static const struct secure_kind *kind_of(const struct link_address *peer)
{
    switch ((enum link_kind)peer->kind) {
    case LINK_UNIX:
        return &secure_plain;
    case LINK_TCP:
        return &secure_secret_connection;
    case LINK_NOISE:
        return &secure_noise;
    case LINK_VSOCK:
        return peer->is_secret_connection ? &secure_secret_connection : &secure_plain;
    }
    return NULL;
}

struct secure *secure_new_with(const struct link_address *peer, const struct signing_key *identity,
    const struct secure_secrets *secrets, struct err *err)
{
    const struct secure_kind *kind = kind_of(peer);
    if (kind == NULL) {
        err_set(err, "link of unknown kind %u", (unsigned)peer->kind);
        return NULL;
    }
    if (kind != &secure_plain &&
        (identity == NULL || signing_key_public(identity)->type != KEY_ED25519)) {
        err_set(
            err, "%s: the connection needs an Ed25519 identity key: set secret_key", peer->text);
        return NULL;
    }
    struct secure *s = calloc(1, sizeof *s + kind->frame_max);
    if (s == NULL) {
        err_set(err, "%s: no memory for the connection", peer->text);
        return NULL;
    }
    s->kind = kind;
    s->state = kind == &secure_plain ? SECURE_OPEN : SECURE_HANDSHAKE;
    s->peer = *peer;
    s->identity = identity;
    s->secrets = *secrets;
    s->handshake = writer_of(s->output, sizeof s->output);
    if (kind->start != NULL)
        kind->start(s);
    return s;
}

struct secure *secure_new(
    const struct link_address *peer, const struct signing_key *identity, struct err *err)
{
    struct secure_secrets secrets;
    random_bytes(&secrets, sizeof secrets);
    struct secure *s = secure_new_with(peer, identity, &secrets, err);
    secret_wipe(&secrets, sizeof secrets);
    return s;
}

void secure_free(struct secure *s)
{
    if (s == NULL)
        return;
    secret_wipe(s, sizeof *s + s->kind->frame_max);
    free(s);
}

enum secure_state secure_state(const struct secure *s)
{
    return s->state;
}

/* Moves bytes from in to the unfinished frame until it has need of them. */
static void hold(struct secure *s, struct reader *in, size_t need)
{
    size_t missing = need - s->held_n;
    struct bytes part = read_bytes(in, missing < in->n ? missing : in->n);
    memcpy(s->held + s->held_n, part.p, part.n);
    s->held_n += part.n;
}

static bool take_frames(struct secure *s, struct reader *in, struct writer *out, struct err *err)
{
    for (;;) {
        size_t need = s->kind->frame_len(s, err);
        if (need == 0)
            return false;
        if (need > s->held_n) {
            if (in->n == 0)
                return true;
            hold(s, in, need);
            continue;
        }
        if (!s->kind->take_frame(s, out, err))
            return false;
        s->held_n = 0;
    }
}

bool secure_input(struct secure *s, struct bytes in, struct writer *out, struct err *err)
{
    if (s->state == SECURE_FAILED)
        return err_set(err, "the connection has failed before");
    struct reader r = reader_of(in);
    size_t before = out->n;
    bool ok = true;
    if (s->kind->frame_len == NULL)
        write_bytes(out, in);
    else
        ok = take_frames(s, &r, out, err);
    if (ok && out->bad)
        ok = err_set(err, "no room for %zu received bytes", in.n);
    if (!ok) {
        s->state = SECURE_FAILED;
        out->n = before;
    }
    return ok;
}

bool secure_seal(struct secure *s, struct bytes plain, struct writer *out, struct err *err)
{
    if (s->state != SECURE_OPEN)
        return err_set(err, "the connection is not open");
    bool ok = s->kind->seal(s, plain, out, err);
    if (ok && out->bad)
        ok = err_set(err, "no room to send %zu bytes", plain.n);
    if (!ok)
        s->state = SECURE_FAILED;
    return ok;
}

size_t secure_sealed_max(size_t plain_n)
{
    /* SecretConnection needs the most: whole frames, whatever is in them. */
    return (plain_n / SECRET_CONNECTION_DATA_MAX + 1) * SECRET_CONNECTION_FRAME;
}

struct bytes secure_output(struct secure *s)
{
    struct bytes all = written(&s->handshake);
    struct bytes fresh = bytes_of(s->output + s->handshake_sent, all.n - s->handshake_sent);
    s->handshake_sent = all.n;
    return fresh;
}

const char *secure_peer_id(const struct secure *s)
{
    return s->peer_id;
}

bool secure_peer_is_verified(const struct secure *s)
{
    return s->peer_is_verified;
}

/* Looks at every byte, so that the time tells nothing about the place of a difference. */
static bool same_id(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint8_t difference = 0;
    for (size_t i = 0; i < n; i++)
        difference |= a[i] ^ b[i];
    return difference == 0;
}

static bool print_id(const struct secure *s, struct bytes id, char text[SECURE_ID_TEXT_MAX])
{
    if (s->peer.kind == LINK_NOISE)
        return base58_encode(id, text, SECURE_ID_TEXT_MAX);
    hex_lower(id, text);
    return true;
}

static const char *host_and_port(const struct link_address *a)
{
    const char *at = strrchr(a->text, '@');
    return at != NULL ? at + 1 : a->text;
}

bool secure_peer_proved(
    struct secure *s, struct bytes key, struct bytes id, const uint8_t *pinned, struct err *err)
{
    const struct public_key *own = signing_key_public(s->identity);
    if (bytes_equal(key, bytes_of(own->bytes, own->len)))
        return err_set(err,
            "the peer shows this program's own identity key: its messages were sent back to it");
    if (!print_id(s, id, s->peer_id))
        return err_set(err, "the peer's id cannot be printed");
    if (pinned != NULL && !same_id(id.p, pinned, id.n)) {
        char expected[SECURE_ID_TEXT_MAX] = "";
        if (!print_id(s, bytes_of(pinned, id.n), expected))
            return err_set(err, "the configured peer id cannot be printed");
        return err_set(err,
            "verification failed: %s: validator peer ID mismatch! (expected %s, got %s)",
            host_and_port(&s->peer), expected, s->peer_id);
    }
    s->peer_is_verified = pinned != NULL;
    return true;
}

uint8_t *secure_out_room(struct writer *out, size_t n)
{
    if (out->bad || n > out->cap - out->n) {
        out->bad = true;
        return NULL;
    }
    uint8_t *room = out->buf + out->n;
    out->n += n;
    return room;
}
