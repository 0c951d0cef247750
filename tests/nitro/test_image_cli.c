/* The commands about enclave images, as processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "folder.h"
#include "nitro/cpio.h"
#include "nitro/eif_write.h"
#include "nitro/image.h"
#include "nitro/image_parts.h"
#include "nitro/image_seal.h"
#include "nitro/pcr.h"
#include "nitro/signer.h"
#include "run.h"
#include "vectors.h"

static char folder[] = "/tmp/tmkms-image-cli-XXXXXX";
static char kernel[64], init[64], eif[64], other[64], certificate[64], key[64];
static uint8_t buf[PARTS_KERNEL_LEN];
static struct run_result done;

#define NITRO(...) RUN(&done, "nitro", __VA_ARGS__)
#define BUILD(...) NITRO("build-enclave", "--kernel", kernel, "--init", init, __VA_ARGS__)
#define VERIFY(...) NITRO("verify-build", "--kernel", kernel, "--init", init, __VA_ARGS__)

static void path_of(char out[64], const char *name)
{
    snprintf(out, 64, "%s/%s", folder, name);
}

static int start(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    path_of(kernel, "kernel");
    path_of(init, "program");
    path_of(eif, "a.eif");
    path_of(other, "b.eif");
    path_of(certificate, "cert.pem");
    path_of(key, "key.pem");
    return 0;
}

static int stop(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

static int fresh(void **state)
{
    (void)state;
    struct test_signer signer;
    folder_empty(folder);
    parts_save(kernel, parts_x86_kernel(buf, "6.12.57"));
    parts_save(init, parts_init(buf, 1, 0xcc));
    signer_make(&signer, "P-384", time(NULL) - 3600, time(NULL) + 3600);
    signer_save(&signer, certificate, key, NULL);
    signer_free(&signer);
    unsetenv("SOURCE_DATE_EPOCH");
    return 0;
}

static json_t *printed(void)
{
    json_t *json = json_loads(done.out, 0, NULL);
    if (json == NULL)
        fail_msg("no JSON: %s\n%s", done.out, done.err);
    return json;
}

static struct bytes content(const char *path, uint8_t *out, size_t cap)
{
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    size_t n = fread(out, 1, cap, in);
    fclose(in);
    return bytes_of(out, n);
}

static void assert_same_files(const char *a, const char *b)
{
    uint8_t x[65536], y[65536];
    assert_true(bytes_equal(content(a, x, sizeof x), content(b, y, sizeof y)));
}

static void build_and_describe(void **state)
{
    (void)state;
    struct stat st;
    const char *algorithm, *pcrs[3], *name, *version, *time_text;
    int format, is_signed, crc;
    BUILD("--output-file", eif, "--name", "signer", "--version", "7");
    assert_int_equal(done.exit_code, 0);
    assert_contains(done.err, "version 6.12.57, 4096 bytes");
    assert_contains(done.err, "an enclave of it needs 64 MiB of memory");
    assert_int_equal(stat(eif, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    json_t *build = printed();
    assert_int_equal(
        json_unpack(build, "{s:{s:s, s:s, s:s, s:s !} !}", "Measurements", "HashAlgorithm",
            &algorithm, "PCR0", &pcrs[0], "PCR1", &pcrs[1], "PCR2", &pcrs[2]),
        0);
    assert_string_equal(algorithm, "Sha384 { ... }");
    NITRO("describe-eif", "--eif-path", eif);
    assert_int_equal(done.exit_code, 0);
    json_t *described = printed();
    assert_int_equal(
        json_unpack(described,
            "{s:i, s:o, s:b, s:b, s:s, s:s, s:{s:s, s:s, s:s, s:s, s:s, s:n !} !}", "EifVersion",
            &format, "Measurements", &(json_t *){NULL}, "IsSigned", &is_signed, "CheckCRC", &crc,
            "ImageName", &name, "ImageVersion", &version, "Metadata", "BuildTime", &time_text,
            "BuildTool", &(char *){NULL}, "BuildToolVersion", &(char *){NULL}, "OperatingSystem",
            &(char *){NULL}, "KernelVersion", &(char *){NULL}, "DockerInfo"),
        0);
    assert_true(json_equal(
        json_object_get(described, "Measurements"), json_object_get(build, "Measurements")));
    assert_int_equal(format, 4);
    assert_true(!is_signed && crc);
    assert_string_equal(name, "signer");
    assert_string_equal(version, "7");
    assert_string_equal(time_text, "1970-01-01T00:00:00Z");
    json_decref(build);
    json_decref(described);
}

static void signed_images(void **state)
{
    (void)state;
    BUILD("--output-file", eif, "--signing-certificate", certificate, "--private-key", key);
    assert_int_equal(done.exit_code, 0);
    json_t *build = printed();
    const char *pcr8 =
        json_string_value(json_object_get(json_object_get(build, "Measurements"), "PCR8"));
    assert_non_null(pcr8);
    NITRO("pcr", "--signing-certificate", certificate);
    assert_int_equal(done.exit_code, 0);
    assert_contains(done.out, "\"PCR8\"");
    assert_contains(done.out, pcr8);
    /* signed later: but for the signature the same image */
    BUILD("--output-file", other);
    NITRO("sign-eif", "--eif-path", other, "--signing-certificate", certificate, "--private-key",
        key);
    assert_int_equal(done.exit_code, 0);
    json_t *sign = printed();
    assert_true(json_equal(build, sign));
    NITRO("describe-eif", "--eif-path", other);
    assert_int_equal(done.exit_code, 0);
    json_t *described = printed();
    assert_true(json_is_true(json_object_get(described, "SignatureCheck")));
    assert_true(json_is_true(json_object_get(described, "IsSigned")));
    assert_non_null(json_object_get(described, "SigningCertificate"));
    VERIFY(other);
    assert_int_equal(done.exit_code, 0);
    assert_contains(done.err, "signature: right, by the certificate of PCR8");
    json_decref(build);
    json_decref(sign);
    json_decref(described);
}

