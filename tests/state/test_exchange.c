/* Foreign state files, and ours for another machine: what is read, what is refused, and what it
 * leads to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state/exchange.h"

#include "privval/vector.h"

static const char chain_id[] = "test_chain_id";
static const struct public_key key = {.type = KEY_ED25519, .len = 32, .bytes = {1, 2, 3}};
static const struct public_key other_key = {.type = KEY_ED25519, .len = 32, .bytes = {3, 2, 1}};
static const struct guard_policy no_policy;

static bool read_text(struct record *ret, const char *text, struct err *err)
{
    return exchange_read(ret, EXCHANGE_DETECT, bytes_of_text(text), chain_id, &key, err);
}

/* ---- CometBFT: every text that its own loader was given ---- */

/* Go loads these; we do not, as a state that is not understood must not become an empty one. */
static const char *const stricter[] = {
    "{}",                             /* nothing is known, and not height 0 */
    "null",                           /* the same */
    "height negative",                /* no chain has one */
    "step 9",                         /* no such step */
    "unknown field",                  /* another program's file, or a version we do not know */
    "key names in upper case",        /* Go counts the height as missing: 0 */
    "duplicate height, last differs", /* one of the two is a lie */
};
/* Go refuses this one: it is the form of 0.33 and older, which is read so that its height can be
 * burned. */
static const char *const older[] = {"round as a string (0.33 and older)"};

static bool is_in(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static void state_files_of_comet_are_read_as_by_comet_or_refused(void **state)
{
    (void)state;
    json_t *root = vector_load("filepv_rules.json");
    size_t i, loaded = 0, refused = 0, strict = 0, old = 0;
    const json_t *entry;
    json_array_foreach(json_object_get(root, "state_load"), i, entry)
    {
        const char *name = vector_text(entry, "name");
        const json_t *by_go = json_object_get(entry, "loaded");
        struct record rec;
        struct err err = {0};
        bool got = read_text(&rec, vector_text(entry, "text"), &err);
        bool want = by_go != NULL;
        if (is_in(stricter, sizeof stricter / sizeof *stricter, name)) {
            assert_true(want);
            want = false;
            strict++;
        }
        if (is_in(older, 1, name)) {
            assert_false(want);
            want = true;
            old++;
        }
        if (got != want)
            fail_msg("%s: %s", name, got ? "read" : err.text);
        if (got) {
            int64_t height = by_go != NULL ? vector_int(by_go, "height") : 10;
            assert_int_equal(rec.mark.floor, height);
            assert_int_equal(rec.mark.last.step, STEP_NONE);
            assert_string_equal(rec.chain_id, chain_id);
            assert_true(public_key_equal(&rec.key, &key));
            loaded++;
        } else {
            assert_true(err.text[0] != '\0');
            refused++;
        }
    }
    json_decref(root);
    assert_int_equal(strict, sizeof stricter / sizeof *stricter);
    assert_int_equal(old, 1);
    assert_true(loaded >= 7 && refused >= 20);
}

/* Every state that a vector's request found: after importing it, nothing at its height is signed,
 * and the next height is. This covers the states that were edited by hand. */
static void an_import_burns_its_height(void **state)
{
    (void)state;
    json_t *root = vector_load("filepv_rules.json");
    size_t i, edited = 0, burnt = 0;
    const json_t *entry;
    json_array_foreach(json_object_get(root, "pairs"), i, entry)
    {
        struct record rec;
        struct err err;
        bool ok = read_text(&rec, vector_text(entry, "state"), &err);
        edited += json_is_true(json_object_get(entry, "state_was_edited"));
        if (!ok) { /* a broken file: nothing is signed at all */
            assert_true(json_is_true(json_object_get(entry, "state_was_edited")));
            continue;
        }
        struct signable next = {.step = STEP_PREVOTE, .round = INT32_MAX};
        for (next.height = 1; next.height <= rec.mark.floor; next.height++, burnt++)
            assert_int_equal(guard_check(&rec.mark, &next, &no_policy), GUARD_BELOW_FLOOR);
        assert_int_equal(guard_check(&rec.mark, &next, &no_policy), GUARD_SIGN);
    }
    json_decref(root);
    assert_true(edited >= 10 && burnt >= 300);
}

/* ---- the Rust program ---- */

#define HASH64 "0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF"

static void state_files_of_rust_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t height;
    } good[] = {
        {"{\"height\":\"5200792\",\"round\":\"0\",\"step\":1,\"block_id\":{\"hash\":\"" HASH64
         "\",\"parts\":{\"total\":1,\"hash\":\"" HASH64 "\"}}}",
            5200792},
        {"{\"height\":\"0\",\"round\":\"0\",\"step\":0,\"block_id\":{\"hash\":\"\","
         "\"parts\":{\"total\":0,\"hash\":\"\"}}}",
            0},
        {"{\"height\":\"7\",\"round\":\"3\",\"step\":2,\"block_id\":null}\n", 7},
        {"{\"height\":\"8\",\"round\":\"0\",\"step\":1,\"block_id\":{\"hash\":\"" HASH64
         "\",\"part_set_header\":{\"total\":\"1\",\"hash\":\"" HASH64 "\"}}}",
            8},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct record rec;
        struct err err;
        if (!read_text(&rec, good[i].text, &err))
            fail_msg("%s: %s", good[i].text, err.text);
        assert_int_equal(rec.mark.floor, good[i].height);
        assert_true(
            exchange_read(&rec, EXCHANGE_RUST, bytes_of_text(good[i].text), chain_id, &key, &err));
        assert_false(exchange_read(
            &rec, EXCHANGE_COMETBFT, bytes_of_text(good[i].text), chain_id, &key, &err));
        assert_false(
            exchange_read(&rec, EXCHANGE_OWN, bytes_of_text(good[i].text), chain_id, &key, &err));
    }
}

