/* What a config becomes, and the words for what is wrong with one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/config.h"
#include "config/sample.h"
#include "sandbox/sandbox.h"

static struct config config;
static struct problems problems;

static bool parse(const char *text)
{
    problems_free(&problems);
    config_free(&config);
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

/* ---- small configs put together from parts ---- */

#define HEX "key_format = { type = \"hex\" }\n"
#define CHAIN(id) "[[chain]]\nid = \"" id "\"\n" HEX
#define KEY(id, path) "[[providers.softsign]]\nchain_ids = [\"" id "\"]\npath = \"" path "\"\n"
#define NODE(id, addr) "[[validator]]\nchain_id = \"" id "\"\naddr = \"" addr "\"\n"
#define GOOD CHAIN("a") NODE("a", "unix:///s") KEY("a", "a.key")

static void expect_refused(const char *text, const char *words)
{
    if (parse(text))
        fail_msg("accepted:\n%s", text);
    assert_int_equal(config.chains_n, 0);
    assert_null(config.chains);
    expect(false, words);
}

static void expect_warned(const char *text, const char *words)
{
    if (!parse(text)) {
        show();
        fail_msg("refused");
    }
    expect(true, words);
}

static void the_sample_becomes_what_it_says(void **state)
{
    (void)state;
    if (!parse(sample_text)) {
        show();
        fail_msg("refused");
    }
    assert_int_equal(config.chains_n, 2);
    assert_int_equal(config.validators_n, 2);
    const struct config_chain *hub = config_find_chain(&config, "cosmoshub-4");
    assert_ptr_equal(hub, &config.chains[0]);
    assert_int_equal(hub->display, DISPLAY_BECH32);
    assert_string_equal(hub->account_prefix, "cosmospub");
    assert_string_equal(hub->consensus_prefix, "cosmosvalconspub");
    assert_string_equal(hub->state_file, "/var/lib/tmkms/cosmoshub-4.json");
    assert_string_equal(hub->key_file, "/etc/tmkms/priv_validator_key.json");
    assert_int_equal(hub->key_format, KEY_FILE_JSON);
    assert_int_equal(hub->key_type, KEY_ED25519);
    assert_true(hub->sign_raw_bytes);
    assert_true(hub->one_block_per_round);
    assert_true(hub->max_height_jump == 5000000000);
    assert_int_equal(hub->hook_args_n, 3);
    assert_memory_equal(hub->hook_args, "/usr/bin/hook\0--chain\0hub 4", 28);
    assert_int_equal(hub->hook_timeout_secs, 7);
    assert_false(hub->hook_fail_closed);

    const struct config_chain *osmosis = config_find_chain(&config, "osmosis-1");
    assert_ptr_equal(osmosis, &config.chains[1]);
    assert_int_equal(osmosis->display, DISPLAY_HEX);
    assert_string_equal(osmosis->state_file, "osmosis-1_priv_validator_state.json");
    assert_string_equal(osmosis->key_file, "osmosis.key");
    assert_int_equal(osmosis->key_format, KEY_FILE_BASE64);
    assert_int_equal(osmosis->key_type, KEY_SECP256K1);
    assert_false(osmosis->sign_raw_bytes);
    assert_false(osmosis->one_block_per_round);
    assert_int_equal(osmosis->max_height_jump, 0);
    assert_int_equal(osmosis->hook_args_n, 0);
    assert_null(config_find_chain(&config, "osmosis-2"));

    const struct config_validator *v = config.validators;
    assert_string_equal(v[0].chain_id, "cosmoshub-4");
    assert_int_equal(v[0].address.kind, LINK_TCP);
    assert_string_equal(v[0].address.host, "10.0.0.1");
    assert_true(v[0].address.has_peer_id);
    assert_string_equal(v[0].secret_key, "/etc/tmkms/kms-identity.key");
    assert_int_equal(v[0].timeout_secs, 20);
    assert_int_equal(v[0].line, WIRE_P2);
    assert_int_equal(v[0].max_height, 500000);
    assert_false(v[0].reconnect);
    assert_int_equal(v[1].address.kind, LINK_UNIX);
    assert_string_equal(v[1].address.path, "/run/node.sock");
    assert_string_equal(v[1].secret_key, "");
    assert_int_equal(v[1].timeout_secs, 10);
    assert_int_equal(v[1].line, WIRE_P1);
    assert_int_equal(v[1].max_height, 77);
    assert_true(v[1].reconnect);
    expect(true, "[[chain]] \"cosmoshub-4\": sign_extensions: is ignored");
    assert_int_equal(problems.n, 1);
}

