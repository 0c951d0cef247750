/* The proxy between an enclave's vsock ports (the stand-in) and sockets of the host. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "folder.h"
#include "link/vsock.h"
#include "parent/kms_proxy.h"
#include "parent/proxy.h"

enum { PORT_UNIX = 5555, PORT_TCP, PORT_NAME, PORT_BAD_NAME, MIB = 1 << 20 };

static char folder[64], node_path[96];
static struct vsock v;
static pid_t proxy;
static int tcp_listener;
static uint16_t tcp_port;

static uint64_t in_ms(uint64_t ms)
{
    return clock_monotonic_us() + ms * 1000;
}

static bool add(struct proxy *p, uint32_t port, const char *tcp)
{
    struct link_address to;
    struct err err;
    bool ok =
        tcp == NULL ? proxy_address_unix(&to, node_path, &err) : proxy_address_tcp(&to, tcp, &err);
    return ok && proxy_add(p, vsock_listen_parent(&v, port, &err), &to, &err);
}

static int proxy_main(int ready)
{
    static struct server s;
    struct err err;
    char tcp[32], name[32], bad_name[64];
    snprintf(tcp, sizeof tcp, "127.0.0.1:%u", tcp_port);
    snprintf(name, sizeof name, "localhost:%u", tcp_port);
    snprintf(bad_name, sizeof bad_name, "no-such-host.invalid:%u", tcp_port);
    log_set_level(LOG_ERROR);
    struct proxy *p = server_start(&s, &err) ? proxy_new(&s, &err) : NULL;
    if (p == NULL || !add(p, PORT_UNIX, NULL) || !add(p, PORT_TCP, tcp) ||
        !add(p, PORT_NAME, name) || !add(p, PORT_BAD_NAME, bad_name) || write(ready, "r", 1) != 1)
        return 10;
    bool ok = server_run(&s);
    proxy_free(p);
    server_stop(&s);
    return ok ? 0 : 1;
}

static int listen_tcp(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 128), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    tcp_port = ntohs(a.sin_port);
    return fd;
}

static int setup(void **state)
{
    char path[96], c;
    int ready[2];
    struct err err;
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    snprintf(folder, sizeof folder, "/tmp/tmkms-proxy-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/v", folder);
    snprintf(node_path, sizeof node_path, "%s/node.sock", folder);
    assert_true(vsock_from(&v, path, &err));
    tcp_listener = listen_tcp();
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    proxy = fork();
    assert_true(proxy >= 0);
    if (proxy == 0)
        _exit(proxy_main(ready[1]));
    close(ready[1]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    return 0;
}

static int teardown(void **state)
{
    int status;
    (void)state;
    kill(proxy, SIGTERM);
    assert_int_equal(waitpid(proxy, &status, 0), proxy);
    assert_int_equal(status, 0); /* it lived through everything */
    close(tcp_listener);
    folder_remove(folder);
    return 0;
}

/* ---- the two ends ---- */

static int listen_node(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof un.sun_path, "%s", node_path);
    unlink(node_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(listen(fd, 128), 0);
    return fd;
}

static int dial_from_enclave(uint32_t port)
{
    struct err err;
    int fd = vsock_dial_parent(&v, port, in_ms(3000), &err);
    if (fd < 0)
        fail_msg("%s", err.text);
    return fd;
}

static int accept_node(int listener)
{
    assert_true(fd_wait(listener, POLLIN, in_ms(5000)));
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* Nothing more comes. */
static void assert_end(int fd)
{
    uint8_t c;
    assert_false(fd_read_before(fd, &c, 1, in_ms(5000)));
    assert_int_not_equal(errno, ETIMEDOUT);
}

static void assert_talk(int a, int b, uint32_t nonce)
{
    uint32_t in = 0;
    assert_true(
        fd_write_before(a, &nonce, 4, in_ms(5000)) && fd_read_before(b, &in, 4, in_ms(5000)));
    assert_int_equal(in, nonce);
    nonce = ~nonce;
    assert_true(
        fd_write_before(b, &nonce, 4, in_ms(5000)) && fd_read_before(a, &in, 4, in_ms(5000)));
    assert_int_equal(in, nonce);
}

/* ---- tests ---- */

static void without_a_node_the_connection_ends_at_once(void **state)
{
    (void)state;
    unlink(node_path);
    for (int i = 0; i < 20; i++) {
        uint64_t began = clock_monotonic_us();
        int fd = dial_from_enclave(PORT_UNIX);
        assert_end(fd);
        assert_in_range(clock_monotonic_us() - began, 0, 1000000);
        close(fd);
    }
    int stale = listen_node();
    close(stale); /* a socket file without a listener */
    int fd = dial_from_enclave(PORT_UNIX);
    assert_end(fd);
    close(fd);
}

static void the_node_restarts_and_the_next_connection_reaches_it(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 5; i++) {
        int node = listen_node();
        int enclave = dial_from_enclave(PORT_UNIX);
        int conn = accept_node(node);
        assert_talk(enclave, conn, i);
        close(conn);
        close(node);
        assert_end(enclave);
        close(enclave);
        enclave = dial_from_enclave(PORT_UNIX);
        assert_end(enclave);
        close(enclave);
    }
}

