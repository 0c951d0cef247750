/* The text forms of a record: what is written is read back, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "crypto/hash.h"
#include "state/record.h"

static const char chain_id[] = "journal-1";
static const struct public_key key = {.type = KEY_ED25519, .len = 32, .bytes = {1, 2, 3}};
static const struct public_key other_key = {.type = KEY_SECP256K1, .len = 33, .bytes = {2, 9}};

static struct watermark mark_at(int64_t height)
{
    struct watermark m = {.last = {.height = height, .round = 2, .step = STEP_PREVOTE}};
    m.last.timestamp.seconds = 1700000000;
    m.last.block_id.parts_total = 3;
    m.last.block_id.hash_len = m.last.block_id.parts_hash_len = HASH_LEN;
    memset(m.last.block_id.hash, 0xAB, HASH_LEN);
    memset(m.last.block_id.parts_hash, 0xCD, HASH_LEN);
    return m;
}

static struct record record_at(uint64_t sequence, int64_t height)
{
    struct record r = {.sequence = sequence, .key = key, .mark = mark_at(height)};
    memcpy(r.chain_id, chain_id, sizeof chain_id);
    return r;
}

static struct record largest(void)
{
    struct record r = record_at(RECORD_SEQUENCE_MAX, INT64_MAX);
    memset(r.chain_id, 'x', CHAIN_ID_MAX);
    r.key = other_key;
    memset(r.key.bytes, 0xFF, 33);
    r.mark.floor = INT64_MAX - 1;
    r.mark.last.step = STEP_PROPOSAL;
    r.mark.last.round = INT32_MAX;
    r.mark.last.pol_round = INT32_MAX - 1;
    r.mark.last.block_id.parts_total = UINT32_MAX;
    r.mark.last.timestamp = (struct timestamp){INT64_C(-62135596800), 999999999};
    return r;
}

static void assert_same_record(const struct record *a, const struct record *b)
{
    assert_int_equal(a->sequence, b->sequence);
    assert_string_equal(a->chain_id, b->chain_id);
    assert_true(public_key_equal(&a->key, &b->key));
    assert_int_equal(a->mark.floor, b->mark.floor);
    assert_true(signable_same_but_time(&a->mark.last, &b->mark.last));
    assert_true(timestamp_equal(&a->mark.last.timestamp, &b->mark.last.timestamp));
    assert_int_equal(a->burn_next, b->burn_next);
}

static void records_come_back_as_they_were(void **state)
{
    (void)state;
    struct record all[] = {record_at(7, 5), largest(), record_at(8, 6), record_at(9, 1)};
    all[2].mark.last.block_id = (struct block_id){0};
    all[2].burn_next = true;
    all[3].mark = (struct watermark){.floor = 77};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        uint8_t slot[SLOT_SIZE], line[RECORD_LINE_MAX];
        struct record back;
        assert_null(record_problem(&all[i]));
        slot_render(&all[i], slot);
        assert_int_equal(slot_parse(&back, slot), SLOT_VALID);
        assert_same_record(&back, &all[i]);
        struct bytes text = export_render(&all[i], line);
        assert_true(text.n > 0 && export_parse(&back, text));
        all[i].sequence = 0;
        assert_same_record(&back, &all[i]);
    }
}

static void a_slot_is_one_line_of_json(void **state)
{
    (void)state;
    uint8_t slot[SLOT_SIZE];
    struct record r = largest();
    slot_render(&r, slot);
    assert_ptr_equal(memchr(slot, '\n', SLOT_SIZE), slot + SLOT_SIZE - 1);
    json_t *root = json_loadb((const char *)slot, SLOT_SIZE, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    assert_string_equal(json_string_value(json_object_get(root, "height")), "9223372036854775807");
    assert_string_equal(json_string_value(json_object_get(root, "step")), "proposal");
    assert_int_equal(json_integer_value(json_object_get(root, "tmkms_state")), 1);
    json_decref(root);
}

static void every_changed_byte_makes_a_slot_invalid(void **state)
{
    (void)state;
    uint8_t slot[SLOT_SIZE];
    struct record r = record_at(7, 5), back;
    slot_render(&r, slot);
    for (size_t i = 0; i < SLOT_SIZE; i++) {
        static const uint8_t flips[] = {1, 0x20, 0x80, 0xFF};
        for (size_t f = 0; f < sizeof flips; f++) {
            slot[i] ^= flips[f];
            assert_int_equal(slot_parse(&back, slot), SLOT_DAMAGED);
            slot[i] ^= flips[f];
        }
    }
    assert_int_equal(slot_parse(&back, slot), SLOT_VALID);
}

/* A field that no signer writes, behind a checksum that is right: parsing is as strict without its help. */
static void wrong_fields_behind_a_right_checksum_are_refused(void **state)
{
    (void)state;
    static const char *const changes[][2] = {
        {"\"sequence\":\"7\"", "\"sequence\":\"07\""},
        {"\"sequence\":\"7\"", "\"sequence\":\"-7\""},
        {"\"sequence\":\"7\"", "\"sequence\":\"9223372036854775808\""},
        {"\"sequence\":\"7\"", "\"sequence\":\"99999999999999999999999999\""},
        {"\"sequence\":\"7\"", "\"sequence\":\"\""},
        {"\"sequence\":\"7\"", "\"sequence\":7"},
        {"journal-1", ""},
        {"journal-1", "journal-1journal-1journal-1journal-1journal-1journal-1"},
        {"ed25519", "secp256k1"},
        {"ed25519", "Ed25519"},
        {"\"burn_next\":false", "\"burn_next\":False"},
        {"\"burn_next\":false", "\"burn_next\": false"},
        {"\"height\":\"5\"", "\"height\":\"0\""},
        {"\"height\":\"5\"", "\"height\":\"-5\""},
        {"\"round\":2", "\"round\":-2"},
        {"\"round\":2", "\"round\":2147483648"},
        {"\"step\":\"prevote\"", "\"step\":\"none\""},
        {"\"step\":\"prevote\"", "\"step\":\"vote\""},
        {"\"pol_round\":0", "\"pol_round\":1"},
        {"\"total\":3", "\"total\":0"},
        {"\"total\":3", "\"total\":4294967296"},
        {"\"hash\":\"AB", "\"hash\":\"ab"},
        {"\"hash\":\"AB", "\"hash\":\""},
        {"\"nanos\":0", "\"nanos\":1000000000"},
        {"\"seconds\":\"1700000000\"", "\"seconds\":\"9223372036854775807\""},
        {"{\"tmkms_state\"", " {\"tmkms_state\""},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        uint8_t slot[SLOT_SIZE + 1] = {0}, changed[SLOT_SIZE];
        struct record r = record_at(7, 5), back;
        slot_render(&r, slot);
        char *text = (char *)slot, *at = strstr(text, changes[i][0]),
             *tail = strstr(text, ",\"checksum");
        assert_true(at != NULL && tail != NULL);
        struct writer w = writer_of(changed, sizeof changed);
        write_bytes(&w, bytes_of(slot, (size_t)(at - text)));
        write_text(&w, changes[i][1]);
        at += strlen(changes[i][0]);
        write_bytes(&w, bytes_of(at, (size_t)(tail - at)));
        uint8_t sum[SHA256_LEN];
        char hex[2 * SHA256_LEN + 1];
        sha256(written(&w), sum);
        hex_upper(bytes_of(sum, sizeof sum), hex);
        write_text(&w, ",\"checksum\":\"");
        write_text(&w, hex);
        write_text(&w, "\"}");
        memset(changed + w.n, ' ', SLOT_SIZE - w.n);
        changed[SLOT_SIZE - 1] = '\n';
        if (slot_parse(&back, changed) != SLOT_DAMAGED)
            fail_msg("%s was read", changes[i][1]);
    }
}

