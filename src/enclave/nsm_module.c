#include "enclave/nsm_module.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "enclave/machine_file.h"
#include "nitro/image.h"

static const char path[] = "/" IMAGE_NSM_MODULE;

int nsm_module_load_into_kernel(int fd)
{
    return (int)syscall(SYS_finit_module, fd, "", 0);
}

bool nsm_module_start(const char *root, nsm_module_loader *load, struct err *err)
{
    int fd ATTR_CLEANUP(fd_close) = machine_file_open(root, path, O_RDONLY, err);
    if (fd < 0)
        return errno == ENOENT;
    if (load(fd) != 0 && errno != EEXIST)
        return err_errno(err, "the kernel does not take %s: is it of this very kernel?", path);
    return machine_file_remove(root, path, err);
}
