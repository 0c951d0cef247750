/* image_parts: made-up kernels and programs with as much of a header as an image builder looks at. */
#ifndef TMKMS_TESTS_NITRO_IMAGE_PARTS_H
#define TMKMS_TESTS_NITRO_IMAGE_PARTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"

enum { PARTS_KERNEL_LEN = 4096, PARTS_INIT_LEN = 1000, PARTS_MACHINE_AT = 18 };

static inline struct bytes parts_x86_kernel(uint8_t out[PARTS_KERNEL_LEN], const char *version)
{
    memset(out, 0x90, PARTS_KERNEL_LEN);
    memcpy(out + 0x202, "HdrS", 4);
    out[0x20e] = 0x00;
    out[0x20f] = 0x08; /* the text stands at 0x800 + 0x200 */
    snprintf((char *)out + 0xa00, 256, "%s (builder@host) #1 SMP", version);
    return bytes_of(out, PARTS_KERNEL_LEN);
}

static inline struct bytes parts_arm_kernel(
    uint8_t out[PARTS_KERNEL_LEN], uint64_t text_offset, const char *version)
{
    memset(out, 0x1f, PARTS_KERNEL_LEN);
    for (size_t i = 0; i < 8; i++)
        out[8 + i] = (uint8_t)(text_offset >> 8 * i);
    memcpy(out + 56, "ARM\x64", 4);
    snprintf((char *)out + 2000, 256, "Linux version %s (builder@host)", version);
    return bytes_of(out, PARTS_KERNEL_LEN);
}

/* For x86-64 (62 at PARTS_MACHINE_AT; aarch64 is 183). segment: the type of its one program header: 1 is loaded, 3
 * names an interpreter. */
static inline struct bytes parts_init(uint8_t out[PARTS_INIT_LEN], uint8_t segment, uint8_t fill)
{
    static const uint8_t begin[] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
    memset(out, fill, PARTS_INIT_LEN);
    memset(out, 0, 64 + 56);
    memcpy(out, begin, sizeof begin);
    out[PARTS_MACHINE_AT] = 62;
    out[32] = 64; /* the program headers' offset */
    out[54] = 56; /* the size of one */
    out[56] = 1;  /* how many */
    out[64] = segment;
    return bytes_of(out, PARTS_INIT_LEN);
}

static inline void parts_save(const char *path, struct bytes b)
{
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(b.p, 1, b.n, out), b.n);
    assert_int_equal(fclose(out), 0);
}

#endif
