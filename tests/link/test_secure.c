/* The three kinds of links against honest and hostile peers, in memory. */
#include "noise_responder.h"
#include "recorded.h"

enum { PAIR_BUF = 256 * 1024 };

static int start(void **state)
{
    (void)state;
    struct err err;
    return crypto_start(&err) ? 0 : -1;
}

/* The same numbers in every run. */
static uint32_t dice(uint32_t *seed, uint32_t sides)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % sides;
}

static struct signing_key *key_of(uint8_t first)
{
    uint8_t seed[ED25519_SEED_LEN] = {first};
    struct signing_key *key;
    assert_true(
        signing_key_create(&key, KEY_ED25519, PRIVATE_SEED, bytes_of(seed, sizeof seed), NULL));
    return key;
}

static void noise_id(const struct signing_key *identity, uint8_t id[NOISE_PEER_LEN])
{
    memcpy(id, "\x00\x24\x08\x01\x12\x20", 6);
    memcpy(id + 6, signing_key_public(identity)->bytes, 32);
}

/* ---- both ends of one connection ---- */

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

static struct secure *signer_of(const struct link_address *a, const struct signing_key *key)
{
    struct err err;
    struct secure *s = secure_new(a, key, &err);
    if (s == NULL)
        fail_msg("%s", err.text);
    return s;
}

static void pair_new(struct pair *p, enum link_kind kind, size_t chunk)
{
    *p = (struct pair){.kind = kind, .chunk = chunk, .seed = 1};
    p->signer_key = key_of(1);
    p->node_key = key_of(2);
    p->address = (struct link_address){.kind = kind, .text = "tcp://node@10.0.0.1:26659"};
    uint8_t hash[SHA256_LEN];
    const struct public_key *node = signing_key_public(p->node_key);
    sha256(bytes_of(node->bytes, node->len), hash);
    p->address.has_peer_id = kind == LINK_TCP;
    if (kind == LINK_TCP)
        memcpy(p->address.peer_id, hash, PEER_ID_LEN);
    noise_id(p->node_key, p->address.noise_peer);
    p->signer = signer_of(&p->address, p->signer_key);
    struct link_address any = {.kind = kind};
    p->node = kind == LINK_NOISE ? NULL : signer_of(&any, p->node_key);
    random_bytes(p->responder.ephemeral, X25519_LEN);
    random_bytes(p->responder.fixed, X25519_LEN);
    p->responder.identity = p->node_key;
}

static void pair_free(struct pair *p)
{
    secure_free(p->signer);
    secure_free(p->node);
    signing_key_free(p->signer_key);
    signing_key_free(p->node_key);
}

