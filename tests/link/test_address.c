/* Validator addresses: what is accepted, how it prints, and that each refusal names what is wrong.
 */
#include "config/address.h"
#include "vectors.h"

static void accepted(void **state)
{
    (void)state;
    static const struct {
        const char *text, *printed, *host, *path;
        enum link_kind kind;
        uint16_t port;
        bool has_peer_id;
    } cases[] = {
        {"unix:///run/validator.sock", "unix:///run/validator.sock", "", "/run/validator.sock",
            LINK_UNIX, 0, false},
        {"unix://validator.sock", "unix://validator.sock", "", "validator.sock", LINK_UNIX, 0,
            false},
        {"unix:///a%20b%2Fc%C3%A9", "unix:///a b/c\xc3\xa9", "", "/a b/c\xc3\xa9", LINK_UNIX, 0,
            false},
        {"tcp://127.0.0.1:26658", "tcp://127.0.0.1:26658", "127.0.0.1", "", LINK_TCP, 26658, false},
        {"127.0.0.1:26658", "tcp://127.0.0.1:26658", "127.0.0.1", "", LINK_TCP, 26658, false},
        {"tcp://node-1.example.com:1", "tcp://node-1.example.com:1", "node-1.example.com", "",
            LINK_TCP, 1, false},
        {"tcp://[::1]:65535", "tcp://[::1]:65535", "::1", "", LINK_TCP, 65535, false},
        {"tcp://DEADBEEFdeadbeefdeadbeefdeadbeefdeadbeef@example1.example.com:26658",
            "tcp://deadbeefdeadbeefdeadbeefdeadbeefdeadbeef@example1.example.com:26658",
            "example1.example.com", "", LINK_TCP, 26658, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct link_address a;
        struct err err;
        if (!link_address_parse(&a, cases[i].text, &err))
            fail_msg("%s: %s", cases[i].text, err.text);
        assert_string_equal(a.text, cases[i].printed);
        assert_string_equal(a.host, cases[i].host);
        assert_string_equal(a.path, cases[i].path);
        assert_int_equal(a.kind, cases[i].kind);
        assert_int_equal(a.port, cases[i].port);
        assert_int_equal(a.has_peer_id, cases[i].has_peer_id);
        assert_int_equal(a.peer_id[19], cases[i].has_peer_id ? 0xef : 0);
    }
}

static void refuses(const char *text, const char *word)
{
    struct link_address a, before;
    struct err err = {""};
    memset(&a, 0xaa, sizeof a);
    before = a;
    assert_false(link_address_parse(&a, text, &err));
    if (strstr(err.text, word) == NULL)
        fail_msg("%s: '%s' does not say '%s'", text, err.text, word);
    assert_memory_equal(&a, &before, sizeof a);
}

static void refused(void **state)
{
    (void)state;
    refuses("", "no port");
    refuses("unix://", "no path");
    refuses("unix://@abstract", "abstract");
    refuses("unix:///a%2", "hex");
    refuses("unix:///a%zz", "hex");
    refuses("unix:///a%00b", "control");
    refuses("unix:///a\nb", "control");
    refuses("http://127.0.0.1:1", "scheme");
    refuses("vsock://3:5000", "scheme");
    refuses("tcp://127.0.0.1", "no port");
    refuses("tcp://127.0.0.1:", "port");
    refuses("tcp://127.0.0.1:0", "port");
    refuses("tcp://127.0.0.1:65536", "port");
    refuses("tcp://127.0.0.1:+1", "port");
    refuses("tcp://127.0.0.1:1x", "port");
    refuses("tcp://127.0.0.1:26658/", "port");
    refuses("tcp://:26658", "host");
    refuses("tcp://a b:26658", "host");
    refuses("tcp://::1:26658", "brackets");
    refuses("tcp://[::1:26658", "no port");
    refuses("tcp://[example.com]:26658", "IPv6");
    refuses("tcp://abc@127.0.0.1:1", "40 hex");
    refuses("tcp://@127.0.0.1:1", "40 hex");
    refuses("tcp://deadbeefdeadbeefdeadbeefdeadbeefdeadbeeg@127.0.0.1:1", "40 hex");
    char longest[512] = "unix:///";
    memset(longest + 8, 'x', 106);
    struct link_address a;
    assert_true(link_address_parse(&a, longest, NULL));
    longest[8 + 106] = 'x';
    refuses(longest, "too long");
    memset(longest, 'x', sizeof longest - 1);
    memcpy(longest + 300, ":1", 3);
    refuses(longest, "too long");
}

/* CometBFT's own verdicts on noise addresses. We are stricter once: port 0 cannot be dialled. */
static void noise_as_cometbft(void **state)
{
    (void)state;
    json_t *root = vectors_load("noise.json");
    const json_t *entry;
    size_t i, good = 0, bad = 0;
    json_array_foreach(json_object_get(root, "addresses"), i, entry)
    {
        const char *text = vectors_text(entry, "addr");
        struct link_address a;
        bool ok = link_address_parse(&a, text, NULL) && a.kind == LINK_NOISE;
        bool want = json_object_get(entry, "error") == NULL && strstr(text, "127.0.0.1:0") == NULL;
        if (ok != want)
            fail_msg("%s", text);
        if (ok)
            assert_string_equal(a.text, text);
        ok ? good++ : bad++;
    }
    assert_int_equal(good, 2);
    assert_int_equal(bad, 10);
    json_decref(root);
}

static void noise_peer_ids(void **state)
{
    (void)state;
    json_t *root = vectors_load("noise.json");
    const json_t *entry;
    size_t i, seen = 0;
    json_array_foreach(json_object_get(root, "peer_ids"), i, entry)
    {
        char text[128];
        snprintf(text, sizeof text, "noise://%s@10.0.0.1:26659", vectors_text(entry, "peer_id"));
        struct link_address a;
        assert_true(link_address_parse(&a, text, NULL));
        assert_hex(
            bytes_of(a.noise_peer, sizeof a.noise_peer), vectors_text(entry, "peer_id_bytes"));
        seen++;
    }
    assert_int_equal(seen, 5);
    json_decref(root);
    refuses("noise://QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N@127.0.0.1:1", "Ed25519");
    refuses("noise://16Uiu2HAm4RZMCLkUPRnXHUMJ9rCyKZvF83HSTxa6Y3mGbB4pXJzZ@127.0.0.1:1", "Ed25519");
}

/* Cut at every length: only whole addresses parse, and a shorter number is still a number. */
static void cut_at_every_length(void **state)
{
    (void)state;
    static const char whole[] =
        "noise://12D3KooWFMNtxi6z9x5nVXJHPDWXhnFSvdULrB9RB18CHAY7MfUC@127.0.0.1:26659";
    size_t parsed = 0;
    for (size_t n = 0; n < sizeof whole; n++) {
        char text[sizeof whole] = "";
        memcpy(text, whole, n);
        struct link_address a;
        if (link_address_parse(&a, text, NULL) && a.kind == LINK_NOISE)
            parsed++;
    }
    assert_int_equal(parsed, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted),
        cmocka_unit_test(refused),
        cmocka_unit_test(noise_as_cometbft),
        cmocka_unit_test(noise_peer_ids),
        cmocka_unit_test(cut_at_every_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
