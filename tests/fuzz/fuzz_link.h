/* fuzz_link: the input is what a node sends. This end has the secrets of the first recorded handshake in
 * tests/vectors, so that the corpus holds handshakes that succeed. Any chunking must lead to the same end. */
#ifndef TMKMS_TESTS_FUZZ_LINK_H
#define TMKMS_TESTS_FUZZ_LINK_H

#include <stdlib.h>
#include <string.h>

#include "link/secure_impl.h"

struct fuzz_link {
    const char *address;
    const char *seed; /* of the identity, hex like the rest */
    struct link_address peer;
    struct signing_key *identity;
    struct secure_secrets secrets;
};

static inline void fuzz_link_load(
    struct fuzz_link *f, const char *ephemeral, const char *noise_static)
{
    uint8_t seed[ED25519_SEED_LEN];
    if (!crypto_start(NULL) || !link_address_parse(&f->peer, f->address, NULL) ||
        !hex_decode(f->seed, 64, seed, sizeof seed) ||
        !hex_decode(ephemeral, 64, f->secrets.ephemeral, X25519_LEN) ||
        !hex_decode(noise_static, 64, f->secrets.noise_static, X25519_LEN) ||
        !signing_key_create(
            &f->identity, KEY_ED25519, PRIVATE_SEED, bytes_of(seed, sizeof seed), NULL))
        abort();
}

/* Feeds in steps of chunk bytes; the plaintext is malloced into out. */
static inline enum secure_state fuzz_link_feed(
    const struct fuzz_link *f, struct bytes in, size_t chunk, struct writer *out)
{
    struct secure *s = secure_new_with(&f->peer, f->identity, &f->secrets, NULL);
    uint8_t *buf = malloc(in.n + SECURE_HELD_MAX);
    if (s == NULL || buf == NULL)
        abort();
    *out = writer_of(buf, in.n + SECURE_HELD_MAX);
    for (struct reader r = reader_of(in); r.n > 0;) {
        struct err err = {""};
        size_t before = out->n;
        if (secure_input(s, read_bytes(&r, chunk < r.n ? chunk : r.n), out, &err))
            continue;
        if (secure_state(s) != SECURE_FAILED || out->n != before || err.text[0] == '\0')
            abort();
    }
    if (secure_output(s).n == 0 || secure_output(s).n != 0)
        abort();
    enum secure_state state = secure_state(s);
    if (secure_peer_is_verified(s) && secure_peer_id(s)[0] == '\0')
        abort();
    if (state == SECURE_OPEN && !secure_peer_is_verified(s))
        abort();
    secure_free(s);
    return state;
}

static inline void fuzz_link_run(const struct fuzz_link *f, const uint8_t *data, size_t size)
{
    struct writer whole, bytewise;
    enum secure_state a = fuzz_link_feed(f, bytes_of(data, size), SIZE_MAX, &whole);
    enum secure_state b = fuzz_link_feed(f, bytes_of(data, size), 1, &bytewise);
    if (a != b || (a != SECURE_FAILED && !bytes_equal(written(&whole), written(&bytewise))))
        abort();
    free(whole.buf);
    free(bytewise.buf);
}

#endif
