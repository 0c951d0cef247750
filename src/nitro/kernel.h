/* kernel: what an enclave's kernel says about itself, in the two forms that enclave images carry: an x86-64 bzImage
 * (Documentation/arch/x86/boot.rst) and an uncompressed arm64 Image (Documentation/arch/arm64/booting.rst). */
#ifndef TMKMS_NITRO_KERNEL_H
#define TMKMS_NITRO_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"

enum { KERNEL_VERSION_MAX = 64 };

/* Zero-initialised: none. */
struct kernel {
    struct bytes content; /* as an image holds it; borrowed, or `patched` */
    uint8_t *patched;     /* owned; NULL where nothing had to be changed */
    bool is_aarch64;
    char version[KERNEL_VERSION_MAX]; /* "6.12.57", or "unknown" */
};

/* kernel_of: the loader of Nitro wants an arm64 kernel 2 MiB behind its base, and kernels of today say 0 there: such
 * one is copied and its text_offset changed. file stays the caller's, for as long as the kernel lives. */
bool kernel_of(struct kernel *ret, struct bytes file, struct err *err) ATTR_MUST_USE;
void kernel_free(struct kernel *kernel);

/* The version alone, of what may be no kernel at all: "unknown". */
void kernel_version(struct bytes content, char out[KERNEL_VERSION_MAX]);

#endif
