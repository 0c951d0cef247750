/* Every key of the table: read when good, refused by name when bad, missing or misspelt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "config/sample.h"
#include "config/schema.h"
#include "config/toml.h"
#include "config/walk.h"

enum { KEYS_AT_LEAST = 70 };

/* What stands in the first [[chain]], [[validator]] and [[providers.softsign]] of an enclave. No one
 * config has all keys, but the table is walked key by key. */
static void add_enclave(json_t *tree)
{
    json_t *chain = json_array_get(json_object_get(tree, "chain"), 0);
    json_t *validator = json_array_get(json_object_get(tree, "validator"), 0);
    json_t *softsign =
        json_array_get(json_object_get(json_object_get(tree, "providers"), "softsign"), 0);
    assert_int_equal(0,
        json_object_set_new(tree, "enclave",
            json_pack("{s:i, s:s, s:i, s:i, s:i, s:s}", "log_vsock_port", 6050, "eif", "/x.eif",
                "cpus", 2, "memory_mib", 64, "cid", 16, "name", "a")) |
            json_object_set_new(validator, "node", json_string("tcp://10.0.0.1:1")) |
            json_object_update_new(
                chain, json_pack("{s:i, s:s, s:i}", "state_vsock_port", 6666, "public_key",
                           "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=", "min_height", 7)) |
            json_object_set_new(validator, "encrypted_secret_key_b64", json_string("AQICAHg=")) |
            json_object_update_new(softsign,
                json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:s, s:{s:s}, s:s, s:i, s:s, s:s}",
                    "encrypted_key_b64", "AQICAHg=", "aws_region", "eu-west-1", "credentials",
                    "aws_key_id", "AKIA", "aws_secret_key", "do not print me", "aws_session_token",
                    "do not print me", "kms_key_id", "alias/a", "encryption_context", "a", "b",
                    "kms_endpoint", "kms.example.com:444", "kms_vsock_port", 8001, "kms_root_file",
                    "/x.pem", "kms_root_pem", "-----BEGIN CERTIFICATE-----\n")));
}

/* addr as the table that an enclave needs. */
static json_t *addr_table(json_t *validator)
{
    json_t *table = json_pack("{s:i, s:b, s:s}", "port", 5555, "secret_connection", 1, "peer_id",
        "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff00010203");
    assert_int_equal(json_object_set_new(validator, "addr", table), 0);
    return table;
}

static json_t *full_tree(void)
{
    char text[sizeof sample_text + sizeof sample_other_providers];
    snprintf(text, sizeof text, "%s%s", sample_text, sample_other_providers);
    json_t *tree, *lines;
    uint32_t line;
    struct err err;
    if (!toml_parse(&tree, &lines, bytes_of_text(text), &line, &err))
        fail_msg("line %u: %s", line, err.text);
    json_decref(lines);
    add_enclave(tree);
    return tree;
}

/* The first table of that path in the tree. */
static json_t *table_at(json_t *tree, const char *path)
{
    char copy[128];
    snprintf(copy, sizeof copy, "%s", path);
    json_t *at = tree;
    char *rest;
    for (char *part = strtok_r(copy, ".", &rest); part != NULL; part = strtok_r(NULL, ".", &rest)) {
        at = json_is_string(json_object_get(at, part)) ? addr_table(at) : json_object_get(at, part);
        if (json_is_array(at))
            at = json_array_get(at, 0);
    }
    assert_true(json_is_object(at));
    return at;
}

static void walk(struct problems *problems, json_t *tree)
{
    *problems = (struct problems){0};
    struct raw raw = {.file = "t.toml", .problems = problems};
    walk_tree(&raw, tree);
    raw_free(&raw);
}

/* Some error begins with the name of the key, or stands in the section, and says the words. */
static bool says(const struct problems *p, const char *key, const char *words)
{
    char name[2][96];
    snprintf(name[0], sizeof name[0], key[0] == '[' ? " %s" : " %s: ", key);
    snprintf(name[1], sizeof name[1], ".%s: ", key);
    for (size_t i = 0; i < p->n; i++) {
        const char *text = p->list[i].text;
        bool names_it = strstr(text, name[0]) != NULL || strstr(text, name[1]) != NULL;
        if (!p->list[i].is_warning && names_it && strstr(text, words) != NULL)
            return true;
    }
    return false;
}

