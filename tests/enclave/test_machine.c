/* What PID 1 does with its machine, each part with a stand-in for it: heartbeat, randomness, clock, the watch over its
 * steps, last words. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "enclave/entropy.h"
#include "enclave/heartbeat.h"
#include "enclave/last_words.h"
#include "enclave/machine_file.h"
#include "enclave/nsm_module.h"
#include "enclave/wall_clock.h"
#include "enclave/watch.h"
#include "nitro/nsm.h"
#include "run.h"

static struct err err;
static struct vsock v;
static char root[] = "/tmp/tmkms-test-machine-XXXXXX";

static uint64_t in_ms(unsigned ms)
{
    return clock_monotonic_us() + ms * 1000ULL;
}

static void clean(void)
{
    const char *const argv[] = {"/bin/rm", "-rf", root, NULL};
    struct run_result r;
    run_in(&r, NULL, argv);
}

static int enter(void **state)
{
    (void)state;
    memcpy(root + sizeof root - 7, "XXXXXX", 6);
    if (mkdtemp(root) == NULL)
        return -1;
    memset(&v, 0, sizeof v);
    snprintf(v.uds, sizeof v.uds, "%s/v", root);
    return 0;
}

static int leave(void **state)
{
    (void)state;
    clean();
    return 0;
}

static void put_file(const char *path, const char *content)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        assert_true(mkdir(full, 0700) == 0 || errno == EEXIST);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(content, f);
    fclose(f);
}

/* ---- the driver of the security module ---- */

static int loads, load_errno;

static int fake_load(int fd)
{
    char text[16] = "";
    assert_int_equal(read(fd, text, sizeof text), 6);
    assert_string_equal(text, "module");
    loads++;
    errno = load_errno;
    return load_errno == 0 ? 0 : -1;
}