static void the_enclave_goes_and_the_node_sees_it(void **state)
{
    (void)state;
    int node = listen_node();
    int enclave = dial_from_enclave(PORT_UNIX);
    int conn = accept_node(node);
    assert_talk(enclave, conn, 1);
    close(enclave);
    assert_end(conn);
    close(conn);
    close(node);
}

static void a_hundred_connections_at_once(void **state)
{
    enum { N = 100 };
    int enclave[N], conn[N];
    (void)state;
    int node = listen_node();
    for (int i = 0; i < N; i++) {
        enclave[i] = dial_from_enclave(PORT_UNIX);
        conn[i] = accept_node(node);
    }
    for (uint32_t round = 0; round < 3; round++)
        for (int i = 0; i < N; i++)
            assert_talk(enclave[i], conn[i], round * N + (uint32_t)i);
    for (int i = 0; i < N; i += 2)
        close(enclave[i]);
    for (int i = 0; i < N; i++) {
        if (i % 2 == 0)
            assert_end(conn[i]);
        else
            assert_talk(enclave[i], conn[i], 7);
        close(conn[i]);
        if (i % 2 != 0)
            close(enclave[i]);
    }
    close(node);
}

static void half_close_ends_one_direction_only(void **state)
{
    (void)state;
    int node = listen_node();
    for (int side = 0; side < 2; side++) {
        int enclave = dial_from_enclave(PORT_UNIX);
        int conn = accept_node(node);
        int a = side == 0 ? enclave : conn, b = side == 0 ? conn : enclave;
        uint8_t in[8];
        assert_true(fd_write_before(a, "question", 8, in_ms(5000)));
        shutdown(a, SHUT_WR);
        assert_true(fd_read_before(b, in, 8, in_ms(5000)));
        assert_end(b);
        for (int i = 0; i < 3; i++) {
            assert_true(fd_write_before(b, "answer..", 8, in_ms(5000)));
            assert_true(fd_read_before(a, in, 8, in_ms(5000)));
            assert_memory_equal(in, "answer..", 8);
        }
        close(b);
        assert_end(a);
        close(a);
    }
    close(node);
}

static void fill(uint8_t *p, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        p[i] = (uint8_t)(seed >> 24);
    }
}

/* A megabyte each way, echoed by a process of its own so that both directions are full at once. */
static void messages_of_a_mebibyte_arrive_whole(void **state)
{
    static uint8_t out[MIB], in[MIB];
    (void)state;
    int node = listen_node();
    for (uint32_t port = PORT_UNIX; port <= PORT_TCP; port++) {
        int enclave = dial_from_enclave(port);
        int conn = accept_node(port == PORT_UNIX ? node : tcp_listener);
        pid_t echo = fork();
        if (echo == 0) {
            for (size_t left = 2 * sizeof in; left > 0;) {
                ssize_t n = read(conn, in, sizeof in);
                if (n <= 0 || !fd_write_exact(conn, in, (size_t)n))
                    _exit(1);
                left -= (size_t)n;
            }
            _exit(0);
        }
        for (uint32_t i = 0; i < 2; i++) {
            fill(out, sizeof out, port + i);
            pid_t writer = fork();
            if (writer == 0)
                _exit(fd_write_exact(enclave, out, sizeof out) ? 0 : 1);
            memset(in, 0, sizeof in);
            assert_true(fd_read_before(enclave, in, sizeof in, in_ms(20000)));
            assert_memory_equal(in, out, sizeof in);
            waitpid(writer, NULL, 0);
        }
        int status;
        assert_int_equal(waitpid(echo, &status, 0), echo);
        assert_int_equal(status, 0);
        close(conn);
        close(enclave);
    }
    close(node);
}

