/* Our enclave image: what goes in, the same bytes always, and how another one differs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "folder.h"
#include "nitro/cpio.h"
#include "nitro/eif_write.h"
#include "nitro/image.h"
#include "nitro/image_parts.h"
#include "nitro/pcr.h"
#include "run.h"
#include "vectors.h"

static char folder[] = "/tmp/tmkms-image-XXXXXX";
static char kernel_path[64], init_path[64], extra_path[64];
static uint8_t kernel_buf[PARTS_KERNEL_LEN], init_buf[PARTS_INIT_LEN];
static struct err err;

static int start(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(kernel_path, sizeof kernel_path, "%s/bzImage", folder);
    snprintf(init_path, sizeof init_path, "%s/tmkms-enclave", folder);
    snprintf(extra_path, sizeof extra_path, "%s/extra", folder);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

static int fresh_parts(void **state)
{
    (void)state;
    folder_empty(folder);
    parts_save(kernel_path, parts_x86_kernel(kernel_buf, "6.12.57"));
    parts_save(init_path, parts_init(init_buf, 1, 0xcc));
    return 0;
}

static struct image_request request(void)
{
    return (struct image_request){.kernel = kernel_path, .init = init_path};
}

static struct image built(const struct image_request *q)
{
    struct image image = {0};
    if (!image_build(&image, q, &err))
        fail_msg("%s", err.text);
    return image;
}

/* ---- kernels ------------------------------------------------------------------------- */

static void x86_kernels_stay_as_they_are(void **state)
{
    (void)state;
    struct kernel kernel;
    struct bytes file = parts_x86_kernel(kernel_buf, "6.12.57");
    assert_true(kernel_of(&kernel, file, &err));
    assert_ptr_equal(kernel.content.p, file.p);
    assert_int_equal(kernel.content.n, file.n);
    assert_false(kernel.is_aarch64);
    assert_string_equal(kernel.version, "6.12.57");
    kernel_free(&kernel);
    kernel_buf[0x20f] = 0xff; /* the version behind the end */
    assert_true(kernel_of(&kernel, file, &err));
    assert_string_equal(kernel.version, "unknown");
    parts_x86_kernel(kernel_buf, "a word that is far longer than any version of a kernel is");
    memset(kernel_buf + 0xa00, 'x', 200);
    assert_true(kernel_of(&kernel, file, &err));
    assert_string_equal(kernel.version, "unknown");
}

static void arm_kernels_get_their_offset(void **state)
{
    (void)state;
    struct kernel kernel;
    struct bytes file = parts_arm_kernel(kernel_buf, 0, "6.12.57-arm");
    assert_true(kernel_of(&kernel, file, &err));
    assert_true(kernel.is_aarch64);
    assert_string_equal(kernel.version, "6.12.57-arm");
    assert_int_equal(kernel.content.n, file.n);
    assert_memory_equal(kernel.content.p, file.p, 8);
    static const uint8_t two_mib[8] = {0, 0, 0x20};
    assert_memory_equal(kernel.content.p + 8, two_mib, 8);
    assert_memory_equal(kernel.content.p + 16, file.p + 16, file.n - 16);
    assert_int_equal(kernel_buf[10], 0); /* the caller's is not touched */
    kernel_free(&kernel);
    /* one that says something keeps it */
    file = parts_arm_kernel(kernel_buf, 0x80000, "6.1");
    assert_true(kernel_of(&kernel, file, &err));
    assert_ptr_equal(kernel.content.p, file.p);
    kernel_free(&kernel);
}

