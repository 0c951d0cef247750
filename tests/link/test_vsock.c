/* The stand-in for vsock over unix sockets: both directions, deadlines, stale and foreign paths. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "folder.h"
#include "link/vsock.h"
#include "run.h"

static char folder[64];
static struct vsock v;

static int setup(void **state)
{
    char path[96];
    struct err err;
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/tmkms-vsock-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/v", folder);
    return vsock_from(&v, path, &err) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

static uint64_t in_ms(uint64_t ms)
{
    return clock_monotonic_us() + ms * 1000;
}

static void assert_talk(int a, int b)
{
    uint8_t in[5] = {0};
    assert_true(fd_write_before(a, "there", 5, in_ms(1000)));
    assert_true(fd_read_before(b, in, 5, in_ms(1000)));
    assert_memory_equal(in, "there", 5);
    assert_true(fd_write_before(b, "back!", 5, in_ms(1000)));
    assert_true(fd_read_before(a, in, 5, in_ms(1000)));
    assert_memory_equal(in, "back!", 5);
}

static void assert_blocking(int fd, bool is_blocking)
{
    int flags = fcntl(fd, F_GETFL);
    assert_true(flags >= 0 && ((flags & O_NONBLOCK) == 0) == is_blocking);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
}

static int accept_parent(int listener)
{
    assert_true(fd_wait(listener, POLLIN, in_ms(1000)));
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void test_path(void **state)
{
    struct vsock other;
    struct err err;
    char text[VSOCK_PATH_MAX + 1];
    (void)state;
    memset(text, 'x', sizeof text);
    text[VSOCK_PATH_MAX] = '\0';
    assert_false(vsock_from(&other, text, &err));
    assert_non_null(strstr(err.text, "more than 91 characters"));
    text[VSOCK_PATH_MAX - 1] = '\0';
    assert_true(vsock_from(&other, text, &err));
    assert_string_equal(other.uds, text);
    assert_false(vsock_from(&other, "", &err));

    setenv("TMKMS_VSOCK_UDS", "/from/environment", 1);
    assert_true(vsock_from(&other, NULL, &err));
    assert_string_equal(other.uds, "/from/environment");
    assert_true(vsock_from(&other, "/from/option", &err));
    assert_string_equal(other.uds, "/from/option");
    unsetenv("TMKMS_VSOCK_UDS");
    assert_true(vsock_from(&other, NULL, &err));
    assert_string_equal(other.uds, "");
}

static void test_guest_to_parent(void **state)
{
    struct err err;
    (void)state;
    int listener = vsock_listen_parent(&v, 5001, &err);
    assert_true(listener >= 0);
    assert_blocking(listener, false);
    assert_int_equal(vsock_dial_parent(&v, 5002, in_ms(100), &err), -1);
    assert_non_null(strstr(err.text, "v_5002"));

    int guest = vsock_dial_parent(&v, 5001, in_ms(1000), &err);
    int parent = accept_parent(listener);
    assert_blocking(guest, true);
    assert_talk(guest, parent);
    assert_int_equal(vsock_peer_cid(parent), 0);
    close(guest);
    close(parent);

    guest = vsock_dial_parent_start(&v, 5001, &err);
    parent = accept_parent(listener);
    assert_blocking(guest, false);
    assert_true(vsock_dial_finish(guest, &err));
    assert_blocking(guest, true);
    assert_talk(guest, parent);
    close(guest);
    close(parent);
    close(listener);
    assert_int_equal(vsock_dial_parent_start(&v, 5001, &err), -1);
    assert_false(vsock_dial_finish(-1, &err));
    assert_contains(err.text, "cannot connect: ");
}

/* A listener that never accepts: the dial ends at its deadline, not later. */
static void test_crowded(void **state)
{
    enum { TRIES = 1000 };
    static int fds[TRIES];
    struct err err;
    size_t n = 0;
    (void)state;
    int listener = vsock_listen_parent(&v, 5003, &err);
    uint64_t began = 0;
    while (n < TRIES) {
        began = clock_monotonic_us();
        if ((fds[n] = vsock_dial_parent(&v, 5003, in_ms(60), &err)) < 0)
            break;
        n++;
    }
    assert_true(n > 0 && n < TRIES);
    uint64_t took = clock_monotonic_us() - began;
    assert_in_range(took, 50000, 5000000);
    assert_non_null(strstr(err.text, "timed out"));
    while (n > 0)
        close(fds[--n]);
    close(listener);
}

static void test_listen_twice(void **state)
{
    struct err err;
    char path[128];
    (void)state;
    int first = vsock_listen_parent(&v, 5004, &err);
    assert_true(first >= 0);
    assert_int_equal(vsock_listen_parent(&v, 5004, &err), -1);
    assert_non_null(strstr(err.text, "in use by another process"));
    close(first); /* leaves a stale socket file, as a killed process does */
    int second = vsock_listen_parent(&v, 5004, &err);
    assert_true(second >= 0);
    int guest = vsock_dial_parent(&v, 5004, in_ms(1000), &err);
    int parent = accept_parent(second);
    assert_talk(guest, parent);
    close(guest);
    close(parent);
    close(second);

    snprintf(path, sizeof path, "%s_5005", v.uds);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(vsock_listen_parent(&v, 5005, &err), -1);
    assert_non_null(strstr(err.text, "is no socket"));
    struct stat st;
    assert_true(stat(path, &st) == 0 && S_ISREG(st.st_mode));
}

