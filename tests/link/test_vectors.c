/* SecretConnection and noise byte for byte against handshakes and messages recorded with CometBFT
 * itself. */
#include "recorded.h"

enum { BIG = 70000 + 4096 };

static int start(void **state)
{
    (void)state;
    struct err err;
    return crypto_start(&err) ? 0 : -1;
}

/* Feeds in to s in chunks and compares the plaintext that comes out. */
static void expect_input(struct secure *s, struct bytes in, size_t chunk, struct bytes want)
{
    struct writer out = recorded_room(in.n);
    for (struct reader r = reader_of(in); r.n > 0;) {
        struct err err;
        if (!secure_input(s, read_bytes(&r, chunk < r.n ? chunk : r.n), &out, &err))
            fail_msg("%s", err.text);
    }
    assert_int_equal(out.n, want.n);
    assert_memory_equal(out.buf, want.p == NULL ? out.buf : want.p, want.n);
    free(out.buf);
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
    assert_false(secure_input(s, in, &out, &err)); /* for good */
    assert_false(secure_seal(s, in, &out, &err));
    free(out.buf);
}

static void expect_output(struct secure *s, const json_t *object, const char *name)
{
    assert_hex(secure_output(s), vectors_text(object, name));
    assert_int_equal(secure_output(s).n, 0);
}

/* The frames of one recorded message of SecretConnection. */
static struct bytes frames_of(const json_t *message, uint8_t *buf, size_t cap)
{
    struct writer w = writer_of(buf, cap);
    const json_t *frame;
    size_t i;
    json_array_foreach(json_object_get(message, "frames"), i, frame)
    {
        uint8_t sealed[SECRET_CONNECTION_FRAME];
        write_bytes(&w, vectors_hex(frame, "sealed", sealed, sizeof sealed));
    }
    return written(&w);
}

static bool from_node(const json_t *message)
{
    return strcmp(vectors_text(message, "dir"), "node to signer") == 0;
}

static void secret_connection_message(struct secure *s, const json_t *message, size_t chunk)
{
    uint8_t frames[4 * SECRET_CONNECTION_FRAME], data[4096], sealed[8 * SECRET_CONNECTION_FRAME];
    struct bytes wire = frames_of(message, frames, sizeof frames);
    struct bytes plain = vectors_hex(message, "data", data, sizeof data);
    if (from_node(message)) {
        expect_input(s, wire, chunk, plain);
        return;
    }
    if (plain.n == 0) { /* we never send an empty frame: use its nonce up as the recording did */
        s->to_peer.counter++;
        return;
    }
    struct writer out = writer_of(sealed, secure_sealed_max(plain.n));
    assert_true(secure_seal(s, plain, &out, NULL));
    assert_true(bytes_equal(written(&out), wire));
}

static void secret_connection_scenario(const json_t *scenario, size_t chunk)
{
    const json_t *node = json_object_get(scenario, "node"),
                 *signer = json_object_get(scenario, "signer");
    const json_t *auth = json_array_get(json_object_get(node, "auth_frames"), 0), *message;
    uint8_t hello[64], frame[SECRET_CONNECTION_FRAME];
    struct recorded r;
    recorded_load(&r, scenario);
    struct secure *s = recorded_new(&r);
    expect_output(s, signer, "hello");
    expect_input(s, vectors_hex(node, "hello", hello, sizeof hello), chunk, (struct bytes){0});
    expect_output(s, json_array_get(json_object_get(signer, "auth_frames"), 0), "sealed");
    assert_int_equal(secure_state(s), SECURE_HANDSHAKE);
    expect_input(s, vectors_hex(auth, "sealed", frame, sizeof frame), chunk, (struct bytes){0});
    assert_int_equal(secure_state(s), SECURE_OPEN);
    assert_true(secure_peer_is_verified(s));
    assert_hex(bytes_of(s->to_peer.key, AEAD_KEY_LEN), vectors_text(signer, "send_key"));

    size_t i, seen = 0;
    json_array_foreach(json_object_get(scenario, "messages"), i, message)
    {
        secret_connection_message(s, message, chunk);
        seen++;
    }
    assert_int_equal(seen, 12);
    secure_free(s);
    recorded_free(&r);
}

static void secret_connection_scenarios(void **state)
{
    (void)state;
    json_t *root = vectors_load("secret_connection.json");
    const json_t *scenario;
    size_t i, seen = 0;
    json_array_foreach(json_object_get(root, "scenarios"), i, scenario)
    {
        secret_connection_scenario(scenario, SIZE_MAX);
        secret_connection_scenario(scenario, 1);
        secret_connection_scenario(scenario, 1000);
        seen++;
    }
    assert_int_equal(seen, 4);
    json_decref(root);
}

/* CometBFT reads an ephemeral key of 33 bytes, we do not; every other verdict is the same. */
static void secret_connection_hello_cases(void **state)
{
    (void)state;
    json_t *root = vectors_load("secret_connection.json");
    struct recorded r;
    recorded_load(&r, json_array_get(json_object_get(root, "scenarios"), 1));
    const json_t *entry;
    size_t i, low = 0, other = 0, good = 0;
    json_array_foreach(json_object_get(root, "hello_cases"), i, entry)
    {
        uint8_t raw[64];
        struct bytes hello = vectors_hex(entry, "first_bytes", raw, sizeof raw);
        struct secure *s = recorded_new(&r);
        if (strcmp(vectors_text(entry, "name"), "good key") == 0) {
            expect_input(s, hello, 1, (struct bytes){0});
            good++;
        } else if (strncmp(vectors_text(entry, "name"), "small-order", 11) == 0) {
            expect_refused(s, hello, "low-order");
            low++;
        } else {
            raw[hello.n] = raw[hello.n + 1] = 0; /* the shortest has one byte only */
            expect_refused(s, bytes_of(raw, hello.n < 3 ? 3 : hello.n), "SecretConnection");
            other++;
        }
        secure_free(s);
    }
    assert_int_equal(low, 7);
    assert_int_equal(other, 4);
    assert_int_equal(good, 1);
    recorded_free(&r);
    json_decref(root);
}