static void what_is_no_kernel(void **state)
{
    (void)state;
    struct kernel kernel;
    assert_false(kernel_of(&kernel, bytes_of_text("KERNEL"), &err));
    assert_contains(err.text, "neither an x86-64 bzImage nor");
    assert_false(kernel_of(&kernel, bytes_of_text("\x1f\x8b..."), &err));
    assert_contains(err.text, "compressed with gzip");
    assert_false(kernel_of(&kernel,
        bytes_of_text("\x7f"
                      "ELF..."),
        &err));
    assert_contains(err.text, "bzImage is meant");
    struct bytes file = parts_x86_kernel(kernel_buf, "6.12");
    for (size_t n = 0; n < 0x206; n++)
        assert_false(kernel_of(&kernel, bytes_of(file.p, n), &err));
    for (size_t n = 0x206; n < 0xa00 + 5; n++) {
        uint8_t *copy = malloc(n);
        memcpy(copy, file.p, n);
        assert_true(kernel_of(&kernel, bytes_of(copy, n), &err));
        assert_string_equal(kernel.version, "unknown");
        free(copy);
    }
}

/* ---- building ------------------------------------------------------------------------ */

static void the_image(void **state)
{
    (void)state;
    struct image_request q = request();
    struct image image = built(&q);
    assert_true(bytes_equal(image.eif.kernel, bytes_of(kernel_buf, sizeof kernel_buf)));
    assert_true(bytes_equal(image.eif.cmdline, bytes_of_text(IMAGE_CMDLINE)));
    assert_true(bytes_equal(image.eif.metadata,
        bytes_of_text("{\"ImageName\":\"tmkms\",\"ImageVersion\":\"0.1.0\",\"BuildMetadata\":{"
                      "\"BuildTime\":\"1970-01-01T00:00:00Z\",\"BuildTool\":\"tmkms\","
                      "\"BuildToolVersion\":\"0.1.0\",\"OperatingSystem\":\"Linux\","
                      "\"KernelVersion\":\"6.12.57\"},\"DockerInfo\":null,"
                      "\"CustomMetadata\":null}")));
    assert_int_equal(image.eif.ramdisks_n, 1);
    assert_memory_equal(image.pcrs.values[0], image.pcrs.values[1], PCR_LEN);
    static const char *const names[] = {"dev", "dev/console", "init", "proc", "sys"};
    static const uint32_t modes[] = {040755, 020600, 0100755, 040755, 040755};
    struct reader r = reader_of(image.eif.ramdisks[0]);
    for (size_t i = 0; i < 5; i++) {
        struct cpio_entry e;
        bool is_end;
        assert_true(cpio_next(&r, &e, &is_end, &err) && !is_end);
        assert_string_equal(e.name, names[i]);
        assert_int_equal(e.mode, modes[i]);
        if (i == 2)
            assert_true(bytes_equal(e.data, bytes_of(init_buf, sizeof init_buf)));
    }
    image_free(&image);
    q.is_debug = true;
    image = built(&q);
    assert_true(bytes_equal(image.eif.cmdline, bytes_of_text(IMAGE_CMDLINE " " IMAGE_DEBUG_WORD)));
    image_free(&image);
}

/* Other folders, file times, permissions and masks: the same bytes. Another time in the metadata: the same
 * registers. */
static void the_same_bytes_always(void **state)
{
    (void)state;
    char other[] = "/tmp/tmkms-image-other-XXXXXX", kernel[64], init[64];
    assert_non_null(mkdtemp(other));
    snprintf(kernel, sizeof kernel, "%s/k", other);
    snprintf(init, sizeof init, "%s/i", other);
    mode_t mask = umask(0277);
    parts_save(kernel, bytes_of(kernel_buf, sizeof kernel_buf));
    parts_save(init, bytes_of(init_buf, sizeof init_buf));
    struct image_request q = request();
    struct image first = built(&q);
    q.kernel = kernel;
    q.init = init;
    q.now_s = 1000000;
    struct image second = built(&q);
    umask(mask);
    assert_int_equal(first.file_n, second.file_n);
    assert_memory_equal(first.file, second.file, first.file_n);
    image_free(&second);
    q.build_time_s = 1700000000;
    second = built(&q);
    assert_memory_equal(first.pcrs.values, second.pcrs.values, sizeof first.pcrs.values);
    assert_non_null(
        memmem(second.eif.metadata.p, second.eif.metadata.n, "2023-11-14T22:13:20Z", 20));
    image_free(&second);
    image_free(&first);
    folder_remove(other);
}

