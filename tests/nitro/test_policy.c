/* Key policies: what the statements allow, read back from the JSON that the command prints. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/fd.h"
#include "nitro/golden_image.h"
#include "nitro/pcr.h"
#include "run.h"

#define ACCOUNT "123456789012"
#define ROLE "arn:aws:iam::" ACCOUNT ":role/enclave"
#define PCR0 IMAGE_A_PCR0

static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000000000"
                            "00000000000000000000000000";
static struct run_result r;
static char dir[] = "/tmp/tmkms-test-policy-XXXXXX";

static json_t *printed_policy(void)
{
    json_error_t why;
    if (r.exit_code != 0)
        fail_msg("%s", r.err);
    json_t *policy = json_loads(r.out, JSON_REJECT_DUPLICATES, &why);
    if (policy == NULL)
        fail_msg("%s in: %s", why.text, r.out);
    return policy;
}

static const json_t *statement_of(const json_t *policy, const char *sid)
{
    size_t i;
    const json_t *s, *list = json_object_get(policy, "Statement");
    json_array_foreach(
        list, i, s) if (strcmp(json_string_value(json_object_get(s, "Sid")), sid) == 0) return s;
    fail_msg("no statement %s", sid);
    return NULL;
}

static const char *condition_of(const json_t *statement, const char *operator, const char * key)
{
    const json_t *c = json_object_get(json_object_get(statement, "Condition"), operator);
    return json_string_value(json_object_get(c, key));
}

static const char *pcr_condition(const json_t *statement, const char *pcr)
{
    char key[64];
    snprintf(key, sizeof key, "kms:RecipientAttestation:%s", pcr);
    return condition_of(statement, "StringEqualsIgnoreCase", key);
}

static bool allows(const json_t *statement, const char *action)
{
    size_t i;
    const json_t *a;
    json_array_foreach(json_object_get(statement, "Action"), i,
        a) if (strcmp(json_string_value(a), action) == 0) return true;
    return false;
}

static const char *path_in(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static const char *write_file(const char *name, const void *content, size_t n)
{
    const char *path = path_in(name);
    struct err err;
    if (!fd_create_durable(path, content, n, true, &err))
        fail_msg("%s", err.text);
    return path;
}

/* ---- tests -------------------------------------------------------------------------- */

static void only_an_attested_enclave_decrypts(void **state)
{
    (void)state;
    RUN(&r, "nitro", "kms-policy", "--account", ACCOUNT, "--role", ROLE, "--pcr0", PCR0,
        "--instance", "i-0123456789abcdef0");
    json_t *policy = printed_policy();
    assert_int_equal(json_array_size(json_object_get(policy, "Statement")), 5);
    const json_t *unseal = statement_of(policy, "Unseal");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(unseal, "Principal"), "AWS")), ROLE);
    assert_true(allows(unseal, "kms:Decrypt"));
    assert_int_equal(json_array_size(json_object_get(unseal, "Action")), 1);
    assert_string_equal(pcr_condition(unseal, "PCR0"), PCR0);
    assert_string_equal(pcr_condition(unseal, "PCR4"),
        "d6432900ac1c343cb40286898792c55e962aef0cc35c4910c0c286145b5"
        "1af19e782cb21cc31a042671d7dfbd398251c");
    assert_null(pcr_condition(unseal, "PCR1"));
    assert_null(pcr_condition(unseal, "PCR16"));
    const json_t *deny = statement_of(policy, "NeverInClear");
    assert_string_equal(json_string_value(json_object_get(deny, "Effect")), "Deny");
    assert_string_equal(condition_of(deny, "Null", "kms:RecipientAttestation:ImageSha384"), "true");
    assert_true(allows(deny, "kms:Decrypt") && allows(deny, "kms:GenerateDataKey") &&
                allows(deny, "kms:ReEncryptFrom"));
    json_decref(policy);
}

