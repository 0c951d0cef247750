/* `tmkms pubkey`: every form of every key of keys.json, from every kind of file, and from a
 * configuration. */
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "crypto/encode.h"
#include "crypto/key.h"
#include "folder.h"
#include "run.h"
#include "vectors.h"

static struct run_result result;
static char folder[] = "/tmp/tmkms-pubkey-XXXXXX";
static char path[64];

static int start(void **state)
{
    (void)state;
    struct err err;
    if (!crypto_start(&err) || mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/k", folder);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

static void write_at(const char *where, struct bytes content, mode_t mode)
{
    int fd = open(where, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_true(fd_write_exact(fd, content.p, content.n));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

/* Standard output is the value and a line end, nothing else; standard error is empty. */
static void prints(const char *form, const char *prefix, const char *type, const char *want)
{
    const char *argv[12] = {TMKMS_BINARY, "pubkey", path, "--format", form};
    size_t n = 5;
    if (prefix != NULL) {
        argv[n++] = "--prefix";
        argv[n++] = prefix;
    }
    if (type != NULL) {
        argv[n++] = "--type";
        argv[n++] = type;
    }
    run_in(&result, NULL, argv);
    if (result.exit_code != 0)
        fail_msg("%s %s: %s", form, prefix, result.err);
    assert_string_equal(result.err, "");
    assert_true(strlen(result.out) > 1);
    result.out[strlen(result.out) - 1] = '\0';
    assert_string_equal(result.out, want);
}

static const char *bech32_of(const json_t *entry, const char *hrp)
{
    return vectors_text(json_object_get(entry, "bech32"), hrp);
}

static void check_forms(const json_t *entry)
{
    uint8_t public[PUBLIC_KEY_MAX];
    char hex[2 * PUBLIC_KEY_MAX + 1], comet[256];
    bool is_ed25519 = strcmp(vectors_text(entry, "type"), "ed25519") == 0;
    hex_upper(vectors_hex(entry, "public", public, sizeof public), hex);
    snprintf(comet, sizeof comet, "{\"type\":\"tendermint/PubKey%s\",\"value\":\"%s\"}",
        is_ed25519 ? "Ed25519" : "Secp256k1", vectors_text(entry, "public_base64"));
    prints("hex", NULL, NULL, hex);
    prints("base64", NULL, NULL, vectors_text(entry, "public_base64"));
    prints("address", NULL, NULL, vectors_text(entry, "address"));
    prints("cosmos-json", NULL, NULL, vectors_text(entry, "sdk_json"));
    prints("comet-json", NULL, NULL, comet);
    static const char *const whole[] = {"cosmosval", "osmoval", "crocncl", "tcrocncl"};
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        char key[64], address[64];
        snprintf(key, sizeof key, "%sconspub", whole[i]);
        snprintf(address, sizeof address, "%scons", whole[i]);
        prints("bech32", key, NULL, bech32_of(entry, key));
        prints("bech32", address, NULL, bech32_of(entry, key));
        prints("valcons", key, NULL, bech32_of(entry, address));
        prints("valcons", address, NULL, bech32_of(entry, address));
    }
}

static void check_base_prefixes(const json_t *entry)
{
    static const char *const bases[][2] = {{"cosmos", "cosmosvalcons"}, {"osmo", "osmovalcons"},
        {"cro", "crocnclcons"}, {"tcro", "tcrocnclcons"}};
    for (size_t i = 0; i < sizeof bases / sizeof bases[0]; i++) {
        char key[64];
        snprintf(key, sizeof key, "%spub", bases[i][1]);
        prints("bech32", bases[i][0], NULL, bech32_of(entry, key));
        prints("valcons", bases[i][0], NULL, bech32_of(entry, bases[i][1]));
    }
}

static void every_form_of_every_vector(void **state)
{
    (void)state;
    json_t *root = vectors_load("keys.json"), *entry;
    size_t i, seen = 0;
    json_array_foreach(json_object_get(root, "keys"), i, entry)
    {
        uint8_t private[64];
        bool is_ed25519 = strcmp(vectors_text(entry, "type"), "ed25519") == 0;
        vectors_hex(entry, "private", private, sizeof private);
        write_at(path, bytes_of_text(vectors_text(entry, "priv_validator_key_json")), 0600);
        check_forms(entry);
        check_base_prefixes(entry);
        write_at(path, bytes_of(private, 32), 0600);
        prints("base64", NULL, is_ed25519 ? NULL : "account", vectors_text(entry, "public_base64"));
        if (is_ed25519) {
            write_at(path, bytes_of_text(vectors_text(entry, "softsign_base64")), 0600);
            prints("base64", NULL, "consensus", vectors_text(entry, "public_base64"));
        }
        seen++;
    }
    assert_int_equal(seen, 7);
    json_decref(root);
}

/* Some releases of tendermint-rs left the amino prefix out: no chain takes such a key. */
static void worked_example_of_crypto_org(void **state)
{
    (void)state;
    write_at(path, bytes_of_text("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="), 0600);
    prints("bech32", "tcrocnclconspub", NULL,
        "tcrocnclconspub1zcjduepq6adfsqvzky9t042tlmfujeq88g8wzuhnm2nzxfd0qgdx3ac82ydqj83aka");
    prints("bech32", "crocnclconspub", NULL,
        "crocnclconspub1zcjduepq6adfsqvzky9t042tlmfujeq88g8wzuhnm2nzxfd0qgdx3ac82ydqrwtmsk");
    prints("valcons", "tcro", NULL, "tcrocnclcons1y8lrrhap2j3xzcntlp2qgm7jyudhhm2tuevgfu");
}

static void all_forms_with_labels(void **state)
{
    (void)state;
    write_at(path, bytes_of_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), 0600);
    RUN(&result, "pubkey", path, "--prefix", "cosmos");
    assert_int_equal(result.exit_code, 0);
    assert_string_equal(result.out,
        "type:        ed25519\n"
        "hex:         03A107BFF3CE10BE1D70DD18E74BC09967E4D6309BA50D5F1DDC8664125531B8\n"
        "base64:      A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\n"
        "bech32:      "
        "cosmosvalconspub1zcjduepqqwss00lnecgtu8tsm5vwwj7qn9n7f43snwjs6hcamjrxgyj4xxuq4r2t8j\n"
        "cosmos-json: "
        "{\"@type\":\"/cosmos.crypto.ed25519.PubKey\",\"key\":\"A6EHv/"
        "POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\"}\n"
        "comet-json:  "
        "{\"type\":\"tendermint/PubKeyEd25519\",\"value\":\"A6EHv/"
        "POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\"}\n"
        "address:     56475AA75463474C0285DF5DBF2BCAB73DA65135\n"
        "valcons:     cosmosvalcons12er44f65vdr5cq59mawm7272ku76v5f4lj96wd\n");
    assert_string_equal(result.err, "");
    RUN(&result, "pubkey", path);
    assert_int_equal(result.exit_code, 0);
    assert_null(strstr(result.out, "bech32"));
    assert_contains(result.out, "address:     56475AA7");
    assert_contains(result.err, "--prefix");
}

static void account_keys_have_account_prefixes(void **state)
{
    (void)state;
    write_at(path, bytes_of_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), 0600);
    RUN(&result, "pubkey", path, "-t", "account", "-p", "cosmos");
    assert_int_equal(result.exit_code, 0);
    assert_contains(result.out, "type:        secp256k1\n");
    assert_contains(result.out, "bech32:      cosmospub1addwnpepq");
    assert_contains(result.out, "valcons:     cosmos1");
}

static void wrong_usage(void **state)
{
    (void)state;
    write_at(path, bytes_of_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), 0600);
    RUN(&result, "pubkey", path, "--format", "pem");
    assert_int_equal(result.exit_code, 2);
    RUN(&result, "pubkey", path, path);
    assert_int_equal(result.exit_code, 2);
    RUN(&result, "pubkey", path, "-c", "tmkms.toml");
    assert_int_equal(result.exit_code, 2);
    RUN(&result, "pubkey", path, "--chain", "c");
    assert_int_equal(result.exit_code, 2);
    RUN(&result, "pubkey", path, "-t", "validator");
    assert_int_equal(result.exit_code, 2);
    RUN(&result, "pubkey", "-t", "account");
    assert_int_equal(result.exit_code, 2);
    RUN(&result, "pubkey", path, "--hex");
    assert_int_equal(result.exit_code, 2);
}

