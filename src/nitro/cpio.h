/* cpio: archives in the "newc" form, which is what Linux unpacks as its first file system
 * (Documentation/driver-api/early-userspace/buffer-format.rst): written so that the same files always give the same
 * bytes, and read with strict limits. */
#ifndef TMKMS_NITRO_CPIO_H
#define TMKMS_NITRO_CPIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"

enum {
    CPIO_NAME_MAX = 255,
    CPIO_DIRECTORY = 0040000, /* what a file is, as in st_mode */
    CPIO_FILE = 0100000,
    CPIO_DEVICE = 0020000, /* of characters */
    CPIO_KIND = 0170000,
};

struct cpio_entry {
    const char *name; /* relative, without "." and "..": "dev/console" */
    uint32_t mode;    /* kind and permissions */
    uint32_t device_major, device_minor;
    struct bytes data;
};

/* cpio_write: the archive, for the caller to free. Owner and group are root, every time is 0, inodes count from 1. The
 * entries stand in the order of their names' bytes, each once, a folder before what is in it; anything else, and
 * what does not fit the form's 32 bits, is an error. */
bool cpio_write(const struct cpio_entry *entries, size_t n, uint8_t **ret, size_t *ret_n,
    struct err *err) ATTR_MUST_USE;

/* cpio_next reads the entry that comes next; name and data are borrowed from the archive. At the end *ret_is_end is
 * set: then nothing but zero bytes followed. */
bool cpio_next(
    struct reader *r, struct cpio_entry *ret, bool *ret_is_end, struct err *err) ATTR_MUST_USE;

#endif