/* The first example of the Rust program's documentation, with what `tmkms init` writes there. */
static void a_config_of_the_rust_program_is_read(void **state)
{
    (void)state;
    static const char text[] =
        "# Tendermint KMS configuration file\n\n"
        "## Chain Configuration\n\n"
        "### Cosmos Hub Network\n\n"
        "[[chain]]\n"
        "id = \"cosmoshub-3\"\n"
        "key_format = { type = \"bech32\", account_key_prefix = \"cosmospub\", "
        "consensus_key_prefix = "
        "\"cosmosvalconspub\" }\n"
        "state_file = \"/x/state/cosmoshub-3-consensus.json\"\n\n"
        "## Signing Provider Configuration\n\n"
        "### Software-based Signer Configuration\n\n"
        "[[providers.softsign]]\n"
        "chain_ids = [\"cosmoshub-3\"]\n"
        "key_type = \"consensus\"\n"
        "path = \"/x/secrets/cosmoshub-3-consensus.key\"\n\n"
        "## Validator Configuration\n\n"
        "[[validator]]\n"
        "chain_id = \"cosmoshub-3\"\n"
        "addr = \"tcp://deadbeefdeadbeefdeadbeefdeadbeefdeadbeef@example1.example.com:26658\"\n"
        "secret_key = \"/x/secrets/kms-identity.key\"\n"
        "protocol_version = \"v0.34\"\n"
        "reconnect = true\n";
    assert_true(parse(text));
    assert_int_equal(problems.n, 0);
    assert_string_equal(config.chains[0].id, "cosmoshub-3");
    assert_int_equal(config.validators[0].line, WIRE_P1);
}

