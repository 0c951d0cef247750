/* The Nitro Secure Module behind /dev/nsm: one ioctl (Linux drivers/misc/nsm.c, include/uapi/linux/nsm.h; the header
 * is younger than the kernels we build on). The driver serialises requests. */
#include <fcntl.h>
#include <linux/types.h>
#include <sys/ioctl.h>

#include "nitro/nsm.h"

struct nsm_iovec {
    __u64 addr, len;
};

struct nsm_raw {
    struct nsm_iovec request, response;
};

#define NSM_IOCTL_RAW _IOWR(0x0A, 0x0, struct nsm_raw)

const bool nsm_is_simulated = false;

int nsm_open(struct err *err)
{
    int fd = open("/dev/nsm", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        err_errno(err,
            "cannot open /dev/nsm; this must run inside a Nitro enclave whose kernel has "
            "the nsm driver (CONFIG_NSM)");
    return fd;
}

bool nsm_exchange(int fd, struct bytes request, uint8_t response[NSM_RESPONSE_MAX], size_t *ret_n,
    struct err *err)
{
    struct nsm_raw raw = {
        .request = {(__u64)(uintptr_t)request.p, request.n},
        .response = {(__u64)(uintptr_t)response, NSM_RESPONSE_MAX},
    };
    if (ioctl(fd, NSM_IOCTL_RAW, &raw) != 0)
        return err_errno(err, "the Nitro Secure Module does not answer");
    if (raw.response.len > NSM_RESPONSE_MAX)
        return err_set(err, "the Nitro Secure Module's answer is too long");
    *ret_n = (size_t)raw.response.len;
    return true;
}
