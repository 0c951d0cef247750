/* mounts: the file systems of an enclave, all of them the kernel's own. There is no disk and no place to write to. */
#ifndef TMKMS_ENCLAVE_MOUNTS_H
#define TMKMS_ENCLAVE_MOUNTS_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"

/* mounts_make: /proc, /sys and /dev, whose folders are in the image. One that is mounted already is fine. */
bool mounts_make(struct err *err) ATTR_MUST_USE;

/* mounts_open_console: /dev/console as standard input, output and error; descriptors 0 to 2 are open afterwards. */
bool mounts_open_console(struct err *err) ATTR_MUST_USE;

#endif
