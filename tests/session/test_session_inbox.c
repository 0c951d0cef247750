/* The inbox against a plain copy of the stream, over many random chunks and messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "session/inbox.h"

enum { STREAM = 1 << 22 };

static uint32_t seed = 1;

static size_t random_below(size_t n)
{
    seed = seed * 1664525U + 1013904223U;
    return (seed >> 8) % n;
}

static void test_keeps_the_stream(void **state)
{
    (void)state;
    uint8_t *stream = malloc(STREAM);
    struct inbox *in = calloc(1, sizeof *in);
    for (size_t i = 0; i < STREAM; i++)
        stream[i] = (uint8_t)(i * 2654435761U >> 13);
    size_t put = 0, taken = 0, grown = 0, shrunk = 0;
    while (taken < STREAM) {
        size_t message = random_below(4) == 0 ? random_below(200000) + 1 : random_below(500) + 1;
        if (message > STREAM - taken)
            message = STREAM - taken;
        bool was_large = in->large != NULL;
        assert_true(inbox_expect(in, message));
        grown += !was_large && in->large != NULL;
        while (put - taken < message) {
            size_t n = random_below(INBOX_SMALL) + 1;
            n = n < STREAM - put ? n : STREAM - put;
            assert_true(inbox_append(in, bytes_of(stream + put, n)));
            put += n;
        }
        struct bytes have = inbox_bytes(in);
        assert_true(bytes_equal(have, bytes_of(stream + taken, put - taken)));
        was_large = in->large != NULL;
        inbox_consume(in, message);
        taken += message;
        shrunk += was_large && in->large == NULL;
        assert_true(bytes_equal(inbox_bytes(in), bytes_of(stream + taken, put - taken)));
        if (in->n <= INBOX_SMALL)
            assert_null(in->large); /* memory is given back as soon as it can be */
    }
    assert_true(grown > 10 && shrunk > 10);
    inbox_clear(in);
    assert_int_equal(inbox_bytes(in).n, 0);
    assert_null(in->large);
    free(in);
    free(stream);
}

/* What comes in one go may be more than a small inbox holds: a noise message of 64 KiB, say. */
static void test_a_chunk_larger_than_small(void **state)
{
    (void)state;
    struct inbox *in = calloc(1, sizeof *in);
    static uint8_t chunk[90000];
    chunk[0] = 1;
    chunk[sizeof chunk - 1] = 2;
    assert_true(inbox_append(in, bytes_of(chunk, 10)));
    inbox_consume(in, 5);
    assert_true(inbox_append(in, bytes_of(chunk, sizeof chunk)));
    assert_int_equal(inbox_bytes(in).n, sizeof chunk + 5);
    inbox_consume(in, 5);
    assert_true(bytes_equal(inbox_bytes(in), bytes_of(chunk, sizeof chunk)));
    inbox_clear(in);
    assert_null(in->large);
    free(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_the_stream),
        cmocka_unit_test(test_a_chunk_larger_than_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
