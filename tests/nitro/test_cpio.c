/* Archives in the newc form: golden bytes, what is refused, and damage of every kind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nitro/cpio.h"
#include "run.h"

static struct err err;

static const struct cpio_entry sample[] = {
    {.name = "dev", .mode = CPIO_DIRECTORY | 0755},
    {.name = "dev/console", .mode = CPIO_DEVICE | 0600, .device_major = 5, .device_minor = 1},
    {.name = "init", .mode = CPIO_FILE | 0755, .data = {(const uint8_t *)"hello", 5}},
};
enum { SAMPLE_N = sizeof sample / sizeof sample[0] };

static struct bytes sample_archive(void)
{
    uint8_t *archive = NULL;
    size_t n = 0;
    assert_true(cpio_write(sample, SAMPLE_N, &archive, &n, &err));
    return bytes_of(archive, n);
}

static void free_bytes(struct bytes b)
{
    free((void *)(uintptr_t)b.p);
}

/* Written out by hand from buffer-format.rst. */
static void golden_bytes(void **state)
{
    (void)state;
    static const char want[] = "070701"
                               "00000001"
                               "000041ED"
                               "00000000"
                               "00000000"
                               "00000002"
                               "00000000"
                               "00000000"
                               "00000000"
                               "00000000"
                               "00000000"
                               "00000000"
                               "00000004"
                               "00000000"
                               "dev\0\0\0"
                               "070701"
                               "00000002"
                               "00002180"
                               "00000000"
                               "00000000"
                               "00000001"
                               "00000000"
                               "00000000"
                               "00000000"
                               "00000000"
                               "00000005"
                               "00000001"
                               "0000000C"
                               "00000000"
                               "dev/console\0\0\0"
                               "070701"
                               "00000003"
                               "000081ED"
                               "00000000"
                               "00000000"
                               "00000001"
                               "00000000"
                               "00000005"
                               "00000000"
                               "00000000"
                               "00000000"
                               "00000000"
                               "00000005"
                               "00000000"
                               "init\0\0"
                               "hello\0\0\0"
                               "070701"
                               "00000000"
                               "00000000"
                               "00000000"
                               "00000000"
                               "00000001"
                               "00000000"
                               "00000000"
                               "00000000"
                               "00000000"
                               "00000000"
                               "00000000"
                               "0000000B"
                               "00000000"
                               "TRAILER!!!\0\0\0";
    struct bytes archive = sample_archive();
    assert_int_equal(archive.n, sizeof want);
    assert_memory_equal(archive.p, want, archive.n);
    assert_int_equal(archive.n % 4, 0);
    free_bytes(archive);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    struct bytes archive = sample_archive();
    struct reader r = reader_of(archive);
    struct cpio_entry e;
    bool is_end = false;
    for (size_t i = 0; i < SAMPLE_N; i++) {
        assert_true(cpio_next(&r, &e, &is_end, &err));
        assert_false(is_end);
        assert_string_equal(e.name, sample[i].name);
        assert_int_equal(e.mode, sample[i].mode);
        assert_int_equal(e.device_major, sample[i].device_major);
        assert_int_equal(e.device_minor, sample[i].device_minor);
        assert_true(bytes_equal(e.data, sample[i].data));
    }
    assert_true(cpio_next(&r, &e, &is_end, &err));
    assert_true(is_end && reader_done(&r));
    free_bytes(archive);
}

static void not_written(const struct cpio_entry *entries, size_t n, const char *why)
{
    uint8_t *archive = NULL;
    size_t archive_n = 0;
    assert_false(cpio_write(entries, n, &archive, &archive_n, &err));
    assert_null(archive);
    assert_contains(err.text, why);
}