static bool module_is_there(void)
{
    int fd = machine_file_open(root, "/nsm.ko", O_RDONLY, NULL);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void nsm_module(void **state)
{
    (void)state;
    loads = load_errno = 0;
    assert_true(nsm_module_start(root, fake_load, &err)); /* most kernels need none */
    assert_int_equal(loads, 0);
    put_file("/nsm.ko", "module");
    assert_true(nsm_module_start(root, fake_load, &err));
    assert_int_equal(loads, 1);
    assert_false(module_is_there());
    put_file("/nsm.ko", "module");
    load_errno = EEXIST; /* the kernel has it built in after all */
    assert_true(nsm_module_start(root, fake_load, &err));
    put_file("/nsm.ko", "module");
    load_errno = ENOEXEC;
    assert_false(nsm_module_start(root, fake_load, &err));
    assert_contains(err.text, "/nsm.ko");
    assert_contains(err.text, "of this very kernel");
    assert_int_equal(loads, 3);
}

/* ---- heartbeat ---- */

/* A parent that answers each connection with one of these bytes, -1: with none. */
static pid_t parent(const int *answers, size_t n)
{
    int listener = vsock_listen_parent(&v, HEARTBEAT_PORT, &err);
    assert_true(listener >= 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0) {
        close(listener);
        return pid;
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t got = 0, back = (uint8_t)answers[i];
        if (!fd_wait(listener, POLLIN, in_ms(5000)))
            _exit(1);
        int fd = accept(listener, NULL, NULL);
        if (!fd_read_before(fd, &got, 1, in_ms(5000)) || got != HEARTBEAT_BYTE)
            _exit(2);
        if (answers[i] >= 0 && !fd_write_before(fd, &back, 1, in_ms(5000)))
            _exit(3);
        close(fd);
    }
    _exit(0);
}

static int ended(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void heartbeat(void **state)
{
    (void)state;
    const int answers[] = {HEARTBEAT_BYTE};
    pid_t pid = parent(answers, 1);
    assert_true(heartbeat_send(&v, in_ms(3000), &err));
    assert_int_equal(ended(pid), 0);
}

static void heartbeat_is_tried_again(void **state)
{
    (void)state;
    const int answers[] = {-1, 0x11, HEARTBEAT_BYTE};
    pid_t pid = parent(answers, 3);
    assert_true(heartbeat_send(&v, in_ms(3000), &err));
    assert_int_equal(ended(pid), 0);
}

static void heartbeat_without_parent(void **state)
{
    (void)state;
    uint64_t before = clock_monotonic_us();
    assert_false(heartbeat_send(&v, in_ms(300), &err));
    assert_true(clock_monotonic_us() - before < 2000000);
    assert_contains(err.text, "no heartbeat: cannot connect to");
}

static void heartbeat_with_another_answer(void **state)
{
    (void)state;
    int answers[100];
    for (size_t i = 0; i < 100; i++)
        answers[i] = 0x11;
    pid_t pid = parent(answers, 100);
    assert_false(heartbeat_send(&v, in_ms(300), &err));
    assert_contains(err.text, "no heartbeat: the parent answers 0x11 on port 9000, not 0xB7");
    kill(pid, SIGKILL);
    ended(pid);
}

/* A parent that takes the connection and says nothing. */
static void heartbeat_deadline(void **state)
{
    (void)state;
    int listener = vsock_listen_parent(&v, HEARTBEAT_PORT, &err);
    uint64_t before = clock_monotonic_us();
    assert_false(heartbeat_send(&v, in_ms(400), &err));
    assert_true(clock_monotonic_us() - before < 2000000);
    assert_contains(err.text, "does not answer on port 9000");
    close(listener);
}

/* ---- randomness ---- */

static const char rng[] = "/sys/class/misc/hw_random/rng_current";

static void entropy_of_the_kernel(void **state)
{
    (void)state;
    assert_false(entropy_is_from_nsm(root));
    put_file(rng, "virtio_rng.0\n");
    assert_false(entropy_is_from_nsm(root));
    put_file(rng, "nsm-hwrng-not\n");
    assert_false(entropy_is_from_nsm(root));
    put_file(rng, "none\n");
    assert_false(entropy_is_from_nsm(root));
    put_file(rng, "nsm-hwrng\n");
    assert_true(entropy_is_from_nsm(root));
    assert_true(entropy_start(root, -1, &err)); /* and the module is not asked */
}

static void entropy_fails_closed(void **state)
{
    (void)state;
    assert_false(entropy_start(root, -1, &err));
    assert_contains(err.text, "there is no entropy: cannot open /dev/random");
    put_file("/dev/random", "");
    assert_false(entropy_start(root, -1, &err)); /* no module */
    assert_contains(err.text, "there is no entropy: ");
    int nsm = nsm_open(&err);
    assert_true(nsm >= 0);
    assert_false(entropy_start(root, nsm, &err));
    assert_contains(err.text, "there is no entropy: the kernel takes no entropy");
    close(nsm);
}

static void entropy_of_the_module(void **state)
{
    (void)state;
    char full[256];
    if (geteuid() != 0)
        skip();
    int nsm = nsm_open(&err);
    assert_true(nsm >= 0);
    put_file("/dev/x", "");
    snprintf(full, sizeof full, "%s/dev/random", root);
    assert_int_equal(symlink("/dev/random", full), 0);
    bool ok = entropy_start(root, nsm, &err);
    if (!ok && strstr(err.text, "Operation not permitted") != NULL)
        skip(); /* a container without the right */
    assert_true(ok);
    close(nsm);
}

/* ---- clock ---- */

static struct wall_clock_reading fake_reading;
static bool fake_fails;

static bool read_fake(int fd, struct wall_clock_reading *ret, struct err *e)
{
    assert_int_equal(fd, 77);
    if (fake_fails)
        return err_set(e, "out of order");
    *ret = fake_reading;
    return true;
}

static const struct wall_clock_source fake = {.name = "the fake", .read = read_fake};

enum { S = 1000000 };
static const int64_t T = 1800000000LL * S;

static void steps_only_when_wrong(void **state)
{
    (void)state;
    const struct wall_clock_reading r = {T, T + S}; /* a source of whole seconds */
    static const struct {
        int64_t now, tolerated, step;
    } cases[] = {
        {T, 0, 0},
        {T + S / 2, 0, 0},
        {T + S, 0, 0},
        {T - 1, 0, 1},
        {T + S + 1, 0, -1},
        {0, 0, T},
        {T - 500000, 500000, 0},
        {T - 500001, 500000, 500001},
        {T + S + 500000, 500000, 0},
        {T + S + 500001, 500000, -500001},
        {T + 3600LL * S, 500000, -3599LL * S},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(wall_clock_step(&r, cases[i].now, cases[i].tolerated), cases[i].step);
}

static void clock_of_any_source(void **state)
{
    (void)state;
    const struct wall_clock c = {&fake, 77};
    struct wall_clock_reading r = {1, 2};
    int64_t step = 7;
    fake_fails = true;
    assert_false(wall_clock_read(&c, &r, &err));
    assert_false(wall_clock_set(&c, 0, &step, &err));
    assert_contains(err.text, "out of order");
    assert_int_equal(r.earliest_us, 1);
    assert_int_equal(step, 7);
    fake_fails = false;
    fake_reading = (struct wall_clock_reading){0, 0};
    assert_false(wall_clock_set(&c, 0, &step, &err));
    assert_contains(err.text, "the time of the fake lies before 2024");
    /* The clock of this machine is right by its own reading: it is left alone. */
    fake_reading.earliest_us = (int64_t)clock_realtime_us();
    fake_reading.latest_us = fake_reading.earliest_us + 10 * S;
    assert_true(wall_clock_set(&c, 0, &step, &err));
    assert_int_equal(step, 0);
}

static void clock_of_the_module(void **state)
{
    (void)state;
    struct wall_clock_reading r;
    int nsm = nsm_open(&err);
    assert_true(nsm >= 0);
    struct wall_clock c = wall_clock_open(root, nsm);
    assert_ptr_equal(c.source, &wall_clock_nsm);
    int64_t before = (int64_t)clock_realtime_us();
    assert_true(wall_clock_read(&c, &r, &err));
    int64_t after = (int64_t)clock_realtime_us();
    assert_true(r.earliest_us <= after && r.latest_us >= before);
    assert_true(r.latest_us - r.earliest_us <= after - before + S);
    /* What is called /dev/ptp0 and cannot be read as a clock is none. */
    put_file("/dev/ptp0", "");
    c = wall_clock_open(root, nsm);
    assert_ptr_equal(c.source, &wall_clock_nsm);
    struct wall_clock broken = {&wall_clock_ptp, nsm};
    assert_false(wall_clock_read(&broken, &r, &err));
    assert_contains(err.text, "cannot read /dev/ptp0");
    close(nsm);
}

/* ---- the watch ---- */

static void tell(void *ctx, const char *words)
{
    const int *to = ctx;
    (void)!fd_write_exact(*to, words, strlen(words));
}

static void watch_ends_what_hangs(void **state)
{
    (void)state;
    int pipe_fds[2];
    char words[128] = "";
    struct watch w;
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    assert_true(watch_start(&w, tell, &pipe_fds[1], &err));
    watch_step(&w, "something quick", 10);
    watch_step(&w, "counting sheep", 1);
    struct pollfd p = {.fd = pipe_fds[0], .events = POLLIN};
    assert_int_equal(poll(&p, 1, 700), 0);
    assert_int_equal(poll(&p, 1, 5000), 1);
    assert_true(read(pipe_fds[0], words, sizeof words - 1) > 0);
    assert_string_equal(words, "counting sheep took more than 1 seconds");
    watch_stop(&w);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void watch_leaves_what_goes_on(void **state)
{
    (void)state;
    int pipe_fds[2];
    struct watch w;
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    assert_true(watch_start(&w, tell, &pipe_fds[1], &err));
    for (int i = 0; i < 6; i++) {
        watch_step(&w, "a step", 1);
        usleep(250000);
    }
    watch_stop(&w);
    close(pipe_fds[1]);
    struct pollfd p = {.fd = pipe_fds[0], .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 1); /* nobody holds the other end any more */
    assert_int_equal(p.revents, POLLHUP);
    close(pipe_fds[0]);
}

/* ---- last words ---- */

static void last_words(void **state)
{
    (void)state;
    char heard[512] = "";
    int listener = vsock_listen_parent(&v, 6051, &err);
    assert_true(listener >= 0);
    uint64_t before = clock_monotonic_us();
    last_words_say(&v, 6051, "no more to say");
    assert_true(clock_monotonic_us() - before < LAST_WORDS_US);
    int fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    assert_true(read(fd, heard, sizeof heard - 1) > 0);
    assert_contains(heard, "ERROR tmkms::enclave: the enclave ends: no more to say\n");
    close(fd);
    close(listener);
}

static void last_words_that_nobody_hears(void **state)
{
    (void)state;
    uint64_t before = clock_monotonic_us();
    last_words_say(&v, 0, "nobody listens");
    assert_true(clock_monotonic_us() - before < LAST_WORDS_US);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(heartbeat, enter, leave),
        cmocka_unit_test_setup_teardown(heartbeat_is_tried_again, enter, leave),
        cmocka_unit_test_setup_teardown(heartbeat_without_parent, enter, leave),
        cmocka_unit_test_setup_teardown(heartbeat_with_another_answer, enter, leave),
        cmocka_unit_test_setup_teardown(heartbeat_deadline, enter, leave),
        cmocka_unit_test_setup_teardown(entropy_of_the_kernel, enter, leave),
        cmocka_unit_test_setup_teardown(entropy_fails_closed, enter, leave),
        cmocka_unit_test_setup_teardown(entropy_of_the_module, enter, leave),
        cmocka_unit_test_setup_teardown(steps_only_when_wrong, enter, leave),
        cmocka_unit_test_setup_teardown(clock_of_any_source, enter, leave),
        cmocka_unit_test_setup_teardown(clock_of_the_module, enter, leave),
        cmocka_unit_test_setup_teardown(nsm_module, enter, leave),
        cmocka_unit_test_setup_teardown(watch_ends_what_hangs, enter, leave),
        cmocka_unit_test_setup_teardown(watch_leaves_what_goes_on, enter, leave),
        cmocka_unit_test_setup_teardown(last_words, enter, leave),
        cmocka_unit_test_setup_teardown(last_words_that_nobody_hears, enter, leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
