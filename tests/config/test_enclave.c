/* Configs for an enclave: what they become, from TOML and from JSON, and where they are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/config.h"
#include "config/public_key.h"
#include "config/toml.h"

static struct config config;
static struct problems problems;

static void forget(void)
{
    problems_free(&problems);
    config_free(&config);
}

static bool parse(const char *text)
{
    forget();
    return config_parse(&config, bytes_of_text(text), "tmkms.toml", &problems);
}

static void show(void)
{
    for (size_t i = 0; i < problems.n; i++)
        print_message("  %s %s\n",
            problems.list[i].is_warning ? "warning:" : "error:", problems.list[i].text);
}

static bool is_told(bool is_warning, const char *words)
{
    for (size_t i = 0; i < problems.n; i++)
        if (problems.list[i].is_warning == is_warning &&
            strstr(problems.list[i].text, words) != NULL)
            return true;
    return false;
}

static void expect(bool is_warning, const char *words)
{
    if (is_told(is_warning, words))
        return;
    show();
    fail_msg("nothing says '%s'", words);
}

static void expect_refused(const char *text, const char *words)
{
    if (parse(text))
        fail_msg("accepted:\n%s", text);
    assert_null(config.chains);
    expect(false, words);
}

static void expect_good(const char *text)
{
    if (parse(text))
        return;
    show();
    fail_msg("refused:\n%s", text);
}

/* ---- configs put together from parts ---- */

#define BLOB "AQICAHgBAg=="
#define HEX "key_format = { type = \"hex\" }\n"
#define CHAIN_(id, more) "[[chain]]\nid = \"" id "\"\n" HEX more
#define CHAIN(more) CHAIN_("a", "state_vsock_port = 6666\n" more)
#define KEY(more)                                                                                  \
    "[[providers.softsign]]\nchain_ids = [\"a\"]\nencrypted_key_b64 = \"" BLOB "\"\n" more
#define REGION "aws_region = \"eu-west-1\"\n"
#define NODE(addr) "[[validator]]\nchain_id = \"a\"\naddr = " addr "\n"
#define GOOD CHAIN("") NODE("{ port = 5555 }") KEY(REGION)
#define PUBLIC_HEX "03A107BFF3CE10BE1D70DD18E74BC09967E4D6309BA50D5F1DDC8664125531B8"

/* The example of the guide that operators follow, with its two place-holders filled in. */
static const char seed_example[] =
    "# Tendermint KMS configuration file\n"
    "[[chain]]\n"
    "id = \"testnet-croeseid-1\"\n"
    "key_format = { type = \"bech32\", account_key_prefix = \"tcropub\", consensus_key_prefix = "
    "\"tcrocnclconspub\" }\n"
    "state_vsock_port = 6666\n"
    "\n"
    "[[providers.softsign]]\n"
    "chain_ids = [\"testnet-croeseid-1\"]\n"
    "key_type = \"consensus\"\n"
    "encrypted_key_b64 = \"" BLOB "\"\n"
    "aws_region = \"ap-southeast-1\"\n"
    "\n"
    "\n"
    "## Validator configuration\n"
    "[[validator]]\n"
    "chain_id = \"testnet-croeseid-1\"\n"
    "addr = { port = 5555 }\n"
    "protocol_version = \"v0.34\"\n"
    "reconnect = true\n";

static void the_guides_example_is_accepted(void **state)
{
    (void)state;
    static const uint8_t blob[] = {1, 2, 2, 0, 0x78, 1, 2};
    expect_good(seed_example);
    assert_int_equal(problems.n, 0);
    const struct config_chain *c = &config.chains[0];
    assert_string_equal(c->id, "testnet-croeseid-1");
    assert_int_equal(c->state_port, 6666);
    assert_string_equal(c->state_file, "");
    assert_string_equal(c->key_file, "");
    assert_int_equal(c->sealed_n, sizeof blob);
    assert_memory_equal(c->sealed, blob, sizeof blob);
    assert_string_equal(c->kms.region, "ap-southeast-1");
    assert_int_equal(c->kms.vsock_port, 8000);
    assert_string_equal(c->kms.host, "");
    assert_int_equal(c->kms.port, 0);
    assert_int_equal(c->key_type, KEY_ED25519);
    assert_int_equal(c->key_format, KEY_FILE_BASE64);
    const struct config_validator *v = &config.validators[0];
    assert_int_equal(v->address.kind, LINK_VSOCK);
    assert_int_equal(v->address.vsock_port, 5555);
    assert_false(v->address.is_secret_connection);
    assert_string_equal(v->address.text, "vsock://parent:5555");
    assert_false(link_address_needs_identity(&v->address));
    assert_int_equal(v->line, WIRE_P1);
    assert_int_equal(config.enclave.log_port, 0);
    assert_int_equal(config_use(&config), CONFIG_ENCLAVE);
    assert_true(config_check_for(CONFIG_ENCLAVE, &config, "tmkms.toml", &problems));
    expect(true, "[[chain]] \"testnet-croeseid-1\": public_key: is missing");
}

