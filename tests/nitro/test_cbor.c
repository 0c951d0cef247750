/* The CBOR reader and writer: examples of RFC 8949 appendix A, forms that AWS and QEMU send, and
 * lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "nitro/cbor.h"
#include "vectors.h"

static uint8_t buf[4096];

static struct reader of_hex(const char *hex)
{
    return reader_of(hex_into(hex, buf, sizeof buf));
}

static void reads_integers_of_every_width(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        uint64_t value;
    } cases[] = {
        {"00", 0},
        {"17", 23},
        {"1818", 24},
        {"1864", 100},
        {"1903e8", 1000},
        {"1a000f4240", 1000000},
        {"1b000000e8d4a51000", 1000000000000},
        {"1bffffffffffffffff", UINT64_MAX},
        {"1800", 0},
        {"190001", 1},
        {"1a00000002", 2},
        {"1b0000000000000003", 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct reader r = of_hex(cases[i].hex);
        assert_int_equal(cbor_peek(&r), CBOR_UINT);
        assert_true(cbor_read_uint(&r) == cases[i].value);
        assert_true(reader_done(&r));
    }
}

static void writes_the_shortest_form(void **state)
{
    (void)state;
    static const struct {
        uint64_t value;
        const char *hex;
    } cases[] = {
        {0, "00"},
        {23, "17"},
        {24, "1818"},
        {255, "18ff"},
        {256, "190100"},
        {65535, "19ffff"},
        {65536, "1a00010000"},
        {UINT32_MAX, "1affffffff"},
        {4294967296, "1b0000000100000000"},
        {UINT64_MAX, "1bffffffffffffffff"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct writer w = writer_of(buf, sizeof buf);
        cbor_write_uint(&w, cases[i].value);
        assert_hex(written(&w), cases[i].hex);
    }
}

static void reads_lists_of_both_lengths(void **state)
{
    (void)state;
    static const char *const forms[] = {"a26161016162820203", "bf61610161629f0203ffff"};
    for (size_t i = 0; i < 2; i++) {
        struct reader r = of_hex(forms[i]);
        struct cbor_list map = cbor_read_map(&r);
        assert_true(cbor_more(&r, &map));
        assert_true(bytes_equal(cbor_read_text(&r), bytes_of_text("a")));
        assert_int_equal(cbor_read_uint(&r), 1);
        assert_true(cbor_more(&r, &map));
        assert_true(bytes_equal(cbor_read_text(&r), bytes_of_text("b")));
        struct cbor_list array = cbor_read_array(&r);
        assert_true(cbor_more(&r, &array));
        assert_int_equal(cbor_read_uint(&r), 2);
        assert_true(cbor_more(&r, &array));
        assert_int_equal(cbor_read_uint(&r), 3);
        assert_false(cbor_more(&r, &array));
        assert_false(cbor_more(&r, &map));
        assert_true(reader_done(&r));
    }
}

static void skips_any_item(void **state)
{
    (void)state;
    static const char *const items[] = {"00", "20", "390100", "f4", "f6", "f7", "f0", "f8ff",
        "f93c00", "fb3ff199999999999a", "40", "4401020304", "60", "6161", "80", "83010203", "9fff",
        "9f0102ff", "a0", "a201020304", "bfff", "bf6161016162c11a514b67b0ff", "d2820102"};
    size_t n = 0;
    for (size_t i = 0; i < sizeof items / sizeof items[0]; i++) {
        struct bytes whole = hex_into(items[i], buf, sizeof buf);
        struct reader r = reader_of(whole);
        cbor_skip(&r);
        assert_true(reader_done(&r));
        for (size_t cut = 0; cut < whole.n; cut++, n++) {
            r = reader_of(bytes_of(whole.p, cut));
            cbor_skip(&r);
            assert_true(r.bad);
        }
    }
    assert_true(n > 50);
}

static void skips_a_bounded_depth_only(void **state)
{
    (void)state;
    memset(buf, 0x81, sizeof buf);
    buf[CBOR_DEPTH_MAX] = 0;
    struct reader r = reader_of(bytes_of(buf, CBOR_DEPTH_MAX + 1));
    cbor_skip(&r);
    assert_true(reader_done(&r));
    memset(buf, 0x81, sizeof buf);
    buf[CBOR_DEPTH_MAX + 1] = 0;
    r = reader_of(bytes_of(buf, CBOR_DEPTH_MAX + 2));
    cbor_skip(&r);
    assert_true(r.bad);
}

static void refuses_what_is_not_well_formed(void **state)
{
    (void)state;
    static const char *const items[] = {
        "1c",
        "1d",
        "1e",
        "1f",
        "3f",
        "5c",
        "5f",
        "7f",
        "9c",
        "dc",
        "df",
        "fc",
        "ff", /* reserved, break */
        "5bffffffffffffffff",
        "7b8000000000000000",
        "9bffffffffffffffff",
        "bb8000000000000000",
        "6261",
        "a1",
        "a101",
        "bf01ff",
        "8201",
        "c0",
        "5f4101ff",
        "",
    };
    for (size_t i = 0; i < sizeof items / sizeof items[0]; i++) {
        struct reader r = of_hex(items[i]);
        cbor_skip(&r);
        assert_true(r.bad);
    }
}