static void writing_is_strict(void **state)
{
    (void)state;
    static const char *const bad_names[] = {"", "/init", "a//b", "a/", ".", "..", "a/../b", "./a",
        "a/.", "a b", "a\n", "\xc3\xa4", "TRAILER!!!"};
    for (size_t i = 0; i < sizeof bad_names / sizeof bad_names[0]; i++) {
        const struct cpio_entry e = {.name = bad_names[i], .mode = CPIO_FILE | 0644};
        not_written(&e, 1, "no name for a file");
    }
    char long_name[CPIO_NAME_MAX + 2];
    memset(long_name, 'a', sizeof long_name);
    long_name[CPIO_NAME_MAX + 1] = '\0';
    not_written(&(struct cpio_entry){.name = long_name, .mode = CPIO_FILE}, 1, "no name");
    const struct cpio_entry file_a = {.name = "a", .mode = CPIO_FILE | 0644};
    const struct cpio_entry file_b = {.name = "b", .mode = CPIO_FILE | 0644};
    const struct cpio_entry below_a = {.name = "a/b", .mode = CPIO_FILE | 0644};
    const struct cpio_entry big = {
        .name = "a", .mode = CPIO_FILE, .data = bytes_of("x", (size_t)UINT32_MAX + 1)};
    const struct cpio_entry full_folder = {
        .name = "a", .mode = CPIO_DIRECTORY, .data = bytes_of_text("x")};
    not_written((const struct cpio_entry[]){file_b, file_a}, 2, "'a' is out of order");
    not_written((const struct cpio_entry[]){file_a, file_a}, 2, "'a' is out of order");
    not_written(&below_a, 1, "folder of 'a/b'");
    not_written((const struct cpio_entry[]){file_a, below_a}, 2, "folder of 'a/b'");
    not_written(&big, 1, "too many");
    not_written(&full_folder, 1, "is no file");
}

/* The whole archive: how many entries were read before its end. False: damaged. */
static bool read_all(struct bytes archive, size_t *ret_n)
{
    struct reader r = reader_of(archive);
    struct cpio_entry e;
    *ret_n = 0;
    for (bool is_end = false; !is_end; *ret_n += !is_end)
        if (!cpio_next(&r, &e, &is_end, &err))
            return false;
    return true;
}

static void truncation_is_refused(void **state)
{
    (void)state;
    struct bytes archive = sample_archive();
    size_t n = 0;
    for (size_t cut = 0; cut < archive.n; cut++) {
        uint8_t *copy = malloc(cut + 1);
        memcpy(copy, archive.p, cut);
        assert_false(read_all(bytes_of(copy, cut), &n));
        free(copy);
    }
    assert_true(read_all(archive, &n));
    assert_int_equal(n, SAMPLE_N);
    free_bytes(archive);
}

/* Any byte may be any other: nothing is read outside the archive (under ASan), and what decides where things are is
 * checked. Most fields may hold other digits. */
static void changed_bytes_are_survived(void **state)
{
    (void)state;
    struct bytes archive = sample_archive();
    uint8_t *copy = malloc(archive.n);
    size_t refused = 0, read = 0, n = 0;
    for (size_t i = 0; i < archive.n; i++) {
        for (int v = 0; v < 256; v++) {
            memcpy(copy, archive.p, archive.n);
            copy[i] = (uint8_t)v;
            if (read_all(bytes_of(copy, archive.n), &n))
                read++;
            else
                refused++;
        }
    }
    assert_true(refused > 100000);
    assert_true(read > 5000);
    free(copy);
    free_bytes(archive);
}

static void reading_is_strict(void **state)
{
    (void)state;
    struct bytes archive = sample_archive();
    uint8_t copy[2048] = {0};
    size_t n = 0;
    memcpy(copy, archive.p, archive.n);
    assert_true(read_all(bytes_of(copy, archive.n + 512), &n));
    copy[archive.n + 100] = 1;
    assert_false(read_all(bytes_of(copy, archive.n + 512), &n));
    assert_contains(err.text, "follows the end");
    /* lengths near 2^32: of a file, and of a name */
    memcpy(copy, archive.p, archive.n);
    memcpy(copy + 6 + 6 * 8, "FFFFFFFF", 8);
    assert_false(read_all(bytes_of(copy, archive.n), &n));
    assert_contains(err.text, "'dev' in the archive is cut short");
    memcpy(copy, archive.p, archive.n);
    memcpy(copy + 6 + 11 * 8, "FFFFFFFF", 8);
    assert_false(read_all(bytes_of(copy, archive.n), &n));
    assert_contains(err.text, "damaged");
    /* a path that leads out of the archive */
    memcpy(copy, archive.p, archive.n);
    memcpy(copy + 110, "../", 3);
    assert_false(read_all(bytes_of(copy, archive.n), &n));
    assert_contains(err.text, "refused");
    free_bytes(archive);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_bytes),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(writing_is_strict),
        cmocka_unit_test(truncation_is_refused),
        cmocka_unit_test(changed_bytes_are_survived),
        cmocka_unit_test(reading_is_strict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