static const char full_example[] =
    "[enclave]\n"
    "log_vsock_port = 6050\n"
    "[[chain]]\n"
    "id = \"a\"\n" HEX "state_vsock_port = 4294967294\n"
    "public_key = \"" PUBLIC_HEX "\"\n"
    "min_height = 1000\n"
    "[[providers.softsign]]\n"
    "chain_ids = [\"a\"]\n"
    "encrypted_key_b64 = \"" BLOB "\\n\"\n"
    "aws_region = \"eu-west-1\"\n"
    "kms_key_id = \"arn:aws:kms:eu-west-1:1:key/2\"\n"
    "encryption_context = { zone = \"z\", config = \"@measured_config\", \"a b\" = \"c\" }\n"
    "kms_endpoint = \"kms-fips.eu-west-1.amazonaws.com:444\"\n"
    "kms_vsock_port = 8001\n"
    "kms_root_pem = \"\"\"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n\"\"\"\n"
    "credentials = { aws_key_id = \"AKIA\", aws_secret_key = \"do not print me\", "
    "aws_session_token = \"token\" }\n"
    "[[validator]]\n"
    "chain_id = \"a\"\n"
    "addr = { port = 5555, secret_connection = true, peer_id = "
    "\"F0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF00010203\" }\n"
    "encrypted_secret_key_b64 = \"" BLOB "\"\n"
    "[[validator]]\n"
    "chain_id = \"a\"\n"
    "addr = { port = 5556, secret_connection = true }\n"
    "secret_key = \"/identity.key\"\n";

static void every_key_of_an_enclave_arrives(void **state)
{
    (void)state;
    static const uint8_t peer[] = {0xf0, 0xf1, 0xf2, 0xf3};
    expect_good(full_example);
    const struct config_chain *c = &config.chains[0];
    assert_true(c->state_port == 4294967294U);
    assert_int_equal(c->expected_key.type, KEY_ED25519);
    assert_int_equal(c->expected_key.bytes[31], 0xb8);
    assert_int_equal(c->min_height, 1000);
    assert_int_equal(c->sealed_n, 7);
    assert_string_equal(c->kms.key_id, "arn:aws:kms:eu-west-1:1:key/2");
    assert_string_equal(c->kms.host, "kms-fips.eu-west-1.amazonaws.com");
    assert_int_equal(c->kms.port, 444);
    assert_int_equal(c->kms.vsock_port, 8001);
    assert_true(strncmp(c->kms.root_pem, "-----BEGIN CERTIFICATE-----\nAAAA\n", 32) == 0);
    assert_int_equal(c->kms.context_n, 3);
    static const char pairs[] = "a b\0c\0config\0@measured_config\0zone\0z";
    assert_memory_equal(c->kms.context, pairs, sizeof pairs);
    assert_true(c->context_has_measured);
    const struct config_validator *v = config.validators;
    assert_string_equal(
        v[0].address.text, "vsock://f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff00010203@parent:5555");
    assert_true(v[0].address.has_peer_id);
    assert_memory_equal(v[0].address.peer_id, peer, sizeof peer);
    assert_true(link_address_needs_identity(&v[0].address));
    assert_int_equal(v[0].sealed_n, 7);
    assert_string_equal(v[1].secret_key, "/identity.key");
    assert_int_equal(v[1].sealed_n, 0);
    assert_int_equal(config.enclave.log_port, 6050);
    assert_true(config_check_for(CONFIG_ENCLAVE, &config, "tmkms.toml", &problems));
    assert_int_equal(problems.n, 0);
}

static void the_hash_takes_its_place_in_the_context(void **state)
{
    (void)state;
    char hash[CONFIG_MEASURED_HEX + 1];
    struct kms_place place;
    memset(hash, 'e', sizeof hash - 1);
    hash[CONFIG_MEASURED_HEX] = '\0';
    expect_good(full_example);
    config_chain_kms(&place, &config.chains[0], hash);
    assert_memory_equal(place.context, "a b\0c\0config\0eeee", 17);
    assert_memory_equal(place.context + 13 + CONFIG_MEASURED_HEX, "\0zone\0z\0", 9);
    assert_int_equal(place.context_n, 3);
    assert_string_equal(place.region, "eu-west-1");
    expect_good(GOOD);
    config_chain_kms(&place, &config.chains[0], hash);
    assert_memory_equal(&place, &config.chains[0].kms, sizeof place);
}