static void an_arm_image(void **state)
{
    (void)state;
    struct image_request q = request();
    parts_save(kernel_path, parts_arm_kernel(kernel_buf, 0, "6.12.57"));
    struct image image = {0};
    assert_false(image_build(&image, &q, &err));
    assert_contains(err.text, "tmkms-enclave: it is not for aarch64, as the kernel is");
    init_buf[PARTS_MACHINE_AT] = 183;
    parts_save(init_path, bytes_of(init_buf, sizeof init_buf));
    image = built(&q);
    assert_true(image.eif.is_aarch64);
    assert_int_equal(image.file[7], 1);
    assert_int_equal(image.eif.kernel.p[10], 0x20);
    image_free(&image);
}

static void not_built(const struct image_request *q, const char *why)
{
    struct image image = {0};
    assert_false(image_build(&image, q, &err));
    assert_null(image.file);
    assert_contains(err.text, why);
}

static void parts_that_are_refused(void **state)
{
    (void)state;
    char text[5000];
    struct image_request q = request();
    q.kernel = init_path;
    not_built(&q, "tmkms-enclave: it is no kernel");
    q = request();
    q.init = kernel_path;
    not_built(&q, "bzImage: it is no 64-bit program");
    q.init = extra_path;
    not_built(&q, "cannot open");
    parts_save(extra_path, bytes_of_text(""));
    not_built(&q, "extra is an empty file");
    parts_save(extra_path, parts_init(init_buf, 3, 0));
    not_built(&q, "linked dynamically");
    init_buf[32] = 0xff; /* the program headers lie behind the end */
    init_buf[33] = 0xff;
    parts_save(extra_path, bytes_of(init_buf, sizeof init_buf));
    not_built(&q, "program headers are damaged");
    q.init = folder;
    not_built(&q, "not a regular file");
    q = request();
    q.cmdline = "";
    not_built(&q, "command line is empty");
    q.cmdline = "quiet\nroot=/dev/sda";
    not_built(&q, "not printable");
    memset(text, 'a', IMAGE_CMDLINE_MAX + 1);
    text[IMAGE_CMDLINE_MAX + 1] = '\0';
    q.cmdline = text;
    not_built(&q, "1537 characters, at most 1536 have room");
    q.cmdline = text + 1;
    struct image image = built(&q);
    image_free(&image);
    q.is_debug = true;
    not_built(&q, "at most 1536");
}

static void metadata_of_ones_own(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"[1]", "no JSON object"}, {"{", "is no JSON: line 1"}, {"{\"a\":1,\"a\":2}", "duplicate"}};
    char text[IMAGE_METADATA_MAX + 2];
    struct image_request q = request();
    q.metadata = extra_path;
    q.name = "n";
    q.version = "v";
    parts_save(extra_path, bytes_of_text("{\"b\": 1, \"a\": [true]}"));
    struct image image = built(&q);
    static const char tail[] = "\"DockerInfo\":null,\"CustomMetadata\":{\"b\":1,\"a\":[true]}}";
    struct bytes m = image.eif.metadata;
    assert_true(bytes_equal(bytes_of(m.p + m.n - strlen(tail), strlen(tail)), bytes_of_text(tail)));
    static const char head[] = "{\"ImageName\":\"n\",\"ImageVersion\":\"v\",";
    assert_memory_equal(m.p, head, strlen(head));
    image_free(&image);
    for (size_t i = 0; i < 3; i++) {
        parts_save(extra_path, bytes_of_text(bad[i].text));
        not_built(&q, bad[i].why);
    }
    memset(text, ' ', sizeof text);
    text[0] = '{';
    text[sizeof text - 2] = '}';
    parts_save(extra_path, bytes_of(text, sizeof text - 1));
    not_built(&q, "has 4097 bytes, and metadata may have 4096");
    q = request();
    q.name = "\xff";
    not_built(&q, "metadata cannot be made");
}

