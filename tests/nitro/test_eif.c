/* Enclave images: golden registers, and damage of every kind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/hash.h"
#include "nitro/attestation_chain.h"
#include "nitro/cbor.h"
#include "nitro/document.h"
#include "nitro/eif.h"
#include "nitro/golden_image.h"
#include "nitro/pcr.h"
#include "run.h"

static uint8_t buf[65536];
static struct err err;

static void refused(struct bytes image, const char *why)
{
    struct eif eif;
    assert_false(eif_parse(&eif, image, &err));
    assert_contains(err.text, why);
}

static void golden_images(void **state)
{
    (void)state;
    static const char *const hashes[] = {
        "59d411f5ed3556d34d2d5c5ccdc8137c79581e4bc04b8baa97245e07530a84bb",
        "e973cc3466aaf35d28f5221bfd115236a1ab901dd20f0ef5033e4b80b3ec56d7"};
    static const char *const pcrs[][3] = {
        {IMAGE_A_PCR1, IMAGE_A_PCR1, IMAGE_B_PCR2}, {IMAGE_A_PCR0, IMAGE_A_PCR1, IMAGE_A_PCR2}};
    for (size_t i = 0; i < 2; i++) {
        uint8_t hash[SHA256_LEN];
        struct eif eif;
        struct eif_pcrs got;
        struct bytes image = image_golden(buf, sizeof buf, i + 1);
        sha256(image, hash);
        assert_hex(bytes_of(hash, sizeof hash), hashes[i]);
        assert_true(eif_parse(&eif, image, &err));
        assert_int_equal(eif.ramdisks_n, i + 1);
        assert_false(eif.is_aarch64);
        assert_true(eif_measure(&eif, &got, &err));
        assert_int_equal(got.present, 7);
        for (size_t k = 0; k < 3; k++)
            assert_hex(bytes_of(got.values[k], PCR_LEN), pcrs[i][k]);
    }
}

static void truncation_is_refused(void **state)
{
    (void)state;
    struct bytes image = image_golden(buf, sizeof buf, 2);
    for (size_t n = 0; n < image.n; n++) {
        struct eif eif;
        uint8_t *copy = malloc(n + 1);
        memcpy(copy, image.p, n);
        assert_false(eif_parse(&eif, bytes_of(copy, n), &err));
        free(copy);
    }
}

static void every_changed_byte_is_refused(void **state)
{
    (void)state;
    struct bytes image = image_golden(buf, sizeof buf, 2);
    for (size_t i = 0; i < image.n; i++) {
        struct eif eif;
        for (int bit = 0; bit < 8; bit++) {
            buf[i] ^= (uint8_t)(1 << bit);
            assert_false(eif_parse(&eif, image, &err));
            buf[i] ^= (uint8_t)(1 << bit);
        }
    }
}

/* The same with the CRC put right: what the checks of the structure alone catch. Content, the two unused defaults and
 * the architecture may change. */
static void a_right_crc_does_not_help(void **state)
{
    (void)state;
    struct bytes image = image_golden(buf, sizeof buf, 2);
    size_t passed = 0;
    for (size_t i = 0; i < EIF_HEADER_LEN - 4; i++) {
        struct eif eif;
        buf[i] ^= 1;
        image_seal(buf, image.n);
        bool may_pass = i == 7 || (i >= 8 && i < 24);
        bool ok = eif_parse(&eif, image, &err);
        if (ok != may_pass)
            fail_msg("byte %zu", i);
        passed += ok;
        buf[i] ^= 1;
    }
    assert_int_equal(passed, 17);
    buf[image.n] = 0;
    image_seal(buf, image.n + 1);
    refused(bytes_of(buf, image.n + 1), "1 bytes follow");
}

