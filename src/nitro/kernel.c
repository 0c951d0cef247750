#include "nitro/kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    X86_MAGIC_AT = 0x202,   /* "HdrS" */
    X86_VERSION_AT = 0x20e, /* 16 bits: where the version's text is, less 0x200 */
    X86_VERSION_BASE = 0x200,
    ARM_MAGIC_AT = 56, /* "ARM\x64" */
    ARM_TEXT_OFFSET_AT = 8,
    ARM_HEADER_LEN = 64,
};
static const uint64_t arm_text_offset = 0x200000;

static bool has(struct bytes b, size_t at, const char *text)
{
    size_t n = strlen(text);
    return at <= b.n && n <= b.n - at && memcmp(b.p + at, text, n) == 0;
}

static bool is_x86(struct bytes b)
{
    return has(b, X86_MAGIC_AT, "HdrS");
}

static bool is_arm(struct bytes b)
{
    return b.n >= ARM_HEADER_LEN && has(b, ARM_MAGIC_AT, "ARM\x64");
}

/* ---- version ------------------------------------------------------------------------- */

/* The first word of what is left, if it is one that a version can be. */
static void take_word(struct bytes text, char out[KERNEL_VERSION_MAX])
{
    size_t n = 0;
    while (n < text.n && text.p[n] > ' ' && text.p[n] <= '~')
        n++;
    if (n > 0 && n < text.n && n < KERNEL_VERSION_MAX)
        snprintf(out, KERNEL_VERSION_MAX, "%.*s", (int)n, (const char *)text.p);
}

static struct bytes behind(struct bytes b, size_t at)
{
    return at <= b.n ? bytes_of(b.p + at, b.n - at) : (struct bytes){0};
}

void kernel_version(struct bytes content, char out[KERNEL_VERSION_MAX])
{
    static const char banner[] = "Linux version ";
    snprintf(out, KERNEL_VERSION_MAX, "unknown");
    if (is_x86(content)) {
        struct bytes at = behind(content, X86_VERSION_AT);
        if (at.n >= 2 && (at.p[0] | at.p[1]) != 0)
            take_word(
                behind(content, X86_VERSION_BASE + (size_t)at.p[0] + 256 * (size_t)at.p[1]), out);
    } else if (is_arm(content)) {
        const uint8_t *found = memmem(content.p, content.n, banner, strlen(banner));
        if (found != NULL)
            take_word(behind(content, (size_t)(found - content.p) + strlen(banner)), out);
    }
}

/* ---- as an image holds it ------------------------------------------------------------ */

static bool patch(struct kernel *kernel, struct bytes file, struct err *err)
{
    struct reader r = reader_of(behind(file, ARM_TEXT_OFFSET_AT));
    if (read_u64le(&r) != 0)
        return true;
    uint8_t *copy = malloc(file.n);
    if (copy == NULL)
        return err_set(err, "out of memory: the kernel has %zu bytes", file.n);
    memcpy(copy, file.p, file.n);
    struct writer w = writer_of(copy + ARM_TEXT_OFFSET_AT, sizeof arm_text_offset);
    write_u64le(&w, arm_text_offset);
    kernel->patched = copy;
    kernel->content = bytes_of(copy, file.n);
    return true;
}

bool kernel_of(struct kernel *ret, struct bytes file, struct err *err)
{
    struct kernel kernel = {.content = file, .is_aarch64 = is_arm(file)};
    if (!kernel.is_aarch64 && !is_x86(file))
        return err_set(err, "it is no kernel: %s",
            has(file, 0, "\x1f\x8b") ? "it is compressed with gzip; an arm64 kernel goes in as "
                                       "the uncompressed Image"
            : has(file, 0,
                  "\x7f"
                  "ELF")
                ? "it is an ELF file; the bzImage is meant (arch/x86/boot/bzImage)"
                : "neither an x86-64 bzImage nor an uncompressed arm64 Image");
    if (kernel.is_aarch64 && !patch(&kernel, file, err))
        return false;
    kernel_version(kernel.content, kernel.version);
    *ret = kernel;
    return true;
}

void kernel_free(struct kernel *kernel)
{
    free(kernel->patched);
    *kernel = (struct kernel){0};
}