/* The guest's end, in a process of its own: it takes n connections and echoes one exchange. */
static pid_t start_guest(int listener, uint32_t port, int n)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    int refused = 0;
    for (int i = 0; i < n; i++) {
        struct err err;
        uint8_t in[5];
        int fd = vsock_accept_guest(listener, &err);
        if (fd >= 0 && !vsock_greet(&v, fd, port, &err))
            fd_close(&fd);
        if (fd < 0)
            refused++;
        else if (!fd_read_before(fd, in, 5, in_ms(2000)) ||
                 !fd_write_before(fd, in, 5, in_ms(2000)))
            _exit(100);
        fd_close(&fd);
    }
    _exit(refused);
}

static int raw_dial(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof un.sun_path, "%s", v.uds);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof un), 0);
    return fd;
}

static void test_parent_to_guest(void **state)
{
    struct err err;
    uint8_t in[5];
    (void)state;
    int listener = vsock_listen_guest(&v, 5050, &err);
    assert_true(listener >= 0);
    pid_t guest = start_guest(listener, 5050, 5);

    int fd = vsock_dial_guest(&v, 16, 5050, in_ms(3000), &err);
    assert_true(fd >= 0);
    assert_true(
        fd_write_before(fd, "hello", 5, in_ms(1000)) && fd_read_before(fd, in, 5, in_ms(1000)));
    assert_memory_equal(in, "hello", 5);
    close(fd);

    assert_int_equal(vsock_dial_guest(&v, 16, 5051, in_ms(3000), &err), -1);
    assert_non_null(strstr(err.text, "5051"));

    fd = raw_dial(); /* a stranger's bytes */
    assert_true(
        fd_write_before(fd, "GET / HTTP/1.1\r\nHost: enclave.example\r\n", 40, in_ms(1000)));
    assert_false(fd_read_before(fd, in, 1, in_ms(3000)));
    close(fd);

    fd = raw_dial(); /* silence: the guest gives up after a second and goes on */
    uint64_t began = clock_monotonic_us();
    assert_false(fd_read_before(fd, in, 1, in_ms(5000)));
    assert_in_range(clock_monotonic_us() - began, 500000, 4500000);
    close(fd);

    fd = raw_dial(); /* the first bytes of the caller may come with the line */
    assert_true(fd_write_before(fd, "CONNECT 5050\nfirst", 18, in_ms(1000)));
    char answer[13] = {0};
    assert_true(fd_read_before(fd, answer, 8 + 5, in_ms(1000)));
    assert_memory_equal(answer, "OK 5050\nfirst", 13);
    close(fd);

    int status;
    assert_int_equal(waitpid(guest, &status, 0), guest);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 3);
    close(listener);
}

static void test_read_deadline(void **state)
{
    int pair[2];
    uint8_t in[8];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_true(fd_write_before(pair[1], "1234", 4, in_ms(100)));
    assert_false(fd_read_before(pair[0], in, 8, in_ms(50)));
    assert_int_equal(errno, ETIMEDOUT);

    static uint8_t big[1 << 20];
    assert_false(fd_write_before(pair[1], big, sizeof big, in_ms(50)));
    assert_int_equal(errno, ETIMEDOUT);
    close(pair[1]);
    close(pair[0]);

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    close(pair[1]);
    assert_false(fd_read_before(pair[0], in, 1, in_ms(1000)));
    assert_int_equal(errno, 0);
    assert_false(fd_write_before(pair[0], in, 1, in_ms(1000)));
    assert_int_equal(errno, EPIPE);
    close(pair[0]);
}

/* 0 hypervisor, 1 loopback, 2 host, 3 the parent itself: whoever has one of these is no enclave. */
static void test_who_is_a_guest(void **state)
{
    (void)state;
    for (uint32_t cid = 0; cid < 4; cid++)
        assert_false(vsock_cid_is_guest(cid));
    assert_true(vsock_cid_is_guest(4));
    assert_true(vsock_cid_is_guest(16));
    assert_true(vsock_cid_is_guest(UINT32_MAX - 1));
    assert_false(vsock_cid_is_guest(UINT32_MAX));
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_true(vsock_peer_is_guest(pair[0])); /* the stand-in */
    close(pair[0]);
    close(pair[1]);
    int nobody = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (nobody >= 0)
        assert_false(vsock_peer_is_guest(nobody)); /* of vsock, and gone */
    assert_false(vsock_peer_is_guest(-1));
    if (nobody >= 0)
        close(nobody);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path),
        cmocka_unit_test(test_guest_to_parent),
        cmocka_unit_test(test_crowded),
        cmocka_unit_test(test_listen_twice),
        cmocka_unit_test(test_parent_to_guest),
        cmocka_unit_test(test_read_deadline),
        cmocka_unit_test(test_who_is_a_guest),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