static void the_image_folder(void **state)
{
    (void)state;
    char path[PATH_MAX];
    struct image_request q = {0};
    assert_int_equal(setenv("TMKMS_IMAGE_DIR", folder, 1), 0);
    assert_true(image_folder_file("bzImage", path, &err));
    assert_string_equal(path, kernel_path);
    struct image image = built(&q);
    assert_string_equal(image.kernel_path, kernel_path);
    assert_string_equal(image.init_path, init_path);
    image_free(&image);
    unlink(init_path);
    not_built(&q, "there is no tmkms-enclave in TMKMS_IMAGE_DIR");
    assert_int_equal(unsetenv("TMKMS_IMAGE_DIR"), 0);
    assert_false(image_folder_file("no-such-part", path, &err));
    assert_contains(err.text, "`make image`");
}

/* ---- comparing ----------------------------------------------------------------------- */

struct findings {
    char text[8192];
    size_t differs, notes;
};

static void take(void *ctx, enum image_finding finding, const char *text)
{
    struct findings *f = ctx;
    f->differs += finding == IMAGE_DIFFERS;
    f->notes += finding == IMAGE_NOTE;
    size_t n = strlen(f->text);
    snprintf(f->text + n, sizeof f->text - n, "%s\n", text);
}

static void differs(const struct eif *given, const struct eif *ours, size_t n, const char *words)
{
    struct findings f = {0};
    assert_false(image_compare(given, ours, take, &f));
    assert_contains(f.text, words);
    assert_int_equal(f.differs, n);
}

static void differences_in_words(void **state)
{
    (void)state;
    static uint8_t other_kernel[PARTS_KERNEL_LEN];
    struct image_request q = request();
    struct image ours = built(&q);
    struct findings f = {0};
    assert_true(image_compare(&ours.eif, &ours.eif, take, &f));
    assert_int_equal(f.differs + f.notes, 0);
    struct eif other = ours.eif;
    other.kernel = parts_x86_kernel(other_kernel, "6.12.99");
    differs(&other, &ours.eif, 1, "kernel: the image has version 6.12.99, 4096 bytes, SHA-256 ");
    differs(&other, &ours.eif, 1, "here it is version 6.12.57, 4096 bytes, SHA-256 ");
    differs(&other, &ours.eif, 1, "the first byte that differs is 2565");
    other = ours.eif;
    other.cmdline = bytes_of_text("quiet\x1b[2J");
    differs(&other, &ours.eif, 1, "the image has 'quiet?[2J', expected is '" IMAGE_CMDLINE "'");
    other = ours.eif;
    other.ramdisks[other.ramdisks_n++] = bytes_of_text("more");
    differs(&other, &ours.eif, 1, "the image has 2, the one built here 1");
    other = ours.eif;
    other.is_aarch64 = true;
    differs(&other, &ours.eif, 1, "architecture: the image is for aarch64");
    other = ours.eif;
    other.metadata = bytes_of_text("{}");
    f = (struct findings){0};
    assert_true(image_compare(&other, &ours.eif, take, &f));
    assert_int_equal(f.notes, 1);
    image_free(&ours);
}

static void ramdisk_differs(const struct eif *ours, struct bytes ramdisk, const char *words)
{
    struct eif other = *ours;
    other.ramdisks[0] = ramdisk;
    differs(&other, ours, 1, words);
}

static void entries_differ(
    const struct eif *ours, const struct cpio_entry *entries, size_t n, const char *words)
{
    uint8_t *archive = NULL;
    size_t archive_n = 0;
    assert_true(cpio_write(entries, n, &archive, &archive_n, &err));
    ramdisk_differs(ours, bytes_of(archive, archive_n), words);
    free(archive);
}