static void what_does_not_fit_together_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } bad[] = {
        {GOOD NODE("\"tcp://h:1\"") "node = \"tcp://h:1\"\n", "node: is for an enclave"},
        {GOOD NODE("{ port = 5556 }") "node = \"vsock://1\"\n", "node: "},
        {GOOD NODE("{ port = 5556 }") "node = \"tcp://h\"\n", "node: "},
        {GOOD NODE(
             "{ port = 5556 }") "node = \"tcp://f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff00010203@h:1\"\n",
            "node: \"tcp://f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff00010203@h:1\" is not of the form"},
        {GOOD NODE("{ port = 5556 }") "node = { port = 1 }\n", "node: is a table"},
        {"[enclave]\ncid = 3\n" GOOD, "[enclave]: cid: is 3; 1 to 3 are the machine's own"},
        {"[enclave]\nname = \"../x\"\n" GOOD, "[enclave]: name: \"../x\" may hold only"},
        {"[enclave]\nname = \"..\"\n" GOOD, "[enclave]: name: \"..\" begins with a dot"},
        {"[enclave]\ncpus = 0\n" GOOD, "[enclave]: cpus: is 0"},
        {"[enclave]\ncpus = 65\n" GOOD, "[enclave]: cpus: is 65"},
        {"[enclave]\nmemory_mib = -1\n" GOOD, "[enclave]: memory_mib: is -1"},
        {"[enclave]\nmemory_mib = 1\n" GOOD, "[enclave]: memory_mib: is 1; an enclave has 64"},
        {"[enclave]\nmemory_mib = 63\n" GOOD, "[enclave]: memory_mib: is 63; an enclave has 64"},
        {"[enclave]\neif = \"/srv/\"\n" GOOD, "[enclave]: eif: \"/srv/\" is a folder"},
        {CHAIN("") KEY(""), "aws_region: is missing; encrypted_key_b64 needs the region"},
        {CHAIN("") KEY("aws_region = \"<AWS region>\"\n"), "\"<AWS region>\" is no region"},
        {CHAIN("") KEY(REGION "path = \"x\"\n"), "path: stands beside encrypted_key_b64"},
        {CHAIN("") "[[providers.softsign]]\nchain_ids = [\"a\"]\n", "path: is missing; add it"},
        {CHAIN("") KEY(REGION "kms_root_file = \"x\"\nkms_root_pem = \"-----BEGIN "
                              "CERTIFICATE-----\"\n"),
            "kms_root_file: stands beside kms_root_pem"},
        {CHAIN("") KEY(REGION "kms_root_pem = \"AAAA\"\n"), "kms_root_pem: holds no certificate"},
        {CHAIN("") KEY(REGION "kms_endpoint = \"https://x\"\n"),
            "kms_endpoint: \"https://x\" is not of the form"},
        {CHAIN("") KEY(REGION "kms_endpoint = \"x:0\"\n"), "kms_endpoint: the port \"0\""},
        {CHAIN("") KEY(REGION "kms_endpoint = \"x y\"\n"), "kms_endpoint: the host \"x y\""},
        {CHAIN("") KEY(REGION "kms_vsock_port = 0\n"), "kms_vsock_port: is 0"},
        {CHAIN("") KEY(REGION "encryption_context = { a = 1 }\n"),
            "encryption_context: \"a\" is not a name with a string"},
        {CHAIN("") KEY(REGION "encryption_context = {}\n"), "encryption_context: is empty"},
        {CHAIN("") KEY(REGION "encryption_context = \"a=b\"\n"),
            "encryption_context: is a string; write a table of strings"},
        {CHAIN("") KEY(REGION "credentials = { aws_key_id = \"do not\" }\n"),
            "credentials.aws_secret_key: is missing"},
        {CHAIN("") KEY(REGION "credentials = { aws_key = \"do not\" }\n"),
            "credentials.aws_key: unknown key; did you mean aws_key_id?"},
        {CHAIN("public_key = \"abc\"\n") KEY(REGION), "public_key: is no public key"},
        {CHAIN("public_key = \"" PUBLIC_HEX "\"\n") KEY(REGION "key_type = \"account\"\n"),
            "public_key: is a key of type ed25519, but the chain's key is of type secp256k1"},
        {CHAIN("min_height = -1\n") KEY(REGION), "min_height: is -1; the least is 0"},
        {CHAIN_("a", "state_vsock_port = 0\n") KEY(REGION), "state_vsock_port: is 0"},
        {CHAIN_("a", "state_vsock_port = 4294967295\n") KEY(REGION), "is 4294967295; it must be"},
        {GOOD NODE("{ port = 0 }"), "addr.port: is 0"},
        {GOOD NODE("{ secret_connection = false }"), "addr.port: is missing"},
        {GOOD NODE("{ port = 1, cid = 3 }"), "addr.cid: unknown key"},
        {GOOD NODE("{ port = 1, secret_connection = 1 }"), "addr.secret_connection: is an integer"},
        {GOOD NODE("5555"), "addr: is an integer; write a string, or { port = NUMBER }"},
        {GOOD NODE("{ port = 1, secret_connection = true }"),
            "secret_key: is missing; secret_connection needs an identity key"},
        {GOOD NODE("{ port = 1, peer_id = \"ab\" }"), "peer_id \"ab\" is not 40 hex digits"},
        {GOOD NODE("{ port = 1, peer_id = \"f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff00010203\" }"),
            "peer_id is checked on a secret connection only"},
        {GOOD NODE("{ port = 1, secret_connection = true }") "secret_key = "
                                                             "\"x\"\nencrypted_secret_key_b64 = "
                                                             "\"" BLOB "\"\n",
            "secret_key: stands beside encrypted_secret_key_b64"},
        {CHAIN("") "[[providers.softsign]]\nchain_ids = [\"a\"]\npath = \"x\"\n" NODE(
             "{ port = 1, secret_connection = true }") "encrypted_secret_key_b64 = \"" BLOB "\"\n",
            "is opened as the key of chain a is, but that one has no encrypted_key_b64"},
        {GOOD NODE("{ port = 5555 }"), "this node of chain a is named twice"},
        {GOOD NODE("{ port = 6666 }"), "addr: 6666 is a state_vsock_port too"},
        {GOOD NODE("{ port = 8000 }"), "addr: 8000 is the port of KMS too"},
        {"[enclave]\nlog_vsock_port = 5555\n" GOOD, "addr: 5555 is the log_vsock_port too"},
        {"[enclave]\nlog_vsock_port = 6666\n" GOOD,
            "state_vsock_port: 6666 is the port of the log"},
        {"[enclave]\nlog_port = 1\n" GOOD, "[enclave]: log_port: unknown key"},
        {"[enclave]\nlog_vsock_port = -1\n" GOOD, "[enclave]: log_vsock_port: is -1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        expect_refused(bad[i].text, bad[i].words);
        assert_false(is_told(false, "do not"));
    }
}