static void damaged_images(void **state)
{
    (void)state;
    uint8_t file[65536];
    BUILD("--output-file", eif, "--signing-certificate", certificate, "--private-key", key);
    struct bytes image = content(eif, file, sizeof file);
    struct bytes cut = bytes_of(file, image.n - 1);
    file[EIF_HEADER_LEN + EIF_SECTION_HEADER_LEN + 100] ^= 1; /* in the kernel */
    parts_save(other, image);
    NITRO("describe-eif", "--eif-path", other);
    assert_int_equal(done.exit_code, 1);
    assert_contains(done.err, "its CRC is wrong");
    assert_contains(done.err, "it is that of another image");
    json_t *json = printed();
    assert_true(json_is_false(json_object_get(json, "CheckCRC")));
    assert_true(json_is_false(json_object_get(json, "SignatureCheck")));
    json_decref(json);
    VERIFY(other);
    assert_int_equal(done.exit_code, 1);
    assert_contains(done.err, "CRC is wrong");
    image_seal(file, image.n);
    parts_save(other, image);
    VERIFY(other);
    assert_int_equal(done.exit_code, 1);
    assert_contains(done.err, "kernel: the image has version 6.12.57");
    assert_contains(done.err, "it is that of another image");
    assert_contains(done.out, "differs");
    parts_save(other, cut);
    NITRO("describe-eif", "--eif-path", other);
    assert_int_equal(done.exit_code, 1);
    assert_string_equal(done.out, "");
    assert_contains(done.err, "cut short");
    NITRO("describe-eif", "--eif-path", certificate);
    assert_int_equal(done.exit_code, 1);
    assert_contains(done.err, "not an enclave image");
}

/* What somebody put on the command line is not taken from the image but has to be expected. */
static void verify_build(void **state)
{
    (void)state;
    BUILD("--output-file", eif, "--name", "anything");
    VERIFY(eif);
    assert_int_equal(done.exit_code, 0);
    assert_contains(done.err, "metadata: another");
    assert_contains(done.out, "same");
    assert_null(strstr(done.out, "differs"));
    BUILD("--output-file", eif, "--debug");
    assert_int_equal(done.exit_code, 0);
    assert_contains(done.err, "also runs in debug mode");
    VERIFY(eif);
    assert_int_equal(done.exit_code, 1);
    assert_contains(done.err, "command line: the image has '");
    assert_contains(done.err, " tmkms.debug=1', expected is '");
    VERIFY("--debug", eif);
    assert_int_equal(done.exit_code, 0);
    BUILD("--output-file", eif, "--cmdline", "quiet");
    VERIFY("--cmdline", "quiet", eif);
    assert_int_equal(done.exit_code, 0);
}