static void failures_print_nothing_on_standard_output(void **state)
{
    (void)state;
    write_at(path, bytes_of_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), 0600);
    RUN(&result, "pubkey", path, "--format", "bech32");
    assert_int_equal(result.exit_code, 1);
    assert_string_equal(result.out, "");
    assert_contains(result.err, "give it with --prefix");
    RUN(&result, "pubkey", path, "--format", "bech32", "--prefix", "Cosmos");
    assert_int_equal(result.exit_code, 1);
    assert_contains(result.err, "is no bech32 prefix");
    RUN(&result, "pubkey", path, "--format", "hex", "--prefix", "");
    assert_int_equal(result.exit_code, 1);
    RUN(&result, "pubkey", "/nonexistent/key");
    assert_int_equal(result.exit_code, 1);
    assert_contains(result.err, "cannot open key file /nonexistent/key");
    assert_int_equal(chmod(path, 0622), 0);
    RUN(&result, "pubkey", path);
    assert_int_equal(result.exit_code, 1);
    assert_string_equal(result.out, "");
    assert_int_equal(chmod(path, 0644), 0);
    RUN(&result, "pubkey", path, "--format", "address");
    assert_int_equal(result.exit_code, 0);
    assert_contains(result.err, "warning: ");
    assert_string_equal(result.out, "56475AA75463474C0285DF5DBF2BCAB73DA65135\n");
}

