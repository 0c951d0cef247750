/* Key files of every form, good and bad. Each refusal is matched by its words: they name the
 * remedy. */
#include "keyring/keyring.h"

#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "crypto/encode.h"
#include "sanitizer.h"
#include "vectors.h"

static struct err err, warning;

static int start(void **state)
{
    (void)state;
    return crypto_start(&err) ? 0 : -1;
}

static int file_of(struct bytes content, mode_t mode)
{
    int fd = memfd_create("key", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, mode), 0);
    assert_true(fd_write_exact(fd, content.p, content.n)); /* leaves the position at the end */
    return fd;
}

static struct signing_key *try_load(
    struct bytes content, enum key_type type, enum key_file_format format)
{
    struct signing_key *key = NULL;
    int fd = file_of(content, 0600);
    err.text[0] = '\0';
    bool ok = keyring_load_fd(&key, fd, "/etc/k", type, format, &warning, &err);
    close(fd);
    assert_int_equal(ok, key != NULL);
    if (ok)
        assert_string_equal(warning.text, "");
    else
        assert_memory_equal(err.text, "key file /etc/k: ", 17);
    return key;
}

static void accept(
    struct bytes content, enum key_type type, enum key_file_format format, const char *public_hex)
{
    struct signing_key *key = try_load(content, type, format);
    if (key == NULL)
        fail_msg("%s", err.text);
    const struct public_key *public = signing_key_public(key);
    assert_hex(bytes_of(public->bytes, public->len), public_hex);
    signing_key_free(key);
}