static void files_that_differ_are_named(void **state)
{
    (void)state;
    struct image_request q = request();
    struct image ours = built(&q);
    const struct bytes init = bytes_of(init_buf, sizeof init_buf);
    const struct cpio_entry dev = {.name = "dev", .mode = CPIO_DIRECTORY | 0755};
    const struct cpio_entry console = {
        .name = "dev/console", .mode = CPIO_DEVICE | 0600, .device_major = 5, .device_minor = 1};
    const struct cpio_entry null = {
        .name = "dev/console", .mode = CPIO_DEVICE | 0600, .device_major = 1, .device_minor = 3};
    const struct cpio_entry right = {.name = "init", .mode = CPIO_FILE | 0755, .data = init};
    const struct cpio_entry wrong = {
        .name = "init", .mode = CPIO_FILE | 0755, .data = bytes_of_text("evil")};
    const struct cpio_entry helper = {.name = "helper", .mode = CPIO_FILE | 0755};
    const struct cpio_entry proc = {.name = "proc", .mode = CPIO_DIRECTORY | 0755};
    const struct cpio_entry sys = {.name = "sys", .mode = CPIO_DIRECTORY | 0755};
    const struct cpio_entry tmp = {.name = "tmp", .mode = CPIO_DIRECTORY | 0755};
#define ENTRIES(...)                                                                               \
    (const struct cpio_entry[]){__VA_ARGS__},                                                      \
        sizeof((const struct cpio_entry[]){__VA_ARGS__}) / sizeof(struct cpio_entry)
    entries_differ(&ours.eif, ENTRIES(dev, console, wrong, proc, sys),
        "init in the image is 4 bytes, mode 100755, SHA-256 "
        "b5c1fb2efc6d6b4674c2fdcc48ce01b43a3b7c03763c0c3355de0099ee0f8c73; here it is 1000 bytes");
    entries_differ(&ours.eif, ENTRIES(dev, null, right, proc, sys),
        "dev/console in the image is mode 20600, device 1:3");
    entries_differ(&ours.eif, ENTRIES(dev, console, helper, right, proc, sys),
        "the image holds helper (0 bytes, mode 100755");
    entries_differ(&ours.eif, ENTRIES(dev, console, proc, sys), "the image lacks init (1000 bytes");
    entries_differ(
        &ours.eif, ENTRIES(dev, console, right, proc), "the image lacks sys (mode 40755");
    entries_differ(
        &ours.eif, ENTRIES(dev, console, right, proc, sys, tmp), "the image holds tmp (mode 40755");
#undef ENTRIES
    ramdisk_differs(&ours.eif, bytes_of_text("\x1f\x8b gzip"), "no archive as it is built here");
    struct bytes ramdisk = ours.eif.ramdisks[0];
    uint8_t *copy = malloc(ramdisk.n);
    memcpy(copy, ramdisk.p, ramdisk.n);
    copy[6 + 2 * 8 + 7] = '1'; /* the owner of /dev */
    ramdisk_differs(
        &ours.eif, bytes_of(copy, ramdisk.n), "the same files, but the archives differ");
    free(copy);
    image_free(&ours);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(x86_kernels_stay_as_they_are),
        cmocka_unit_test(arm_kernels_get_their_offset),
        cmocka_unit_test(what_is_no_kernel),
        cmocka_unit_test_setup(the_image, fresh_parts),
        cmocka_unit_test_setup(the_same_bytes_always, fresh_parts),
        cmocka_unit_test_setup(an_arm_image, fresh_parts),
        cmocka_unit_test_setup(parts_that_are_refused, fresh_parts),
        cmocka_unit_test_setup(metadata_of_ones_own, fresh_parts),
        cmocka_unit_test_setup(the_image_folder, fresh_parts),
        cmocka_unit_test_setup(differences_in_words, fresh_parts),
        cmocka_unit_test_setup(files_that_differ_are_named, fresh_parts),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