static void keys_and_chains_are_brought_together(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } bad[] = {
        {CHAIN("a") NODE("a", "unix:///s"),
            "[[chain]] \"a\": no key for this chain; name it in the chain_ids"},
        {GOOD KEY("a", "b.key"), "chain a has another consensus key already: a.key;"},
        {GOOD KEY("a", "b.key") KEY("a", "c.key"),
            "\"c.key\": chain_ids: chain a has another consensus key"},
        {GOOD KEY("b", "b.key"), "[[providers.softsign]] \"b.key\": chain_ids: unregistered chain: "
                                 "b (add it to tmkms.toml's "
                                 "[[chain]] section)"},
        {CHAIN("a") NODE(
             "a", "unix:///s") "[[providers.softsign]]\nchain_ids = [\"a\", \"a\"]\npath = \"k\"\n",
            "names a twice"},
        {CHAIN("a") "state_file = \"x/../k\"\n" KEY("a", "./x/..//k"), "x/../k is a key file"},
        {CHAIN("a") "state_file = \"i\"\n" KEY("a", "k")
                NODE("a", "1.2.3.4:5") "secret_key = \"./i\"\n",
            "state_file: i is an identity key"},
        {GOOD CHAIN("b") "state_file = \".//a_priv_validator_state.json\"\n" KEY("b", "b"),
            "[[chain]] \"b\": state_file: .//a_priv_validator_state.json is the state file of "
            "chain a too"},
        {GOOD CHAIN("a"), "[[chain]] \"a\": id: chain ID already registered: a"},
        {GOOD NODE("b", "unix:///t"), "[[validator]] \"unix:///t\": chain_id: unregistered chain: "
                                      "b (add it to tmkms.toml's [[chain]] "
                                      "section)"},
        {GOOD NODE("a", "unix:///s"), "addr: this node of chain a is named twice"},
        {GOOD NODE("a", "tcp://1.2.3.4:5"), "secret_key: is missing; tcp needs an identity key"},
        {GOOD NODE("a", "1.2.3.4:5") "secret_key = \"./a.key\"\n",
            "secret_key: ./a.key is a consensus key"},
        {GOOD NODE("a", "1.2.3.4:5"), "tmkms softsign keygen -t consensus PATH"},
        {GOOD "key_format = \"expanded64\"\nkey_type = \"account\"\n",
            "expanded keys are Ed25519 keys"},
        {GOOD "[[providers.ledgertm]]\nchain_ids = [\"a\"]\n", "no back end for the Ledger"},
        {"[[chain]]\nid = \"a\"\nkey_format = { type = \"bech32\", account_key_prefix = \"x\" }\n",
            "key_format: type \"bech32\" needs consensus_key_prefix"},
        {"", "chain: is missing"},
        {"[providers]\n", "chain: is missing"},
        {"chain = []\n[providers]\n", "chain: is missing"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_refused(bad[i].text, bad[i].words);
}

static void single_values_are_refused_in_words(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } bad[] = {
        {CHAIN("a b"), "id: \"a b\" may hold only"},
        {CHAIN("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
            "id: has 51 characters; at most 50"},
        {CHAIN(""), "id: is empty"},
        {GOOD "key_type = \"consensus\\u0000\"\n", "key_type: holds a control character"},
        {GOOD "key_type = \"konsensus\"\n", "is unknown; did you mean \"consensus\"?"},
        {GOOD "path2 = \"x\"\n", "path2: unknown key; did you mean path?"},
        {GOOD "zzzzzzzzz = 1\n", "zzzzzzzzz: unknown key; remove it"},
        {CHAIN("a") "state_file = \"~/x\"\n",
            "state_file: \"~/x\" begins with ~, which is not expanded"},
        {CHAIN("a") "state_file = \"/x/\"\n", "is a folder"},
        {CHAIN("a") "max_height_jump = -1\n", "max_height_jump: is -1; the least is 0"},
        {CHAIN("a") "state_hook = { cmd = [\"x\"], timeout_secs = 0 }\n",
            "state_hook.timeout_secs: is 0; it must be from 1"},
        {CHAIN("a") "state_hook = { cmd = [\"x\", \"\"] }\n",
            "state_hook.cmd: item 2 is not a string"},
        {"[[chain]]\nid = \"a\"\nkey_format = { type = \"bech32\", consensus_key_prefix = \"Aa\" "
         "}\n",
            "key_format.consensus_key_prefix: \"Aa\" is no bech32 prefix"},
        {NODE("a", "unix:///s") "max_height = \"12x\"\n", "max_height: \"12x\" is no number"},
        {NODE("a", "unix:///s") "max_height = \"-1\"\n", "max_height: \"-1\" is no number"},
        {NODE("a", "unix:///s") "max_height = \"9223372036854775808\"\n",
            "is larger than any height"},
        {NODE("a", "unix:///s") "max_height = 0\n", "max_height: is 0; the least is 1"},
        {NODE("a", "unix:///s") "protocol_version = \"legacy\"\n", "amino"},
        {NODE("a", "unix:///s") "protocol_version = \"v0.33\"\n", "amino"},
        {NODE("a", "unix:///s") "protocol_version = \"0.38\"\n", "did you mean \"v0.38\"?"},
        {NODE("a", "unix:///s") "timeout = 65536\n",
            "timeout: is 65536; it must be from 1 to 65535"},
        {NODE("a", "unix:///s") "reconnect = \"true\"\n",
            "reconnect: is a string; write true or false"},
        {NODE("a", "unix:///s") "timeout = 1979-05-27T07:32:00Z\n", "timeout: is a date or time"},
        {NODE("a", "udp://1.2.3.4:5"), "addr: "},
        {NODE("a", ""), "[[validator]] number 1: addr: is empty"},
        {"providers = 3\n", "providers: holds an integer; write a table"},
        {"chain = 3\n", "chain: is an integer; write a list of tables"},
        {"chain = [3]\n", "chain: holds an integer; write a table"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_refused(bad[i].text, bad[i].words);
}

static void odd_things_are_warned_of(void **state)
{
    (void)state;
    expect_warned(
        CHAIN("a") KEY("a", "a.key"), "[[chain]] \"a\": no [[validator]] has this chain_id");
    expect_warned(GOOD CHAIN("b") KEY("b", "b") NODE("b", "unix:///s"), "a node serves one chain");
    expect_warned(GOOD KEY("a", "x") "key_type = \"account\"\n",
        "\"x\": chain_ids: the account key is not used for chain a, which signs with its consensus "
        "key a.key");
    assert_string_equal(config.chains[0].key_file, "a.key");
    expect_warned(
        CHAIN("a") NODE("a", "unix:///s") "timeout = 3\n" KEY("a", "k"), "nodes ping every 3.3");
}

static void all_problems_come_at_once_with_their_lines(void **state)
{
    (void)state;
    assert_false(
        parse("[[chain]]\n"            /* 1 */
              "id = \"a\"\n"           /* 2 */
              "colour = 3\n"           /* 3 */
              "key_format = {\n}\n")); /* 4: a table may not span lines: TOML itself refuses */
    assert_int_equal(problems.errors_n, 1);
    assert_false(parse("[[chain]]\n"                       /* 1 */
                       "id = \"a\"\n"                      /* 2 */
                       "colour = 3\n"                      /* 3 */
                       "state_file = 7\n"                  /* 4 */
                       "key_format = { type = \"hax\" }\n" /* 5 */
                       "[[validator]]\n"                   /* 6 */
                       "chain_id = \"b\"\n"                /* 7 */
                       "timeout = 0\n"));                  /* 8 */
    expect(false, "tmkms.toml:3: [[chain]] \"a\": colour: unknown key");
    expect(false, "tmkms.toml:4: [[chain]] \"a\": state_file: is an integer; write a string");
    expect(false, "tmkms.toml:5: [[chain]] \"a\": key_format.type: \"hax\" is unknown; did you "
                  "mean \"hex\"?");
    expect(false, "tmkms.toml:6: [[validator]] number 1: addr: is missing");
    expect(false, "tmkms.toml:7: [[validator]] number 1: chain_id: unregistered chain: b");
    expect(false, "tmkms.toml:8: [[validator]] number 1: timeout: is 0");
    expect(false, "tmkms.toml:1: [[chain]] \"a\": no key");
    assert_int_equal(problems.errors_n, 7);
}

static void a_secret_in_the_file_is_never_printed(void **state)
{
    (void)state;
    char text[sizeof sample_text + sizeof sample_other_providers];
    snprintf(text, sizeof text, "%s%s", sample_text, sample_other_providers);
    assert_false(parse(text));
    assert_false(is_told(false, "do not print me"));
    assert_false(is_told(true, "do not print me"));
    expect_refused(
        "[[providers.fortanixdsm]]\napi_endpoint = \"x\"\napi_key = [\"do not print me\"]\n",
        "api_key: is a list");
    assert_false(is_told(false, "do not print me"));
}

static void words_of_the_file_cannot_steer_a_terminal(void **state)
{
    (void)state;
    assert_false(parse("\"\\u001b[2J\" = 1\n[[chain]]\nid = \"\\u001b]0;x\\u0007\"\n"));
    assert_true(problems.n > 0);
    for (size_t i = 0; i < problems.n; i++)
        for (const char *p = problems.list[i].text; *p != '\0'; p++)
            assert_true((unsigned char)*p >= 0x20);
}

static void a_hostile_file_gets_a_bounded_answer(void **state)
{
    (void)state;
    enum { N = 300000 };
    char *text = malloc(N * 16);
    size_t n = 0;
    for (size_t i = 0; i < 20000; i++)
        n += (size_t)snprintf(text + n, N * 16 - n, "k%zu = 1\n", i);
    assert_false(parse(text));
    assert_true(problems.n <= 200);
    assert_true(problems.errors_n >= 20000);
    n = 0;
    for (size_t i = 0; i < 5000; i++)
        n += (size_t)snprintf(text + n, N * 16 - n, "[[chain]]\n");
    expect_refused(text, "chain: 5000 of them; at most 256 are allowed");
    memset(text, '[', N);
    memcpy(text, "a = ", 4);
    text[N] = '\0';
    expect_refused(text, "tmkms.toml:1: ");
    for (size_t i = 0; i < N; i += 2)
        memcpy(text + i, "a.", 2);
    memcpy(text + N, "a = 1\n", 7);
    expect_refused(text, "tmkms.toml:1: more than 256 dots on one line");
    expect_refused("a.b.c.d.e.f.g.h.i.j.k.l.m.n = 1\n", "nested too deeply");
    free(text);
}

/* Whatever becomes of a good file, an answer comes back: accepted, or refused with at least one
 * error. */
static void damaged_files_get_an_answer(void **state)
{
    (void)state;
    size_t accepted = 0, refused = 0, n = strlen(sample_text);
    for (size_t cut = 0; cut < n; cut++) {
        char text[sizeof sample_text];
        memcpy(text, sample_text, cut);
        text[cut] = '\0';
        bool ok = parse(text);
        assert_int_equal(ok, problems.errors_n == 0);
        assert_int_equal(ok, config.chains_n > 0);
        ok ? accepted++ : refused++;
    }
    for (size_t at = 0; at < n; at++) {
        static const uint8_t other[] = {0, '"', '[', '}', '.', 0xff, '9'};
        for (size_t i = 0; i < sizeof other; i++) {
            uint8_t text[sizeof sample_text];
            memcpy(text, sample_text, n);
            text[at] = other[i];
            problems_free(&problems);
            config_free(&config);
            bool ok = config_parse(&config, bytes_of(text, n), "tmkms.toml", &problems);
            assert_int_equal(ok, problems.errors_n == 0);
            assert_int_equal(ok, config.chains_n > 0);
            ok ? accepted++ : refused++;
        }
    }
    assert_true(accepted > 100 && refused > 5000);
}

static void a_file_is_read_and_a_missing_one_is_named(void **state)
{
    (void)state;
    char path[] = "/tmp/tmkms-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, GOOD, strlen(GOOD)), strlen(GOOD));
    problems_free(&problems);
    assert_true(config_read(&config, path, &problems));
    assert_int_equal(problems.n, 0);
    assert_string_equal(config.chains[0].id, "a");
    config_free(&config);

    assert_int_equal(fchmod(fd, 0644), 0);
    assert_true(config_read(&config, path, &problems));
    assert_int_equal(problems.n, 0); /* no secret in it */
    config_free(&config);
    static const char secret[] =
        "[[providers.fortanixdsm]]\napi_endpoint = \"x\"\napi_key = \"x\"\n";
    assert_int_equal(pwrite(fd, secret, strlen(secret), (off_t)strlen(GOOD)), strlen(secret));
    assert_false(config_read(&config, path, &problems));
    expect(true, "holds a password or credentials and others can read it; `chmod 600");
    close(fd);
    unlink(path);

    problems_free(&problems);
    assert_false(config_read(&config, path, &problems));
    expect(false, "No such file or directory");
    expect(false, "tmkms init");
    problems_free(&problems);
    assert_false(config_read(&config, "/", &problems));
    expect(false, "is no regular file");
}

/* The config child has no right to open anything, and every way out of the parser must do without. */
static void parsing_needs_nothing_from_outside(void **state)
{
    (void)state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        static const char *const bad[] = {"[=]\n", "a = ", "\xff", "[[chain]]\nid = 3\nx = 1\n"};
        struct err err;
        if (!sandbox_enter(SANDBOX_CONFIG, &err))
            _exit(2);
        bool ok = parse(sample_text);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
            ok = ok && !parse(bad[i]) && problems.errors_n > 0;
        _exit(ok ? 0 : 3);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void the_path_comes_from_three_places(void **state)
{
    (void)state;
    unsetenv("TMKMS_CONFIG_FILE");
    assert_string_equal(config_path(NULL), "tmkms.toml");
    setenv("TMKMS_CONFIG_FILE", "/from/environment", 1);
    assert_string_equal(config_path(NULL), "/from/environment");
    assert_string_equal(config_path("x"), "x");
    setenv("TMKMS_CONFIG_FILE", "", 1);
    assert_string_equal(config_path(NULL), "tmkms.toml");
}

static void equal_files_give_equal_bytes(void **state)
{
    (void)state;
    assert_true(parse(sample_text));
    struct config first = config;
    config = (struct config){0};
    assert_true(parse(sample_text));
    assert_memory_equal(first.chains, config.chains, 2 * sizeof *config.chains);
    assert_memory_equal(first.validators, config.validators, 2 * sizeof *config.validators);
    config_free(&first);
}

static int leave(void **state)
{
    (void)state;
    problems_free(&problems);
    config_free(&config);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sample_becomes_what_it_says),
        cmocka_unit_test(a_config_of_the_rust_program_is_read),
        cmocka_unit_test(keys_and_chains_are_brought_together),
        cmocka_unit_test(single_values_are_refused_in_words),
        cmocka_unit_test(odd_things_are_warned_of),
        cmocka_unit_test(all_problems_come_at_once_with_their_lines),
        cmocka_unit_test(a_secret_in_the_file_is_never_printed),
        cmocka_unit_test(words_of_the_file_cannot_steer_a_terminal),
        cmocka_unit_test(a_hostile_file_gets_a_bounded_answer),
        cmocka_unit_test(damaged_files_get_an_answer),
        cmocka_unit_test(a_file_is_read_and_a_missing_one_is_named),
        cmocka_unit_test(parsing_needs_nothing_from_outside),
        cmocka_unit_test(the_path_comes_from_three_places),
        cmocka_unit_test(equal_files_give_equal_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, leave);
}