static void a_wrong_kind_sticks(void **state)
{
    (void)state;
    struct reader r = of_hex("0001");
    assert_int_equal(cbor_read_text(&r).n, 0);
    assert_true(r.bad);
    assert_int_equal(cbor_read_uint(&r), 0);
    assert_int_equal(cbor_peek(&r), CBOR_BAD);
    struct cbor_list list = cbor_read_map(&r);
    assert_false(cbor_more(&r, &list));
    assert_int_equal(cbor_read_octets(&r, buf, sizeof buf), 0);
}

static void octets_come_as_string_or_integers(void **state)
{
    (void)state;
    static const char *const forms[] = {"43010aff", "83010a18ff", "9f010a18ffff"};
    uint8_t out[4];
    for (size_t i = 0; i < 3; i++) {
        struct reader r = of_hex(forms[i]);
        assert_int_equal(cbor_read_octets(&r, out, 3), 3);
        assert_hex(bytes_of(out, 3), "010aff");
        assert_true(reader_done(&r));
        r = of_hex(forms[i]);
        assert_int_equal(cbor_read_octets(&r, out, 2), 0);
        assert_true(r.bad);
        /* In place: to the start of the buffer that is read. */
        r = of_hex(forms[i]);
        assert_int_equal(cbor_read_octets(&r, buf, sizeof buf), 3);
        assert_hex(bytes_of(buf, 3), "010aff");
    }
    struct reader r = of_hex("81190100");
    assert_int_equal(cbor_read_octets(&r, out, sizeof out), 0);
    assert_true(r.bad);
}

static void writes_what_it_reads(void **state)
{
    (void)state;
    uint8_t text[64];
    struct writer w = writer_of(text, sizeof text);
    cbor_write_open_map(&w);
    cbor_write_text(&w, "a");
    cbor_write_bytes(&w, bytes_of("\x01\x02", 2));
    cbor_write_text(&w, "b");
    cbor_write_array(&w, 2);
    cbor_write_bool(&w, true);
    cbor_write_null(&w);
    cbor_write_break(&w);
    assert_hex(written(&w), "bf61614201026162"
                            "82f5f6ff");
    struct reader r = reader_of(written(&w));
    cbor_skip(&r);
    assert_true(reader_done(&r));
    struct writer small = writer_of(text, 3);
    cbor_write_text(&small, "abc");
    assert_true(small.bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_integers_of_every_width),
        cmocka_unit_test(writes_the_shortest_form),
        cmocka_unit_test(reads_lists_of_both_lengths),
        cmocka_unit_test(skips_any_item),
        cmocka_unit_test(skips_a_bounded_depth_only),
        cmocka_unit_test(refuses_what_is_not_well_formed),
        cmocka_unit_test(a_wrong_kind_sticks),
        cmocka_unit_test(octets_come_as_string_or_integers),
        cmocka_unit_test(writes_what_it_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
