/* image: our enclave image: a kernel, and one ramdisk with tmkms-enclave as its init. The same inputs always give the
 * same bytes: nothing of the machine, the folder or the time gets in. Only the signature of a signed image is
 * another each time; it is not measured. */
#ifndef TMKMS_NITRO_IMAGE_H
#define TMKMS_NITRO_IMAGE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "nitro/eif.h"
#include "nitro/kernel.h"

/* No word of it may matter for safety: PCR0 does not say where the command line begins, so that words can be taken
 * from its start. doc/image.md has each of them, and what holds without it. */
#define IMAGE_CMDLINE "reboot=k panic=1 console=ttyS0 quiet random.trust_cpu=on"
/* With this word on the command line tmkms-enclave runs in debug mode too, where every register is zero. */
#define IMAGE_DEBUG_WORD "tmkms.debug=1"

#define IMAGE_NSM_MODULE "nsm.ko" /* in the ramdisk's root */

enum {
    /* An x86-64 kernel takes 2047, and the hypervisor appends its devices. */
    IMAGE_CMDLINE_MAX = 1536,
    IMAGE_METADATA_MAX = 4096, /* of the user's own, as nitro-cli limits it */
};

/* Texts are borrowed; NULL is the default. */
struct image_request {
    /* Files; by default `bzImage` and `tmkms-enclave` of the image folder. */
    const char *kernel, *init;
    const char *nsm_module; /* NULL: the kernel has the driver of the security module built in */
    const char *cmdline;    /* by default IMAGE_CMDLINE */
    bool is_debug;          /* IMAGE_DEBUG_WORD is appended */
    /* Metadata: name, version, a JSON file of the user's, the time of the build. */
    const char *name, *version, *metadata;
    int64_t build_time_s;
    /* PEM files to sign with, both or neither; the certificate must be valid at now_s. */
    const char *certificate, *key;
    int64_t now_s;
};

/* Zero-initialised: none. */
struct image {
    uint8_t *file;
    size_t file_n;
    struct eif eif; /* slices of file */
    struct eif_pcrs pcrs;
    char kernel_path[PATH_MAX], init_path[PATH_MAX];
    char kernel_version[KERNEL_VERSION_MAX];
};

bool image_build(
    struct image *ret, const struct image_request *request, struct err *err) ATTR_MUST_USE;
void image_free(struct image *image);

/* image_folder_file: where a file of the image folder is: $TMKMS_IMAGE_DIR, or beside the running program in
 * `../lib/tmkms` (installed) or `../../image` (build tree). An error names what was looked for and `make image`. */
bool image_folder_file(const char *name, char ret[static PATH_MAX], struct err *err) ATTR_MUST_USE;

/* image_compare tells, part by part, how an image differs from the one that was built here; the registers are the same
 * when it returns true. Metadata and signature are not measured and only noted. */
enum image_finding { IMAGE_SAME, IMAGE_DIFFERS, IMAGE_NOTE };
typedef void image_said(void *ctx, enum image_finding finding, const char *text);
bool image_compare(const struct eif *given, const struct eif *built, image_said *said, void *ctx);

#endif