static void refuse(
    struct bytes content, enum key_type type, enum key_file_format format, const char *why)
{
    struct signing_key *key = try_load(content, type, format);
    if (key != NULL || strstr(err.text, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static struct bytes base64_of(struct bytes raw)
{
    static char text[256];
    assert_true(base64_encode(raw, text, sizeof text));
    return bytes_of_text(text);
}

/* ---- good files ---- */

static void accept_vector(const json_t *entry)
{
    uint8_t private[64];
    struct bytes all = vectors_hex(entry, "private", private, sizeof private);
    struct bytes seed = bytes_of(private, 32);
    struct bytes json = bytes_of_text(vectors_text(entry, "priv_validator_key_json"));
    const char *public = vectors_text(entry, "public");
    enum key_type type =
        strcmp(vectors_text(entry, "type"), "ed25519") == 0 ? KEY_ED25519 : KEY_SECP256K1;
    enum key_type other = type == KEY_ED25519 ? KEY_SECP256K1 : KEY_ED25519;
    accept(json, type, KEY_FILE_JSON, public);
    accept(json, 0, KEY_FILE_JSON, public);
    accept(json, 0, 0, public);
    refuse(json, other, KEY_FILE_JSON, "is expected");
    refuse(json, type, KEY_FILE_BASE64, "use the format `json`");
    accept(base64_of(seed), type, KEY_FILE_BASE64, public);
    accept(base64_of(all), type, KEY_FILE_BASE64, public);
    accept(seed, type, KEY_FILE_RAW, public);
    if (type == KEY_ED25519) {
        accept(bytes_of_text(vectors_text(entry, "softsign_base64")), 0, KEY_FILE_BASE64, public);
        accept(base64_of(all), 0, 0, public);
        accept(seed, 0, 0, public);
    }
}

static void vectors_in_every_form(void **state)
{
    (void)state;
    json_t *root = vectors_load("keys.json"), *entry;
    size_t i, seen = 0;
    json_array_foreach(json_object_get(root, "keys"), i, entry)
    {
        accept_vector(entry);
        seen++;
    }
    assert_int_equal(seen, 7);
    json_decref(root);
}

/* The second Ed25519 key of keys.json. */
static const char public_hex[] = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
#define SEED64 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define ADDRESS "\"address\": \"56475AA75463474C0285DF5DBF2BCAB73DA65135\""
#define PUB_OF(value)                                                                              \
    "\"pub_key\": {\"type\": \"tendermint/PubKeyEd25519\", \"value\": \"" value "\"}"
#define PUB PUB_OF("A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=")
#define PRIV_OF(value)                                                                             \
    "\"priv_key\": {\"type\": \"tendermint/PrivKeyEd25519\", \"value\": \"" value "\"}"
#define PRIV_BASE64                                                                                \
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA=="
#define PRIV PRIV_OF(PRIV_BASE64)

static void white_space_and_unknown_fields_do_no_harm(void **state)
{
    (void)state;
    accept(bytes_of_text(SEED64 "\n"), KEY_ED25519, KEY_FILE_BASE64, public_hex);
    accept(bytes_of_text("\r\n " SEED64 " \r\n"), KEY_ED25519, KEY_FILE_BASE64, public_hex);
    accept(bytes_of_text("{" ADDRESS "," PUB "," PRIV ", \"note\": [1, {}]}\n"), KEY_ED25519,
        KEY_FILE_JSON, public_hex);
    accept(bytes_of_text(
               "{" PRIV "," PUB ", \"address\": \"56475aa75463474c0285df5dbf2bcab73da65135\"}"),
        KEY_ED25519, KEY_FILE_JSON, public_hex);
}

/* ---- bad files ---- */

static void expand(const uint8_t seed[32], uint8_t out[64])
{
    crypto_hash_sha512(out, seed, 32);
    out[0] &= 0xf8;
    out[31] = (uint8_t)((out[31] & 0x7f) | 0x40);
}

static void expanded_keys_only_when_asked_for(void **state)
{
    (void)state;
    uint8_t seed[32], flat[64], export[96];
    for (uint8_t i = 0; i < 32; i++)
        seed[i] = i;
    expand(seed, flat);
    for (size_t i = 0; i < 32; i++)
        export[i] = flat[31 - i];
    memcpy(export + 32, flat + 32, 32);
    assert_true(hex_decode(public_hex, 64, export + 64, 32));
    accept(base64_of(bytes_of(flat, 64)), KEY_ED25519, KEY_FILE_EXPANDED64, public_hex);
    accept(base64_of(bytes_of(export, 96)), KEY_ED25519, KEY_FILE_EXPANDED96, public_hex);
    refuse(base64_of(bytes_of(flat, 64)), KEY_ED25519, KEY_FILE_BASE64, "\"expanded64\"");
    refuse(base64_of(bytes_of(export, 96)), KEY_ED25519, KEY_FILE_BASE64, "\"expanded96\"");
    refuse(base64_of(bytes_of(flat, 64)), KEY_ED25519, KEY_FILE_EXPANDED96, "96 bytes");
    refuse(base64_of(bytes_of(export, 96)), KEY_ED25519, KEY_FILE_EXPANDED64, "64 bytes");
    refuse(base64_of(bytes_of(flat, 64)), KEY_SECP256K1, KEY_FILE_BASE64, "a secp256k1 key has 32");
    export[95] ^= 1;
    refuse(base64_of(bytes_of(export, 96)), KEY_ED25519, KEY_FILE_EXPANDED96, "does not belong");
}

/* The trap of the Rust program: read as an expanded key, these 64 bytes sign for a public key that
 * nobody knows. */
static void seed_and_public_never_pass_as_expanded(void **state)
{
    (void)state;
    size_t clamped = 0;
    for (int i = 0; i < 64; i++) {
        uint8_t public[32], private[64];
        crypto_sign_keypair(public, private);
        if (i % 2 == 0) { /* a seed that looks like a clamped scalar */
            private[0] &= 0xf8;
            private[31] = (uint8_t)((private[31] & 0x7f) | 0x40);
            uint8_t seed[32];
            memcpy(seed, private, 32);
            crypto_sign_seed_keypair(public, private, seed);
            refuse(base64_of(bytes_of(private, 64)), KEY_ED25519, KEY_FILE_EXPANDED64,
                "use the format");
            clamped++;
        } else {
            struct signing_key *key =
                try_load(base64_of(bytes_of(private, 64)), KEY_ED25519, KEY_FILE_EXPANDED64);
            assert_null(key);
        }
    }
    assert_int_equal(clamped, 32);
}

static void wrong_halves_and_lengths(void **state)
{
    (void)state;
    uint8_t raw[128] = {0};
    for (size_t n = 0; n <= 97; n++) {
        if (n != 32 && n > 0)
            refuse(base64_of(bytes_of(raw, n)), KEY_ED25519, KEY_FILE_BASE64, "");
        if (n != 32 && n > 0)
            refuse(bytes_of(raw, n), KEY_ED25519, KEY_FILE_RAW, "exactly 32");
    }
    refuse(base64_of(bytes_of(raw, 31)), KEY_ED25519, KEY_FILE_BASE64, "31 bytes");
    refuse((struct bytes){0}, KEY_ED25519, KEY_FILE_RAW, "empty");
    refuse(base64_of(bytes_of(raw, 32)), KEY_SECP256K1, KEY_FILE_BASE64, "zero");
    refuse(bytes_of(raw, 32), KEY_ED25519, KEY_FILE_BASE64, "`raw`");
    refuse(bytes_of_text("not base64!"), KEY_ED25519, KEY_FILE_BASE64, "not base64");
    refuse(bytes_of_text(SEED64), KEY_ED25519, KEY_FILE_JSON, "not valid JSON");
}

static void long_files(void **state)
{
    (void)state;
    static char text[64 * 1024 + 1];
    memset(text, ' ', sizeof text);
    memcpy(text, SEED64, strlen(SEED64));
    refuse(bytes_of(text, sizeof text), KEY_ED25519, KEY_FILE_BASE64, "too many");
    accept(bytes_of(text, sizeof text - 1), KEY_ED25519, KEY_FILE_BASE64, public_hex);
}

static void json_is_compared_with_the_private_key(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"{" PUB "," PRIV "}", "address is missing"},
        {"{" ADDRESS "," PRIV "}", "pub_key.type is missing"},
        {"{" ADDRESS "," PUB "}", "priv_key.type is missing"},
        {"{\"address\": 7," PUB "," PRIV "}", "address is missing or no text"},
        {"{\"address\": \"56475AA7\"," PUB "," PRIV "}", "40 hexadecimal digits"},
        {"{\"address\": \"66475AA75463474C0285DF5DBF2BCAB73DA65135\"," PUB "," PRIV "}",
            "address does not belong"},
        {"{" ADDRESS "," PUB_OF("B6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=") "," PRIV "}",
            "pub_key does not belong"},
        {"{" ADDRESS "," PUB_OF("A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJV") "," PRIV "}",
            "pub_key does not belong"},
        {"{" ADDRESS "," PUB_OF("?") "," PRIV "}", "pub_key.value is no base64"},
        {"{" ADDRESS "," PUB "," PRIV_OF("?") "}", "priv_key.value is no base64"},
        {"{" ADDRESS "," PUB "," PRIV_OF(SEED64) "}", "priv_key has 32 bytes, not 64"},
        {"{" ADDRESS "," PUB "," PRIV_OF("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/"
                                         "884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuQ==") "}",
            "second half"},
        {"{" ADDRESS
         ",\"pub_key\": {\"type\": \"tendermint/PubKeySecp256k1\", \"value\": \"\"}," PRIV "}",
            "does not go with"},
        {"{" ADDRESS "," PUB
         ",\"priv_key\": {\"type\": \"cometbft/PrivKeyBls12_381\", \"value\": \"\"}}",
            "not supported"},
        {"{" ADDRESS "," PUB "," PRIV "," PRIV "}", "not valid JSON"},
        {"{" ADDRESS "," PUB "," PRIV "} x", "not valid JSON"},
        {"[" SEED64 "]", "not valid JSON"},
        {"[{" ADDRESS "," PUB "," PRIV "}]", "address is missing"},
        {"{\"address\": \"a\\u0000\"," PUB "," PRIV "}", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        refuse(bytes_of_text(bad[i].text), KEY_ED25519, KEY_FILE_JSON, bad[i].why);
}

/* What jansson says about a broken file quotes it. */
static void no_message_shows_the_key(void **state)
{
    (void)state;
    static const char *const broken[] = {
        "{" ADDRESS "," PUB
        ",\"priv_key\": {\"type\": \"tendermint/PrivKeyEd25519\", \"value\": \"" PRIV_BASE64,
        "{" ADDRESS "," PUB ",\"priv_key\": {\"value\": \"" PRIV_BASE64 "\" \"" PRIV_BASE64 "\"}}",
        "{\"priv_key\": " PRIV_BASE64 "}",
        PRIV_BASE64 "!",
    };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        for (enum key_file_format f = 0; f <= KEY_FILE_EXPANDED96; f++) {
            refuse(bytes_of_text(broken[i]), KEY_ED25519, f, "");
            assert_null(strstr(err.text, "AAECAw"));
            assert_null(strstr(err.text, "HB0eHw"));
        }
}

/* Every prefix of a file is refused, or (white space and padding at the end) gives the same key. */
static void cut_at_every_length(void **state)
{
    (void)state;
    const char *files[] = {"{" ADDRESS "," PUB "," PRIV "}\n", SEED64 "\n"};
    const enum key_file_format formats[] = {KEY_FILE_JSON, KEY_FILE_BASE64};
    size_t refused = 0, same = 0;
    for (size_t f = 0; f < 2; f++) {
        for (size_t n = 0; n <= strlen(files[f]); n++) {
            struct signing_key *key = try_load(bytes_of(files[f], n), KEY_ED25519, formats[f]);
            if (key != NULL)
                assert_hex(bytes_of(signing_key_public(key)->bytes, 32), public_hex);
            *(key != NULL ? &same : &refused) += 1;
            signing_key_free(key);
        }
    }
    assert_int_equal(same, 2 + 3);
    assert_true(refused > 250);
}

/* In a JSON file no single changed byte gives another key: three fields check each other. */
static void one_byte_changed(void **state)
{
    (void)state;
    char text[512];
    size_t n = (size_t)snprintf(text, sizeof text, "{" ADDRESS "," PUB "," PRIV "}"), refused = 0;
    for (size_t i = 0; i < n; i++) {
        for (int bit = 0; bit < 8; bit++) {
            text[i] = (char)(text[i] ^ 1 << bit);
            struct signing_key *key = try_load(bytes_of(text, n), KEY_ED25519, KEY_FILE_JSON);
            if (key != NULL)
                assert_hex(bytes_of(signing_key_public(key)->bytes, 32), public_hex);
            else
                refused++;
            signing_key_free(key);
            text[i] = (char)(text[i] ^ 1 << bit);
        }
    }
    assert_true(refused > n * 7);
}

/* ---- files as files ---- */

static void who_may_read_and_write(void **state)
{
    (void)state;
    static const struct {
        mode_t mode;
        bool ok, warns;
    } cases[] = {{0600, true, false}, {0400, true, false}, {0700, true, false}, {0640, true, true},
        {0604, true, true}, {0644, true, true}, {0444, true, true}, {0620, false, false},
        {0602, false, false}, {0666, false, false}, {0777, false, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct signing_key *key = NULL;
        int fd = file_of(bytes_of_text(SEED64), cases[i].mode);
        bool ok = keyring_load_fd(&key, fd, "/etc/k", KEY_ED25519, KEY_FILE_BASE64, &warning, &err);
        close(fd);
        signing_key_free(key);
        assert_int_equal(ok, cases[i].ok);
        const char *said = ok ? warning.text : err.text;
        if (ok && !cases[i].warns)
            assert_string_equal(said, "");
        else
            assert_non_null(strstr(said, "`chmod 600 /etc/k`"));
    }
}

static void only_regular_files(void **state)
{
    (void)state;
    char folder[] = "/tmp/tmkms-keyring-XXXXXX", fifo[64], link[64], file[64];
    struct signing_key *key = NULL;
    assert_non_null(mkdtemp(folder));
    snprintf(fifo, sizeof fifo, "%s/fifo", folder);
    snprintf(link, sizeof link, "%s/link", folder);
    snprintf(file, sizeof file, "%s/file", folder);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(symlink("file", link), 0);

    assert_false(keyring_load(&key, folder, KEY_ED25519, KEY_FILE_BASE64, &warning, &err));
    assert_non_null(strstr(err.text, "not a regular file"));
    assert_false(keyring_load(&key, fifo, KEY_ED25519, KEY_FILE_BASE64, &warning, &err));
    assert_non_null(strstr(err.text, "not a regular file"));
    assert_false(keyring_load(&key, link, KEY_ED25519, KEY_FILE_BASE64, &warning, &err));
    assert_non_null(strstr(err.text, "No such file"));
    assert_true(fd_create_durable(file, SEED64, strlen(SEED64), false, &err));
    assert_true(keyring_load(&key, link, KEY_ED25519, KEY_FILE_BASE64, &warning, &err));
    signing_key_free(key);
    unlink(fifo);
    unlink(link);
    unlink(file);
    rmdir(folder);
}

/* ---- nothing is left behind ---- */

/* Looks for the private key's base64 text, and for the seed, in every writable page of this
 * process. The needles are kept under a mask, so that the search does not find itself. */
enum { MASK = 0x5a };

static size_t copies_in_memory(const uint8_t *masked, size_t n)
{
    char line[512];
    size_t found = 0;
    static uint8_t page[4096 + 128];
    int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_true(mem >= 0 && maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long from, to;
        char mode[5];
        if (sscanf(line, "%lx-%lx %4s", &from, &to, mode) != 3 || mode[1] != 'w')
            continue;
        for (unsigned long at = from; at < to; at += 4096) {
            if (at <= (unsigned long)page + sizeof page && (unsigned long)page < at + 4096 + 128)
                continue;
            ssize_t got = pread(mem, page, sizeof page, (off_t)at);
            for (size_t i = 0; got > 0 && i + n <= (size_t)got && i < 4096; i++) {
                size_t same = 0;
                while (same < n && page[i + same] == (masked[same] ^ MASK))
                    same++;
                found += same == n;
            }
        }
    }
    fclose(maps);
    close(mem);
    memset(page, 0, sizeof page);
    return found;
}

static void json_leaves_no_copy(void **state)
{
    (void)state;
    if (RUNS_UNDER_ASAN)
        skip();            /* its quarantine and its shadow make the search slow */
    enum { TEXT_AT = 24 }; /* free() overwrites the first bytes of a block itself */
    uint8_t public[32], private[64], masked_text[40], masked_seed[16];
    char text[96], json[512], address_hex[41];
    uint8_t address[ADDRESS_LEN];
    crypto_sign_keypair(public, private);
    struct public_key key_text = {.type = KEY_ED25519, .len = 32};
    memcpy(key_text.bytes, public, 32);
    public_key_address(&key_text, address);
    hex_upper(bytes_of(address, sizeof address), address_hex);
    char public64[64];
    assert_true(base64_encode(bytes_of(public, 32), public64, sizeof public64));
    assert_true(base64_encode(bytes_of(private, 64), text, sizeof text));
    for (size_t i = 0; i < sizeof masked_text; i++)
        masked_text[i] = (uint8_t)(text[TEXT_AT + i] ^ MASK);
    for (size_t i = 0; i < sizeof masked_seed; i++)
        masked_seed[i] = (uint8_t) ~private[i];
    size_t n = (size_t)snprintf(json, sizeof json,
        "{\"address\":\"%s\",\"pub_key\":{\"type\":\"tendermint/PubKeyEd25519\",\"value\":\"%s\"},"
        "\"priv_key\":{\"type\":\"tendermint/PrivKeyEd25519\",\"value\":\"%s\"}}",
        address_hex, public64, text);
    int fd = file_of(bytes_of(json, n), 0600);
    sodium_memzero(text, sizeof text);
    assert_int_equal(copies_in_memory(masked_text, sizeof masked_text), 1); /* json itself */
    sodium_memzero(json, sizeof json);
    sodium_memzero(private, sizeof private);

    struct signing_key *key = NULL;
    bool ok = keyring_load_fd(&key, fd, "/etc/k", KEY_ED25519, KEY_FILE_JSON, &warning, &err);
    close(fd);
    if (!ok)
        fail_msg("%s", err.text);
    assert_int_equal(copies_in_memory(masked_text, sizeof masked_text), 0);
    assert_int_equal(copies_in_memory(masked_seed, sizeof masked_seed), 0);
    signing_key_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_in_every_form),
        cmocka_unit_test(white_space_and_unknown_fields_do_no_harm),
        cmocka_unit_test(expanded_keys_only_when_asked_for),
        cmocka_unit_test(seed_and_public_never_pass_as_expanded),
        cmocka_unit_test(wrong_halves_and_lengths),
        cmocka_unit_test(long_files),
        cmocka_unit_test(json_is_compared_with_the_private_key),
        cmocka_unit_test(no_message_shows_the_key),
        cmocka_unit_test(cut_at_every_length),
        cmocka_unit_test(one_byte_changed),
        cmocka_unit_test(who_may_read_and_write),
        cmocka_unit_test(only_regular_files),
        cmocka_unit_test(json_leaves_no_copy),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