static void settings_without_a_sealed_key_are_warned_of(void **state)
{
    (void)state;
    expect_good(CHAIN_("a", "") NODE("\"unix:///s\"") "[[providers.softsign]]\nchain_ids = "
                                                      "[\"a\"]\npath = \"k\"\n" REGION);
    expect(true, "aws_region: is of use only with encrypted_key_b64");
    assert_int_equal(problems.n, 1);
    assert_string_equal(config.chains[0].kms.region, "");
}

static void blobs_and_contexts_have_a_limit(void **state)
{
    (void)state;
    static char text[20000], big[10000];
    memset(big, 'A', sizeof big);
    for (size_t n = 8188; n <= 8196; n += 4) {
        snprintf(text, sizeof text,
            CHAIN("") "[[providers.softsign]]\nchain_ids = [\"a\"]\n" REGION
                      "encrypted_key_b64 = \"%.*s\"\n",
            (int)n, big);
        assert_int_equal(parse(text), n <= 8192);
        assert_int_equal(problems.errors_n, n > 8192);
    }
    expect(false, "encrypted_key_b64: is no base64 of at most 6144 bytes");
    for (size_t n = 1020; n <= 1024; n++) {
        snprintf(text, sizeof text, CHAIN("") KEY(REGION) "encryption_context = { a = \"%.*s\" }\n",
            (int)n, big);
        assert_int_equal(parse(text), n + 3 <= KMS_CONTEXT_MAX);
    }
    expect(false, "encryption_context: is too long");
    /* The hash will need more room than the word that stands for it. */
    for (size_t n = 920; n <= 926; n++) {
        snprintf(text, sizeof text,
            CHAIN("") KEY(REGION) "encryption_context = { %.*s = \"@measured_config\" }\n", (int)n,
            big);
        assert_int_equal(parse(text), n + 1 + 97 <= KMS_CONTEXT_MAX);
    }
}

/* ---- public keys ---- */