/* Gives the bytes to s in the pair's chunking; false at the first refusal. out starts empty. */
static bool feed(
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
static struct bytes take_output(struct secure *s, uint8_t *buf, size_t cap)
{
    struct writer w = writer_of(buf, cap);
    write_bytes(&w, secure_output(s));
    assert_false(w.bad);
    return written(&w);
}

/* What the node answers to the signer's first message, with its 2-byte length. */
static struct bytes noise_answer(struct pair *p, uint8_t *buf, size_t cap)
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

static bool shake_noise(struct pair *p, struct err *err)
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

static bool shake_secret_connection(struct pair *p, struct err *err)
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

static bool shake(struct pair *p, struct err *err)
{
    if (p->kind == LINK_NOISE)
        return shake_noise(p, err);
    return shake_secret_connection(p, err);
}

/* n bytes from the node as they lie on the wire. */
static struct bytes node_seals(struct pair *p, struct bytes plain, uint8_t *buf, size_t cap)
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

static void node_opens(struct pair *p, struct bytes wire, struct bytes want)
{
    uint8_t *got = malloc(PAIR_BUF);
    assert_non_null(got);
    struct writer out = writer_of(got, PAIR_BUF);
    if (p->kind != LINK_NOISE) {
        assert_true(feed(p, p->node, wire, &out, NULL));
    } else {
        for (struct reader r = reader_of(wire); r.n > 0;) {
            struct bytes part = read_bytes(&r, read_u16be(&r));
            uint8_t *room = secure_out_room(&out, part.n - AEAD_TAG_LEN);
            assert_true(aead_open(&p->responder.from_signer, (struct bytes){0}, part, room));
        }
    }
    assert_true(bytes_equal(written(&out), want));
    free(got);
}

static void talk(enum link_kind kind, size_t chunk)
{
    static uint8_t plain[PAIR_BUF / 2], wire[PAIR_BUF];
    static const size_t sizes[] = {1, 3, 1023, 1024, 1025, 4096, 65519, 65520, 100000};
    struct pair p;
    struct err err = {""};
    pair_new(&p, kind, chunk);
    if (!shake(&p, &err))
        fail_msg("%s", err.text);
    assert_int_equal(secure_state(p.signer), SECURE_OPEN);
    assert_int_equal(secure_peer_is_verified(p.signer), kind != LINK_UNIX);
    assert_int_equal(strlen(secure_peer_id(p.signer)) > 0, kind != LINK_UNIX);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct bytes data = bytes_of(plain, sizes[i]);
        random_bytes(plain, sizes[i]);
        struct writer out = recorded_room(sizes[i]);
        assert_true(feed(&p, p.signer, node_seals(&p, data, wire, sizeof wire), &out, NULL));
        assert_true(bytes_equal(written(&out), data));
        free(out.buf);

        struct writer sealed = writer_of(wire, secure_sealed_max(data.n)); /* must be enough */
        assert_true(secure_seal(p.signer, data, &sealed, NULL));
        node_opens(&p, written(&sealed), data);
    }
    pair_free(&p);
}

static void whole_connections(void **state)
{
    (void)state;
    static const enum link_kind kinds[] = {LINK_UNIX, LINK_TCP, LINK_NOISE};
    for (size_t i = 0; i < 3; i++) {
        talk(kinds[i], 1);
        talk(kinds[i], SIZE_MAX);
        for (int run = 0; run < 4; run++)
            talk(kinds[i], 0);
    }
}

/* A full noise message held but for its last byte is the most that one call can yield beyond its input. */
static void most_held_plaintext(void **state)
{
    (void)state;
    static uint8_t plain[NOISE_PLAIN_MAX], wire[PAIR_BUF];
    struct pair p;
    pair_new(&p, LINK_NOISE, SIZE_MAX);
    assert_true(shake(&p, NULL));
    struct bytes sealed = node_seals(&p, bytes_of(plain, sizeof plain), wire, sizeof wire);
    struct writer out = recorded_room(1);
    assert_true(secure_input(p.signer, bytes_of(sealed.p, sealed.n - 1), &out, NULL));
    assert_int_equal(out.n, 0);
    assert_true(secure_input(p.signer, bytes_of(sealed.p + sealed.n - 1, 1), &out, NULL));
    assert_int_equal(out.n, NOISE_PLAIN_MAX);
    free(out.buf);
    pair_free(&p);
}

/* ---- recorded handshakes, damaged ---- */

/* What the node sent in the handshake of the first recorded scenario, and a frame of data behind it. */
static struct bytes recorded_node(
    const json_t *scenario, uint8_t *buf, size_t cap, size_t *handshake_n)
{
    struct writer w = writer_of(buf, cap);
    uint8_t part[2048];
    const json_t *node = json_object_get(scenario, "node"),
                 *wire = json_object_get(scenario, "wire");
    const json_t *first = json_array_get(json_object_get(scenario, "messages"), 0);
    if (wire != NULL) {
        write_bytes(&w, vectors_hex(wire, "message2", part, sizeof part));
        *handshake_n = w.n;
        first = json_array_get(json_object_get(first, "messages"), 0);
        write_bytes(&w, vectors_hex(first, "wire", part, sizeof part));
        return written(&w);
    }
    const json_t *auth = json_array_get(json_object_get(node, "auth_frames"), 0);
    write_bytes(&w, vectors_hex(node, "hello", part, sizeof part));
    write_bytes(&w, vectors_hex(auth, "sealed", part, sizeof part));
    *handshake_n = w.n;
    first = json_array_get(json_object_get(first, "frames"), 0);
    write_bytes(&w, vectors_hex(first, "sealed", part, sizeof part));
    return written(&w);
}

