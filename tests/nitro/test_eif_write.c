/* The writer of enclave images: golden files, round trips, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nitro/eif_write.h"
#include "nitro/golden_image.h"
#include "nitro/pcr.h"
#include "run.h"

static uint8_t buf[65536];
static struct err err;

static struct eif golden_parts(size_t ramdisks_n)
{
    return (struct eif){
        .kernel = bytes_of_text("KERNEL"),
        .cmdline = bytes_of_text("console=ttyS0"),
        .metadata = bytes_of_text("{\"ImageName\":\"t\",\"ImageVersion\":\"1\"}"),
        .ramdisks = {bytes_of_text("RAMDISK0"), bytes_of_text("RAMDISK1")},
        .ramdisks_n = ramdisks_n,
    };
}

static void golden_files(void **state)
{
    (void)state;
    for (size_t i = 1; i <= 2; i++) {
        const struct eif parts = golden_parts(i);
        struct bytes want = image_golden(buf, sizeof buf, i);
        uint8_t *file = NULL;
        size_t n = 0;
        assert_true(eif_write(&parts, &file, &n, &err));
        assert_int_equal(n, i == 1 ? 659 : 679);
        assert_int_equal(n, want.n);
        assert_memory_equal(file, want.p, n);
        free(file);
    }
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    struct eif parts = golden_parts(2), back;
    parts.is_aarch64 = true;
    parts.signature = bytes_of_text("signature");
    uint8_t *file = NULL;
    size_t n = 0;
    assert_true(eif_write(&parts, &file, &n, &err));
    assert_true(eif_parse(&back, bytes_of(file, n), &err));
    assert_true(back.is_aarch64);
    assert_true(bytes_equal(back.kernel, parts.kernel));
    assert_true(bytes_equal(back.cmdline, parts.cmdline));
    assert_true(bytes_equal(back.metadata, parts.metadata));
    assert_int_equal(back.ramdisks_n, 2);
    for (size_t i = 0; i < 2; i++)
        assert_true(bytes_equal(back.ramdisks[i], parts.ramdisks[i]));
    assert_true(bytes_equal(back.signature, parts.signature));
    assert_ptr_equal(back.signature.p + back.signature.n, file + n);
    free(file);
}

static void not_written(const struct eif *parts, const char *why)
{
    uint8_t *file = NULL;
    size_t n = 0;
    assert_false(eif_write(parts, &file, &n, &err));
    assert_null(file);
    assert_contains(err.text, why);
}

static void limits(void **state)
{
    (void)state;
    static uint8_t big[EIF_SIGNATURE_MAX + 1];
    struct eif parts = golden_parts(0);
    not_written(&parts, "ramdisk");
    parts.ramdisks_n = EIF_SECTIONS_MAX - 4;
    for (size_t i = 0; i < EIF_SECTIONS_MAX; i++)
        parts.ramdisks[i] = bytes_of_text("R");
    parts.signature = bytes_of(big, EIF_SIGNATURE_MAX);
    uint8_t *file = NULL;
    size_t n = 0;
    assert_true(eif_write(&parts, &file, &n, &err));
    free(file);
    parts.signature = bytes_of(big, sizeof big);
    not_written(&parts, "signature");
    parts.signature = (struct bytes){0};
    parts.ramdisks_n++;
    assert_true(eif_write(&parts, &file, &n, &err));
    free(file);
    parts.signature = bytes_of(big, 1);
    not_written(&parts, "at most 32 sections, and this one would have 33");
}

/* A wrong CRC is told apart from everything else, for those who describe a damaged image. */
static void only_the_crc_may_be_wrong(void **state)
{
    (void)state;
    struct eif eif;
    bool is_right = false;
    struct bytes image = image_golden(buf, sizeof buf, 1);
    assert_true(eif_read(&eif, image, &is_right, &err));
    assert_true(is_right);
    buf[image.n - 1] ^= 1;
    assert_true(eif_read(&eif, image, &is_right, &err));
    assert_false(is_right);
    assert_false(eif_parse(&eif, image, &err));
    assert_contains(err.text, "CRC");
}

/* The table of sections against the sections themselves, with a CRC that is right. */
static void words_for_damage(void **state)
{
    (void)state;
    struct eif eif;
    static const struct {
        size_t at, n;
        uint64_t value;
        const char *words;
    } cases[] = {
        {0x1c + 8, 8, 550, "section 1 of the enclave image begins at byte 550 and not at 566"},
        {0x1c, 8, 1ull << 63,
            "begins at byte 9223372036854775808 and not at 548, where the header"},
        {0x11c, 8, 1ull << 63, "section 0 of the enclave image is not as the table says"},
        {0x1a, 2, 33, "claims to have 33 sections"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bytes image = image_golden(buf, sizeof buf, 2);
        image_put(buf + cases[i].at, cases[i].value, cases[i].n);
        image_seal(buf, image.n);
        assert_false(eif_parse(&eif, image, &err));
        assert_contains(err.text, cases[i].words);
    }
    struct bytes image = image_golden(buf, sizeof buf, 2);
    image_put(buf + 0x11c, 1ull << 63, 8);
    image_put(buf + EIF_HEADER_LEN + 4, 1ull << 63, 8);
    image_seal(buf, image.n);
    assert_false(eif_parse(&eif, image, &err));
    assert_contains(err.text, "cut short: 119 of 9223372036854775808 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_files),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(limits),
        cmocka_unit_test(only_the_crc_may_be_wrong),
        cmocka_unit_test(words_for_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