static void public_keys_are_read_in_three_forms(void **state)
{
    (void)state;
    static const char *const forms[] = {PUBLIC_HEX,
        "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8",
        "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=",
        "tcrocnclconspub1zcjduepqqwss00lnecgtu8tsm5vwwj7qn9n7f43snwjs6hcamjrxgyj4xxuqdwd9ww",
        "crocnclconspub1zcjduepqqwss00lnecgtu8tsm5vwwj7qn9n7f43snwjs6hcamjrxgyj4xxuqu8hrg9"};
    static const char *const bad[] = {/* bech32 of the bare key, which an old program printed */
        "tcrocnclconspub1qwss00lnecgtu8tsm5vwwj7qn9n7f43snwjs6hcamjrxgyj4xxuqjzgej7",
        /* the address of the same key */
        "tcrocnclcons12er44f65vdr5cq59mawm7272ku76v5f42jedm6",
        "tcrocnclconspub1zcjduepqqwss00lnecgtu8tsm5vwwj7qn9n7f43snwjs6hcamjrxgyj4xxuqdwd9wx",
        "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531",
        "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8b8b8",
        "05a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8aa", "", "x", "A6EHv/PO"};
    struct public_key first = {0}, key;
    struct err err;
    assert_true(public_key_parse(&first, forms[0], &err));
    assert_int_equal(first.type, KEY_ED25519);
    assert_int_equal(first.len, 32);
    for (size_t i = 1; i < sizeof forms / sizeof *forms; i++) {
        if (!public_key_parse(&key, forms[i], &err))
            fail_msg("%s %s", forms[i], err.text);
        assert_memory_equal(&key, &first, sizeof key);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (public_key_parse(&key, bad[i], &err))
            fail_msg("accepted: %s", bad[i]);
    assert_true(public_key_parse(
        &key, "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798", &err));
    assert_int_equal(key.type, KEY_SECP256K1);
    assert_int_equal(key.len, 33);
}

/* ---- hosts and enclaves ---- */

#define HOST_KEY "[[providers.softsign]]\nchain_ids = [\"a\"]\npath = \"k\"\n"

static void each_side_refuses_what_is_for_the_other(void **state)
{
    (void)state;
    static const struct {
        enum config_use use;
        const char *text, *words;
    } bad[] = {
        {CONFIG_HOST, GOOD,
            "[[chain]] \"a\": encrypted_key_b64: is for the enclave (`tmkms nitro`)"},
        {CONFIG_HOST, GOOD, "[[chain]] \"a\": state_vsock_port: is for the enclave"},
        {CONFIG_HOST, GOOD, "[[validator]] \"vsock://parent:5555\": addr: a port without a host"},
        {CONFIG_HOST,
            CHAIN_("a", "") KEY(REGION) NODE("\"1.2.3.4:5\"") "encrypted_secret_key_b64 = \"" BLOB
                                                              "\"\n",
            "encrypted_secret_key_b64: is for the enclave"},
        {CONFIG_ENCLAVE, CHAIN("") HOST_KEY NODE("{ port = 5555 }"),
            "[[chain]] \"a\": path: the enclave sees no files"},
        {CONFIG_ENCLAVE, CHAIN_("a", "") KEY(REGION) NODE("{ port = 5555 }"),
            "state_vsock_port: is missing"},
        {CONFIG_ENCLAVE, CHAIN("state_hook = { cmd = [\"x\"] }\n") KEY(REGION),
            "state_hook: the enclave runs no commands"},
        {CONFIG_ENCLAVE, CHAIN("") KEY(REGION) NODE("\"unix:///s\""),
            "[[validator]] \"unix:///s\": addr: the enclave has no network"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        expect_good(bad[i].text);
        assert_false(config_check_for(bad[i].use, &config, "tmkms.toml", &problems));
        expect(false, bad[i].words);
        assert_int_equal(config_use(&config), CONFIG_ENCLAVE);
    }
    expect_good(CHAIN_("a", "") HOST_KEY NODE("\"unix:///s\""));
    assert_int_equal(config_use(&config), CONFIG_HOST);
    assert_true(config_check_for(CONFIG_HOST, &config, "tmkms.toml", &problems));
    assert_int_equal(problems.n, 0);
}

static void a_missing_public_key_is_warned_of_in_the_enclave(void **state)
{
    (void)state;
    expect_good(GOOD);
    assert_true(config_check_for(CONFIG_ENCLAVE, &config, "tmkms.toml", &problems));
    expect(true, "public_key: is missing: what KMS decrypts has no sender");
    expect_good(CHAIN("public_key = \"" PUBLIC_HEX "\"\n") KEY(REGION) NODE("{ port = 5555 }"));
    assert_true(config_check_for(CONFIG_ENCLAVE, &config, "tmkms.toml", &problems));
    assert_int_equal(problems.n, 0);
}

/* ---- trees ---- */

static json_t *tree_of(const char *text)
{
    json_t *tree, *lines;
    uint32_t line;
    struct err err;
    if (!toml_parse(&tree, &lines, bytes_of_text(text), &line, &err))
        fail_msg("line %u: %s", line, err.text);
    json_decref(lines);
    return tree;
}

/* Through JSON text, as on the way to an enclave. */
static json_t *through_json(json_t *tree)
{
    char *text = json_dumps(tree, JSON_COMPACT);
    assert_non_null(text);
    json_t *again = json_loads(text, 0, NULL);
    assert_non_null(again);
    free(text);
    json_decref(tree);
    return again;
}

static void toml_and_json_give_equal_bytes(void **state)
{
    (void)state;
    static const char *const texts[] = {seed_example, full_example, GOOD};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct config other;
        json_t *tree = through_json(tree_of(texts[i]));
        expect_good(texts[i]);
        assert_true(config_from_tree(&other, tree, "pushed", &problems));
        assert_int_equal(other.chains_n, config.chains_n);
        assert_int_equal(other.validators_n, config.validators_n);
        assert_memory_equal(other.chains, config.chains, config.chains_n * sizeof *config.chains);
        assert_memory_equal(
            other.validators, config.validators, config.validators_n * sizeof *config.validators);
        assert_memory_equal(&other.enclave, &config.enclave, sizeof other.enclave);
        config_free(&other);
        json_decref(tree);
    }
}

static void a_tree_is_refused_in_the_same_words_without_lines(void **state)
{
    (void)state;
    json_t *tree = through_json(tree_of(CHAIN("") KEY("")));
    forget();
    assert_false(config_from_tree(&config, tree, "pushed", &problems));
    expect(false, "pushed: [[providers.softsign]] number 1: aws_region: is missing");
    json_decref(tree);
    json_t *const odd[] = {json_null(), json_array(), json_string("x"), json_object(), json_true()};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        forget();
        assert_false(config_from_tree(&config, odd[i], "pushed", &problems));
        assert_true(problems.errors_n > 0);
        json_decref(odd[i]);
    }
}

