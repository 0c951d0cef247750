#include "parent/device.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/mman.h>
#include <linux/nitro_enclaves.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"

static const char device_path[] = "/dev/nitro_enclaves";

static const uint64_t MIB = 1 << 20;
static const uint64_t HUGE_BIG = 1 << 30, HUGE_SMALL = 2 << 20;

/* ---- the kernel ---- */

static int linux_open(const char *path, int flags)
{
    return open(path, flags);
}

static int linux_ioctl(int fd, unsigned long request, void *argument)
{
    return ioctl(fd, request, argument);
}

static void *linux_map(size_t n, int flags)
{
    return mmap(NULL, n, PROT_READ | PROT_WRITE, flags, -1, 0);
}

const struct device_ops device_linux = {
    .open = linux_open, .ioctl = linux_ioctl, .map = linux_map, .unmap = munmap};

/* ---- refusals in words ---- */

#define ALLOCATOR                                                                                  \
    "/etc/nitro_enclaves/allocator.yaml, then `systemctl restart nitro-enclaves-allocator`"
#define CPU_POOL                                                                                   \
    "cpu_count in " ALLOCATOR " (without AWS's allocator: ne_cpus of the module nitro_enclaves)"
#define A_FAULT_OF_OURS "; this is a fault of tmkms, please report it"

/* NE_ERR_* are errno values beyond those of the system. */
static const struct {
    int code;
    bool is_busy;
    const char *words;
} refusals[] = {
    {NE_ERR_VCPU_ALREADY_USED, true, "the processor is used by an enclave already"},
    {NE_ERR_VCPU_NOT_IN_CPU_POOL, false, "the processor is not set aside for enclaves: " CPU_POOL},
    {NE_ERR_VCPU_INVALID_CPU_CORE, false,
        "the processor's core is not set aside for enclaves: " CPU_POOL},
    {NE_ERR_INVALID_MEM_REGION_SIZE, false, "memory is not a multiple of 2 MiB" A_FAULT_OF_OURS},
    {NE_ERR_INVALID_MEM_REGION_ADDR, false,
        "the address of the memory is not valid" A_FAULT_OF_OURS},
    {NE_ERR_UNALIGNED_MEM_REGION_ADDR, false,
        "the address of the memory is not aligned" A_FAULT_OF_OURS},
    {NE_ERR_MEM_REGION_ALREADY_USED, false, "the memory was given already" A_FAULT_OF_OURS},
    {NE_ERR_MEM_NOT_HUGE_PAGE, false, "the memory is not in huge pages" A_FAULT_OF_OURS},
    {NE_ERR_MEM_DIFFERENT_NUMA_NODE, true,
        "memory and processors set aside are not of one NUMA node: set memory_mib and cpu_count "
        "again in " ALLOCATOR},
    {NE_ERR_MEM_MAX_REGIONS, false,
        "the memory is in too many pieces: ask for less, or reboot and set it aside before memory "
        "is fragmented"},
    {NE_ERR_NO_MEM_REGIONS_ADDED, false, "the enclave has no memory" A_FAULT_OF_OURS},
    {NE_ERR_NO_VCPUS_ADDED, false, "the enclave has no processor" A_FAULT_OF_OURS},
    {NE_ERR_ENCLAVE_MEM_MIN_SIZE, false,
        "an enclave needs 64 MiB of memory at least: raise memory_mib"},
    {NE_ERR_FULL_CORES_NOT_USED, false,
        "an enclave gets whole cores: with two threads a core, the number of processors must be "
        "even"},
    {NE_ERR_NOT_IN_INIT_STATE, false, "the enclave was started already" A_FAULT_OF_OURS},
    {NE_ERR_INVALID_VCPU, false, "there is no such processor"},
    {NE_ERR_NO_CPUS_AVAIL_IN_POOL, true,
        "no processor set aside for enclaves is free: raise " CPU_POOL ", or end another enclave"},
    {NE_ERR_INVALID_PAGE_SIZE, false, "the memory is not in pages of 2 MiB" A_FAULT_OF_OURS},
    {NE_ERR_INVALID_FLAG_VALUE, false, "this kernel does not know a flag" A_FAULT_OF_OURS},
    {NE_ERR_INVALID_ENCLAVE_CID, false,
        "the CID is not valid or in use: give another, or 0 for any"},
    {ENOMEM, true, "the kernel has not enough memory"},
    {EBUSY, true, "another enclave is being started or ended"},
};

