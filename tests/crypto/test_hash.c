/* SHA-256, HMAC, HKDF, X25519 and the AEAD against the numbers of their RFCs; Merlin against
 * published ones. */
#include "crypto/aead.h"
#include "crypto/hash.h"
#include "crypto/key.h"
#include "crypto/merlin.h"
#include "vectors.h"

static int start(void **state)
{
    (void)state;
    struct err err;
    return crypto_start(&err) ? 0 : -1;
}

static void sha256_of_fips_180(void **state)
{
    (void)state;
    uint8_t out[SHA256_LEN];
    sha256(bytes_of_text("abc"), out);
    assert_hex(bytes_of(out, sizeof out),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256((struct bytes){0}, out);
    assert_hex(bytes_of(out, sizeof out),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_2(bytes_of_text("a"), bytes_of_text("bc"), out);
    assert_hex(bytes_of(out, sizeof out),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/* RFC 4231, cases 2 and 6 (a key longer than a block). */
static void hmac_of_rfc_4231(void **state)
{
    (void)state;
    uint8_t out[SHA256_LEN], key[131];
    hmac_sha256(bytes_of_text("Jefe"), bytes_of_text("what do ya want for nothing?"), out);
    assert_hex(bytes_of(out, sizeof out),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof key);
    hmac_sha256(bytes_of(key, sizeof key),
        bytes_of_text("Test Using Larger Than Block-Size Key - Hash Key First"), out);
    assert_hex(bytes_of(out, sizeof out),
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void hkdf_of_rfc_5869(void **state)
{
    (void)state;
    static const struct {
        const char *ikm, *salt, *info, *okm;
    } cases[] = {
        {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"},
        {"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2"
         "c2d2e2f"
         "303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f",
            "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182838485868788898a"
            "8b8c8d8e8f"
            "909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
            "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9da"
            "dbdcdddedf"
            "e0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41"
            "c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"},
        {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t ikm[80], salt[80], info[80], out[82];
        size_t n = strlen(cases[i].okm) / 2;
        hkdf_sha256(hex_into(cases[i].salt, salt, sizeof salt),
            hex_into(cases[i].ikm, ikm, sizeof ikm), hex_into(cases[i].info, info, sizeof info),
            out, n);
        assert_hex(bytes_of(out, n), cases[i].okm);
    }
}

static void x25519_of_rfc_7748(void **state)
{
    (void)state;
    uint8_t secret[32], peer[32], out[32];
    hex_into("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4", secret, 32);
    hex_into("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c", peer, 32);
    assert_true(x25519_shared(secret, peer, out));
    assert_hex(
        bytes_of(out, 32), "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");

    hex_into("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb", secret, 32);
    x25519_public(secret, out);
    assert_hex(
        bytes_of(out, 32), "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    hex_into("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a", peer, 32);
    assert_true(x25519_shared(secret, peer, out));
    assert_hex(
        bytes_of(out, 32), "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
}

static void x25519_refuses_points_of_low_order(void **state)
{
    (void)state;
    static const char *const points[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    };
    uint8_t secret[32], peer[32], out[32];
    random_bytes(secret, sizeof secret);
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        hex_into(points[i], peer, sizeof peer);
        assert_false(x25519_shared(secret, peer, out));
        peer[31] |= 0x80; /* the top bit is ignored by the function, so it must not help */
        assert_false(x25519_shared(secret, peer, out));
    }
}

/* RFC 8439, appendix A.5: its nonce is four zeros and the counter 0x0807060504030201. */
static void aead_of_rfc_8439(void **state)
{
    (void)state;
    static const char sealed_hex[] =
        "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e38"
        "2d26b0"
        "bdb7b73c321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff"
        "37c855"
        "9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b5216cd"
        "e7a4e9"
        "9040c5a40433225ee282a1b0a06c523eaf4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f5"
        "48271a"
        "0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77"
        "987130"
        "305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709beead9d67890cbb22392336fea1851f38";
    static const char text[] =
        "Internet-Drafts are draft documents valid for a maximum of six months and may be updated, "
        "replaced, "
        "or obsoleted by other documents at any time. It is inappropriate to use Internet-Drafts "
        "as reference "
        "material or to cite them other than as /\u201cwork in progress./\u201d";
    uint8_t ad_raw[12], sealed_raw[300], out[300];
    struct aead a = {.counter = UINT64_C(0x0807060504030201)};
    hex_into("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0", a.key, 32);
    struct bytes ad = hex_into("f33388860000000000004e91", ad_raw, sizeof ad_raw);
    struct bytes sealed = hex_into(sealed_hex, sealed_raw, sizeof sealed_raw);
    struct bytes plain = bytes_of_text(text);
    assert_int_equal(plain.n + AEAD_TAG_LEN, sealed.n);

    struct aead b = a;
    assert_true(aead_seal(&a, ad, plain, out));
    assert_memory_equal(out, sealed.p, sealed.n);
    assert_true(a.counter == UINT64_C(0x0807060504030202));
    assert_true(aead_open(&b, ad, sealed, out));
    assert_memory_equal(out, plain.p, plain.n);
    assert_true(b.counter == a.counter);
}

static void aead_in_place_and_refusals(void **state)
{
    (void)state;
    uint8_t buf[64] = "ten bytes!", copy[64];
    struct aead a = {.key = {7}}, b = a;
    assert_true(aead_seal(&a, (struct bytes){0}, bytes_of(buf, 10), buf));
    memcpy(copy, buf, sizeof copy);
    for (size_t n = 0; n < 10 + AEAD_TAG_LEN; n++)
        assert_false(aead_open(&b, (struct bytes){0}, bytes_of(buf, n), copy));
    for (size_t i = 0; i < 10 + AEAD_TAG_LEN; i++) {
        buf[i] ^= 1;
        assert_false(aead_open(&b, (struct bytes){0}, bytes_of(buf, 10 + AEAD_TAG_LEN), copy));
        buf[i] ^= 1;
    }
    assert_false(aead_open(&b, bytes_of_text("x"), bytes_of(buf, 10 + AEAD_TAG_LEN), copy));
    assert_true(b.counter == 0);
    assert_true(aead_open(&b, (struct bytes){0}, bytes_of(buf, 10 + AEAD_TAG_LEN), buf));
    assert_memory_equal(buf, "ten bytes!", 10);
    assert_true(b.counter == 1);
}

static void aead_counter_never_wraps(void **state)
{
    (void)state;
    uint8_t out[32];
    struct aead a = {.counter = UINT64_MAX - 1}, b = a;
    assert_true(aead_seal(&a, (struct bytes){0}, bytes_of_text("x"), out));
    assert_true(aead_open(&b, (struct bytes){0}, bytes_of(out, 17), out + 17 - 16));
    assert_false(aead_seal(&a, (struct bytes){0}, bytes_of_text("x"), out));
    assert_false(aead_open(&b, (struct bytes){0}, bytes_of(out, 17), out));
    assert_true(a.counter == UINT64_MAX && b.counter == UINT64_MAX);
}

/* merlin's own tests. */
static void merlin_published_vectors(void **state)
{
    (void)state;
    struct merlin m;
    uint8_t out[32], data[1024];
    merlin_init(&m, "test protocol");
    merlin_append(&m, "some label", bytes_of_text("some data"));
    merlin_challenge(&m, "challenge", out, sizeof out);
    assert_hex(
        bytes_of(out, 32), "d5a21972d0d5fe320c0d263fac7fffb8145aa640af6e9bca177c03c7efcf0615");

    merlin_init(&m, "test protocol");
    merlin_append(&m, "step1", bytes_of_text("some data"));
    memset(data, 99, sizeof data);
    for (int i = 0; i < 32; i++) {
        merlin_challenge(&m, "challenge", out, sizeof out);
        merlin_append(&m, "bigdata", bytes_of(data, sizeof data));
        merlin_append(&m, "challengedata", bytes_of(out, sizeof out));
    }
    assert_hex(
        bytes_of(out, 32), "a8c933f54fae76e3f9bea93648c1308e7dfa2152dd51674ff3ca438351cf003c");
    merlin_wipe(&m);
    assert_int_equal(m.pos, 0);
}

/* Every handshake that CometBFT recorded: DH secret, keys of both directions, challenge. */
static void secret_connection_key_schedule(void **state)
{
    (void)state;
    json_t *root = vectors_load("secret_connection.json"), *scenario;
    size_t i, seen = 0;
    json_array_foreach(json_object_get(root, "scenarios"), i, scenario)
    {
        uint8_t dh[32], lower[32], upper[32], keys[96], challenge[32];
        struct bytes dh_secret = vectors_hex(scenario, "dh_secret", dh, sizeof dh);
        hkdf_sha256((struct bytes){0}, dh_secret,
            bytes_of_text("TENDERMINT_SECRET_CONNECTION_KEY_AND_CHALLENGE_GEN"), keys, sizeof keys);
        assert_hex(bytes_of(keys, sizeof keys), vectors_text(scenario, "hkdf_96"));

        struct merlin m;
        merlin_init(&m, "TENDERMINT_SECRET_CONNECTION_TRANSCRIPT_HASH");
        merlin_append(
            &m, "EPHEMERAL_LOWER_PUBLIC_KEY", vectors_hex(scenario, "lower", lower, sizeof lower));
        merlin_append(
            &m, "EPHEMERAL_UPPER_PUBLIC_KEY", vectors_hex(scenario, "upper", upper, sizeof upper));
        merlin_append(&m, "DH_SECRET", dh_secret);
        merlin_challenge(&m, "SECRET_CONNECTION_MAC", challenge, sizeof challenge);
        assert_hex(bytes_of(challenge, sizeof challenge), vectors_text(scenario, "challenge"));
        seen++;
    }
    assert_int_equal(seen, 4);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_of_fips_180),
        cmocka_unit_test(hmac_of_rfc_4231),
        cmocka_unit_test(hkdf_of_rfc_5869),
        cmocka_unit_test(x25519_of_rfc_7748),
        cmocka_unit_test(x25519_refuses_points_of_low_order),
        cmocka_unit_test(aead_of_rfc_8439),
        cmocka_unit_test(aead_in_place_and_refusals),
        cmocka_unit_test(aead_counter_never_wraps),
        cmocka_unit_test(merlin_published_vectors),
        cmocka_unit_test(secret_connection_key_schedule),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