static void broken_state_files_of_rust_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{\"height\":5,\"round\":\"0\",\"step\":0,\"block_id\":null}",
        "{\"height\":\"5\",\"round\":0,\"step\":0,\"block_id\":null}",
        "{\"height\":\"5\",\"round\":\"0\",\"step\":3,\"block_id\":null}",
        "{\"height\":\"5\",\"round\":\"0\",\"step\":\"0\",\"block_id\":null}",
        "{\"height\":\"5\",\"round\":\"0\",\"step\":-1,\"block_id\":null}",
        "{\"height\":\"-5\",\"round\":\"0\",\"step\":0,\"block_id\":null}",
        "{\"height\":\"05\",\"round\":\"0\",\"step\":0,\"block_id\":null}",
        "{\"height\":\"9223372036854775808\",\"round\":\"0\",\"step\":0,\"block_id\":null}",
        "{\"height\":\"99999999999999999999\",\"round\":\"0\",\"step\":0,\"block_id\":null}",
        "{\"height\":\"5\",\"round\":\"2147483648\",\"step\":0,\"block_id\":null}",
        "{\"Height\":\"5\",\"round\":\"0\",\"step\":0,\"block_id\":null}",
        "{\"height\":\"5\",\"height\":\"6\",\"round\":\"0\",\"step\":0,\"block_id\":null}",
        "{\"height\":\"5\",\"round\":\"0\",\"step\":0,\"block_id\":{}}",
        "{\"height\":\"5\",\"round\":\"0\",\"step\":0,\"block_id\":7}",
        "{\"height\":\"5\",\"round\":\"0\",\"step\":0,\"block_id\":{\"hash\":\"12\",\"parts\":"
        "{\"total\":1,\"hash\":\"\"}}}",
        "{\"height\":\"5\",\"round\":\"0\",\"step\":0,\"block_id\":{\"hash\":\"\",\"parts\":"
        "{\"total\":4294967296,\"hash\":\"\"}}}",
        "[]",
        "7",
        "\"5\"",
        "",
        " ",
        "{\"height\":\"5\",\"round\":\"0\",\"step\":0,\"block_id\":null}x",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct record rec = {.sequence = 77};
        struct err err = {0};
        if (read_text(&rec, bad[i], &err))
            fail_msg("read: %s", bad[i]);
        assert_true(err.text[0] != '\0');
        assert_int_equal(rec.sequence, 77); /* left as it was */
    }
}

/* ---- any text ---- */

static void cut_off_files_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"height\":\"5\",\"round\":\"0\",\"step\":0,\"block_id\":null}",
        "{\n  \"height\": \"36\",\n  \"round\": 0,\n  \"step\": 3\n}",
    };
    for (size_t i = 0; i < 2; i++) {
        for (size_t n = 0; n < strlen(texts[i]); n++) {
            struct record rec;
            struct err err;
            char *copy = malloc(n + 1); /* exactly as long, for the sanitizer */
            assert_non_null(copy);
            memcpy(copy, texts[i], n);
            assert_false(
                exchange_read(&rec, EXCHANGE_DETECT, bytes_of(copy, n), chain_id, &key, &err));
            free(copy);
        }
    }
}

/* A changed byte may give another height, but never a state in which less is refused than height 0.
 */
static void changed_files_never_crash_nor_go_below_zero(void **state)
{
    (void)state;
    static const char text[] = "{\"height\":\"5\",\"round\":\"0\",\"step\":0,\"block_id\":null}";
    int read = 0, refused = 0;
    for (size_t i = 0; i < sizeof text - 1; i++) {
        for (int b = 0; b < 256; b++) {
            char copy[sizeof text];
            memcpy(copy, text, sizeof text);
            copy[i] = (char)b;
            struct record rec;
            struct err err;
            if (exchange_read(
                    &rec, EXCHANGE_DETECT, bytes_of(copy, sizeof text - 1), chain_id, &key, &err)) {
                assert_true(rec.mark.floor >= 0 && rec.mark.floor <= 9);
                assert_null(record_problem(&rec));
                read++;
            } else {
                refused++;
            }
        }
    }
    assert_true(read > 50 && refused > 10000);
}

