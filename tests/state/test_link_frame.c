/* Frames of the state link, and the link of an enclave in a slot of the state file: what is written is
 * read back, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/hash.h"
#include "state/link_frame.h"

static struct record sample(uint64_t link_sequence)
{
    struct record r = {.sequence = 7, .link_sequence = link_sequence, .key = {.type = KEY_ED25519}};
    snprintf(r.chain_id, sizeof r.chain_id, "frame-1");
    r.key.len = 32;
    memset(r.key.bytes, 0xa5, 32);
    if (link_sequence != 0)
        memset(r.link_mac, 0x3c, sizeof r.link_mac);
    r.mark.last = (struct signable){.height = 12, .round = 1, .step = STEP_PREVOTE};
    return r;
}

enum { SAMPLES = 6 };

static struct link_frame frame(int i, uint8_t line[RECORD_LINE_MAX])
{
    struct record r = sample(9);
    struct link_frame hello = {.kind = LINK_HELLO, .sequence = 5, .key = r.key};
    memcpy(hello.chain_id, r.chain_id, sizeof hello.chain_id);
    memset(hello.boot, 0x11, sizeof hello.boot);
    const struct link_frame all[SAMPLES] = {
        hello,
        link_frame_of_record(&r, line),
        {.kind = LINK_ACK, .sequence = UINT64_C(0x0102030405060708)},
        {.kind = LINK_REFUSE, .text = bytes_of_text("because")},
        {.kind = LINK_PROBE},
        {.kind = LINK_ALIVE},
    };
    return all[i];
}

static bool read_back(struct link_frame *ret, const uint8_t *p, size_t n)
{
    return n >= LINK_HEAD && link_frame_length(p) == n - LINK_HEAD && n > LINK_HEAD &&
           link_frame_read(ret, bytes_of(p + LINK_HEAD, n - LINK_HEAD));
}

static void frames_are_read_as_written(void **state)
{
    (void)state;
    for (int i = 0; i < SAMPLES; i++) {
        uint8_t line[RECORD_LINE_MAX], out[LINK_FRAME_MAX];
        struct link_frame f = frame(i, line), got;
        struct bytes b = link_frame_write(&f, out);
        assert_true(read_back(&got, b.p, b.n));
        assert_int_equal(got.kind, f.kind);
        assert_int_equal(got.sequence, f.sequence);
        assert_string_equal(got.chain_id, f.chain_id);
        assert_true(public_key_equal(&got.key, &f.key));
        assert_memory_equal(got.boot, f.boot, sizeof f.boot);
        assert_memory_equal(got.mac, f.mac, sizeof f.mac);
        assert_true(bytes_equal(got.text, f.text));
    }
    uint8_t line[RECORD_LINE_MAX];
    struct link_frame f = frame(1, line);
    struct record got, want = sample(9);
    assert_true(link_frame_record(&got, &f));
    want.sequence = 0;
    assert_memory_equal(got.link_mac, want.link_mac, sizeof got.link_mac);
    assert_int_equal(got.link_sequence, 9);
    assert_int_equal(got.mark.last.height, 12);
    f.text.n--; /* on the wire the newline belongs to the line */
    assert_false(link_frame_record(&got, &f));
}

static void other_frames_are_refused(void **state)
{
    (void)state;
    size_t cuts = 0, changes = 0;
    for (int i = 0; i < SAMPLES; i++) {
        uint8_t line[RECORD_LINE_MAX], out[LINK_FRAME_MAX], again[LINK_FRAME_MAX];
        struct link_frame f = frame(i, line), got;
        struct bytes b = link_frame_write(&f, out);
        size_t n = b.n;
        bool is_open_ended = f.kind == LINK_RECORD || f.kind == LINK_REFUSE;
        for (size_t cut = 1; cut < n - LINK_HEAD; cut++) {
            bool ok = link_frame_read(&got, bytes_of(out + LINK_HEAD, cut));
            assert_true(!ok || is_open_ended);
            cuts++;
        }
        if (!is_open_ended)
            assert_false(link_frame_read(&got, bytes_of(out + LINK_HEAD, n - LINK_HEAD + 1)));
        for (size_t at = LINK_HEAD; at < n; at++) {
            uint8_t was = out[at];
            for (int bit = 0; bit < 8; bit++, changes++) {
                out[at] = (uint8_t)(was ^ 1 << bit);
                if (!link_frame_read(&got, bytes_of(out + LINK_HEAD, n - LINK_HEAD)))
                    continue;
                struct bytes same = link_frame_write(&got, again); /* canonical */
                assert_true(bytes_equal(same, bytes_of(out, n)));
            }
            out[at] = was;
        }
    }
    assert_true(cuts > 400 && changes > 4000);
    const uint8_t heads[][LINK_HEAD] = {{0}, {0xff, 0xff, 0xff, 0xff}, {0xfd, 0x07, 0, 0}};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        assert_int_equal(link_frame_length(heads[i]), 0);
    const uint8_t longest[LINK_HEAD] = {0xfc, 0x07, 0, 0};
    assert_int_equal(link_frame_length(longest), LINK_FRAME_MAX - LINK_HEAD);
}