/* The state after the bytes came, and how much plaintext they gave. */
static enum secure_state after(const struct recorded *r, struct bytes in, size_t *plain_n)
{
    struct secure *s = recorded_new(r);
    struct writer out = recorded_room(in.n);
    (void)!secure_input(s, in, &out, NULL);
    enum secure_state state = secure_state(s);
    *plain_n = out.n;
    free(out.buf);
    secure_free(s);
    return state;
}

static void damaged(const char *file)
{
    json_t *root = vectors_load(file);
    const json_t *scenario = json_array_get(json_object_get(root, "scenarios"), 0);
    uint8_t stream[4096];
    struct recorded r;
    size_t handshake_n, plain_n, refused = 0;
    recorded_load(&r, scenario);
    struct bytes all = recorded_node(scenario, stream, sizeof stream, &handshake_n);
    assert_int_equal(after(&r, all, &plain_n), SECURE_OPEN);
    assert_int_equal(plain_n, 3);
    for (size_t n = 0; n < all.n; n++) {
        enum secure_state want = n < handshake_n ? SECURE_HANDSHAKE : SECURE_OPEN;
        assert_int_equal(after(&r, bytes_of(stream, n), &plain_n), want);
        assert_int_equal(plain_n, 0);
    }
    for (size_t i = 0; i < all.n; i++) {
        static const uint8_t flips[] = {0x01, 0x80, 0xff};
        for (size_t f = 0; f < sizeof flips; f++) {
            stream[i] ^= flips[f];
            enum secure_state state = after(&r, all, &plain_n);
            /* Never plaintext. A changed length may just wait for bytes that do not come. */
            assert_int_equal(plain_n, 0);
            if (i < handshake_n)
                assert_true(state != SECURE_OPEN);
            refused += state == SECURE_FAILED;
            stream[i] ^= flips[f];
        }
    }
    assert_true(refused >= 3 * all.n - 8);
    recorded_free(&r);
    json_decref(root);
}

static void damaged_handshakes(void **state)
{
    (void)state;
    damaged("secret_connection.json");
    damaged("noise.json");
}

/* ---- hostile peers ---- */

static void expect_shake_refused(struct pair *p, const char *word)
{
    struct err err = {""};
    assert_false(shake(p, &err));
    if (strstr(err.text, word) == NULL)
        fail_msg("'%s' does not say '%s'", err.text, word);
    assert_int_equal(secure_state(p->signer), SECURE_FAILED);
    assert_false(secure_peer_is_verified(p->signer));
    assert_false(secure_seal(p->signer, bytes_of_text("x"), &(struct writer){0}, NULL));
}

static void expect_refused(struct secure *s, struct bytes in, const char *word)
{
    struct err err = {""};
    struct writer out = recorded_room(in.n);
    assert_false(secure_input(s, in, &out, &err));
    if (strstr(err.text, word) == NULL)
        fail_msg("'%s' does not say '%s'", err.text, word);
    assert_int_equal(out.n, 0);
    assert_int_equal(secure_state(s), SECURE_FAILED);
    free(out.buf);
}

/* The message names the id that came and the one that was wanted. */
static void wrong_peer_id(enum link_kind kind, const char *expected, const char *got)
{
    struct pair p;
    pair_new(&p, kind, SIZE_MAX);
    secure_free(p.signer);
    p.address.peer_id[PEER_ID_LEN - 1] ^= 1;
    p.address.noise_peer[NOISE_PEER_LEN - 1] ^= 1;
    p.signer = signer_of(&p.address, p.signer_key);
    struct err err = {""};
    assert_false(shake(&p, &err));
    char want[512];
    snprintf(want, sizeof want,
        "verification failed: 10.0.0.1:26659: validator peer ID mismatch! (expected %s, got %s)",
        expected, got);
    assert_string_equal(err.text, want);
    assert_int_equal(secure_state(p.signer), SECURE_FAILED);
    assert_false(secure_peer_is_verified(p.signer));
    pair_free(&p);
}