static void expect(const struct problems *p, const char *table, const char *key, const char *words)
{
    if (says(p, key, words))
        return;
    for (size_t i = 0; i < p->n; i++)
        print_message("  %s\n", p->list[i].text);
    fail_msg("no problem says '%s' about %s in [%s]", words, key, table);
}

static void the_sample_holds_every_key_of_the_table(void **state)
{
    (void)state;
    json_t *tree = full_tree();
    size_t seen = 0;
    for (const struct schema_key *k = schema_keys; k->name != NULL; k++, seen++)
        if (json_object_get(table_at(tree, k->table), k->name) == NULL)
            fail_msg("the sample lacks %s in [%s]", k->name, k->table);
    assert_true(seen >= KEYS_AT_LEAST);
    json_decref(tree);
}

static void good_values_bring_only_the_unsupported_providers(void **state)
{
    (void)state;
    json_t *tree = full_tree();
    struct problems p;
    walk(&p, tree);
    for (size_t i = 0; i < p.n; i++)
        if (!p.list[i].is_warning && strstr(p.list[i].text, "no back end") == NULL)
            fail_msg("%s", p.list[i].text);
    assert_int_equal(p.errors_n, 3);
    expect(&p, "providers", "[[providers.yubihsm]] \"0123456789\"", "YubiHSM2");
    expect(&p, "providers", "[[providers.ledgertm]]", "Ledger");
    expect(&p, "providers", "[[providers.fortanixdsm]] \"https://sdkms", "Fortanix");
    problems_free(&p);
    json_decref(tree);
}

static void every_key_refuses_other_types(void **state)
{
    (void)state;
    size_t refused = 0;
    for (const struct schema_key *k = schema_keys; k->name != NULL; k++) {
        json_t *const wrong[] = {json_integer(-5), json_string(""), json_null(), json_real(1.5),
            json_array(), json_object(), json_true(), json_pack("[i]", 1), json_pack("[{}]"),
            json_string("a\tb")};
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            json_t *tree = full_tree();
            json_object_set_new(table_at(tree, k->table), k->name, wrong[i]);
            struct problems p;
            walk(&p, tree);
            bool is_right = k->type == SCHEMA_BOOL && json_is_boolean(wrong[i]);
            bool is_table = k->type == SCHEMA_TABLE || k->type == SCHEMA_TABLES ||
                            (k->type == SCHEMA_ADDRESS && json_is_object(wrong[i]));
            if (!is_right && !is_table) {
                expect(&p, k->table, k->name, "");
                refused++;
            }
            problems_free(&p);
            json_decref(tree);
        }
    }
    assert_true(refused > 9 * (KEYS_AT_LEAST - 13));
}

static void every_table_refuses_what_is_no_table(void **state)
{
    (void)state;
    size_t tables = 0;
    for (const struct schema_key *k = schema_keys; k->name != NULL; k++) {
        if (k->type != SCHEMA_TABLE && k->type != SCHEMA_TABLES)
            continue;
        tables++;
        json_t *tree = full_tree();
        json_t *wrong = k->type == SCHEMA_TABLE ? json_string("x") : json_pack("[i]", 3);
        json_object_set_new(table_at(tree, k->table), k->name, wrong);
        struct problems p;
        walk(&p, tree);
        expect(&p, k->table, k->name, "write a table");
        problems_free(&p);
        json_decref(tree);
    }
    assert_true(tables >= 14);
}

static void every_required_key_is_missed(void **state)
{
    (void)state;
    size_t required = 0;
    for (const struct schema_key *k = schema_keys; k->name != NULL; k++) {
        if (!k->required)
            continue;
        required++;
        json_t *tree = full_tree();
        json_object_del(table_at(tree, k->table), k->name);
        struct problems p;
        walk(&p, tree);
        expect(&p, k->table, k->name, "is missing");
        problems_free(&p);
        json_decref(tree);
    }
    assert_true(required >= 15);
}

