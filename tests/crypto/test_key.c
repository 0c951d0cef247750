/* Private and public keys: CometBFT's vectors, expanded forms, refusals, and where the private
 * bytes lie. */
#include "crypto/key.h"

#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crypto/secret.h"
#include "sanitizer.h"
#include "vectors.h"

static struct err err;

static int start(void **state)
{
    (void)state;
    return crypto_start(&err) ? 0 : -1;
}

static struct signing_key *make(enum key_type type, enum private_form form, struct bytes private)
{
    struct signing_key *key = NULL;
    if (!signing_key_create(&key, type, form, private, &err))
        fail_msg("%s", err.text);
    return key;
}

static void refuse(
    enum key_type type, enum private_form form, struct bytes private, const char *why)
{
    struct signing_key *key = NULL;
    err.text[0] = '\0';
    assert_false(signing_key_create(&key, type, form, private, &err));
    assert_null(key);
    if (strstr(err.text, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void check_key(const json_t *entry)
{
    uint8_t private[64], msg_raw[256], sig[SIGNATURE_LEN], want[SIGNATURE_LEN],
        address[ADDRESS_LEN];
    char address_hex[2 * ADDRESS_LEN + 1];
    bool is_ed25519 = strcmp(vectors_text(entry, "type"), "ed25519") == 0;
    enum key_type type = is_ed25519 ? KEY_ED25519 : KEY_SECP256K1;
    vectors_hex(entry, "private", private, sizeof private);
    struct signing_key *key = make(type, PRIVATE_SEED, bytes_of(private, 32));
    const struct public_key *public = signing_key_public(key);
    assert_hex(bytes_of(public->bytes, public->len), vectors_text(entry, "public"));
    assert_string_equal(key_type_name(public->type), vectors_text(entry, "type"));
    public_key_address(public, address);
    hex_upper(bytes_of(address, sizeof address), address_hex);
    assert_string_equal(address_hex, vectors_text(entry, "address"));

    const json_t *test = json_object_get(entry, "sign_test");
    struct bytes msg = vectors_hex(test, "message", msg_raw, sizeof msg_raw);
    vectors_hex(test, "signature", want, sizeof want);
    signing_key_sign(key, msg, sig);
    assert_memory_equal(sig, want, sizeof sig);
    assert_true(public_key_verify(public, msg, sig));
    for (size_t i = 0; i < sizeof sig; i++) {
        sig[i] ^= 1;
        assert_false(public_key_verify(public, msg, sig));
        sig[i] ^= 1;
    }
    assert_false(public_key_verify(public, bytes_of(msg.p, msg.n - 1), sig));
    signing_key_free(key);
}

static void keys_of_cometbft(void **state)
{
    (void)state;
    json_t *root = vectors_load("keys.json"), *entry;
    size_t i, seen = 0;
    json_array_foreach(json_object_get(root, "keys"), i, entry)
    {
        check_key(entry);
        seen++;
    }
    assert_int_equal(seen, 7);
    json_decref(root);
}

static void expand(const uint8_t seed[32], uint8_t out[64])
{
    crypto_hash_sha512(out, seed, 32);
    out[0] &= 0xf8;
    out[31] = (uint8_t)((out[31] & 0x7f) | 0x40);
}

static void reverse32(const uint8_t in[32], uint8_t out[32])
{
    for (size_t i = 0; i < 32; i++)
        out[i] = in[31 - i];
}

/* The same key in its three forms gives the same signatures, over messages of every length up to
 * 300. */
static void expanded_forms_sign_as_the_seed(void **state)
{
    (void)state;
    for (int round = 0; round < 8; round++) {
        uint8_t seed[32], flat[64], export[96], msg[300];
        randombytes_buf(seed, sizeof seed);
        randombytes_buf(msg, sizeof msg);
        expand(seed, flat);
        struct signing_key *a = make(KEY_ED25519, PRIVATE_SEED, bytes_of(seed, 32));
        struct signing_key *b = make(KEY_ED25519, PRIVATE_EXPANDED64, bytes_of(flat, 64));
        reverse32(flat, export);
        memcpy(export + 32, flat + 32, 32);
        memcpy(export + 64, signing_key_public(a)->bytes, 32);
        struct signing_key *c = make(KEY_ED25519, PRIVATE_EXPANDED96, bytes_of(export, 96));
        assert_true(public_key_equal(signing_key_public(a), signing_key_public(b)));
        assert_true(public_key_equal(signing_key_public(a), signing_key_public(c)));
        for (size_t n = 0; n <= sizeof msg; n++) {
            uint8_t sig[3][SIGNATURE_LEN];
            signing_key_sign(a, bytes_of(msg, n), sig[0]);
            signing_key_sign(b, bytes_of(msg, n), sig[1]);
            signing_key_sign(c, bytes_of(msg, n), sig[2]);
            assert_memory_equal(sig[0], sig[1], SIGNATURE_LEN);
            assert_memory_equal(sig[0], sig[2], SIGNATURE_LEN);
        }
        signing_key_free(a);
        signing_key_free(b);
        signing_key_free(c);
    }
}

static void expanded_forms_are_checked(void **state)
{
    (void)state;
    uint8_t seed[32] = {1}, flat[64], export[96];
    expand(seed, flat);
    reverse32(flat, export);
    memcpy(export + 32, flat + 32, 32);
    struct signing_key *key = make(KEY_ED25519, PRIVATE_SEED, bytes_of(seed, 32));
    memcpy(export + 64, signing_key_public(key)->bytes, 32);
    signing_key_free(key);
    for (size_t i = 64; i < 96; i++) {
        export[i] ^= 0x10;
        refuse(KEY_ED25519, PRIVATE_EXPANDED96, bytes_of(export, 96), "does not belong");
        export[i] ^= 0x10;
    }
    flat[0] |= 1;
    refuse(KEY_ED25519, PRIVATE_EXPANDED64, bytes_of(flat, 64), "not clamped");
    flat[0] &= 0xf8;
    flat[31] |= 0x80;
    refuse(KEY_ED25519, PRIVATE_EXPANDED64, bytes_of(flat, 64), "not clamped");
    flat[31] &= 0x3f;
    refuse(KEY_ED25519, PRIVATE_EXPANDED64, bytes_of(flat, 64), "not clamped");
}

/* What is derived depends on every private byte and on the info, and on nothing else. */
static void derived_bytes_name_key_and_purpose(void **state)
{
    (void)state;
    enum { KEYS = 3, INFOS = 2 };
    static const char *const infos[INFOS] = {"one", "two"};
    uint8_t out[KEYS * INFOS][32], again[32], raw[32] = {9};
    for (int k = 0; k < KEYS; k++) {
        struct signing_key *key;
        raw[31] = (uint8_t)k;
        enum key_type type = k == 2 ? KEY_SECP256K1 : KEY_ED25519;
        assert_true(signing_key_create(&key, type, PRIVATE_SEED, bytes_of(raw, 32), &err));
        for (int i = 0; i < INFOS; i++) {
            signing_key_derive(key, bytes_of_text(infos[i]), out[k * INFOS + i]);
            signing_key_derive(key, bytes_of_text(infos[i]), again);
            assert_memory_equal(again, out[k * INFOS + i], 32);
        }
        signing_key_free(key);
    }
    for (int a = 0; a < KEYS * INFOS; a++)
        for (int b = 0; b < a; b++)
            assert_memory_not_equal(out[a], out[b], 32);
}

static void wrong_lengths_and_scalars(void **state)
{
    (void)state;
    uint8_t raw[128] = {1};
    raw[31] = 1;
    for (size_t n = 0; n <= sizeof raw; n++) {
        if (n != 32) {
            refuse(KEY_ED25519, PRIVATE_SEED, bytes_of(raw, n), "32 bytes");
            refuse(KEY_SECP256K1, PRIVATE_SEED, bytes_of(raw, n), "32 bytes");
        }
        if (n != 64)
            refuse(KEY_ED25519, PRIVATE_EXPANDED64, bytes_of(raw, n), "64 bytes");
        if (n != 96)
            refuse(KEY_ED25519, PRIVATE_EXPANDED96, bytes_of(raw, n), "96 bytes");
    }
    refuse(KEY_SECP256K1, PRIVATE_EXPANDED64, bytes_of(raw, 64), "no expanded form");
    memset(raw, 0, 32);
    refuse(KEY_SECP256K1, PRIVATE_SEED, bytes_of(raw, 32), "zero");
    memset(raw, 0xff, 32);
    refuse(KEY_SECP256K1, PRIVATE_SEED, bytes_of(raw, 32), "group order");
}

/* The high-S twin of a good signature verifies in plain ECDSA; CometBFT refuses it and so do we. */
static void secp256k1_high_s_is_refused(void **state)
{
    (void)state;
    static const uint8_t order[32] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf,
        0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41};
    uint8_t raw[32] = {9}, sig[SIGNATURE_LEN];
    struct signing_key *key = make(KEY_SECP256K1, PRIVATE_SEED, bytes_of(raw, 32));
    signing_key_sign(key, bytes_of_text("m"), sig);
    assert_true((sig[32] & 0x80) == 0);
    int borrow = 0;
    for (int i = 31; i >= 0; i--) {
        int d = order[i] - sig[32 + i] - borrow;
        borrow = d < 0;
        sig[32 + i] = (uint8_t)(d & 0xff);
    }
    assert_false(public_key_verify(signing_key_public(key), bytes_of_text("m"), sig));
    signing_key_free(key);
}

static void keys_of_no_type_verify_nothing(void **state)
{
    (void)state;
    struct public_key none = {0};
    uint8_t sig[SIGNATURE_LEN] = {0};
    assert_false(public_key_verify(&none, bytes_of_text("m"), sig));
    none.type = KEY_ED25519;
    assert_false(public_key_verify(&none, bytes_of_text("m"), sig));
    none.type = KEY_SECP256K1;
    none.len = PUBLIC_KEY_MAX;
    assert_false(public_key_verify(&none, bytes_of_text("m"), sig));
    signing_key_free(NULL);
}

/* ---- where the private bytes lie ---- */

static int status_of_child(void (*body)(void *), void *arg)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit no_core = {0};
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGSEGV, SIG_DFL); /* sanitizers catch it */
        body(arg);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void write_first_byte(void *p)
{
    *(volatile uint8_t *)p = 1;
}

/* The child's page reads as zeros, whatever the parent has there. */
static void expect_zeros(void *p)
{
    if (!sodium_is_zero(p, 16))
        _exit(1);
}

static void secrets_are_read_only_and_stay_in_the_process(void **state)
{
    (void)state;
    uint8_t *p = secret_alloc(16, &err);
    assert_non_null(p);
    assert_true(sodium_is_zero(p, 16));
    memset(p, 7, 16);
    assert_int_equal(status_of_child(write_first_byte, p), 0);
    assert_int_equal(status_of_child(expect_zeros, p), 0);
    assert_true(secret_make_readonly(p, &err));
    int status = status_of_child(write_first_byte, p);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    assert_int_equal(p[0], 7);
    secret_free(p);
}

static void secret_key_object_is_read_only(void **state)
{
    (void)state;
    uint8_t raw[32] = {5};
    struct signing_key *key = make(KEY_ED25519, PRIVATE_SEED, bytes_of(raw, 32));
    int status = status_of_child(write_first_byte, key);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    signing_key_free(key);
}

/* "VmFlags" of the page in /proc/self/smaps: lo locked, dd not dumped, wf wiped on fork. */
static void secrets_are_locked_and_not_dumped(void **state)
{
    (void)state;
    if (RUNS_UNDER_ASAN)
        skip(); /* mlock does nothing there */
    uint8_t *p = secret_alloc(64, &err);
    char line[512];
    bool here = false, found = false;
    FILE *f = fopen("/proc/self/smaps", "r");
    assert_non_null(f);
    while (!found && fgets(line, sizeof line, f) != NULL) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            here = from <= (unsigned long)p && (unsigned long)p < to;
        found = here && strncmp(line, "VmFlags:", 8) == 0;
    }
    fclose(f);
    assert_true(found);
    assert_non_null(strstr(line, " lo"));
    assert_non_null(strstr(line, " dd"));
    assert_non_null(strstr(line, " wf"));
    secret_free(p);
}

