/* What reaches the service manager's socket, and that nothing there holds the service up. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/notify.h"
#include "manager.h"

/* Datagrams are there when the send returned. */
static const char *heard(struct manager *m)
{
    return manager_hears(m, 0);
}

static int set_up(void **state)
{
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return 0;
}

static struct notify opened(void)
{
    struct notify n;
    struct err err;
    if (!notify_open(&n, &err))
        fail_msg("%s", err.text);
    return n;
}

/* ---- tests ---- */

static void the_whole_life(bool is_abstract)
{
    struct manager m;
    manager_start(&m, is_abstract);
    struct notify n = opened();
    assert_true(n.socket >= 0);
    assert_int_equal(fcntl(n.socket, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_string_equal(heard(&m), "");
    notify_status(&n, "opening %d states", 2);
    assert_string_equal(heard(&m), "STATUS=opening 2 states\n");
    notify_ready(&n, "signing for %d chains", 2);
    assert_string_equal(heard(&m), "READY=1\nSTATUS=signing for 2 chains\n");
    uint64_t before = clock_monotonic_us();
    notify_reloading(&n);
    unsigned long long at = 0;
    assert_int_equal(sscanf(heard(&m), "RELOADING=1\nMONOTONIC_USEC=%llu\n", &at), 1);
    assert_in_range(at, before, clock_monotonic_us());
    notify_stopping(&n);
    assert_string_equal(heard(&m), "STOPPING=1\n");
    assert_string_equal(heard(&m), "");
    notify_close(&n);
    assert_int_equal(n.socket, -1);
    manager_stop(&m);
}

static void test_a_socket_with_a_path(void **state)
{
    (void)state;
    the_whole_life(false);
}

static void test_an_abstract_socket(void **state)
{
    (void)state;
    the_whole_life(true);
}

static void test_without_a_manager_nothing_happens(void **state)
{
    (void)state;
    setenv("WATCHDOG_USEC", "nonsense", 1); /* whoever left that here does not listen */
    struct notify n = opened();
    assert_int_equal(n.socket, -1);
    notify_ready(&n, "%s", "x");
    notify_status(&n, "%s", "y");
    notify_reloading(&n);
    notify_watchdog(&n);
    notify_stopping(&n);
    notify_close(&n);
}

static void test_children_do_not_inherit_it(void **state)
{
    (void)state;
    struct manager m;
    manager_start(&m, false);
    setenv("WATCHDOG_USEC", "3000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    struct notify n = opened();
    assert_null(getenv("NOTIFY_SOCKET"));
    assert_null(getenv("WATCHDOG_USEC"));
    assert_null(getenv("WATCHDOG_PID"));
    notify_close(&n);
    manager_stop(&m);
}

static void test_the_watchdog_is_told_as_often_as_it_wants(void **state)
{
    (void)state;
    struct manager m;
    manager_start(&m, false);
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("WATCHDOG_USEC", "1500000", 1);
    setenv("WATCHDOG_PID", pid, 1);
    struct notify n = opened();
    assert_int_equal(n.ping_us, 500000);
    notify_watchdog(&n);
    assert_string_equal(heard(&m), "WATCHDOG=1\n");
    for (int i = 0; i < 100; i++)
        notify_watchdog(&n);
    assert_string_equal(heard(&m), "");
    usleep(510000);
    notify_watchdog(&n);
    assert_string_equal(heard(&m), "WATCHDOG=1\n");
    notify_close(&n);
    manager_stop(&m);
}

static void test_the_watchdog_of_another_process_is_left_alone(void **state)
{
    (void)state;
    struct manager m;
    manager_start(&m, false);
    setenv("WATCHDOG_USEC", "60000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    struct notify n = opened();
    assert_int_equal(n.ping_us, 0);
    notify_watchdog(&n);
    assert_string_equal(heard(&m), "");
    notify_close(&n);
    manager_stop(&m);
}

static void test_a_status_is_one_line_and_sent_once(void **state)
{
    (void)state;
    struct manager m;
    char text[2 * NOTIFY_STATUS_MAX] = {0};
    manager_start(&m, false);
    struct notify n = opened();
    notify_status(&n, "%s", "a\nREADY=1\x1b\xff");
    assert_string_equal(heard(&m), "STATUS=a?READY=1??\n");
    notify_status(&n, "%s", "a\nREADY=1\x1b\xff");
    assert_string_equal(heard(&m), "");
    memset(text, 'x', sizeof text - 1);
    notify_status(&n, "%s", text);
    assert_int_equal(strlen(heard(&m)), strlen("STATUS=\n") + NOTIFY_STATUS_MAX - 1);
    notify_ready(&n, "%s", text);
    assert_int_equal(strlen(heard(&m)), strlen("READY=1\nSTATUS=\n") + NOTIFY_STATUS_MAX - 1);
    notify_close(&n);
    manager_stop(&m);
}

static void refuses(const char *variable, const char *value)
{
    struct notify n = {.socket = 7};
    struct err err = {0};
    setenv("NOTIFY_SOCKET", "/run/nobody", 1);
    setenv(variable, value, 1);
    assert_false(notify_open(&n, &err));
    assert_int_equal(n.socket, -1);
    assert_non_null(strstr(err.text, variable));
    assert_null(getenv("NOTIFY_SOCKET"));
    assert_null(getenv(variable));
}

static void test_what_cannot_be_understood_is_said(void **state)
{
    (void)state;
    char long_path[200] = "/";
    memset(long_path + 1, 'x', 107);
    refuses("NOTIFY_SOCKET", long_path);
    refuses("NOTIFY_SOCKET", "@");
    refuses("NOTIFY_SOCKET", "relative/path");
    refuses("NOTIFY_SOCKET", "vsock:2:1234");
    refuses("WATCHDOG_USEC", "");
    refuses("WATCHDOG_USEC", "0");
    refuses("WATCHDOG_USEC", "-1");
    refuses("WATCHDOG_USEC", "1s");
    refuses("WATCHDOG_USEC", "99999999999999999999999");
    setenv("WATCHDOG_USEC", "1000000", 1);
    refuses("WATCHDOG_PID", "me");
}

static void test_a_manager_that_does_not_read_holds_nobody_up(void **state)
{
    (void)state;
    struct manager m;
    manager_start(&m, false);
    setenv("WATCHDOG_USEC", "3", 1);
    struct notify n = opened();
    uint64_t from = clock_monotonic_us(), pings = 20000;
    for (uint64_t i = 0; i < pings; i++)
        notify_watchdog(&n);
    assert_in_range(clock_monotonic_us() - from, 1, 5000000);
    uint64_t before = clock_monotonic_us();
    notify_ready(&n, "%s", "x");
    assert_in_range(clock_monotonic_us() - before, NOTIFY_WAIT_US, 20 * NOTIFY_WAIT_US);
    uint64_t got = 0;
    while (strcmp(heard(&m), "WATCHDOG=1\n") == 0)
        got++;
    assert_in_range(got, 1, pings - 1);
    notify_ready(&n, "%s", "x");
    assert_string_equal(heard(&m), "READY=1\nSTATUS=x\n");
    notify_close(&n);
    manager_stop(&m);
}

static void test_a_manager_that_went_away_and_came_back(void **state)
{
    (void)state;
    struct manager first, second;
    manager_start(&first, true);
    struct notify n = opened();
    notify_status(&n, "%s", "one");
    assert_string_equal(heard(&first), "STATUS=one\n");
    manager_stop(&first);
    notify_status(&n, "%s", "lost");
    manager_start(&second, true);
    notify_status(&n, "%s", "two");
    assert_string_equal(heard(&second), "STATUS=two\n");
    notify_close(&n);
    manager_stop(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_socket_with_a_path, set_up),
        cmocka_unit_test_setup(test_an_abstract_socket, set_up),
        cmocka_unit_test_setup(test_without_a_manager_nothing_happens, set_up),
        cmocka_unit_test_setup(test_children_do_not_inherit_it, set_up),
        cmocka_unit_test_setup(test_the_watchdog_is_told_as_often_as_it_wants, set_up),
        cmocka_unit_test_setup(test_the_watchdog_of_another_process_is_left_alone, set_up),
        cmocka_unit_test_setup(test_a_status_is_one_line_and_sent_once, set_up),
        cmocka_unit_test_setup(test_what_cannot_be_understood_is_said, set_up),
        cmocka_unit_test_setup(test_a_manager_that_does_not_read_holds_nobody_up, set_up),
        cmocka_unit_test_setup(test_a_manager_that_went_away_and_came_back, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
