/* The wire primitives at their edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "privval/protobuf.h"

#define LITERAL(...)                                                                               \
    bytes_of((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void test_varint_round_trip(void **state)
{
    (void)state;
    size_t seen = 0;
    for (unsigned bit = 0; bit < 64; bit++) {
        for (int delta = -1; delta <= 1; delta++) {
            uint64_t value = (UINT64_C(1) << bit) + (uint64_t)delta;
            uint8_t buf[PB_VARINT_MAX];
            struct writer w = writer_of(buf, sizeof buf);
            pb_write_varint(&w, value);
            assert_int_equal(w.n, pb_varint_size(value));
            struct reader r = reader_of(written(&w));
            assert_true(pb_read_varint(&r) == value);
            assert_true(reader_done(&r));
            for (size_t n = 0; n < w.n; n++) {
                struct reader cut = reader_of(bytes_of(buf, n));
                assert_true(pb_read_varint(&cut) == 0 && cut.bad);
            }
            seen++;
        }
    }
    assert_int_equal(seen, 192);
}

static bool reads_as(struct bytes in, uint64_t want)
{
    struct reader r = reader_of(in);
    uint64_t got = pb_read_varint(&r);
    return got == want && reader_done(&r);
}

static bool is_bad_varint(struct bytes in)
{
    struct reader r = reader_of(in);
    uint64_t got = pb_read_varint(&r);
    return got == 0 && r.bad;
}

static void test_varint_edges(void **state)
{
    (void)state;
    assert_true(reads_as(LITERAL(0x80, 0x00), 0)); /* overlong */
    assert_true(reads_as(LITERAL(0x85, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00), 5));
    assert_true(
        reads_as(LITERAL(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01), UINT64_MAX));
    /* A tenth byte that does not fit, and an eleventh. */
    assert_true(is_bad_varint(LITERAL(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02)));
    assert_true(
        is_bad_varint(LITERAL(0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00)));
}

/* How many fields there are, -1 when one is bad. */
static int count_fields(struct bytes in)
{
    struct reader r = reader_of(in);
    struct pb_field f;
    int n = 0;
    while (pb_next(&r, &f))
        n++;
    return r.bad ? -1 : n;
}

static void test_fields(void **state)
{
    (void)state;
    assert_int_equal(count_fields((struct bytes){0}), 0);
    assert_int_equal(
        count_fields(LITERAL(0x08, 0x01, 0x12, 0x02, 0xaa, 0xbb, 0x1d, 1, 2, 3, 4)), 3);
    assert_int_equal(count_fields(LITERAL(0x11, 1, 2, 3, 4, 5, 6, 7, 8)), 1);
    assert_int_equal(count_fields(LITERAL(0x12, 0x00)), 1);
    assert_int_equal(count_fields(LITERAL(0x88, 0x00, 0x01)), 1); /* overlong tag */
    assert_int_equal(count_fields(LITERAL(0xf8, 0xff, 0xff, 0xff, 0x0f, 0x00)), 1);  /* 2^29-1 */
    assert_int_equal(count_fields(LITERAL(0x80, 0x80, 0x80, 0x80, 0x10, 0x00)), -1); /* 2^29 */
    /* 2^32 + 1, which Go takes for field 1. */
    assert_int_equal(count_fields(LITERAL(0x88, 0x80, 0x80, 0x80, 0x80, 0x01, 0x00)), -1);
    assert_int_equal(count_fields(LITERAL(0x00, 0x00)), -1); /* field 0 */
    assert_int_equal(count_fields(LITERAL(0x0b, 0x0c)), -1); /* a group */
    assert_int_equal(count_fields(LITERAL(0x0c)), -1);       /* its end */
    assert_int_equal(count_fields(LITERAL(0x0e, 0x00)), -1); /* wire type 6 */
    assert_int_equal(count_fields(LITERAL(0x0f, 0x00)), -1); /* wire type 7 */
    assert_int_equal(count_fields(LITERAL(0x08)), -1);       /* no value */
    assert_int_equal(count_fields(LITERAL(0x11, 1, 2, 3, 4, 5, 6, 7)), -1);
    assert_int_equal(count_fields(LITERAL(0x0d, 1, 2, 3)), -1);
    assert_int_equal(count_fields(LITERAL(0x12, 0x02, 0xaa)), -1);
    assert_int_equal(count_fields(LITERAL(
                         0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0xaa)),
        -1); /* a length of 2^64-1 */
}