static void wrong_peer_ids(void **state)
{
    (void)state;
    struct pair p;
    uint8_t hash[SHA256_LEN], id[NOISE_PEER_LEN];
    char got[64], expected[64];
    pair_new(&p, LINK_TCP, SIZE_MAX);
    const struct public_key *node = signing_key_public(p.node_key);
    sha256(bytes_of(node->bytes, node->len), hash);
    hex_lower(bytes_of(hash, PEER_ID_LEN), got);
    hash[PEER_ID_LEN - 1] ^= 1;
    hex_lower(bytes_of(hash, PEER_ID_LEN), expected);
    wrong_peer_id(LINK_TCP, expected, got);

    noise_id(p.node_key, id);
    assert_true(base58_encode(bytes_of(id, sizeof id), got, sizeof got));
    id[NOISE_PEER_LEN - 1] ^= 1;
    assert_true(base58_encode(bytes_of(id, sizeof id), expected, sizeof expected));
    wrong_peer_id(LINK_NOISE, expected, got);
    pair_free(&p);
}

static void unpinned_tcp_is_not_verified(void **state)
{
    (void)state;
    struct pair p;
    pair_new(&p, LINK_TCP, SIZE_MAX);
    secure_free(p.signer);
    p.address.has_peer_id = false;
    p.signer = signer_of(&p.address, p.signer_key);
    assert_true(shake(&p, NULL));
    assert_int_equal(strlen(secure_peer_id(p.signer)), 40);
    assert_false(secure_peer_is_verified(p.signer));
    pair_free(&p);
}

/* Our hello comes back. */
static void reflected_hello(void **state)
{
    (void)state;
    struct pair p;
    uint8_t buf[2048];
    pair_new(&p, LINK_TCP, SIZE_MAX);
    struct bytes hello = take_output(p.signer, buf, sizeof buf);
    expect_refused(p.signer, hello, "our own ephemeral key");
    pair_free(&p);

    pair_new(&p, LINK_NOISE, SIZE_MAX);
    struct bytes message1 = take_output(p.signer, buf, sizeof buf);
    memmove(buf + 2, message1.p + 2, 32);
    memset(buf + 34, 7, 200 - 32);
    buf[0] = 0;
    buf[1] = 200;
    expect_refused(p.signer, bytes_of(buf, 202), "our own ephemeral key");
    pair_free(&p);
}

/* The peer makes its own ephemeral key, opens our auth message and sends it back as its own: the signature is right, as
 * both sides sign the same challenge. */
static void reflected_identity(void **state)
{
    (void)state;
    struct pair p;
    uint8_t buf[2048], auth[SECRET_CONNECTION_PLAIN];
    struct writer none = recorded_room(2048);
    pair_new(&p, LINK_TCP, SIZE_MAX);
    secure_free(p.signer);
    p.address.has_peer_id = false;
    p.signer = signer_of(&p.address, p.signer_key);
    assert_true(secure_input(p.node, take_output(p.signer, buf, sizeof buf), &none, NULL));
    struct bytes hello =
        take_output(p.node, buf, sizeof buf); /* with its own auth behind, unused */
    assert_true(secure_input(p.signer, bytes_of(hello.p, SECRET_CONNECTION_HELLO), &none, NULL));
    struct bytes sealed = take_output(p.signer, buf, sizeof buf);
    assert_true(aead_open(&p.node->from_peer, (struct bytes){0}, sealed, auth));
    p.node->to_peer.counter = 0;
    assert_true(aead_seal(&p.node->to_peer, (struct bytes){0}, bytes_of(auth, sizeof auth), buf));
    expect_refused(p.signer, bytes_of(buf, SECRET_CONNECTION_FRAME), "own identity key");
    free(none.buf);
    pair_free(&p);

    pair_new(&p, LINK_NOISE, SIZE_MAX); /* a node that has our key */
    secure_free(p.signer);
    p.responder.identity = p.signer_key;
    noise_id(p.signer_key, p.address.noise_peer);
    p.signer = signer_of(&p.address, p.signer_key);
    expect_shake_refused(&p, "own identity key");
    pair_free(&p);
}