/* The registers are hashes of the sections in one row: bytes that move across a border change none of them. */
static void equal_registers_are_no_proof(void **state)
{
    (void)state;
    uint8_t file[65536], moved[PARTS_KERNEL_LEN + sizeof IMAGE_CMDLINE], *changed;
    size_t changed_n, n = strlen("reboot=k panic=1 ");
    struct eif image;
    struct err err;
    BUILD("--output-file", eif);
    assert_true(eif_parse(&image, content(eif, file, sizeof file), &err));
    memcpy(moved, image.kernel.p, image.kernel.n);
    memcpy(moved + image.kernel.n, image.cmdline.p, n);
    image.kernel = bytes_of(moved, image.kernel.n + n);
    image.cmdline = bytes_of(image.cmdline.p + n, image.cmdline.n - n);
    assert_true(eif_write(&image, &changed, &changed_n, &err));
    parts_save(other, bytes_of(changed, changed_n));
    free(changed);
    VERIFY(other);
    assert_int_equal(done.exit_code, 1);
    assert_contains(done.err, "command line: the image has 'console=ttyS0 ");
    assert_null(strstr(done.out, "differs"));
    assert_contains(done.err, "PCR0, PCR1 and PCR2 are equal, and it is another image");
    assert_contains(done.err, "do not say where one ends and the next begins");
    VERIFY(eif);
    assert_int_equal(done.exit_code, 0);
    assert_null(strstr(done.err, "another image"));
}

static void assert_plain(const char *text)
{
    for (const char *p = text; *p != '\0'; p++)
        if ((*p < ' ' && *p != '\n') || *p > '~')
            fail_msg("byte %02x reaches the terminal: %s", (unsigned char)*p, text);
}

/* Who made an image chose its name, its metadata, and the names in its ramdisk. */
static void nothing_in_an_image_steers_the_terminal(void **state)
{
    (void)state;
    static const char hostile[] = "x\x7f\xc2\x9b"
                                  "2J\xe2\x80\xae"
                                  "y";
    const struct cpio_entry entries[] = {
        {.name = "123456", .mode = CPIO_FILE | 0755, .data = bytes_of(buf, sizeof buf)}};
    uint8_t file[65536], *ramdisk, *changed;
    size_t ramdisk_n, changed_n;
    struct eif image;
    struct err err;
    BUILD("--output-file", eif, "--name", hostile, "--version", hostile);
    assert_int_equal(done.exit_code, 0);
    NITRO("describe-eif", "--eif-path", eif);
    assert_int_equal(done.exit_code, 0);
    assert_plain(done.out);
    json_t *json = printed();
    assert_string_equal(json_string_value(json_object_get(json, "ImageName")), hostile);
    json_decref(json);

    assert_true(eif_parse(&image, content(eif, file, sizeof file), &err));
    assert_true(cpio_write(entries, 1, &ramdisk, &ramdisk_n, &err));
    uint8_t *name = memmem(ramdisk, ramdisk_n, entries[0].name, strlen(entries[0].name));
    assert_non_null(name);
    memcpy(name, "\033[2J\x7f\a", strlen(entries[0].name));
    image.ramdisks[0] = bytes_of(ramdisk, ramdisk_n / 2); /* "NAME is cut short" */
    assert_true(eif_write(&image, &changed, &changed_n, &err));
    parts_save(other, bytes_of(changed, changed_n));
    VERIFY(other);
    assert_int_equal(done.exit_code, 1);
    assert_contains(done.err, "?[2J??");
    assert_plain(done.err);
    free(ramdisk);
    free(changed);
}

static void with_a_kernel_module(void **state)
{
    (void)state;
    char module[64];
    path_of(module, "nsm.ko");
    parts_save(module, parts_init(buf, 1, 0xdd)); /* no kind: neither a program nor a module */
    BUILD("--output-file", eif, "--nsm-module", module);
    assert_int_equal(done.exit_code, 1);
    assert_contains(done.err, "nsm.ko: it is no kernel module");
    parts_init(buf, 1, 0xdd);
    buf[16] = 1; /* relocatable */
    parts_save(module, bytes_of(buf, PARTS_INIT_LEN));
    BUILD("--output-file", eif, "--nsm-module", module);
    assert_int_equal(done.exit_code, 0);
    VERIFY("--nsm-module", module, eif);
    assert_int_equal(done.exit_code, 0);
    VERIFY(eif);
    assert_int_equal(done.exit_code, 1);
    assert_contains(done.err, "nsm.ko");
    BUILD("--output-file", eif);
    VERIFY("--nsm-module", module, eif);
    assert_int_equal(done.exit_code, 1);
    assert_contains(done.err, "nsm.ko");
}