static void every_misspelt_key_brings_the_nearest(void **state)
{
    (void)state;
    size_t misspelt = 0;
    for (const struct schema_key *k = schema_keys; k->name != NULL; k++) {
        char wrong[80], words[120];
        snprintf(wrong, sizeof wrong, "%sx", k->name);
        snprintf(words, sizeof words, "unknown key; did you mean %s?", k->name);
        json_t *tree = full_tree();
        json_t *table = table_at(tree, k->table);
        json_t *value = json_incref(json_object_get(table, k->name));
        json_object_del(table, k->name);
        json_object_set_new(table, wrong, value);
        struct problems p;
        walk(&p, tree);
        expect(&p, k->table, wrong, words);
        problems_free(&p);
        json_decref(tree);
        misspelt++;
    }
    assert_true(misspelt >= KEYS_AT_LEAST);
}

static void integers_hold_their_range(void **state)
{
    (void)state;
    size_t tried = 0;
    for (const struct schema_key *k = schema_keys; k->name != NULL; k++) {
        if (k->type != SCHEMA_INTEGER && k->type != SCHEMA_INTEGER_OR_TEXT)
            continue;
        const json_int_t at[] = {k->min - 1, k->min, k->max, k->max < INT64_MAX ? k->max + 1 : -1};
        for (size_t i = 0; i < 4; i++) {
            json_t *tree = full_tree();
            json_object_set_new(table_at(tree, k->table), k->name, json_integer(at[i]));
            struct problems p;
            walk(&p, tree);
            bool is_in_range = at[i] >= k->min && at[i] <= k->max;
            if (is_in_range == says(&p, k->name, " is "))
                fail_msg("%s = %lld", k->name, (long long)at[i]);
            problems_free(&p);
            json_decref(tree);
            tried++;
        }
    }
    assert_true(tried >= 4 * 6);
}

static void choices_take_every_name_and_suggest(void **state)
{
    (void)state;
    size_t taken = 0;
    for (const struct schema_key *k = schema_keys; k->name != NULL; k++) {
        if (k->type != SCHEMA_CHOICE)
            continue;
        for (const struct schema_choice *x = k->choices; x->name != NULL; x++) {
            json_t *tree = full_tree();
            struct problems p;
            json_object_set_new(table_at(tree, k->table), k->name, json_string(x->name));
            walk(&p, tree);
            assert_int_equal(says(&p, k->name, "cannot be served"), x->refusal != NULL);
            problems_free(&p);
            char wrong[64];
            snprintf(wrong, sizeof wrong, "%s0", x->name);
            json_object_set_new(table_at(tree, k->table), k->name, json_string(wrong));
            walk(&p, tree);
            expect(&p, k->table, k->name, "is unknown");
            problems_free(&p);
            json_decref(tree);
            taken++;
        }
    }
    assert_true(taken >= 20);
}

static void presets_are_values_of_their_type(void **state)
{
    (void)state;
    size_t presets = 0;
    for (const struct schema_key *k = schema_keys; k->name != NULL; k++) {
        if (k->preset == NULL)
            continue;
        json_t *tree = full_tree();
        json_t *value = json_loads(k->preset, JSON_DECODE_ANY, NULL);
        assert_non_null(value);
        json_object_set_new(table_at(tree, k->table), k->name, value);
        struct problems p;
        walk(&p, tree);
        assert_false(says(&p, k->name, " is "));
        problems_free(&p);
        json_decref(tree);
        presets++;
    }
    assert_true(presets >= 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sample_holds_every_key_of_the_table),
        cmocka_unit_test(good_values_bring_only_the_unsupported_providers),
        cmocka_unit_test(every_key_refuses_other_types),
        cmocka_unit_test(every_table_refuses_what_is_no_table),
        cmocka_unit_test(every_required_key_is_missed),
        cmocka_unit_test(every_misspelt_key_brings_the_nearest),
        cmocka_unit_test(integers_hold_their_range),
        cmocka_unit_test(choices_take_every_name_and_suggest),
        cmocka_unit_test(presets_are_values_of_their_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