static void replayed_and_reordered(void **state)
{
    (void)state;
    static const enum link_kind kinds[] = {LINK_TCP, LINK_NOISE};
    for (size_t i = 0; i < 4; i++) {
        uint8_t first[2048], second[2048];
        struct pair p;
        pair_new(&p, kinds[i % 2], SIZE_MAX);
        assert_true(shake(&p, NULL));
        struct bytes a = node_seals(&p, bytes_of_text("first"), first, sizeof first);
        struct bytes b = node_seals(&p, bytes_of_text("second"), second, sizeof second);
        struct writer out = recorded_room(2048);
        if (i < 2) {
            assert_true(secure_input(p.signer, a, &out, NULL));
            expect_refused(p.signer, a, "bad tag");
        } else {
            expect_refused(p.signer, b, "bad tag");
        }
        assert_false(secure_input(p.signer, b, &out, NULL)); /* nothing heals it */
        free(out.buf);
        pair_free(&p);
    }
}

/* A frame of SecretConnection with this plaintext, whole. */
static struct bytes frame_of(
    struct pair *p, const uint8_t plain[SECRET_CONNECTION_PLAIN], uint8_t *buf)
{
    assert_true(aead_seal(
        &p->node->to_peer, (struct bytes){0}, bytes_of(plain, SECRET_CONNECTION_PLAIN), buf));
    return bytes_of(buf, SECRET_CONNECTION_FRAME);
}

static void frames_of_odd_lengths(void **state)
{
    (void)state;
    uint8_t plain[SECRET_CONNECTION_PLAIN], buf[SECRET_CONNECTION_FRAME];
    struct pair p;
    pair_new(&p, LINK_TCP, SIZE_MAX);
    assert_true(shake(&p, NULL));
    memset(plain, 0xee, sizeof plain); /* padding, ignored */
    struct writer out = recorded_room(sizeof buf);
    for (int i = 0; i < 3; i++) {
        memcpy(plain, "\0\0\0\0", 4);
        assert_true(secure_input(p.signer, frame_of(&p, plain, buf), &out, NULL));
        assert_int_equal(out.n, 0);
    }
    memcpy(plain, "\x01\0\0\0z", 5);
    assert_true(secure_input(p.signer, frame_of(&p, plain, buf), &out, NULL));
    assert_true(bytes_equal(written(&out), bytes_of_text("z")));
    memcpy(plain, "\x01\x04\0\0", 4); /* 1025 */
    expect_refused(p.signer, frame_of(&p, plain, buf), "1025");
    free(out.buf);
    pair_free(&p);

    pair_new(&p, LINK_TCP, SIZE_MAX);
    assert_true(shake(&p, NULL));
    memset(plain, 0xff, sizeof plain);
    expect_refused(p.signer, frame_of(&p, plain, buf), "4294967295");
    pair_free(&p);
}

static void noise_odd_lengths(void **state)
{
    (void)state;
    uint8_t buf[64];
    struct pair p;
    pair_new(&p, LINK_NOISE, SIZE_MAX);
    assert_true(shake(&p, NULL));
    struct writer out = recorded_room(64);
    for (int i = 0; i < 3; i++) /* empty messages */
        assert_true(
            secure_input(p.signer, node_seals(&p, (struct bytes){0}, buf, sizeof buf), &out, NULL));
    assert_int_equal(out.n, 0);
    expect_refused(p.signer, bytes_of("\x00\x0f", 2), "15 bytes");
    free(out.buf);
    pair_free(&p);
    /* Refused before its bytes come, let alone any crypto. */
    static const char *const lengths[] = {"\x00\x00", "\x00\x5f", "\x04\x01", "\xff\xff"};
    for (size_t i = 0; i < 4; i++) {
        pair_new(&p, LINK_NOISE, SIZE_MAX);
        expect_refused(p.signer, bytes_of(lengths[i], 2), "does not speak noise");
        pair_free(&p);
    }
}