static void credentials_travel_apart(void **state)
{
    (void)state;
    struct aws_credentials found;
    struct err err;
    json_t *tree = tree_of(full_example);
    assert_true(config_tree_take_credentials(&found, tree, &err));
    assert_string_equal(found.key_id, "AKIA");
    assert_string_equal(found.secret_key, "do not print me");
    assert_string_equal(found.session_token, "token");
    char *text = json_dumps(tree, 0);
    assert_null(strstr(text, "do not print me"));
    assert_null(strstr(text, "credentials"));
    free(text);
    forget();
    assert_true(config_from_tree(&config, tree, "pushed", &problems));
    assert_true(config_tree_take_credentials(&found, tree, &err));
    assert_string_equal(found.key_id, "");
    json_decref(tree);

    static const char *const bad[] = {
        KEY("credentials = { aws_key_id = \"a\" }\n"),
        KEY("credentials = 3\n"),
        KEY("credentials = { aws_key_id = \"a\", aws_secret_key = 3 }\n"),
        KEY("credentials = { aws_key_id = \"a\", aws_secret_key = \"b\" }\n")
            KEY("credentials = { aws_key_id = \"a\", aws_secret_key = \"c\" }\n"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tree = tree_of(bad[i]);
        assert_false(config_tree_take_credentials(&found, tree, &err));
        assert_memory_equal(err.text, "credentials: ", 13);
        text = json_dumps(tree, 0);
        assert_null(strstr(text, "credentials"));
        free(text);
        json_decref(tree);
    }
    tree = tree_of(KEY("credentials = { aws_key_id = \"a\", aws_secret_key = \"b\" }\n")
            KEY("credentials = { aws_key_id = \"a\", aws_secret_key = \"b\" }\n") KEY(""));
    assert_true(config_tree_take_credentials(&found, tree, &err));
    assert_string_equal(found.secret_key, "b");
    json_decref(tree);
}

/* ---- what is for the parent alone ---- */

#define PARENT_ENCLAVE                                                                             \
    "[enclave]\nlog_vsock_port = 6051\neif = \"/srv/SECRET.eif\"\ncpus = 4\nmemory_mib = "         \
    "256\ncid = 16\nname = \"SECRET\"\n"
#define PARENT_FILE "state_file = \"/srv/SECRET.json\"\n"
#define PARENT_NODE(address) NODE("{ port = 5555 }") "node = \"" address "\"\n"

static void keys_for_the_parent_are_read(void **state)
{
    (void)state;
    expect_good(PARENT_ENCLAVE CHAIN(PARENT_FILE) PARENT_NODE("unix:///srv/node.sock") KEY(REGION)
            NODE("{ port = 5556 }") "node = \"tcp://10.0.0.1:26659\"\n" NODE("{ port = 5557 }"));
    assert_string_equal(config.enclave.eif, "/srv/SECRET.eif");
    assert_string_equal(config.enclave.name, "SECRET");
    assert_int_equal(config.enclave.cpus, 4);
    assert_int_equal(config.enclave.memory_mib, 256);
    assert_int_equal(config.enclave.cid, 16);
    assert_int_equal(config.enclave.log_port, 6051);
    assert_string_equal(config.chains[0].state_file, "/srv/SECRET.json");
    assert_int_equal(config.chains[0].state_port, 6666);
    assert_int_equal(config_use(&config), CONFIG_ENCLAVE);
    assert_true(config_check_for(CONFIG_ENCLAVE, &config, "tmkms.toml", &problems));
    assert_int_equal(config.validators_n, 3);
    assert_int_equal(config.nodes[0].kind, LINK_UNIX);
    assert_string_equal(config.nodes[0].path, "/srv/node.sock");
    assert_int_equal(config.nodes[1].kind, LINK_TCP);
    assert_string_equal(config.nodes[1].host, "10.0.0.1");
    assert_int_equal(config.nodes[1].port, 26659);
    assert_int_equal(config.nodes[2].kind, 0);
    expect_good(GOOD);
    assert_string_equal(config.enclave.name, "tmkms");
    assert_int_equal(config.enclave.memory_mib, 0);
    assert_int_equal(config.nodes[0].kind, 0);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static json_t *pushed_tree_of(const char *text)
{
    char file[] = "/tmp/tmkms-tree-XXXXXX";
    json_t *tree = NULL;
    int fd = mkstemp(file);
    assert_true(fd >= 0);
    close(fd);
    write_file(file, text);
    forget();
    assert_true(config_tree_read(&tree, file, &problems));
    unlink(file);
    return tree;
}

/* The enclave gets the same bytes with and without them, so that nothing of them can be measured. */
static void keys_for_the_parent_are_not_pushed(void **state)
{
    (void)state;
    json_t *with = pushed_tree_of(
        PARENT_ENCLAVE CHAIN(PARENT_FILE) PARENT_NODE("unix:///SECRET.sock") KEY(REGION));
    json_t *without = pushed_tree_of("[enclave]\nlog_vsock_port = 6051\n" GOOD);
    assert_true(json_equal(with, without));
    char *text = json_dumps(with, JSON_COMPACT);
    assert_null(strstr(text, "SECRET"));
    free(text);
    forget();
    assert_true(config_from_tree(&config, with, "pushed", &problems));
    assert_string_equal(config.chains[0].state_file, "");
    assert_int_equal(config.chains[0].state_port, 6666);
    json_decref(with);
    json_decref(without);
    /* On a host the file is the state itself. */
    json_t *host = pushed_tree_of(CHAIN_("a", PARENT_FILE));
    const json_t *chain = json_array_get(json_object_get(host, "chain"), 0);
    assert_string_equal(
        json_string_value(json_object_get(chain, "state_file")), "/srv/SECRET.json");
    json_decref(host);
}

static void keys_for_the_parent_are_refused_in_the_enclave(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } bad[] = {
        {CHAIN(PARENT_FILE) NODE("{ port = 5555 }") KEY(REGION),
            "state_file: stands beside state_vsock_port, and is for the parent alone"},
        {CHAIN("") PARENT_NODE("unix:///x") KEY(REGION), "node: is for the parent alone"},
        {"[enclave]\neif = \"/x\"\n" GOOD, "[enclave]: eif: is for the parent alone"},
        {"[enclave]\ncpus = 2\n" GOOD, "[enclave]: cpus: is for the parent alone"},
        {"[enclave]\nmemory_mib = 64\n" GOOD, "[enclave]: memory_mib: is for the parent alone"},
        {"[enclave]\ncid = 5\n" GOOD, "[enclave]: cid: is for the parent alone"},
        {"[enclave]\nname = \"x\"\n" GOOD, "[enclave]: name: is for the parent alone"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *tree = tree_of(bad[i].text);
        expect_good(bad[i].text);
        forget();
        assert_false(config_from_tree(&config, tree, "pushed", &problems));
        expect(false, bad[i].words);
        json_decref(tree);
    }
}

static void the_root_file_is_put_into_the_tree(void **state)
{
    (void)state;
    static const char pem[] = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n";
    char dir[] = "/tmp/tmkms-tree-XXXXXX", file[64], root[64], text[1024];
    json_t *tree = NULL;
    assert_non_null(mkdtemp(dir));
    snprintf(file, sizeof file, "%s/tmkms.toml", dir);
    snprintf(root, sizeof root, "%s/root.pem", dir);
    snprintf(text, sizeof text, "%skms_root_file = \"%s\"\n", GOOD, root);
    write_file(file, text);
    forget();
    assert_false(config_tree_read(&tree, file, &problems));
    expect(false, "root.pem cannot be opened: No such file");
    assert_null(tree);
    /* The host may check the file as it stands; the enclave does not take the name of a file. */
    expect_good(text);
    assert_true(config.chains[0].kms_root_is_file);
    assert_true(config_check_for(CONFIG_ENCLAVE, &config, file, &problems));
    tree = tree_of(text);
    forget();
    assert_false(config_from_tree(&config, tree, "pushed", &problems));
    expect(false, "kms_root_file: the enclave sees no files of the host");
    json_decref(tree);
    write_file(root, pem);
    forget();
    assert_true(config_tree_read(&tree, file, &problems));
    assert_true(config_from_tree(&config, tree, file, &problems));
    assert_string_equal(config.chains[0].kms.root_pem, pem);
    assert_false(config.chains[0].kms_root_is_file);
    assert_true(config_check_for(CONFIG_ENCLAVE, &config, file, &problems));
    json_decref(tree);
    write_file(root, "\xff\xfe");
    forget();
    assert_false(config_tree_read(&tree, file, &problems));
    expect(false, "holds no text");
    unlink(root);
    write_file(file, "[[chain]\n");
    forget();
    assert_false(config_tree_read(&tree, file, &problems));
    expect(false, "tmkms.toml:1: ");
    unlink(file);
    forget();
    assert_false(config_tree_read(&tree, file, &problems));
    expect(false, "No such file or directory");
    rmdir(dir);
}

/* One value after the other becomes another type; an answer always comes, and says something. */
static void damaged_trees_get_an_answer(void **state)
{
    (void)state;
    size_t accepted = 0, refused = 0;
    json_t *tree = tree_of(full_example);
    char *text = json_dumps(tree, JSON_COMPACT);
    size_t n = strlen(text);
    json_decref(tree);
    for (size_t at = 0; at < n; at++) {
        static const char other[] = "0\"}{],:nx";
        for (size_t i = 0; i < sizeof other - 1; i++) {
            char kept = text[at];
            text[at] = other[i];
            tree = json_loads(text, 0, NULL);
            text[at] = kept;
            if (tree == NULL)
                continue;
            forget();
            bool ok = config_from_tree(&config, tree, "pushed", &problems);
            assert_int_equal(ok, problems.errors_n == 0);
            assert_int_equal(ok, config.chains_n > 0);
            ok ? accepted++ : refused++;
            json_decref(tree);
        }
    }
    free(text);
    assert_true(accepted > 100 && refused > 1000);
}

static int leave(void **state)
{
    (void)state;
    forget();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_guides_example_is_accepted),
        cmocka_unit_test(every_key_of_an_enclave_arrives),
        cmocka_unit_test(the_hash_takes_its_place_in_the_context),
        cmocka_unit_test(what_does_not_fit_together_is_refused),
        cmocka_unit_test(settings_without_a_sealed_key_are_warned_of),
        cmocka_unit_test(blobs_and_contexts_have_a_limit),
        cmocka_unit_test(public_keys_are_read_in_three_forms),
        cmocka_unit_test(each_side_refuses_what_is_for_the_other),
        cmocka_unit_test(a_missing_public_key_is_warned_of_in_the_enclave),
        cmocka_unit_test(toml_and_json_give_equal_bytes),
        cmocka_unit_test(a_tree_is_refused_in_the_same_words_without_lines),
        cmocka_unit_test(credentials_travel_apart),
        cmocka_unit_test(keys_for_the_parent_are_read),
        cmocka_unit_test(keys_for_the_parent_are_not_pushed),
        cmocka_unit_test(keys_for_the_parent_are_refused_in_the_enclave),
        cmocka_unit_test(the_root_file_is_put_into_the_tree),
        cmocka_unit_test(damaged_trees_get_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, leave);
}