/* ---- ours ---- */

static struct record full_record(void)
{
    struct record r = {.key = key, .burn_next = true};
    memcpy(r.chain_id, chain_id, sizeof chain_id);
    r.mark.floor = 3;
    r.mark.last =
        (struct signable){.height = 10, .round = 2, .pol_round = 1, .step = STEP_PROPOSAL};
    r.mark.last.block_id.hash_len = r.mark.last.block_id.parts_hash_len = HASH_LEN;
    r.mark.last.block_id.parts_total = 5;
    r.mark.last.timestamp.nanos = 4;
    return r;
}

static void our_own_form_keeps_everything(void **state)
{
    (void)state;
    struct record r = full_record(), back;
    uint8_t line[RECORD_LINE_MAX];
    struct err err;
    struct bytes text = exchange_write(EXCHANGE_OWN, &r, line);
    assert_true(exchange_read(&back, EXCHANGE_DETECT, text, chain_id, &key, &err));
    assert_true(watermark_covers(&back.mark, &r.mark) && watermark_covers(&r.mark, &back.mark));
    assert_int_equal(back.mark.floor, 3);
    assert_true(back.burn_next);
    assert_false(exchange_read(&back, EXCHANGE_DETECT, text, "other-1", &key, &err));
    assert_non_null(strstr(err.text, chain_id));
    assert_false(exchange_read(&back, EXCHANGE_DETECT, text, chain_id, &other_key, &err));
    line[40] ^= 1;
    assert_false(exchange_read(&back, EXCHANGE_DETECT, text, chain_id, &key, &err));
    assert_non_null(strstr(err.text, "checksum"));
}

static void a_state_file_is_no_export(void **state)
{
    (void)state;
    struct record r = full_record(), back;
    uint8_t slot[SLOT_SIZE];
    struct err err;
    slot_render(&r, slot);
    assert_false(
        exchange_read(&back, EXCHANGE_DETECT, bytes_of(slot, SLOT_SIZE), chain_id, &key, &err));
    assert_non_null(strstr(err.text, "tmkms state export"));
}

/* What we write for another program comes back as its burned height. */
static void foreign_exports_burn_the_height(void **state)
{
    (void)state;
    static const enum exchange_format formats[] = {EXCHANGE_RUST, EXCHANGE_COMETBFT};
    for (size_t i = 0; i < 2; i++) {
        struct record r = full_record(), back;
        uint8_t line[RECORD_LINE_MAX];
        struct err err;
        struct bytes text = exchange_write(formats[i], &r, line);
        assert_true(exchange_read(&back, formats[i], text, chain_id, &key, &err));
        assert_int_equal(back.mark.floor, 10);
        r.mark.floor = 12;
        text = exchange_write(formats[i], &r, line);
        assert_true(exchange_read(&back, EXCHANGE_DETECT, text, chain_id, &key, &err));
        assert_int_equal(back.mark.floor, 12);
    }
}

static void sign_bytes_of_another_chain_are_refused(void **state)
{
    (void)state;
    json_t *root = vector_load("filepv_rules.json");
    const json_t *entry = json_array_get(json_object_get(root, "state_load"), 0);
    struct record rec;
    struct err err;
    assert_false(exchange_read(&rec, EXCHANGE_DETECT, bytes_of_text(vector_text(entry, "text")),
        "test_chain_ie", &key, &err));
    assert_non_null(strstr(err.text, "another chain"));
    json_decref(root);
}

static void formats_have_names(void **state)
{
    (void)state;
    enum exchange_format format;
    assert_true(exchange_format_parse(&format, "cometbft") && format == EXCHANGE_COMETBFT);
    assert_true(exchange_format_parse(&format, "tmkms") && format == EXCHANGE_RUST);
    assert_true(exchange_format_parse(&format, "interchange") && format == EXCHANGE_OWN);
    assert_false(exchange_format_parse(&format, "detect"));
    assert_string_equal(exchange_format_name(EXCHANGE_RUST), "tmkms");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(state_files_of_comet_are_read_as_by_comet_or_refused),
        cmocka_unit_test(an_import_burns_its_height),
        cmocka_unit_test(state_files_of_rust_are_read),
        cmocka_unit_test(broken_state_files_of_rust_are_refused),
        cmocka_unit_test(cut_off_files_are_refused),
        cmocka_unit_test(changed_files_never_crash_nor_go_below_zero),
        cmocka_unit_test(our_own_form_keeps_everything),
        cmocka_unit_test(a_state_file_is_no_export),
        cmocka_unit_test(foreign_exports_burn_the_height),
        cmocka_unit_test(sign_bytes_of_another_chain_are_refused),
        cmocka_unit_test(formats_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