/* By errno. */
static bool refused(const char *step, bool *ret_is_busy, struct err *err)
{
    int code = errno;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        if (refusals[i].code != code)
            continue;
        *ret_is_busy = refusals[i].is_busy;
        return err_set(err, "%s: %s", step, refusals[i].words);
    }
    errno = code;
    return err_errno(err, "%s (error %d of %s)", step, code, device_path);
}

/* ---- a slot ---- */

static bool cannot_open(bool *ret_is_busy, struct err *err)
{
    if (errno == ENOENT)
        return err_set(err,
            "there is no %s: the instance must be launched with enclaves enabled "
            "(EnclaveOptions.Enabled=true), and its kernel have the driver (`modprobe "
            "nitro_enclaves`)",
            device_path);
    if (errno == EACCES || errno == EPERM)
        return err_set(err,
            "user %ld may not use %s; `usermod -aG ne USER` and a new login let him",
            (long)geteuid(), device_path);
    return refused("cannot open the device", ret_is_busy, err);
}

static bool make_slot(struct device_enclave *e, bool *ret_is_busy, struct err *err)
{
    __u64 slot = 0;
    int device = e->ops->open(device_path, O_RDWR | O_CLOEXEC);
    if (device < 0)
        return cannot_open(ret_is_busy, err);
    e->fd = e->ops->ioctl(device, NE_CREATE_VM, &slot);
    int why = errno;
    close(device);
    errno = why;
    if (e->fd < 0)
        return refused("cannot make a slot for an enclave", ret_is_busy, err);
    e->slot = slot;
    return true;
}

/* ---- memory ---- */

static bool map_page(struct device_enclave *e, uint64_t size)
{
    const int huge = size == HUGE_BIG ? MAP_HUGE_1GB : MAP_HUGE_2MB;
    void *p = e->ops->map((size_t)size, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | huge);
    if (p == MAP_FAILED)
        return false;
    e->regions[e->regions_n++] = (struct device_region){.p = p, .n = (size_t)size};
    e->memory += size;
    return true;
}

/* One page is one region, as its parts lie behind each other. The biggest that fit first; where only bigger ones were
 * set aside, the last is one of them, and the enclave gets more than it asked for. */
static bool map_memory(
    struct device_enclave *e, uint32_t memory_mib, bool *ret_is_busy, struct err *err)
{
    uint64_t wanted = memory_mib * MIB;
    e->regions = calloc(wanted / HUGE_SMALL + 1, sizeof *e->regions);
    if (e->regions == NULL)
        return err_set(err, "out of memory");
    while (wanted - e->memory >= HUGE_BIG && map_page(e, HUGE_BIG))
        continue;
    while (e->memory < wanted && map_page(e, HUGE_SMALL))
        continue;
    while (e->memory < wanted && map_page(e, HUGE_BIG))
        continue;
    if (e->memory >= wanted)
        return true;
    *ret_is_busy = true;
    return err_set(err,
        "of %" PRIu32 " MiB for the enclave only %" PRIu64
        " MiB are set aside and free: raise memory_mib in " ALLOCATOR
        " (without AWS's allocator: `sysctl vm.nr_hugepages=N`, at least %" PRIu32
        "), or end another enclave",
        memory_mib, e->memory / MIB, memory_mib / 2);
}

/* Guest memory is the regions one behind the other; the image begins somewhere in it and may cross from one into the
 * next. */
