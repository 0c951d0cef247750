/* machine_file: files of the kernel, below a root folder that is "" in a machine and another in tests. */
#ifndef TMKMS_ENCLAVE_MACHINE_FILE_H
#define TMKMS_ENCLAVE_MACHINE_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "base/err.h"

/* machine_file_open: flags of open(2); O_CLOEXEC is added. -1 and err with the path as the machine knows it. */
int machine_file_open(const char *root, const char *path, int flags, struct err *err);

/* machine_file_remove: false when it could not be removed. */
bool machine_file_remove(const char *root, const char *path, struct err *err) ATTR_MUST_USE;

/* machine_file_read: the whole file, at most cap bytes; a longer one is an error. */
bool machine_file_read(const char *root, const char *path, void *buf, size_t cap, size_t *ret_n,
    struct err *err) ATTR_MUST_USE;

#endif
