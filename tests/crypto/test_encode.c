/* base64, bech32 and base58 against RFC 4648, BIP 173, Cosmos keys and libp2p peer ids. */
#include "crypto/encode.h"

#include "crypto/key.h"
#include "vectors.h"

static int start(void **state)
{
    (void)state;
    struct err err;
    return crypto_start(&err) ? 0 : -1;
}

static bool base64_is(const char *text, const char *want)
{
    uint8_t out[64];
    size_t n = 0;
    return base64_decode(bytes_of_text(text), out, sizeof out, &n) &&
           bytes_equal(bytes_of(out, n), bytes_of_text(want));
}

static void base64_of_rfc_4648(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char text[16];
        assert_true(base64_encode(bytes_of_text(pairs[i][0]), text, strlen(pairs[i][1]) + 1));
        assert_string_equal(text, pairs[i][1]);
        assert_false(base64_encode(bytes_of_text(pairs[i][0]), text, strlen(pairs[i][1])));
        assert_true(base64_is(pairs[i][1], pairs[i][0]));
    }
}

static void base64_tolerates_only_what_the_header_says(void **state)
{
    (void)state;
    uint8_t out[8];
    size_t n = 99;
    assert_true(base64_is(" \t\r\nZm9vYg==\n", "foob"));
    assert_true(base64_is("Zm9vYg", "foob"));
    assert_true(base64_is("Zm9vYmE", "fooba"));
    static const char *const bad[] = {"Zm9vYg=", "Zm9vYg===", "Zm9vY",
        "Zm9 vYg==", "Zm9v\nYg==", "=",
        "==", "Zm9v=", "Zm9v==", "Zm9v====", "Zm9vYh==", "Zm9vYmF=", "Zm9-", "Zm9_",
        "Zg==Zg==", "Zm9v\v!", "Zg=g"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (base64_decode(bytes_of_text(bad[i]), out, sizeof out, &n))
            fail_msg("accepted: %s", bad[i]);
    assert_false(base64_decode(bytes_of("Zg\0=", 4), out, sizeof out, &n));
    assert_false(base64_decode(bytes_of_text("Zm9vYmFy"), out, 5, &n));
    assert_true(base64_decode(bytes_of_text("Zm9vYmFy"), out, 6, &n));
    assert_int_equal(n, 6);
}

static void bech32_of_bip_173(void **state)
{
    (void)state;
    char out[1100];
    assert_true(bech32_encode("a", (struct bytes){0}, out, sizeof out));
    assert_string_equal(out, "a12uel5l");
    const char *hrp =
        "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio";
    assert_true(bech32_encode(hrp, (struct bytes){0}, out, sizeof out));
    assert_string_equal(out, "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexclude"
                             "dcharactersbio1tt5tgs");
    uint8_t zeros[51] = {0};
    assert_true(bech32_encode("1", bytes_of(zeros, sizeof zeros), out, sizeof out));
    assert_string_equal(out, "11qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"
                             "qqqqqqqqqqqqqqqc8247j");
}

static void bech32_refuses(void **state)
{
    (void)state;
    char out[1100], longest[85];
    uint8_t data[700] = {0};
    memset(longest, 'x', 84);
    longest[84] = '\0';
    assert_false(bech32_encode("", bytes_of(data, 1), out, sizeof out));
    assert_false(bech32_encode("Cosmos", bytes_of(data, 1), out, sizeof out));
    assert_false(bech32_encode("cos mos", bytes_of(data, 1), out, sizeof out));
    assert_false(bech32_encode("cos\x7fmos", bytes_of(data, 1), out, sizeof out));
    assert_false(bech32_encode("cosm\xc3\xb6s", bytes_of(data, 1), out, sizeof out));
    assert_false(bech32_encode(longest, bytes_of(data, 1), out, sizeof out));
    assert_true(bech32_encode(longest + 1, bytes_of(data, 1), out, sizeof out));
    assert_true(
        bech32_encode("x", bytes_of(data, 634), out, sizeof out)); /* 1 + 1 + 1015 + 6 = 1023 */
    assert_int_equal(strlen(out), 1023);
    assert_false(bech32_encode("x", bytes_of(data, 635), out, sizeof out));
    assert_false(bech32_encode("a", (struct bytes){0}, out, 8));
    assert_true(bech32_encode("a", (struct bytes){0}, out, 9));
}

static bool decodes(const char *text, char prefix[84], uint8_t out[700], size_t *ret_n)
{
    return bech32_decode(text, prefix, 84, out, 700, ret_n);
}

/* The valid and the invalid strings of BIP 173 itself. Its length limit of 90 is not ours. */
static void bech32_is_read_as_bip_173_says(void **state)
{
    (void)state;
    static const char *const good[] = {
        "A12UEL5L",
        "a12uel5l",
        "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tg"
        "s",
        "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw",
        "11qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqc8247"
        "j",
        "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
        "?1ezyfcl",
    };
    static const char *const bad[] = {
        "\x20"
        "1nwldj5",
        "\x7f"
        "1axkwrx",
        "\x80"
        "1eym55h",
        "an84characterslonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1569"
        "pvx",
        "pzry9x0s0muk",
        "1pzry9x0s0muk",
        "x1b4n0q5v",
        "li1dgmt3",
        "de1lg7wt\xff",
        "A1G7SGD8",
        "10a06t8",
        "1qzzfhee",
        "a12UEL5L",
        "a12uel5m",
        "",
        "1",
        "a",
    };
    char prefix[84];
    uint8_t out[700];
    size_t n, tried = 0;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++, tried++)
        if (!decodes(good[i], prefix, out, &n))
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++, tried++)
        if (decodes(bad[i], prefix, out, &n))
            fail_msg("accepted: %s", bad[i]);
    assert_true(tried == 24);
    /* One byte and two bits of padding; padding of five and of seven bits; padding that is not zero. */
    assert_true(decodes("a1qqqd87cq", prefix, out, &n));
    assert_int_equal(n, 1);
    assert_false(decodes("a1q3g6mn3", prefix, out, &n));
    assert_false(decodes("a1qqqd87cpp", prefix, out, &n));
    assert_false(decodes("a1qpamnt9j", prefix, out, &n));
    assert_false(bech32_decode("a12uel5l", prefix, 1, out, sizeof out, &n));
}