static void alloc_without_limit(void *arg)
{
    (void)arg;
    struct rlimit none = {0};
    struct err why;
    uint8_t raw[32] = {1};
    struct signing_key *key = NULL;
    if (setrlimit(RLIMIT_MEMLOCK, &none) != 0 || (geteuid() == 0 && setuid(65534) != 0))
        _exit(3);
    if (secret_alloc(16, &why) != NULL)
        _exit(4);
    if (strstr(why.text, "RLIMIT_MEMLOCK") == NULL || strstr(why.text, "LimitMEMLOCK=") == NULL)
        _exit(5);
    if (signing_key_create(&key, KEY_ED25519, PRIVATE_SEED, bytes_of(raw, 32), &why))
        _exit(6);
}

static void memory_that_cannot_be_locked_is_an_error(void **state)
{
    (void)state;
    if (RUNS_UNDER_ASAN)
        skip(); /* mlock does nothing there */
    assert_int_equal(status_of_child(alloc_without_limit, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_of_cometbft),
        cmocka_unit_test(expanded_forms_sign_as_the_seed),
        cmocka_unit_test(expanded_forms_are_checked),
        cmocka_unit_test(derived_bytes_name_key_and_purpose),
        cmocka_unit_test(wrong_lengths_and_scalars),
        cmocka_unit_test(secp256k1_high_s_is_refused),
        cmocka_unit_test(keys_of_no_type_verify_nothing),
        cmocka_unit_test(secrets_are_read_only_and_stay_in_the_process),
        cmocka_unit_test(secret_key_object_is_read_only),
        cmocka_unit_test(secrets_are_locked_and_not_dumped),
        cmocka_unit_test(memory_that_cannot_be_locked_is_an_error),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
