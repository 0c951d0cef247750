/* The log never waits for its reader, writes whole lines, and shows nothing that a terminal obeys. */
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
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

/* ---- what is printed ---- */

static void test_only_printable_ascii_is_printed(void **state)
{
    (void)state;
    int pair[2];
    char text[512], raw[256], forwarded[300];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    log_set_output(pair[0], false);
    for (int i = 1; i < 256; i++)
        raw[i - 1] = (char)i;
    raw[255] = '\0';
    for (int how = 0; how < 2; how++) {
        if (how == 0)
            log_line(LOG_INFO, "test", "%s", raw);
        else
            log_forward(
                forwarded, (unsigned long)snprintf(forwarded, sizeof forwarded, "test: %s\n", raw));
        log_flush();
        ssize_t n = recv(pair[1], text, sizeof text, MSG_DONTWAIT);
        assert_true(n > 0 && text[n - 1] == '\n');
        char *at = memmem(text, (size_t)n, "test: ", 6);
        assert_non_null(at);
        for (int i = 1; i < 256; i++)
            assert_int_equal(at[5 + i], i >= 0x20 && i <= 0x7e ? i : '?');
    }
    close(pair[0]);
    close(pair[1]);
    log_set_output(STDOUT_FILENO, false);
}

static void test_lines_that_came_together_are_written_together(void **state)
{
    (void)state;
    int pair[2];
    char line[256], text[LOG_WRITE_MAX + 1];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    log_set_output(pair[0], false);
    for (int i = 0; i < 100; i++)
        log_forward(line, (unsigned long)snprintf(line, sizeof line, "line %03d %0150d\n", i, 0));
    log_line(LOG_INFO, "test", "own"); /* comes after what was collected before it */
    unsigned writes = 0, lines = 0;
    bool own_is_last = false;
    for (ssize_t n; (n = recv(pair[1], text, sizeof text, MSG_DONTWAIT)) > 0; writes++) {
        assert_true(n <= LOG_WRITE_MAX && text[n - 1] == '\n');
        text[n] = '\0';
        for (char *p = text; *p != '\0'; p = strchr(p, '\n') + 1) {
            own_is_last = strncmp(p, "line ", 5) != 0;
            assert_true(own_is_last || strtoul(p + 5, NULL, 10) == lines);
            lines++;
        }
    }
    assert_int_equal(lines, 101);
    assert_true(own_is_last);
    assert_in_range(writes, 2, 6);
    close(pair[0]);
    close(pair[1]);
    log_set_output(STDOUT_FILENO, false);
}

/* ---- a terminal that nobody reads ---- */

enum { LINES = 2000, WIDTH = 180 };

static void write_to_terminal(const char *name)
{
    int fd = open(name, O_WRONLY | O_NOCTTY);
    dup2(fd, STDOUT_FILENO);
    log_set_output(STDOUT_FILENO, false);
    for (int i = 0; i < LINES; i++)
        log_line(LOG_INFO, "test", "%06d %0*d.", i, WIDTH, 0);
    raise(SIGSTOP);
    /* Room again: what was begun is ended, and the loss is told. */
    for (int i = 0; i < 100; i++) {
        usleep(2000);
        log_line(LOG_INFO, "test", "%06d %0*d.", LINES + i, WIDTH, 0);
    }
    bool others_wait = (fcntl(STDOUT_FILENO, F_GETFL) & O_NONBLOCK) == 0;
    _exit(others_wait ? 0 : 1);
}

static bool is_whole(const char *line)
{
    const char *at = strstr(line, "INFO test: ");
    return at != NULL
               ? strlen(at) == strlen("INFO test: 000000 .") + WIDTH && at[strlen(at) - 1] == '.'
               : strstr(line, "log lines were lost") != NULL;
}

static void test_a_terminal_that_is_not_read_stops_nobody(void **state)
{
    (void)state;
    static char text[LINES * (WIDTH + 100)];
    int master = posix_openpt(O_RDWR | O_NOCTTY), status = 0;
    assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        write_to_terminal(ptsname(master));
    for (int i = 0; i < 500 && waitpid(pid, &status, WNOHANG | WUNTRACED) == 0; i++)
        usleep(10000);
    if (!WIFSTOPPED(status)) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        fail_msg("the log waits for the terminal");
    }
    kill(pid, SIGCONT);
    size_t n = 0;
    for (;;) {
        struct pollfd p = {.fd = master, .events = POLLIN};
        if (poll(&p, 1, 1000) != 1)
            break;
        ssize_t got = read(master, text + n, sizeof text - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    text[n] = '\0';
    unsigned lines = 0;
    char *save = NULL;
    for (char *l = strtok_r(text, "\r\n", &save); l != NULL; l = strtok_r(NULL, "\r\n", &save)) {
        if (!is_whole(l))
            fail_msg("not whole: %s", l);
        lines++;
    }
    assert_in_range(lines, 20, LINES); /* it was full, and not empty */
    close(master);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_printable_ascii_is_printed),
        cmocka_unit_test(test_lines_that_came_together_are_written_together),
        cmocka_unit_test(test_a_terminal_that_is_not_read_stops_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
