/* /dev/nitro_enclaves, played by this file: the order of the steps, where the image lands, each refusal in words. */
#include <errno.h>
#include <linux/mman.h>
#include <linux/nitro_enclaves.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "fake_rig.h"
#include "parent/heartbeat.h"
#include "parent/machine_impl.h"

/* The last step is "started"; every ioctl is one. */
enum { STEPS_MAX = 4096, BIG = 1 << 30, SMALL = 2 << 20, LOAD_OFFSET = 9 << 20 };

static struct {
    int open_errno;
    unsigned long fails_at; /* ioctl */
    unsigned fails_nth;     /* of its kind, from 1 */
    int fails_with;
    size_t big_pages, small_pages; /* free */
    bool is_silent, dies;          /* once started */
    char uds[VSOCK_PATH_MAX];
    /* what happened */
    unsigned long steps[STEPS_MAX];
    size_t steps_n, maps_n, unmaps_n;
    struct ne_user_memory_region regions[STEPS_MAX];
    size_t regions_n;
    struct ne_enclave_start_info started;
    bool listened_first;
    int end; /* the enclave's, of the descriptor that the parent holds */
    pid_t guest;
} fake;

static int fake_open(const char *path, int flags)
{
    assert_string_equal(path, "/dev/nitro_enclaves");
    assert_int_equal(flags, O_RDWR | O_CLOEXEC);
    errno = fake.open_errno;
    return fake.open_errno == 0 ? open("/dev/null", flags) : -1;
}

static int fake_create(__u64 *slot)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    fake.end = pair[1];
    *slot = 0x123456789abULL;
    return pair[0];
}

/* The enclave: says that it lives, and then lives until it is told otherwise. */
static void boot(void)
{
    char path[VSOCK_PATH_MAX + 8];
    snprintf(path, sizeof path, "%s_%d", fake.uds, HEARTBEAT_PORT);
    fake.listened_first = access(path, F_OK) == 0;
    fake.guest = fork();
    if (fake.guest != 0) {
        fd_close(&fake.end);
        return;
    }
    struct vsock v = {0};
    struct err err;
    uint8_t byte = HEARTBEAT_BYTE;
    uint64_t deadline = clock_monotonic_us() + 10000000;
    memcpy(v.uds, fake.uds, sizeof v.uds);
    if (fake.dies)
        _exit(0);
    /* Somebody else connects first, and says something else. */
    int other = vsock_dial_parent(&v, HEARTBEAT_PORT, deadline, &err);
    if (other < 0 || !fd_write_exact(other, "x", 1))
        _exit(1);
    int fd = fake.is_silent ? -1 : vsock_dial_parent(&v, HEARTBEAT_PORT, deadline, &err);
    if (fd >= 0 &&
        (!fd_write_exact(fd, &byte, 1) || !fd_read_exact(fd, &byte, 1) || byte != HEARTBEAT_BYTE))
        _exit(1);
    pause();
    _exit(0);
}

static int fake_ioctl(int fd, unsigned long request, void *argument)
{
    unsigned nth = 1;
    (void)fd;
    for (size_t i = 0; i < fake.steps_n; i++)
        nth += fake.steps[i] == request;
    assert_true(fake.steps_n < STEPS_MAX);
    fake.steps[fake.steps_n++] = request;
    if (request == fake.fails_at && nth == fake.fails_nth) {
        errno = fake.fails_with;
        return -1;
    }
    switch (request) {
    case NE_CREATE_VM:
        return fake_create(argument);
    case NE_GET_IMAGE_LOAD_INFO: {
        struct ne_image_load_info *info = argument;
        assert_int_equal(info->flags, NE_EIF_IMAGE);
        info->memory_offset = LOAD_OFFSET;
        return 0;
    }
    case NE_SET_USER_MEMORY_REGION:
        memcpy(&fake.regions[fake.regions_n++], argument, sizeof fake.regions[0]);
        return 0;
    case NE_ADD_VCPU:
        assert_int_equal(*(__u32 *)argument, 0);
        *(__u32 *)argument = 2 * nth - 1;
        return 0;
    case NE_START_ENCLAVE: {
        struct ne_enclave_start_info *info = argument;
        fake.started = *info;
        info->enclave_cid = info->enclave_cid == 0 ? 21 : info->enclave_cid;
        boot();
        return 0;
    }
    }
    fail_msg("an ioctl that the kernel does not have: %lx", request);
    return -1;
}