/* Whoever is allowed something that can show plaintext must meet a condition. */
static void no_statement_without_condition_reveals(void **state)
{
    (void)state;
    static const char *const revealing[] = {"kms:*", "kms:Decrypt", "kms:CreateGrant",
        "kms:Create*", "kms:ReEncryptFrom", "kms:ReEncrypt*", "kms:GenerateDataKey",
        "kms:GenerateDataKey*", "kms:GenerateDataKeyPair", "kms:ImportKeyMaterial",
        "kms:DeriveSharedSecret", "kms:ReplicateKey"};
    RUN(&r, "nitro", "kms-policy", "--account", ACCOUNT, "--role", ROLE, "--pcr0", PCR0);
    json_t *policy = printed_policy();
    size_t i, unconditional = 0;
    const json_t *s;
    json_array_foreach(json_object_get(policy, "Statement"), i, s)
    {
        if (json_object_get(s, "Condition") != NULL)
            continue;
        unconditional++;
        for (size_t k = 0; k < sizeof revealing / sizeof revealing[0]; k++)
            assert_false(allows(s, revealing[k]));
    }
    assert_int_equal(unconditional, 2);
    const json_t *admin = statement_of(policy, "Administer");
    assert_true(allows(admin, "kms:PutKeyPolicy"));
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(admin, "Principal"), "AWS")),
        "arn:aws:iam::" ACCOUNT ":root");
    assert_contains(r.err, "--config");
    assert_contains(r.err, "--instance");
    json_decref(policy);
}

static void an_image_gives_its_registers(void **state)
{
    (void)state;
    static uint8_t image[4096];
    struct bytes b = image_golden(image, sizeof image, 2);
    const char *path = write_file("a.eif", b.p, b.n);
    RUN(&r, "nitro", "kms-policy", "--account", ACCOUNT, "--role", ROLE, "--eif", path);
    json_t *policy = printed_policy();
    const json_t *unseal = statement_of(policy, "Unseal");
    assert_string_equal(pcr_condition(unseal, "PCR0"), IMAGE_A_PCR0);
    assert_string_equal(pcr_condition(unseal, "PCR1"), IMAGE_A_PCR1);
    assert_string_equal(pcr_condition(unseal, "PCR2"), IMAGE_A_PCR2);
    assert_null(pcr_condition(unseal, "PCR8"));
    json_decref(policy);
    image[b.n - 1] ^= 1;
    path = write_file("a.eif", b.p, b.n);
    RUN(&r, "nitro", "kms-policy", "--account", ACCOUNT, "--role", ROLE, "--eif", path);
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "CRC");
}

/* An upgrade: both images, or neither register of one, and never a third. */
static void either_of_two_images_is_let_in(void **state)
{
    (void)state;
    static const char other[] = "abababababababababababababababababababababababababababababababab"
                                "abababababababababababababababab";
    RUN(&r, "nitro", "kms-policy", "--account", ACCOUNT, "--role", ROLE, "--pcr0", PCR0, "--pcr0",
        other, "--instance", "i-0123456789abcdef0");
    json_t *policy = printed_policy();
    const json_t *unseal = statement_of(policy, "Unseal");
    const json_t *values = json_object_get(
        json_object_get(json_object_get(unseal, "Condition"), "StringEqualsIgnoreCase"),
        "kms:RecipientAttestation:PCR0");
    assert_int_equal(json_array_size(values), 2);
    assert_string_equal(json_string_value(json_array_get(values, 0)), PCR0);
    assert_string_equal(json_string_value(json_array_get(values, 1)), other);
    assert_non_null(pcr_condition(unseal, "PCR4"));
    json_decref(policy);
    RUN(&r, "nitro", "kms-policy", "--account", ACCOUNT, "--role", ROLE, "--pcr0", PCR0, "--pcr0",
        PCR0);
    policy = printed_policy();
    assert_string_equal(pcr_condition(statement_of(policy, "Unseal"), "PCR0"), PCR0);
    json_decref(policy);
    RUN(&r, "nitro", "kms-policy", "--account", ACCOUNT, "--role", ROLE, "--pcr0", PCR0, "--pcr0",
        zeros);
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "zeros");
    RUN(&r, "nitro", "kms-policy", "--account", ACCOUNT, "--role", ROLE, "--pcr0", PCR0, "--pcr0",
        other, "--pcr8", other);
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "same registers");
    RUN(&r, "nitro", "kms-policy", "--account", ACCOUNT, "--role", ROLE, "--pcr0", PCR0, "--pcr0",
        other, "--pcr0", PCR0);
    assert_int_equal(r.exit_code, 2);
}

static const char config[] =
    "[[chain]]\nid = \"a-1\"\nkey_format = { type = \"hex\" }\nstate_vsock_port = 6666\n"
    "public_key = \"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\"\n"
    "[[validator]]\nchain_id = \"a-1\"\naddr = { port = 5555, secret_connection = false }\n"
    "[[providers.softsign]]\nchain_ids = [\"a-1\"]\nencrypted_key_b64 = \"AAAA\"\naws_region = "
    "\"eu-west-1\"\n"
    "encryption_context = { bound = \"@measured_config\", chain = \"a\" }\n";