static void the_mac_depends_on_everything(void **state)
{
    (void)state;
    uint8_t key[SHA256_LEN] = {1}, mac[SHA256_LEN], other[SHA256_LEN];
    struct bytes line = bytes_of_text("a line\n");
    link_mac(key, 4, line, mac);
    link_mac(key, 5, line, other);
    assert_memory_not_equal(mac, other, sizeof mac);
    link_mac(key, 4, bytes_of_text("b line\n"), other);
    assert_memory_not_equal(mac, other, sizeof mac);
    key[31] ^= 0x80;
    link_mac(key, 4, line, other);
    assert_memory_not_equal(mac, other, sizeof mac);
    assert_false(sha256_equal(mac, other));
    assert_true(sha256_equal(mac, mac));
}

/* The checksum made right again after a change, so that the field itself is judged. */
static void fix_checksum(char *slot)
{
    char *tail = strstr(slot, ",\"checksum\":\"");
    uint8_t sum[SHA256_LEN];
    char hex[2 * SHA256_LEN + 1];
    sha256(bytes_of(slot, (size_t)(tail - slot)), sum);
    hex_upper(bytes_of(sum, sizeof sum), hex);
    memcpy(tail + strlen(",\"checksum\":\""), hex, 2 * SHA256_LEN);
}

static void slots_keep_the_link(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to; /* of equal length */
    } bad[] = {
        {"\"link\":{\"sequence\":\"9\"", "\"link\":{\"sequence\":\"0\""},
        {"\"link\":{\"sequence\":\"9\"", "\"link\":{\"sequence\":\"-\""},
        {"\"mac\":\"3C3C", "\"mac\":\"3c3c"},
        {"\"mac\":\"3C3C", "\"mac\":\"3C3G"},
        {"\"link\":{", "\"lirk\":{"},
        {"\"},\"chain_id\"", "\"],\"chain_id\""},
    };
    uint8_t raw[SLOT_SIZE + 1] = {0};
    struct record got, with = sample(9), without = sample(0);
    slot_render(&with, raw);
    assert_int_equal(slot_parse(&got, raw), SLOT_VALID);
    assert_int_equal(got.link_sequence, 9);
    assert_memory_equal(got.link_mac, with.link_mac, sizeof got.link_mac);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        slot_render(&with, raw);
        char *at = strstr((char *)raw, bad[i].from);
        assert_non_null(at);
        assert_int_equal(strlen(bad[i].from), strlen(bad[i].to));
        memcpy(at, bad[i].to, strlen(bad[i].to));
        fix_checksum((char *)raw);
        if (slot_parse(&got, raw) != SLOT_DAMAGED)
            fail_msg("%s", bad[i].to);
    }
    slot_render(&without, raw);
    assert_null(strstr((char *)raw, "link"));
    assert_int_equal(slot_parse(&got, raw), SLOT_VALID);
    assert_int_equal(got.link_sequence, 0);
    uint8_t line[RECORD_LINE_MAX];
    struct bytes b = export_render(&with, line); /* the line for another machine has none */
    assert_true(export_parse(&got, b));
    assert_int_equal(got.link_sequence, 0);
    record_unlink(&with);
    slot_render(&with, raw);
    assert_null(strstr((char *)raw, "link"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_read_as_written),
        cmocka_unit_test(other_frames_are_refused),
        cmocka_unit_test(the_mac_depends_on_everything),
        cmocka_unit_test(slots_keep_the_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