static void test_typed_values(void **state)
{
    (void)state;
    struct reader r = {0};
    struct pb_field f = {.number = 1, .wire = PB_VARINT, .value = UINT64_C(0xfffffffe80000005)};
    assert_int_equal(pb_int32(&r, &f), INT32_MIN + 5); /* the low 32 bits, as Go */
    assert_int_equal(pb_uint32(&r, &f), UINT32_C(0x80000005));
    assert_true(pb_int64(&r, &f) == (int64_t)UINT64_C(0xfffffffe80000005));
    assert_true(pb_bool(&r, &f));
    assert_false(r.bad);
    assert_int_equal(pb_bytes(&r, &f).n, 0);
    assert_true(r.bad);

    r.bad = false;
    f = (struct pb_field){.number = 1, .wire = PB_FIXED64, .value = 7};
    assert_true(pb_int64(&r, &f) == 0 && r.bad);
}

static void test_once(void **state)
{
    (void)state;
    struct reader r = reader_of(LITERAL(0x0a, 0x01, 0xaa, 0x12, 0x01, 0xbb, 0x0a, 0x01, 0xcc));
    struct pb_field f;
    uint32_t seen = 0;
    for (int i = 0; i < 2; i++) {
        assert_true(pb_next(&r, &f));
        assert_int_equal(pb_once(&r, &f, &seen).n, 1);
        assert_false(r.bad);
    }
    assert_true(pb_next(&r, &f));
    pb_once(&r, &f, &seen);
    assert_true(r.bad);
}

static void test_zero_is_left_out(void **state)
{
    (void)state;
    uint8_t buf[8];
    struct writer w = writer_of(buf, sizeof buf);
    pb_write_int64(&w, 1, 0);
    pb_write_uint64(&w, 2, 0);
    pb_write_sfixed64(&w, 3, 0);
    pb_write_bytes(&w, 4, (struct bytes){0});
    assert_int_equal(w.n, 0);
    pb_end(&w, pb_begin(&w, 5));
    assert_int_equal(w.n, 2);
    assert_memory_equal(buf, "\x2a\x00", 2);
}

/* Nested messages around the sizes where their length takes another byte, in buffers of every size.
 */
static void test_nested_lengths(void **state)
{
    (void)state;
    static const size_t SIZES[] = {
        0, 1, 120, 124, 125, 126, 127, 128, 129, 16379, 16380, 16381, 16384};
    static uint8_t buf[17000], body[16384];
    memset(body, 0x5a, sizeof body);
    for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++) {
        size_t inner = SIZES[i] == 0 ? 0 : 1 + pb_varint_size(SIZES[i]) + SIZES[i];
        size_t outer = 1 + pb_varint_size(inner) + inner;
        size_t all = pb_varint_size(outer) + outer;
        for (size_t cap = all > 200 ? all - 5 : 0; cap <= all; cap++) {
            struct writer w = writer_of(buf, cap);
            size_t a = pb_begin_delimited(&w), b = pb_begin(&w, 3);
            pb_write_bytes(&w, 1, bytes_of(body, SIZES[i]));
            pb_end(&w, b);
            pb_end(&w, a);
            assert_int_equal(w.bad, cap < all);
            assert_true(w.n <= cap);
        }
        struct reader r = reader_of(bytes_of(buf, all));
        struct pb_field f;
        assert_int_equal(pb_read_varint(&r), outer);
        assert_true(pb_next(&r, &f) && f.number == 3 && f.bytes.n == inner && r.n == 0);
        r = reader_of(f.bytes);
        assert_int_equal(pb_next(&r, &f), SIZES[i] != 0);
        if (SIZES[i] != 0)
            assert_true(f.bytes.n == SIZES[i] && memcmp(f.bytes.p, body, SIZES[i]) == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_varint_round_trip),
        cmocka_unit_test(test_varint_edges),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_typed_values),
        cmocka_unit_test(test_once),
        cmocka_unit_test(test_zero_is_left_out),
        cmocka_unit_test(test_nested_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