/* The line of measure-config's output that begins so; without the beginning. */
static const char *line_of(const char *begin, char out[128])
{
    const char *at = strstr(r.out, begin);
    assert_non_null(at);
    snprintf(out, 128, "%.96s", at + strlen(begin));
    return out;
}

static void a_config_is_demanded(void **state)
{
    (void)state;
    char hash[128], pcr16[128];
    const char *path = write_file("tmkms.toml", config, strlen(config));
    RUN(&r, "nitro", "measure-config", path);
    assert_int_equal(r.exit_code, 0);
    assert_contains(r.out, "tmkms measured config 1\nchain \"a-1\"\n");
    line_of("hash   ", hash);
    line_of("PCR16  ", pcr16);
    uint8_t raw[PCR_LEN], want[PCR_LEN];
    assert_true(hex_decode(hash, 96, raw, PCR_LEN));
    pcr_extend_zero(bytes_of(raw, PCR_LEN), want);
    assert_hex(bytes_of(want, PCR_LEN), pcr16);
    RUN(&r, "nitro", "kms-policy", "--account", ACCOUNT, "--role", ROLE, "--pcr0", PCR0, "--config",
        path);
    json_t *policy = printed_policy();
    const json_t *unseal = statement_of(policy, "Unseal"), *keygen = statement_of(policy, "Keygen");
    assert_string_equal(pcr_condition(unseal, "PCR16"), pcr16);
    const json_t *equals = json_object_get(json_object_get(unseal, "Condition"), "StringEquals");
    const json_t *bound = json_object_get(equals, "kms:EncryptionContext:bound");
    assert_int_equal(json_array_size(bound), 1);
    assert_string_equal(json_string_value(json_array_get(bound, 0)), hash);
    assert_non_null(json_object_get(equals, "kms:EncryptionContext:chain"));
    assert_null(pcr_condition(keygen, "PCR16"));
    assert_string_equal(pcr_condition(keygen, "PCR0"), PCR0);
    assert_true(allows(keygen, "kms:GenerateDataKey"));
    json_decref(policy);
}

static void debug_is_all_zeros_and_loud(void **state)
{
    (void)state;
    const char *path = write_file("tmkms.toml", config, strlen(config));
    RUN(&r, "nitro", "kms-policy", "--account", ACCOUNT, "--role", ROLE, "--debug", "--pcr0", PCR0,
        "--instance", "i-0123456789abcdef0", "--config", path);
    json_t *policy = printed_policy();
    const json_t *unseal = statement_of(policy, "Unseal");
    assert_string_equal(pcr_condition(unseal, "PCR0"), zeros);
    assert_string_equal(pcr_condition(unseal, "PCR4"), zeros);
    assert_null(pcr_condition(unseal, "PCR16"));
    assert_contains(r.err, "ANY image");
    assert_null(strstr(r.out, PCR0));
    json_decref(policy);
    RUN(&r, "nitro", "kms-policy", "--account", ACCOUNT, "--role", ROLE, "--debug");
    policy = printed_policy();
    assert_string_equal(pcr_condition(statement_of(policy, "Unseal"), "PCR0"), zeros);
    json_decref(policy);
}

static void wrong_requests_are_refused(void **state)
{
    (void)state;
    RUN(&r, "nitro", "kms-policy", "--role", ROLE, "--pcr0", PCR0);
    assert_int_equal(r.exit_code, 2);
    RUN(&r, "nitro", "kms-policy", "--account", ACCOUNT, "--role", ROLE);
    assert_int_equal(r.exit_code, 2);
    RUN(&r, "nitro", "kms-policy", "--account", ACCOUNT, "--role", ROLE, "--pcr0", zeros);
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "--debug");
    RUN(&r, "nitro", "kms-policy", "--account", "1234", "--role", ROLE, "--pcr0", PCR0);
    assert_contains(r.err, "12 digits");
    RUN(&r, "nitro", "kms-policy", "--account", ACCOUNT, "--role", "enclave", "--pcr0", PCR0);
    assert_contains(r.err, "role");
    RUN(&r, "nitro", "kms-policy", "--account", ACCOUNT, "--role", ROLE, "--pcr0", PCR0, "--config",
        "/nonexistent");
    assert_int_equal(r.exit_code, 1);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path_in("a.eif"));
    unlink(path_in("tmkms.toml"));
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_an_attested_enclave_decrypts),
        cmocka_unit_test(no_statement_without_condition_reveals),
        cmocka_unit_test(an_image_gives_its_registers),
        cmocka_unit_test(either_of_two_images_is_let_in),
        cmocka_unit_test(a_config_is_demanded),
        cmocka_unit_test(debug_is_all_zeros_and_loud),
        cmocka_unit_test(wrong_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