/* Every other start of another slot over this one: what a torn write leaves, byte by byte. */
static void every_torn_slot_is_invalid(void **state)
{
    (void)state;
    uint8_t before[SLOT_SIZE], after[SLOT_SIZE], zero[SLOT_SIZE] = {0}, torn[SLOT_SIZE];
    struct record r = record_at(7, 5), back;
    slot_render(&r, before);
    r = record_at(9, 6);
    slot_render(&r, after);
    int damaged = 0;
    for (size_t i = 1; i < SLOT_SIZE; i++) {
        memcpy(torn, before, SLOT_SIZE);
        memcpy(torn, after, i);
        bool is_whole = memcmp(torn, before, SLOT_SIZE) == 0 || memcmp(torn, after, SLOT_SIZE) == 0;
        assert_int_equal(slot_parse(&back, torn), is_whole ? SLOT_VALID : SLOT_DAMAGED);
        damaged += !is_whole;
        memcpy(torn, zero, SLOT_SIZE);
        memcpy(torn, after, i);
        assert_int_equal(slot_parse(&back, torn), SLOT_DAMAGED);
    }
    assert_true(damaged > 400);
}

static void exports_cut_or_changed_are_refused(void **state)
{
    (void)state;
    uint8_t line[RECORD_LINE_MAX];
    struct record r = record_at(0, 5), back;
    struct bytes text = export_render(&r, line);
    for (size_t n = 0; n + 1 < text.n; n++)
        assert_false(export_parse(&back, bytes_of(text.p, n)));
    assert_true(export_parse(&back, bytes_of(text.p, text.n - 1)));
    for (size_t i = 0; i < text.n; i++) {
        line[i] ^= 1;
        assert_false(export_parse(&back, text));
        line[i] ^= 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back_as_they_were),
        cmocka_unit_test(a_slot_is_one_line_of_json),
        cmocka_unit_test(every_changed_byte_makes_a_slot_invalid),
        cmocka_unit_test(wrong_fields_behind_a_right_checksum_are_refused),
        cmocka_unit_test(every_torn_slot_is_invalid),
        cmocka_unit_test(exports_cut_or_changed_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
