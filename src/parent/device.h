/* device: an enclave through /dev/nitro_enclaves, step by step. Source: Linux, include/uapi/linux/nitro_enclaves.h;
 * the order of the steps is that of Documentation/virt/ne_overview.rst. An enclave lives as long as its descriptor. */
#ifndef TMKMS_PARENT_DEVICE_H
#define TMKMS_PARENT_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"
#include "parent/machine.h"

/* What is asked of the kernel; tests put a device of their own here. */
struct device_ops {
    int (*open)(const char *path, int flags);
    int (*ioctl)(int fd, unsigned long request, void *argument);
    void *(*map)(size_t n, int flags); /* mmap of private anonymous memory; MAP_FAILED */
    int (*unmap)(void *p, size_t n);
};
extern const struct device_ops device_linux;

struct device_region {
    uint8_t *p;
    size_t n;
};

struct device_enclave {
    const struct device_ops *ops;
    int fd; /* of the enclave: POLLHUP when it has ended; -1: none */
    uint64_t slot;
    struct device_region *regions;
    size_t regions_n;
    uint64_t memory; /* bytes; what was asked for or, with large pages only, more */
    uint32_t cpu_ids[MACHINE_CPUS_MAX], cpus_n;
};

/* device_prepare does all but the start: a slot, memory in huge pages, the image in it, processors. *ret_is_busy: it
 * failed for want of something that another enclave may have now. On failure nothing is left. */
bool device_prepare(struct device_enclave *ret, const struct device_ops *ops, struct bytes image,
    uint32_t cpus, uint32_t memory_mib, bool *ret_is_busy, struct err *err) ATTR_MUST_USE;
/* device_boot: *cid is what is wanted (0: any), then what it is. */
bool device_boot(struct device_enclave *e, uint32_t *cid, bool is_debug, bool *ret_is_busy,
    struct err *err) ATTR_MUST_USE;
/* Ends the enclave and gives everything back; also for one that is zeroed but for fd = -1. */
void device_close(struct device_enclave *e);

#endif