/* What is written is read again, at every length; one changed character never is. */
static void bech32_comes_back(void **state)
{
    (void)state;
    uint8_t data[40], out[700];
    char text[128], prefix[84];
    size_t n, changed = 0;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 37 + 11);
    for (size_t len = 0; len <= sizeof data; len++) {
        assert_true(bech32_encode("cosmosvalconspub", bytes_of(data, len), text, sizeof text));
        assert_true(decodes(text, prefix, out, &n));
        assert_string_equal(prefix, "cosmosvalconspub");
        assert_true(bytes_equal(bytes_of(out, n), bytes_of(data, len)));
        assert_false(len > 0 && bech32_decode(text, prefix, sizeof prefix, out, len - 1, &n));
        for (size_t at = 0; text[at] != '\0'; at++, changed++) {
            char kept = text[at];
            text[at] = kept == 'q' ? 'p' : 'q';
            assert_false(decodes(text, prefix, out, &n));
            text[at] = '\0';
            assert_false(decodes(text, prefix, out, &n));
            text[at] = kept;
        }
    }
    assert_true(changed > 1000);
}

static void bech32_of_cosmos_keys(void **state)
{
    (void)state;
    json_t *root = vectors_load("keys.json"), *key, *want;
    size_t i, seen = 0;
    const char *hrp;
    json_array_foreach(json_object_get(root, "keys"), i, key)
    {
        uint8_t amino[64], address[ADDRESS_LEN];
        struct bytes with_type = vectors_hex(key, "amino", amino, sizeof amino);
        struct bytes hash = vectors_hex(key, "address", address, sizeof address);
        json_object_foreach(json_object_get(key, "bech32"), hrp, want)
        {
            char out[128];
            bool is_key = strcmp(hrp + strlen(hrp) - 3, "pub") == 0;
            assert_true(bech32_encode(hrp, is_key ? with_type : hash, out, sizeof out));
            assert_string_equal(out, json_string_value(want));
            char prefix[84];
            uint8_t back[700];
            size_t back_n;
            assert_true(decodes(out, prefix, back, &back_n));
            assert_string_equal(prefix, hrp);
            assert_true(bytes_equal(bytes_of(back, back_n), is_key ? with_type : hash));
            seen++;
        }
    }
    assert_int_equal(seen, 7 * 8);
    json_decref(root);
}

static void base58_round_trip(const char *hex, const char *text)
{
    uint8_t raw[64], back[64];
    char out[96];
    size_t n;
    struct bytes in = hex_into(hex, raw, sizeof raw);
    assert_true(base58_encode(in, out, strlen(text) + 1));
    assert_string_equal(out, text);
    assert_false(base58_encode(in, out, strlen(text)));
    assert_true(base58_decode(text, strlen(text), back, in.n, &n));
    assert_true(bytes_equal(bytes_of(back, n), in));
    if (in.n > 0)
        assert_false(base58_decode(text, strlen(text), back, in.n - 1, &n));
}

/* draft-msporny-base58, section 5, and zeros. */
static void base58_published(void **state)
{
    (void)state;
    base58_round_trip("48656c6c6f20576f726c6421", "2NEpo7TZRRrLZSi2U");
    base58_round_trip("0000287fb4cd", "11233QC4");
    base58_round_trip("", "");
    base58_round_trip("00", "1");
    base58_round_trip("000000", "111");
}

static void base58_refuses_other_characters(void **state)
{
    (void)state;
    uint8_t out[64];
    size_t n;
    assert_false(base58_decode("2NEpo0", 6, out, sizeof out, &n));
    assert_false(base58_decode("2NEpoO", 6, out, sizeof out, &n));
    assert_false(base58_decode("2NEpol", 6, out, sizeof out, &n));
    assert_false(base58_decode("2NEpoI", 6, out, sizeof out, &n));
    assert_false(base58_decode("2NEp o", 6, out, sizeof out, &n));
    assert_false(base58_decode("2NE\0po", 6, out, sizeof out, &n));
}

static void base58_of_peer_ids(void **state)
{
    (void)state;
    json_t *root = vectors_load("noise.json"), *peer;
    size_t i, seen = 0;
    json_array_foreach(json_object_get(root, "peer_ids"), i, peer)
    {
        base58_round_trip(vectors_text(peer, "peer_id_bytes"), vectors_text(peer, "peer_id"));
        seen++;
    }
    assert_true(seen >= 5);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_of_rfc_4648),
        cmocka_unit_test(base64_tolerates_only_what_the_header_says),
        cmocka_unit_test(bech32_of_bip_173),
        cmocka_unit_test(bech32_refuses),
        cmocka_unit_test(bech32_is_read_as_bip_173_says),
        cmocka_unit_test(bech32_comes_back),
        cmocka_unit_test(bech32_of_cosmos_keys),
        cmocka_unit_test(base58_published),
        cmocka_unit_test(base58_refuses_other_characters),
        cmocka_unit_test(base58_of_peer_ids),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