/* ---- from a configuration ---- */

static const char config_text[] =
    "[[chain]]\n"
    "id = \"first-1\"\n"
    "key_format = { type = \"bech32\", account_key_prefix = \"tcropub\", consensus_key_prefix = "
    "\"tcrocnclconspub\" }\n"
    "[[chain]]\n"
    "id = \"second-1\"\n"
    "key_format = { type = \"hex\" }\n"
    "[[providers.softsign]]\n"
    "chain_ids = [\"first-1\"]\n"
    "key_type = \"consensus\"\n"
    "path = \"first.key\"\n"
    "[[providers.softsign]]\n"
    "chain_ids = [\"second-1\"]\n"
    "key_type = \"consensus\"\n"
    "key_format = \"json\"\n"
    "path = \"second.json\"\n";

static void make_configured_folder(void)
{
    char where[128];
    json_t *root = vectors_load("keys.json");
    const json_t *entry = json_array_get(json_object_get(root, "keys"), 0);
    snprintf(where, sizeof where, "%s/tmkms.toml", folder);
    write_at(where, bytes_of_text(config_text), 0600);
    snprintf(where, sizeof where, "%s/first.key", folder);
    write_at(where, bytes_of_text("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="), 0600);
    snprintf(where, sizeof where, "%s/second.json", folder);
    write_at(where, bytes_of_text(vectors_text(entry, "priv_validator_key_json")), 0600);
    json_decref(root);
}

static void every_chain_of_a_configuration(void **state)
{
    (void)state;
    make_configured_folder();
    RUN_IN(&result, folder, "pubkey");
    if (result.exit_code != 0)
        fail_msg("%s", result.err);
    const char *second = strstr(result.out, "\n\nchain:       second-1\ntype:        ed25519\n");
    assert_non_null(second);
    assert_memory_equal(result.out, "chain:       first-1\n", 21);
    assert_contains(result.out,
        "tcrocnclconspub1zcjduepq6adfsqvzky9t042tlmfujeq88g8wzuhnm2nzxfd0qgdx3ac82ydqj83aka");
    assert_contains(result.out, "tcrocnclcons1y8lrrhap2j3xzcntlp2qgm7jyudhhm2tuevgfu");
    assert_contains(second, "34750F98BD59FCFC946DA45AAABE933BE154A4B5");
    assert_null(strstr(second, "bech32"));
}

static void one_chain_of_a_configuration(void **state)
{
    (void)state;
    make_configured_folder();
    RUN_IN(
        &result, folder, "pubkey", "-c", "tmkms.toml", "--chain", "first-1", "--format", "bech32");
    assert_int_equal(result.exit_code, 0);
    assert_string_equal(result.out,
        "tcrocnclconspub1zcjduepq6adfsqvzky9t042tlmfujeq88g8wzuhnm2nzxfd0qgdx3ac82ydqj83aka\n");
    assert_string_equal(result.err, "");
    RUN_IN(&result, folder, "pubkey", "--chain", "second-1", "--format", "valcons");
    assert_int_equal(result.exit_code, 1);
    assert_contains(result.err, "second-1");
    RUN_IN(&result, folder, "pubkey", "--chain", "second-1", "--format", "valcons", "--prefix",
        "cosmos");
    assert_int_equal(result.exit_code, 0);
    assert_string_equal(result.out, "cosmosvalcons1x36slx9at870e9rd53d2405n80s4ff940awqvf\n");
    RUN_IN(&result, folder, "pubkey", "--chain", "third-1");
    assert_int_equal(result.exit_code, 1);
    assert_contains(result.err, "there is no chain third-1");
    RUN_IN(&result, folder, "pubkey", "-c", "other.toml");
    assert_int_equal(result.exit_code, 1);
    assert_contains(result.err, "other.toml");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_of_every_vector),
        cmocka_unit_test(worked_example_of_crypto_org),
        cmocka_unit_test(all_forms_with_labels),
        cmocka_unit_test(account_keys_have_account_prefixes),
        cmocka_unit_test(wrong_usage),
        cmocka_unit_test(failures_print_nothing_on_standard_output),
        cmocka_unit_test(every_chain_of_a_configuration),
        cmocka_unit_test(one_chain_of_a_configuration),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
