#include "enclave/machine_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"

static bool join(char full[static PATH_MAX], const char *root, const char *path)
{
    int n = snprintf(full, PATH_MAX, "%s%s", root, path);
    errno = ENAMETOOLONG;
    return n > 0 && n < PATH_MAX;
}

int machine_file_open(const char *root, const char *path, int flags, struct err *err)
{
    char full[PATH_MAX];
    int fd = join(full, root, path) ? open(full, flags | O_CLOEXEC) : -1;
    if (fd < 0)
        err_errno(err, "cannot open %s", path);
    return fd;
}

bool machine_file_remove(const char *root, const char *path, struct err *err)
{
    char full[PATH_MAX];
    return (join(full, root, path) && unlink(full) == 0) ||
           err_errno(err, "cannot remove %s", path);
}

bool machine_file_read(
    const char *root, const char *path, void *buf, size_t cap, size_t *ret_n, struct err *err)
{
    int fd ATTR_CLEANUP(fd_close) = machine_file_open(root, path, O_RDONLY, err);
    return fd >= 0 && (fd_read_all(fd, buf, cap, ret_n, err) || err_prefix(err, "%s", path));
}