static void the_output_is_whole_or_absent(void **state)
{
    (void)state;
    BUILD("--output-file", eif);
    assert_int_equal(done.exit_code, 0);
    BUILD("--output-file", other, "--cmdline", "quiet");
    size_t files = folder_count(folder);
    /* a failure leaves what was there, and nothing beside it */
    NITRO("build-enclave", "--kernel", certificate, "--init", init, "--output-file", eif);
    assert_int_equal(done.exit_code, 1);
    assert_int_equal(folder_count(folder), files);
    VERIFY(eif);
    assert_int_equal(done.exit_code, 0);
    /* success replaces it */
    BUILD("--output-file", eif, "--cmdline", "quiet");
    assert_same_files(eif, other);
    assert_int_equal(folder_count(folder), files);
    BUILD("--output-file", "/dev/null");
    assert_int_equal(done.exit_code, 1);
    assert_contains(done.err, "/dev/null is there already and is not a regular file");
    BUILD("--output-file", "/nonexistent/a.eif");
    assert_int_equal(done.exit_code, 1);
    assert_contains(done.err, "there is no folder /nonexistent");
}

static void source_date_epoch(void **state)
{
    (void)state;
    setenv("SOURCE_DATE_EPOCH", "1700000000", 1);
    BUILD("--output-file", eif);
    assert_int_equal(done.exit_code, 0);
    unsetenv("SOURCE_DATE_EPOCH");
    NITRO("describe-eif", "--eif-path", eif);
    assert_contains(done.out, "\"BuildTime\": \"2023-11-14T22:13:20Z\"");
    VERIFY(eif);
    assert_int_equal(done.exit_code, 0);
    static const char *const bad[] = {"yesterday", "-1", "1e9", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        setenv("SOURCE_DATE_EPOCH", bad[i], 1);
        BUILD("--output-file", eif);
        assert_int_equal(done.exit_code, 1);
        assert_contains(done.err, "SOURCE_DATE_EPOCH");
    }
    unsetenv("SOURCE_DATE_EPOCH");
}

static void pcr_of_a_file(void **state)
{
    (void)state;
    uint8_t pcr[PCR_LEN], hash[PCR_LEN];
    char hex[PCR_HEX_LEN + 1];
    NITRO("pcr", "--input", kernel);
    assert_int_equal(done.exit_code, 0);
    sha384(parts_x86_kernel(buf, "6.12.57"), hash);
    pcr_extend_zero(bytes_of(hash, sizeof hash), pcr);
    hex_lower(bytes_of(pcr, sizeof pcr), hex);
    assert_contains(done.out, "\"PCR\": \"");
    assert_contains(done.out, hex);
    NITRO("pcr", "--signing-certificate", key);
    assert_int_equal(done.exit_code, 1);
    assert_contains(done.err, "no certificate in PEM form");
}

static void usage(void **state)
{
    (void)state;
    BUILD("--name", "x");
    assert_int_equal(done.exit_code, 2);
    assert_contains(done.err, "--output-file FILE is needed");
    BUILD("--output-file", eif, "--private-key", key);
    assert_int_equal(done.exit_code, 2);
    assert_contains(done.err, "go together");
    NITRO("describe-eif", eif);
    assert_int_equal(done.exit_code, 2);
    NITRO("verify-build");
    assert_int_equal(done.exit_code, 2);
    NITRO("pcr");
    assert_int_equal(done.exit_code, 2);
    NITRO("pcr", "--input", kernel, "--signing-certificate", certificate);
    assert_int_equal(done.exit_code, 2);
    NITRO("sign-eif", "--eif-path", eif);
    assert_int_equal(done.exit_code, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(build_and_describe, fresh),
        cmocka_unit_test_setup(signed_images, fresh),
        cmocka_unit_test_setup(damaged_images, fresh),
        cmocka_unit_test_setup(verify_build, fresh),
        cmocka_unit_test_setup(equal_registers_are_no_proof, fresh),
        cmocka_unit_test_setup(nothing_in_an_image_steers_the_terminal, fresh),
        cmocka_unit_test_setup(with_a_kernel_module, fresh),
        cmocka_unit_test_setup(the_output_is_whole_or_absent, fresh),
        cmocka_unit_test_setup(source_date_epoch, fresh),
        cmocka_unit_test_setup(pcr_of_a_file, fresh),
        cmocka_unit_test_setup(usage, fresh),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