static void sections_are_checked(void **state)
{
    (void)state;
    const struct image_section kernel = {EIF_KERNEL, bytes_of_text("K")};
    const struct image_section cmdline = {EIF_CMDLINE, bytes_of_text("c")};
    const struct image_section metadata = {EIF_METADATA, bytes_of_text("{}")};
    const struct image_section ramdisk = {EIF_RAMDISK, bytes_of_text("R")};
    const struct image_section signature = {EIF_SIGNATURE, bytes_of_text("S")};
    const struct image_section unknown = {6, bytes_of_text("?")};
    const struct image_section invalid = {0, bytes_of_text("?")};
#define IMAGE(...)                                                                                 \
    image_make(buf, sizeof buf, (const struct image_section[]){__VA_ARGS__},                       \
        sizeof((const struct image_section[]){__VA_ARGS__}) / sizeof(struct image_section))
    struct eif eif;
    assert_true(eif_parse(&eif, IMAGE(kernel, cmdline, metadata, ramdisk, signature), &err));
    assert_true(eif_parse(&eif, IMAGE(metadata, cmdline, kernel, ramdisk), &err));
    refused(IMAGE(cmdline, metadata), "kernel");
    refused(IMAGE(kernel, metadata, ramdisk), "command line");
    refused(IMAGE(kernel, cmdline, ramdisk), "metadata");
    refused(IMAGE(kernel, cmdline, metadata), "ramdisk");
    refused(IMAGE(ramdisk, kernel, cmdline, metadata), "before the kernel");
    refused(IMAGE(kernel, kernel, cmdline, metadata, ramdisk), "two kernel");
    refused(IMAGE(kernel, cmdline, cmdline, metadata, ramdisk), "two command line");
    refused(IMAGE(kernel, cmdline, metadata, metadata, ramdisk), "two metadata");
    refused(IMAGE(kernel, cmdline, metadata, signature, ramdisk), "behind the signature");
    refused(IMAGE(kernel, cmdline, metadata, ramdisk, unknown), "unknown type 6");
    refused(IMAGE(kernel, cmdline, metadata, ramdisk, invalid), "unknown type 0");
    refused(IMAGE(kernel), "1 sections");
    static uint8_t big[EIF_SIGNATURE_MAX + 1];
    const struct image_section long_one = {EIF_SIGNATURE, bytes_of(big, sizeof big)};
    refused(IMAGE(kernel, cmdline, metadata, ramdisk, long_one), "signature");
#undef IMAGE
}

/* The certificate of the signature section, here AWS's root: as bytes, and as the list of integers that the reference
 * tool writes. */
static void a_signed_image_has_pcr8(void **state)
{
    (void)state;
    char base64[1024], pem[1400];
    uint8_t section[8192], hash[PCR_LEN], want[PCR_LEN];
    assert_true(base64_encode(
        bytes_of(attestation_aws_root, ATTESTATION_AWS_ROOT_LEN), base64, sizeof base64));
    int n = snprintf(pem, sizeof pem, "-----BEGIN CERTIFICATE-----\n");
    for (size_t i = 0; i < strlen(base64); i += 64)
        n += snprintf(pem + n, sizeof pem - (size_t)n, "%.64s\n", base64 + i);
    snprintf(pem + n, sizeof pem - (size_t)n, "-----END CERTIFICATE-----\n");
    sha384(bytes_of(attestation_aws_root, ATTESTATION_AWS_ROOT_LEN), hash);
    pcr_extend_zero(bytes_of(hash, sizeof hash), want);
    for (int as_list = 0; as_list < 2; as_list++) {
        struct writer w = writer_of(section, sizeof section);
        cbor_write_array(&w, 1);
        cbor_write_map(&w, 2);
        cbor_write_text(&w, "signature");
        cbor_write_bytes(&w, bytes_of_text("x"));
        cbor_write_text(&w, "signing_certificate");
        if (as_list) {
            cbor_write_array(&w, strlen(pem));
            for (const char *p = pem; *p != '\0'; p++)
                cbor_write_uint(&w, (uint8_t)*p);
        } else {
            cbor_write_bytes(&w, bytes_of_text(pem));
        }
        const struct image_section sections[] = {{EIF_KERNEL, bytes_of_text("K")},
            {EIF_CMDLINE, bytes_of_text("c")}, {EIF_METADATA, bytes_of_text("{}")},
            {EIF_RAMDISK, bytes_of_text("R")}, {EIF_SIGNATURE, written(&w)}};
        struct eif eif;
        struct eif_pcrs pcrs;
        assert_true(eif_parse(&eif, image_make(buf, sizeof buf, sections, 5), &err));
        assert_true(eif_measure(&eif, &pcrs, &err));
        assert_int_equal(pcrs.present, 0x107);
        assert_memory_equal(pcrs.values[8], want, PCR_LEN);
        eif.signature.n = 5;
        assert_false(eif_measure(&eif, &pcrs, &err));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_images),
        cmocka_unit_test(truncation_is_refused),
        cmocka_unit_test(every_changed_byte_is_refused),
        cmocka_unit_test(a_right_crc_does_not_help),
        cmocka_unit_test(sections_are_checked),
        cmocka_unit_test(a_signed_image_has_pcr8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