/* The auth message of a peer with these changes to it. */
static void expect_auth_refused(size_t at, uint8_t change, const char *word)
{
    uint8_t buf[2048], auth[SECRET_CONNECTION_PLAIN];
    struct writer none = recorded_room(2048);
    struct pair p;
    pair_new(&p, LINK_TCP, SIZE_MAX);
    assert_true(secure_input(p.node, take_output(p.signer, buf, sizeof buf), &none, NULL));
    struct bytes out = take_output(p.node, buf, sizeof buf);
    assert_true(secure_input(p.signer, bytes_of(out.p, SECRET_CONNECTION_HELLO), &none, NULL));
    struct bytes sealed = bytes_of(out.p + SECRET_CONNECTION_HELLO, SECRET_CONNECTION_FRAME);
    assert_true(aead_open(&p.signer->from_peer, (struct bytes){0}, sealed, auth));
    p.signer->from_peer.counter = 0;
    p.node->to_peer.counter = 0;
    auth[at] ^= change;
    expect_refused(p.signer, frame_of(&p, auth, buf), word);
    free(none.buf);
    pair_free(&p);
}

static void bad_auth_messages(void **state)
{
    (void)state;
    expect_auth_refused(0, 0x01, "not one of an Ed25519 key"); /* 102 bytes */
    expect_auth_refused(0, 0x08, "not one of an Ed25519 key"); /* 111 bytes */
    expect_auth_refused(4, 0x01, "not one of an Ed25519 key");
    expect_auth_refused(7, 0x18, "not one of an Ed25519 key"); /* secp256k1's field */
    expect_auth_refused(9 + 32, 0x08, "not one of an Ed25519 key");
    for (size_t i = 0; i < 32; i++)
        expect_auth_refused(9 + i, 0x01, "signature");
    for (size_t i = 0; i < 64; i++)
        expect_auth_refused(9 + 32 + 2 + i, 0x01, "signature");
}

static void noise_low_order_point(void **state)
{
    (void)state;
    json_t *root = vectors_load("secret_connection.json");
    const json_t *entry;
    size_t i, seen = 0;
    json_array_foreach(json_object_get(root, "hello_cases"), i, entry)
    {
        uint8_t hello[64], buf[RESPONDER_MESSAGE2_MAX + 2];
        struct pair p;
        if (strncmp(vectors_text(entry, "name"), "small-order", 11) != 0)
            continue;
        vectors_hex(entry, "first_bytes", hello, sizeof hello);
        pair_new(&p, LINK_NOISE, SIZE_MAX);
        struct bytes answer = noise_answer(&p, buf, sizeof buf);
        memcpy(buf + 2, hello + 3, X25519_LEN);
        expect_refused(p.signer, answer, "low-order");
        pair_free(&p);
        seen++;
    }
    assert_int_equal(seen, 7);
    json_decref(root);
}

enum sig { SIG_GOOD, SIG_BAD, SIG_LONG };

/* Handshake payloads of a node, with the pinned key unless the case says otherwise. */
static void expect_payload(
    struct bytes head, struct bytes key, enum sig sig_is, struct bytes tail, const char *word)
{
    uint8_t own[X25519_LEN], text[24 + X25519_LEN], sig[SIGNATURE_LEN],
        payload[RESPONDER_PAYLOAD_MAX];
    struct pair p;
    pair_new(&p, LINK_NOISE, SIZE_MAX);
    x25519_public(p.responder.fixed, own);
    memcpy(text, "noise-libp2p-static-key:", 24);
    memcpy(text + 24, own, sizeof own);
    signing_key_sign(p.node_key, bytes_of(text, sizeof text), sig);
    sig[0] ^= sig_is == SIG_BAD;
    struct writer w = writer_of(payload, sizeof payload);
    write_bytes(&w, head);
    write_bytes(&w, key.n > 0 ? key : bytes_of(signing_key_public(p.node_key)->bytes, 32));
    write_u8(&w, 0x12);
    write_u8(&w, sig_is == SIG_LONG ? SIGNATURE_LEN + 1 : SIGNATURE_LEN);
    write_bytes(&w, bytes_of(sig, sizeof sig));
    if (sig_is == SIG_LONG)
        write_u8(&w, 0);
    write_bytes(&w, tail);
    p.responder.payload = written(&w);
    assert_true(p.responder.payload.n > 0);
    struct err err = {""};
    if (word != NULL)
        expect_shake_refused(&p, word);
    else if (!shake(&p, &err))
        fail_msg("%s", err.text);
    pair_free(&p);
}