static bool place_image(
    struct device_enclave *e, struct bytes image, uint64_t offset, struct err *err)
{
    if (offset > e->memory || image.n > e->memory - offset)
        return err_set(err,
            "the image of %zu bytes does not fit into %" PRIu64 " MiB of memory: raise memory_mib",
            image.n, e->memory / MIB);
    for (size_t i = 0; i < e->regions_n && image.n > 0; i++) {
        const struct device_region *r = &e->regions[i];
        if (offset >= r->n) {
            offset -= r->n;
            continue;
        }
        size_t n = r->n - (size_t)offset;
        if (n > image.n)
            n = image.n;
        memcpy(r->p + offset, image.p, n);
        image = bytes_of(image.p + n, image.n - n);
        offset = 0;
    }
    return true;
}

static bool load(struct device_enclave *e, struct bytes image, bool *ret_is_busy, struct err *err)
{
    struct ne_image_load_info info = {.flags = NE_EIF_IMAGE};
    if (e->ops->ioctl(e->fd, NE_GET_IMAGE_LOAD_INFO, &info) < 0)
        return refused("cannot learn where the image goes", ret_is_busy, err);
    return place_image(e, image, info.memory_offset, err);
}

static bool give_memory(struct device_enclave *e, bool *ret_is_busy, struct err *err)
{
    for (size_t i = 0; i < e->regions_n; i++) {
        struct ne_user_memory_region region = {.flags = NE_DEFAULT_MEMORY_REGION,
            .memory_size = e->regions[i].n,
            .userspace_addr = (uintptr_t)e->regions[i].p};
        if (e->ops->ioctl(e->fd, NE_SET_USER_MEMORY_REGION, &region) < 0)
            return refused("cannot give memory to the enclave", ret_is_busy, err);
    }
    return true;
}

/* ---- processors ---- */

static bool give_cpus(struct device_enclave *e, uint32_t cpus, bool *ret_is_busy, struct err *err)
{
    for (uint32_t i = 0; i < cpus; i++) {
        __u32 id = 0; /* any */
        if (e->ops->ioctl(e->fd, NE_ADD_VCPU, &id) < 0)
            return refused("cannot give a processor to the enclave", ret_is_busy, err);
        e->cpu_ids[e->cpus_n++] = id;
    }
    return true;
}

/* ---- the whole ---- */

bool device_prepare(struct device_enclave *ret, const struct device_ops *ops, struct bytes image,
    uint32_t cpus, uint32_t memory_mib, bool *ret_is_busy, struct err *err)
{
    struct device_enclave e = {.ops = ops, .fd = -1};
    if (cpus <= MACHINE_CPUS_MAX && make_slot(&e, ret_is_busy, err) &&
        map_memory(&e, memory_mib, ret_is_busy, err) && load(&e, image, ret_is_busy, err) &&
        give_memory(&e, ret_is_busy, err) && give_cpus(&e, cpus, ret_is_busy, err)) {
        *ret = e;
        return true;
    }
    device_close(&e);
    return false;
}

bool device_boot(
    struct device_enclave *e, uint32_t *cid, bool is_debug, bool *ret_is_busy, struct err *err)
{
    struct ne_enclave_start_info info = {
        .flags = is_debug ? NE_ENCLAVE_DEBUG_MODE : NE_ENCLAVE_PRODUCTION_MODE,
        .enclave_cid = *cid};
    if (e->ops->ioctl(e->fd, NE_START_ENCLAVE, &info) < 0)
        return refused("cannot start the enclave", ret_is_busy, err);
    if (info.enclave_cid == 0 || info.enclave_cid >= UINT32_MAX)
        return err_set(
            err, "the enclave was started, but with the CID %" PRIu64, (uint64_t)info.enclave_cid);
    *cid = (uint32_t)info.enclave_cid;
    return true;
}

void device_close(struct device_enclave *e)
{
    fd_close(&e->fd);
    for (size_t i = 0; i < e->regions_n; i++)
        e->ops->unmap(e->regions[i].p, e->regions[i].n);
    free(e->regions);
    e->regions = NULL;
    e->regions_n = 0;
}