static uint8_t pattern(size_t i)
{
    return (uint8_t)(7 * i + i / 256);
}

static struct bytes noise_data(const json_t *message, uint8_t *buf, size_t cap)
{
    if (json_object_get(message, "data") != NULL)
        return vectors_hex(message, "data", buf, cap);
    size_t n = (size_t)json_integer_value(json_object_get(message, "data_len"));
    assert_true(n <= cap);
    for (size_t i = 0; i < n; i++)
        buf[i] = pattern(i);
    return bytes_of(buf, n);
}

/* Compares the messages in wire with the recorded ones, given in full or as a hash. */
static void expect_noise_wire(const json_t *message, struct bytes wire)
{
    struct reader r = reader_of(wire);
    const json_t *part;
    size_t i;
    json_array_foreach(json_object_get(message, "messages"), i, part)
    {
        size_t plain_n = (size_t)json_integer_value(json_object_get(part, "plain_len"));
        struct bytes got = read_bytes(&r, 2 + plain_n + AEAD_TAG_LEN);
        uint8_t hash[SHA256_LEN];
        sha256(got, hash);
        if (json_object_get(part, "wire") != NULL)
            assert_hex(got, vectors_text(part, "wire"));
        else
            assert_hex(bytes_of(hash, sizeof hash), vectors_text(part, "wire_sha256"));
    }
    assert_true(reader_done(&r));
}

/* node: the recorded key and counter of the node's direction; it makes the bytes whose hash is
 * recorded. */
static void noise_message(struct secure *s, struct aead *node, const json_t *message, size_t chunk)
{
    static uint8_t data[BIG], wire[BIG];
    struct bytes plain = noise_data(message, data, sizeof data);
    struct writer out = writer_of(wire, sizeof wire);
    if (!from_node(message)) {
        if (plain.n == 0) { /* never sent by us */
            s->to_peer.counter++;
            return;
        }
        assert_true(secure_seal(s, plain, &out, NULL));
        expect_noise_wire(message, written(&out));
        return;
    }
    for (struct reader r = reader_of(plain); r.n > 0;) {
        struct bytes part = read_bytes(&r, r.n < NOISE_PLAIN_MAX ? r.n : NOISE_PLAIN_MAX);
        write_u16be(&out, (uint16_t)(part.n + AEAD_TAG_LEN));
        assert_true(
            aead_seal(node, (struct bytes){0}, part, secure_out_room(&out, part.n + AEAD_TAG_LEN)));
    }
    expect_noise_wire(message, written(&out));
    expect_input(s, written(&out), chunk, plain);
}

static size_t messages_n; /* seen in noise scenarios */

static void noise_scenario(const json_t *scenario, size_t chunk)
{
    const json_t *wire = json_object_get(scenario, "wire"), *message;
    uint8_t message2[256];
    struct recorded r;
    recorded_load(&r, scenario);
    struct secure *s = recorded_new(&r);
    expect_output(s, wire, "message1");
    expect_input(
        s, vectors_hex(wire, "message2", message2, sizeof message2), chunk, (struct bytes){0});
    assert_int_equal(secure_state(s), SECURE_OPEN);
    assert_true(secure_peer_is_verified(s));
    assert_string_equal(
        secure_peer_id(s), vectors_text(json_object_get(scenario, "node"), "peer_id"));
    /* In these two the recorded message 3 holds a payload that we never send. */
    const char *name = vectors_text(scenario, "name");
    if (strcmp(name, "bad identity signature") != 0 && strstr(name, "as Go sends") == NULL)
        expect_output(s, wire, "message3");
    assert_hex(
        bytes_of(s->from_peer.key, AEAD_KEY_LEN), vectors_text(scenario, "key_node_to_signer"));
    assert_hex(
        bytes_of(s->to_peer.key, AEAD_KEY_LEN), vectors_text(scenario, "key_signer_to_node"));

    struct aead node = {0};
    vectors_hex(scenario, "key_node_to_signer", node.key, sizeof node.key);
    size_t i;
    json_array_foreach(json_object_get(scenario, "messages"), i, message)
        noise_message(s, &node, message, chunk);
    messages_n += i;
    secure_free(s);
    recorded_free(&r);
}

static void noise_scenarios(void **state)
{
    (void)state;
    json_t *root = vectors_load("noise.json");
    const json_t *scenario;
    size_t i, seen = 0;
    json_array_foreach(json_object_get(root, "scenarios"), i, scenario)
    {
        noise_scenario(scenario, SIZE_MAX);
        noise_scenario(scenario, 1);
        noise_scenario(scenario, 5000);
        seen++;
    }
    assert_int_equal(seen, 4);
    assert_int_equal(messages_n, 3 * 2 * 9); /* two scenarios end with the handshake */
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(secret_connection_scenarios),
        cmocka_unit_test(secret_connection_hello_cases),
        cmocka_unit_test(noise_scenarios),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