static void noise_payloads(void **state)
{
    (void)state;
    const struct bytes none = {0};
    const struct bytes head = bytes_of("\x0a\x24\x08\x01\x12\x20", 6);
    uint8_t other[33] = {2};
    expect_payload(head, none, SIG_GOOD, none, NULL);
    expect_payload(head, none, SIG_GOOD, bytes_of("\x22\x00", 2), NULL); /* extensions, as Go */
    expect_payload(
        head, none, SIG_GOOD, bytes_of("\x22\x03\x0a\x01x\x78\x05", 7), NULL); /* unknown */
    expect_payload(bytes_of("\x22\x00\x0a\x24\x08\x01\x12\x20", 8), none, SIG_GOOD, none, NULL);
    expect_payload(head, none, SIG_BAD, none, "did not sign");
    expect_payload(head, none, SIG_LONG, none, "did not sign");
    expect_payload(head, bytes_of(other, 32), SIG_GOOD, none, "did not sign");
    expect_payload(bytes_of("\x0a\x25\x08\x02\x12\x21", 6), bytes_of(other, 33), SIG_GOOD, none,
        "not an Ed25519");
    expect_payload(bytes_of("\x0a\x24\x08\x02\x12\x20", 6), none, SIG_GOOD, none, "not an Ed25519");
    expect_payload(bytes_of("\x1a\x24\x08\x01\x12\x20", 6), none, SIG_GOOD, none, "not an Ed25519");
    expect_payload(
        bytes_of("\x0a\x20", 2), none, SIG_GOOD, none, "not an Ed25519"); /* the bare key */
    expect_payload(
        head, none, SIG_GOOD, bytes_of("\x12\x00", 2), "did not sign"); /* the last one counts */
    expect_payload(head, none, SIG_GOOD, bytes_of("\x22", 1), "not readable");
    expect_payload(head, none, SIG_GOOD,
        bytes_of("\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11), "not readable");
    expect_payload(
        head, none, SIG_GOOD, bytes_of("\x08\x01", 2), "not readable"); /* a number as key */
}

/* A signer whose identity signature is bad (recorded), or damaged anywhere, is refused by our node too. */
static void responder_refuses(void **state)
{
    (void)state;
    json_t *root = vectors_load("noise.json");
    const json_t *scenario;
    size_t i, good = 0, bad = 0, damaged_n = 0;
    json_array_foreach(json_object_get(root, "scenarios"), i, scenario)
    {
        const json_t *node = json_object_get(scenario, "node"),
                     *wire = json_object_get(scenario, "wire");
        uint8_t message1[64], message2[RESPONDER_MESSAGE2_MAX], message3[256];
        struct noise_responder r = {.sends_extensions = true, .identity = recorded_identity(node)},
                               copy;
        vectors_hex(node, "eph_private", r.ephemeral, X25519_LEN);
        vectors_hex(node, "static_private", r.fixed, X25519_LEN);
        struct writer w = writer_of(message2, sizeof message2);
        vectors_hex(wire, "message1", message1, sizeof message1);
        assert_true(noise_responder_answer(&r, bytes_of(message1 + 2, 32), &w, NULL));
        char text[1024];
        hex_lower(written(&w), text);
        assert_string_equal(text, vectors_text(wire, "message2") + 4);
        struct bytes third = vectors_hex(wire, "message3", message3, sizeof message3);
        copy = r;
        bool ok = noise_responder_finish(&copy, bytes_of(message3 + 2, third.n - 2), NULL);
        ok ? good++ : bad++;
        if (ok)
            assert_hex(
                bytes_of(copy.to_signer.key, 32), vectors_text(scenario, "key_node_to_signer"));
        for (size_t at = 2; at < third.n; at++) {
            copy = r;
            message3[at] ^= 1;
            damaged_n += noise_responder_finish(&copy, bytes_of(message3 + 2, third.n - 2), NULL);
            message3[at] ^= 1;
        }
        signing_key_free((struct signing_key *)r.identity);
    }
    assert_int_equal(good, 3);
    assert_int_equal(bad, 1);
    assert_int_equal(damaged_n, 0);
    json_decref(root);
}

/* ---- use ---- */

static void wrong_use(void **state)
{
    (void)state;
    struct err err;
    struct pair p;
    uint8_t small[16];
    struct link_address a = {.kind = LINK_TCP, .text = "tcp://h:1"};
    assert_null(secure_new(&a, NULL, &err)); /* no identity */
    a.kind = 9;
    assert_null(secure_new(&a, NULL, &err));
    pair_new(&p, LINK_TCP, SIZE_MAX);
    struct writer none = writer_of(small, sizeof small);
    assert_false(secure_seal(p.signer, bytes_of_text("early"), &none, &err));
    assert_true(shake(&p, &err));
    assert_false(secure_seal(p.signer, bytes_of_text("no room"), &none, &err));
    assert_int_equal(secure_state(p.signer), SECURE_FAILED);
    pair_free(&p);
    secure_free(NULL);

    pair_new(&p, LINK_UNIX, SIZE_MAX); /* plain: bytes pass as they are */
    struct writer out = recorded_room(3);
    assert_true(secure_input(p.signer, bytes_of("\x02\x3a\x00", 3), &out, NULL));
    assert_true(bytes_equal(written(&out), bytes_of("\x02\x3a\x00", 3)));
    free(out.buf);
    pair_free(&p);
}

/* The counter must never wrap: its last value ends the connection. */
static void nonces_used_up(void **state)
{
    (void)state;
    static const enum link_kind kinds[] = {LINK_TCP, LINK_NOISE};
    for (size_t i = 0; i < 2; i++) {
        uint8_t buf[2048];
        struct pair p;
        struct err err;
        pair_new(&p, kinds[i], SIZE_MAX);
        assert_true(shake(&p, NULL));
        p.signer->to_peer.counter = UINT64_MAX;
        struct writer out = writer_of(buf, sizeof buf);
        assert_false(secure_seal(p.signer, bytes_of_text("x"), &out, &err));
        assert_non_null(strstr(err.text, "nonces"));
        assert_int_equal(secure_state(p.signer), SECURE_FAILED);
        pair_free(&p);
    }
}

/* Nothing that could open recorded traffic later stays behind the handshake. */
static void handshake_secrets_are_wiped(void **state)
{
    (void)state;
    static const enum link_kind kinds[] = {LINK_TCP, LINK_NOISE};
    static const struct secure_secrets zero;
    for (size_t i = 0; i < 2; i++) {
        struct pair p;
        pair_new(&p, kinds[i], SIZE_MAX);
        assert_memory_not_equal(&p.signer->secrets, &zero, sizeof zero);
        assert_true(shake(&p, NULL));
        assert_memory_equal(&p.signer->secrets, &zero, sizeof zero);
        assert_memory_equal(p.signer->noise.ck, zero.ephemeral, SHA256_LEN);
        pair_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_connections),
        cmocka_unit_test(most_held_plaintext),
        cmocka_unit_test(damaged_handshakes),
        cmocka_unit_test(wrong_peer_ids),
        cmocka_unit_test(unpinned_tcp_is_not_verified),
        cmocka_unit_test(reflected_hello),
        cmocka_unit_test(reflected_identity),
        cmocka_unit_test(replayed_and_reordered),
        cmocka_unit_test(frames_of_odd_lengths),
        cmocka_unit_test(noise_odd_lengths),
        cmocka_unit_test(bad_auth_messages),
        cmocka_unit_test(noise_low_order_point),
        cmocka_unit_test(noise_payloads),
        cmocka_unit_test(responder_refuses),
        cmocka_unit_test(wrong_use),
        cmocka_unit_test(nonces_used_up),
        cmocka_unit_test(handshake_secrets_are_wiped),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