static long proxy_kib(void)
{
    char path[32];
    long pages = 0;
    snprintf(path, sizeof path, "/proc/%ld/statm", (long)proxy);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%*d %ld", &pages), 1);
    fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Receivers that take nothing: the sender is held back, the others are not, and memory stays bounded. */
static void slow_readers_hold_back_their_senders_only(void **state)
{
    enum { SLOW = 20 };
    static uint8_t out[MIB];
    int enclave[SLOW], conn[SLOW];
    size_t sent[SLOW] = {0};
    (void)state;
    int node = listen_node();
    long before = proxy_kib();
    for (int i = 0; i < SLOW; i++) {
        enclave[i] = dial_from_enclave(PORT_UNIX);
        conn[i] = accept_node(node);
        fill(out, sizeof out, (uint32_t)i);
        while (sent[i] < sizeof out) {
            ssize_t n = send(enclave[i], out + sent[i], sizeof out - sent[i], MSG_DONTWAIT);
            if (n < 0 && !fd_wait(enclave[i], POLLOUT, in_ms(50)))
                break;
            sent[i] += n > 0 ? (size_t)n : 0;
        }
        assert_in_range(sent[i], 1000, sizeof out - 1);
    }
    assert_in_range(proxy_kib() - before, 0, SLOW * (PROXY_HELD_MAX / 1024) * 2 + 1024);
    int quick = dial_from_enclave(PORT_UNIX);
    int quick_conn = accept_node(node);
    assert_talk(quick, quick_conn, 99);
    for (int i = 0; i < SLOW; i++) {
        static uint8_t in[MIB];
        fill(out, sizeof out, (uint32_t)i);
        shutdown(enclave[i], SHUT_WR);
        assert_true(fd_read_before(conn[i], in, sent[i], in_ms(5000)));
        assert_memory_equal(in, out, sent[i]);
        assert_end(conn[i]);
        close(conn[i]);
        close(enclave[i]);
    }
    close(quick);
    close(quick_conn);
    close(node);
}

static void names_and_addresses(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        int enclave = dial_from_enclave(PORT_TCP);
        int conn = accept_node(tcp_listener);
        assert_talk(enclave, conn, i);
        close(enclave);
        assert_end(conn);
        close(conn);
        enclave = dial_from_enclave(PORT_NAME);
        conn = accept_node(tcp_listener);
        assert_talk(enclave, conn, i);
        close(conn);
        assert_end(enclave);
        close(enclave);
    }
    /* A name that does not resolve ends the connection, not the process. */
    int enclave = dial_from_enclave(PORT_BAD_NAME);
    uint8_t c;
    assert_false(fd_read_before(enclave, &c, 1, in_ms(8000)));
    assert_int_not_equal(errno, ETIMEDOUT);
    close(enclave);
    enclave = dial_from_enclave(PORT_TCP);
    int conn = accept_node(tcp_listener);
    assert_talk(enclave, conn, 4);
    close(conn);
    close(enclave);
}

static void targets_of_kms(void **state)
{
    static const char *const allow[] = {"kms.test:8443", "10.0.0.1:443"};
    static const struct {
        const char *region, *target, *host; /* host NULL: refused */
    } all[] = {
        {"us-east-1", NULL, "kms.us-east-1.amazonaws.com"},
        {"cn-north-1", NULL, "kms.cn-north-1.amazonaws.com.cn"},
        {NULL, "kms.eu-west-1.amazonaws.com:443", "kms.eu-west-1.amazonaws.com"},
        {NULL, "kms-fips.us-gov-west-1.amazonaws.com:443", "kms-fips.us-gov-west-1.amazonaws.com"},
        {NULL, "kms.test:8443", "kms.test"},
        {NULL, "10.0.0.1:443", "10.0.0.1"},
        {"us-east-1.evil.example/", NULL, NULL},
        {"", NULL, NULL},
        {NULL, "kms.us-east-1.amazonaws.com:80", NULL},
        {NULL, "kms.us-east-1.amazonaws.com.evil.example:443", NULL},
        {NULL, "kms.a.b.amazonaws.com:443", NULL},
        {NULL, "kms.us-east-1.amazonaws.com.cn:443", NULL},
        {NULL, "s3.us-east-1.amazonaws.com:443", NULL},
        {NULL, "evil-kms.us-east-1.amazonaws.com:443", NULL},
        {NULL, "kms.test:443", NULL},
        {NULL, "10.0.0.2:443", NULL},
        {NULL, "kms.test", NULL},
        {NULL, "unix:///run/x:443", NULL},
    };
    (void)state;
    size_t refused = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct link_address to;
        struct err err;
        bool ok = kms_proxy_target(&to, all[i].region, all[i].target, allow, 2, &err);
        if (ok != (all[i].host != NULL))
            fail_msg("%s %s", all[i].region, all[i].target);
        if (ok)
            assert_string_equal(to.host, all[i].host);
        refused += !ok;
    }
    assert_true(refused > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_node_the_connection_ends_at_once),
        cmocka_unit_test(the_node_restarts_and_the_next_connection_reaches_it),
        cmocka_unit_test(the_enclave_goes_and_the_node_sees_it),
        cmocka_unit_test(a_hundred_connections_at_once),
        cmocka_unit_test(half_close_ends_one_direction_only),
        cmocka_unit_test(messages_of_a_mebibyte_arrive_whole),
        cmocka_unit_test(slow_readers_hold_back_their_senders_only),
        cmocka_unit_test(names_and_addresses),
        cmocka_unit_test(targets_of_kms),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
