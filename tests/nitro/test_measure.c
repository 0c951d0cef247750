/* The measured config: golden text and hash, what changes them and what does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nitro/measure.h"
#include "run.h"
#include "vectors.h"

static struct err err;

static char *measured(const char *toml, uint8_t hash[PCR_LEN])
{
    struct config config = {0};
    struct problems problems = {0};
    char *text = NULL;
    if (!config_parse(&config, bytes_of_text(toml), "test.toml", &problems))
        fail_msg("%s", problems.list[0].text);
    problems_free(&problems);
    if (!measure_config(&config, hash, &text, &err))
        fail_msg("%s", err.text);
    config_free(&config);
    return text;
}

static bool same(const char *a, const char *b)
{
    uint8_t x[PCR_LEN], y[PCR_LEN];
    char *text_a = measured(a, x), *text_b = measured(b, y);
    bool texts = strcmp(text_a, text_b) == 0;
    free(text_a);
    free(text_b);
    assert_true(texts == (memcmp(x, y, PCR_LEN) == 0));
    return texts;
}

#define CHAIN_A "[[chain]]\nid = \"a-1\"\nkey_format = { type = \"hex\" }\n"
#define CHAIN_B                                                                                    \
    "[[chain]]\nid = \"b-2\"\nkey_format = { type = \"hex\" }\nmax_height_jump = 1000\n"           \
    "one_block_per_round = true\nsign_raw_bytes = true\nmin_height = 77\nstate_vsock_port = "      \
    "6666\n"                                                                                       \
    "public_key = \"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\"\n"
#define VALIDATOR_A                                                                                \
    "[[validator]]\nchain_id = \"a-1\"\n"                                                          \
    "addr = \"tcp://f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff00010203@10.0.0.1:26658\"\n"                   \
    "secret_key = \"id.key\"\nmax_height = 500\n"
#define VALIDATOR_B                                                                                \
    "[[validator]]\nchain_id = \"b-2\"\naddr = { port = 5555, secret_connection = false }\n"
#define KEY_A                                                                                      \
    "[[providers.softsign]]\nchain_ids = [\"a-1\"]\npath = \"a.key\"\nkey_format = \"raw\"\n"
#define KEY_B                                                                                      \
    "[[providers.softsign]]\nchain_ids = [\"b-2\"]\nencrypted_key_b64 = \"AAAA\"\n"                \
    "aws_region = \"eu-west-1\"\nkms_key_id = \"arn:aws:kms:eu-west-1:123456789012:key/k\"\n"      \
    "encryption_context = { chain = \"b\", bound = \"@measured_config\" }\n"

#define WHOLE CHAIN_A CHAIN_B VALIDATOR_A VALIDATOR_B KEY_A KEY_B

static const char golden[] =
    "tmkms measured config 1\n"
    "chain \"a-1\"\n"
    "  key ed25519 raw file\n"
    "  public_key any\n"
    "  state file\n"
    "  min_height 0\n"
    "  max_height_jump 0\n"
    "  one_block_per_round no\n"
    "  sign_raw_bytes no\n"
    "chain \"b-2\"\n"
    "  key ed25519 base64 kms\n"
    "  public_key d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\n"
    "  state parent 6666\n"
    "  min_height 77\n"
    "  max_height_jump 1000\n"
    "  one_block_per_round yes\n"
    "  sign_raw_bytes yes\n"
    "  kms_region \"eu-west-1\"\n"
    "  kms_host \"\"\n"
    "  kms_port 0\n"
    "  kms_key_id \"arn:aws:kms:eu-west-1:123456789012:key/k\"\n"
    "  kms_context \"bound\" \"@measured_config\"\n"
    "  kms_context \"chain\" \"b\"\n"
    "  kms_root amazon\n"
    "validator \"a-1\" tcp authenticated peer f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff00010203 max_height "
    "500\n"
    "validator \"b-2\" vsock plain peer any max_height -1\n";

static void golden_text(void **state)
{
    (void)state;
    uint8_t hash[PCR_LEN];
    char *text = measured(WHOLE, hash);
    assert_string_equal(text, golden);
    free(text);
    assert_hex(bytes_of(hash, PCR_LEN), "19cc2ab499243834b14f20abbe486a1d352cee8234d845ecda8e8446bd"
                                        "c2fb4f64e89c563e75c15968faededd9df0e2d");
}

static void order_makes_no_difference(void **state)
{
    (void)state;
    assert_true(same(WHOLE, KEY_B VALIDATOR_B CHAIN_B KEY_A CHAIN_A VALIDATOR_A));
}

/* Puts `to` in the place of `from`, which must be there. */
static const char *changed(const char *from, const char *to)
{
    static char text[8192];
    static const char whole[] = WHOLE;
    const char *at = strstr(whole, from);
    if (at == NULL)
        fail_msg("'%s' is not in the config", from);
    size_t before = (size_t)(at - whole);
    snprintf(text, sizeof text, "%.*s%s%s", (int)before, whole, to, whole + before + strlen(from));
    return text;
}