static void *fake_map(size_t n, int flags)
{
    bool is_big = n == BIG;
    int huge = is_big ? MAP_HUGE_1GB : MAP_HUGE_2MB;
    assert_true(is_big || n == SMALL);
    assert_int_equal(flags, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | huge);
    size_t *left = is_big ? &fake.big_pages : &fake.small_pages;
    if (*left == 0) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    --*left;
    fake.maps_n++;
    return mmap(
        NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static int fake_unmap(void *p, size_t n)
{
    fake.unmaps_n++;
    return munmap(p, n);
}

static const struct device_ops fake_device = {
    .open = fake_open, .ioctl = fake_ioctl, .map = fake_map, .unmap = fake_unmap};

static void reset(size_t big_pages, size_t small_pages)
{
    memset(&fake, 0, sizeof fake);
    fake.big_pages = big_pages;
    fake.small_pages = small_pages;
    fake.end = -1;
}

/* ---- the steps ---- */

static uint8_t image[5 << 20];

static void fill_image(void)
{
    for (size_t i = 0; i < sizeof image; i++)
        image[i] = (uint8_t)(i * 2654435761U >> 13);
}

static uint8_t guest_byte(uint64_t at)
{
    for (size_t i = 0; i < fake.regions_n; i++) {
        if (at < fake.regions[i].memory_size)
            return ((const uint8_t *)(uintptr_t)fake.regions[i].userspace_addr)[at];
        at -= fake.regions[i].memory_size;
    }
    fail_msg("the image lies beyond the memory");
    return 0;
}

static void the_steps_come_in_their_order(void **state)
{
    (void)state;
    struct device_enclave e;
    struct err err;
    bool is_busy = false;
    reset(0, 32);
    fill_image();
    assert_true(
        device_prepare(&e, &fake_device, bytes_of(image, sizeof image), 2, 64, &is_busy, &err));
    assert_int_equal(fake.steps_n, 1 + 1 + 32 + 2);
    assert_int_equal(fake.steps[0], NE_CREATE_VM);
    assert_int_equal(fake.steps[1], NE_GET_IMAGE_LOAD_INFO);
    assert_int_equal(fake.steps[2], NE_SET_USER_MEMORY_REGION);
    assert_int_equal(fake.steps[34], NE_ADD_VCPU);
    assert_int_equal(e.memory, 64 << 20);
    assert_int_equal(e.cpus_n, 2);
    assert_int_equal(e.cpu_ids[0], 1);
    assert_int_equal(e.cpu_ids[1], 3);
    /* 5 MiB from 9 MiB on: from the middle of one of the 2 MiB pages, over two more. */
    for (size_t i = 0; i < sizeof image; i++)
        if (guest_byte(LOAD_OFFSET + i) != image[i])
            fail_msg("byte %zu of the image is not where it belongs", i);
    assert_int_equal(guest_byte(LOAD_OFFSET - 1), 0);
    assert_int_equal(guest_byte(LOAD_OFFSET + sizeof image), 0);
    int fd = e.fd;
    device_close(&e);
    assert_int_equal(fake.maps_n, fake.unmaps_n);
    assert_int_equal(fcntl(fd, F_GETFD), -1); /* which ends the enclave */
    fd_close(&fake.end);
}

static void memory_is_taken_in_the_biggest_pages_that_fit(void **state)
{
    (void)state;
    static const struct {
        uint32_t mib;
        size_t big, small, used_big, used_small;
        uint32_t got_mib; /* 0: refused */
    } cases[] = {
        {64, 0, 32, 0, 32, 64},
        {66, 1, 40, 0, 33, 66},       /* no big one for a small enclave */
        {1024, 1, 512, 1, 0, 1024},   /* a big one where it fits */
        {1024, 0, 512, 0, 512, 1024}, /* none there */
        {1026, 2, 3, 1, 1, 1026},     /* and the rest in small ones */
        {2048, 1, 600, 1, 512, 2048},
        {64, 1, 0, 1, 0, 1024}, /* only a big one was set aside */
        {64, 1, 8, 1, 8, 1040},
        {64, 0, 31, 0, 31, 0},
        {1026, 1, 0, 1, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct device_enclave e;
        struct err err;
        bool is_busy = false;
        reset(cases[i].big, cases[i].small);
        bool ok = device_prepare(
            &e, &fake_device, bytes_of(image, 1000), 2, cases[i].mib, &is_busy, &err);
        assert_int_equal(ok, cases[i].got_mib != 0);
        assert_int_equal(cases[i].big - fake.big_pages, cases[i].used_big);
        assert_int_equal(cases[i].small - fake.small_pages, cases[i].used_small);
        if (ok) {
            assert_int_equal(e.memory >> 20, cases[i].got_mib);
            device_close(&e);
        } else {
            assert_true(is_busy);
            assert_contains(err.text, "/etc/nitro_enclaves/allocator.yaml");
            assert_contains(err.text, "systemctl restart nitro-enclaves-allocator");
        }
        assert_int_equal(fake.maps_n, fake.unmaps_n);
        fd_close(&fake.end);
    }
}

static void an_image_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct device_enclave e;
    struct err err;
    bool is_busy = false;
    uint8_t *big =
        mmap(NULL, 58 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(big != MAP_FAILED);
    reset(0, 32);
    assert_false(
        device_prepare(&e, &fake_device, bytes_of(big, (55 << 20) + 1), 2, 64, &is_busy, &err));
    assert_contains(err.text, "does not fit");
    assert_int_equal(fake.maps_n, fake.unmaps_n);
    fd_close(&fake.end);
    reset(0, 32);
    assert_true(device_prepare(&e, &fake_device, bytes_of(big, 55 << 20), 2, 64, &is_busy, &err));
    device_close(&e);
    fd_close(&fake.end);
    munmap(big, 58 << 20);
}

/* Whichever step fails, with whichever error: words, nothing left, and no step after it. */
static void every_failure_of_every_step_is_explained(void **state)
{
    (void)state;
    static const struct {
        unsigned long request;
        unsigned nth;
        const char *words;
    } steps[] = {
        {NE_CREATE_VM, 1, "slot"},
        {NE_GET_IMAGE_LOAD_INFO, 1, "where the image goes"},
        {NE_SET_USER_MEMORY_REGION, 1, "memory"},
        {NE_SET_USER_MEMORY_REGION, 32, "memory"},
        {NE_ADD_VCPU, 1, "processor"},
        {NE_ADD_VCPU, 2, "processor"},
    };
    size_t busy_n = 0, checked = 0;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        for (int code = NE_ERR_VCPU_ALREADY_USED - 1; code <= NE_ERR_INVALID_ENCLAVE_CID; code++) {
            struct device_enclave e;
            struct err err = {{0}};
            bool is_busy = false;
            reset(0, 32);
            fake.fails_at = steps[i].request;
            fake.fails_nth = steps[i].nth;
            fake.fails_with = code < NE_ERR_VCPU_ALREADY_USED ? ENOMEM : code;
            assert_false(
                device_prepare(&e, &fake_device, bytes_of(image, 1000), 2, 64, &is_busy, &err));
            assert_contains(err.text, steps[i].words);
            assert_null(strstr(err.text, "Unknown error"));
            assert_int_equal(fake.steps[fake.steps_n - 1], steps[i].request);
            assert_int_equal(fake.maps_n, fake.unmaps_n);
            busy_n += is_busy;
            checked++;
            if (fake.end >= 0) { /* the parent's side is closed: no enclave is left */
                char byte;
                assert_int_equal(recv(fake.end, &byte, 1, MSG_DONTWAIT), 0);
                fd_close(&fake.end);
            }
        }
    }
    assert_int_equal(checked, 6 * 21);
    assert_int_equal(busy_n, 6 * 4); /* ENOMEM, a used processor, another node, no processors */
}

static void what_repairs_it_is_named(void **state)
{
    (void)state;
    static const struct {
        int code;
        const char *words;
    } cases[] = {
        {NE_ERR_NO_CPUS_AVAIL_IN_POOL, "cpu_count in /etc/nitro_enclaves/allocator.yaml"},
        {NE_ERR_FULL_CORES_NOT_USED, "must be even"},
        {NE_ERR_ENCLAVE_MEM_MIN_SIZE, "64 MiB"},
        {NE_ERR_INVALID_ENCLAVE_CID, "give another, or 0"},
        {EIO, "error 5 of /dev/nitro_enclaves"},
    };
    struct device_enclave e;
    struct err err;
    bool is_busy;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        reset(0, 32);
        fake.fails_at = NE_CREATE_VM;
        fake.fails_nth = 1;
        fake.fails_with = cases[i].code;
        assert_false(
            device_prepare(&e, &fake_device, bytes_of(image, 1000), 2, 64, &is_busy, &err));
        assert_contains(err.text, cases[i].words);
    }
    reset(0, 32);
    fake.open_errno = ENOENT;
    assert_false(device_prepare(&e, &fake_device, bytes_of(image, 1000), 2, 64, &is_busy, &err));
    assert_contains(err.text, "EnclaveOptions.Enabled=true");
    fake.open_errno = EACCES;
    assert_false(device_prepare(&e, &fake_device, bytes_of(image, 1000), 2, 64, &is_busy, &err));
    assert_contains(err.text, "usermod -aG ne");
    assert_int_equal(fake.steps_n, 0);
}

/* ---- the machine on top of it ---- */

static struct leash leash;

/* As machine_start leaves it to the kind; vsock is the stand-in. */
static struct machine machine_of(unsigned boot_s)
{
    struct machine m = {.options = fake_options(MACHINE_DEVICE, "d"),
        .leash = &leash,
        .heartbeat = -1,
        .tool_process = -1,
        .program = PROCESS_NONE,
        .backend = PROCESS_NONE,
        .device = &fake_device,
        .enclave = {.fd = -1},
        .deadline_us = clock_monotonic_us() + boot_s * 1000000ULL};
    m.options.cpus = 2;
    m.options.memory_mib = 64;
    reset(0, 32);
    leash = (struct leash){.control = -1, .signals = -1};
    snprintf(m.vsock.uds, sizeof m.vsock.uds, "%s/d", fakes);
    memcpy(fake.uds, m.vsock.uds, sizeof fake.uds);
    return m;
}

static void end_guest(void)
{
    fd_close(&fake.end);
    if (fake.guest > 0) {
        kill(fake.guest, SIGKILL);
        waitpid(fake.guest, NULL, 0);
    }
}

static void a_machine_boots_and_its_end_is_noticed(void **state)
{
    (void)state;
    struct err err;
    struct machine m = machine_of(20);
    if (!machine_device.start(&m, &err))
        fail_msg("%s", err.text);
    assert_true(fake.listened_first);
    assert_int_equal(fake.started.flags, NE_ENCLAVE_PRODUCTION_MODE);
    assert_int_equal(m.place.cid, 21);
    assert_int_equal(m.place.memory_mib, 64);
    assert_int_equal(m.place.cpu_ids_n, 2);
    assert_contains(m.place.id, "-enc123456789ab");
    assert_int_equal(m.heartbeat, -1); /* the port is for the next one */
    kill(fake.guest, SIGKILL);
    machine_device.keep(&m, &err);
    assert_contains(err.text, "ended");
    assert_false(leash.is_cut);
    machine_device.stop(&m);
    end_guest();
}

static void a_machine_is_started_as_asked(void **state)
{
    (void)state;
    struct err err;
    struct machine m = machine_of(20);
    m.options.cid = 33;
    m.options.is_debug = 1;
    assert_true(machine_device.start(&m, &err));
    assert_int_equal(fake.started.flags, NE_ENCLAVE_DEBUG_MODE);
    assert_int_equal(m.place.cid, 33);
    machine_device.stop(&m);
    assert_int_equal(fake.maps_n, fake.unmaps_n);
    end_guest();
}

static void a_boot_that_fails_is_told_from_one_that_hangs(void **state)
{
    (void)state;
    struct err err;
    struct machine m = machine_of(20);
    fake.dies = true;
    assert_false(machine_device.start(&m, &err));
    assert_contains(err.text, "ended while it booted");
    machine_stop(&m);
    end_guest();
    m = machine_of(1);
    fake.is_silent = true;
    assert_false(machine_device.start(&m, &err));
    assert_contains(err.text, "no heartbeat in time");
    machine_stop(&m);
    end_guest();
    m = machine_of(20);
    fake.fails_at = NE_START_ENCLAVE;
    fake.fails_nth = 1;
    fake.fails_with = NE_ERR_FULL_CORES_NOT_USED;
    assert_false(machine_device.start(&m, &err));
    assert_contains(err.text, "must be even");
    machine_stop(&m);
    assert_int_equal(m.heartbeat, -1);
    end_guest();
}

/* Vsock has one port 9000, and whoever starts an enclave needs it for a while. */
static void the_heartbeats_port_is_used_in_turns(void **state)
{
    (void)state;
    const struct vsock real = {0};
    struct leash l = {.control = -1, .signals = -1};
    struct err err;
    int first = heartbeat_listen(&l, &real, clock_monotonic_us() + 20000000, &err);
    if (first < 0 && errno != EADDRINUSE)
        skip(); /* a kernel without vsock */
    uint64_t began = clock_monotonic_us();
    assert_int_equal(heartbeat_listen(&l, &real, began + 300000, &err), -1);
    assert_contains(err.text, "another enclave is being started");
    assert_true(clock_monotonic_us() - began >= 300000);
    pid_t holder = fork();
    if (holder == 0) {
        poll(NULL, 0, 300);
        _exit(0);
    }
    close(first);
    int second = heartbeat_listen(&l, &real, clock_monotonic_us() + 20000000, &err);
    if (second < 0)
        fail_msg("%s", err.text);
    close(second);
    assert_int_equal(waitpid(holder, NULL, 0), holder);
}

static int setup(void **state)
{
    (void)state;
    fake_setup();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_teardown();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_steps_come_in_their_order),
        cmocka_unit_test(memory_is_taken_in_the_biggest_pages_that_fit),
        cmocka_unit_test(an_image_that_does_not_fit_is_refused),
        cmocka_unit_test(every_failure_of_every_step_is_explained),
        cmocka_unit_test(what_repairs_it_is_named),
        cmocka_unit_test(the_heartbeats_port_is_used_in_turns),
        cmocka_unit_test_setup_teardown(a_machine_boots_and_its_end_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_machine_is_started_as_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_boot_that_fails_is_told_from_one_that_hangs, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
