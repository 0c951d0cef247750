/* The three kinds of links with an honest peer, in memory; recorded handshakes, damaged; use. */
#include "pair.h"

static int start(void **state)
{
    (void)state;
    struct err err;
    return crypto_start(&err) ? 0 : -1;
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
    static const enum link_kind kinds[] = {LINK_UNIX, LINK_TCP, LINK_NOISE, LINK_VSOCK};
    for (size_t i = 0; i < 4; i++) {
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
        cmocka_unit_test(wrong_use),
        cmocka_unit_test(nonces_used_up),
        cmocka_unit_test(handshake_secrets_are_wiped),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