static void what_matters_changes_it(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
    } cases[] = {
        {"max_height_jump = 1000", "max_height_jump = 1001"},
        {"one_block_per_round = true", "one_block_per_round = false"},
        {"sign_raw_bytes = true", "sign_raw_bytes = false"},
        {"min_height = 77", "min_height = 78"},
        {"state_vsock_port = 6666\n", ""},
        {"state_vsock_port = 6666\n", "state_vsock_port = 6667\n"},
        {"public_key = \"d7", "public_key = \"d8"},
        {"f0f1f2", "f0f1f3"}, /* the peer id */
        {"max_height = 500", "max_height = 501"},
        {"key_format = \"raw\"", "key_format = \"json\""},
        {"aws_region = \"eu-west-1\"", "aws_region = \"eu-west-2\""},
        {"key/k", "key/l"},
        {"chain = \"b\"", "chain = \"c\""},
        {"aws_region", "kms_endpoint = \"kms.example.com\"\naws_region"},
    };
    size_t n = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (same(WHOLE, changed(cases[i].from, cases[i].to)))
            fail_msg("'%s' is not measured", cases[i].to);
        n++;
    }
    assert_int_equal(n, 14);
}

static void what_does_not_matter_is_left_out(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
    } cases[] = {
        {"port = 5555", "port = 5556"},
        {"10.0.0.1:26658", "node.example:26659"},
        {"secret_key = \"id.key\"", "secret_key = \"other.key\"\ntimeout = 9"},
        {"path = \"a.key\"", "path = \"elsewhere.key\""},
        {"encrypted_key_b64 = \"AAAA\"", "encrypted_key_b64 = \"BBBB\""},
        {"aws_region", "kms_vsock_port = 8001\naws_region"},
        {"aws_region", "credentials = { aws_key_id = \"k\", aws_secret_key = \"s\" }\naws_region"},
        /* what is for the parent alone */
        {"state_vsock_port", "state_file = \"x\"\nstate_vsock_port"},
        {"addr = { port", "node = \"unix:///run/node.sock\"\naddr = { port"},
        {"[[chain]]", "[enclave]\neif = \"x\"\ncpus = 4\nmemory_mib = 256\ncid = 16\nname = "
                      "\"x\"\n[[chain]]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (!same(WHOLE, changed(cases[i].from, cases[i].to)))
            fail_msg("'%s' is measured", cases[i].to);
}

static void values_cannot_imitate_lines(void **state)
{
    (void)state;
    uint8_t hash[PCR_LEN];
    char *text = measured(changed("chain = \"b\"", "chain = \"\\\"\\\\ \\u00e9\""), hash);
    assert_contains(text, "  kms_context \"chain\" \"\\22\\5c \\c3\\a9\"\n");
    free(text);
}

static void roots_in_files_must_have_been_read(void **state)
{
    (void)state;
    struct config config = {0};
    struct problems problems = {0};
    uint8_t hash[PCR_LEN];
    assert_true(config_parse(&config,
        bytes_of_text(changed("aws_region", "kms_root_file = \"/x\"\naws_region")), "t",
        &problems));
    problems_free(&problems);
    assert_false(measure_config(&config, hash, NULL, &err));
    assert_contains(err.text, "kms_root_file");
    config_free(&config);
    assert_false(
        same(WHOLE, changed("aws_region", "kms_root_pem = \"-----BEGIN CERTIFICATE-----\\nAA==\\n"
                                          "-----END CERTIFICATE-----\\n\"\naws_region")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_text),
        cmocka_unit_test(order_makes_no_difference),
        cmocka_unit_test(what_matters_changes_it),
        cmocka_unit_test(what_does_not_matter_is_left_out),
        cmocka_unit_test(values_cannot_imitate_lines),
        cmocka_unit_test(roots_in_files_must_have_been_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
