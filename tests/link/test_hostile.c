/* What peers may try: reflected, replayed, foreign and malformed handshakes and frames. */
#include "pair.h"

static int start(void **state)
{
    (void)state;
    struct err err;
    return crypto_start(&err) ? 0 : -1;
}

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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
