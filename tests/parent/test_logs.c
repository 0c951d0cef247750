/* The log of an enclave on the parent: lines, what is not printable, and too many of them. */
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

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "folder.h"
#include "link/vsock.h"
#include "parent/logs.h"

enum { PORT = 5100 };

static char folder[64], out_path[96];
static struct vsock v;
static pid_t printer;

static int printer_main(int ready)
{
    static struct server s;
    struct err err;
    int out = open(out_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    log_set_output(out, false);
    struct logs *l = server_start(&s, &err) ? logs_new(&s, &err) : NULL;
    if (l == NULL || !logs_listen(l, vsock_listen_parent(&v, PORT, &err), &err) ||
        write(ready, "r", 1) != 1)
        return 10;
    bool ok = server_run(&s);
    logs_free(l);
    server_stop(&s);
    return ok ? 0 : 1;
}

static int setup(void **state)
{
    char path[96], c;
    int ready[2];
    struct err err;
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/tmkms-logs-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/v", folder);
    snprintf(out_path, sizeof out_path, "%s/out", folder);
    assert_true(vsock_from(&v, path, &err));
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    printer = fork();
    assert_true(printer >= 0);
    if (printer == 0)
        _exit(printer_main(ready[1]));
    close(ready[1]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    return 0;
}

/* Ends the printer and returns what it printed. */
static char *printed(void)
{
    static char text[4 << 20];
    int status;
    size_t n;
    struct err err;
    kill(printer, SIGTERM);
    assert_int_equal(waitpid(printer, &status, 0), printer);
    assert_int_equal(status, 0);
    int fd = open(out_path, O_RDONLY | O_CLOEXEC);
    assert_true(fd_read_all(fd, text, sizeof text - 1, &n, &err));
    close(fd);
    text[n] = '\0';
    folder_remove(folder);
    return text;
}

static int dial(void)
{
    struct err err;
    int fd = vsock_dial_parent(&v, PORT, clock_monotonic_us() + 1000000, &err);
    assert_true(fd >= 0);
    return fd;
}

/* Everything that was sent has been read when the other end closes after our end. */
static void say(int fd, const void *p, size_t n)
{
    assert_true(fd_write_before(fd, p, n, clock_monotonic_us() + 5000000));
}

static void finish(int fd)
{
    uint8_t c;
    shutdown(fd, SHUT_WR);
    assert_false(fd_read_before(fd, &c, 1, clock_monotonic_us() + 5000000));
    close(fd);
}

static void lines_are_printed_clean(void **state)
{
    (void)state;
    char longest[3 * LOG_LINE_MAX];
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\n';
    int a = dial(), b = dial();
    say(a, "first ", 6);
    say(b, "other\n", 6);
    say(a, "line\n\n\033[2Jcolour\rback\0zero\n", 27);
    say(a, longest, sizeof longest);
    say(a, "unfinished", 10);
    finish(a);
    finish(b);
    char *text = printed();
    const char *const want[] = {
        "first line\n", "other\n", "?[2Jcolour?back?zero\n", "unfinished\n"};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        if (strstr(text, want[i]) == NULL)
            fail_msg("no %s", want[i]);
    assert_null(strchr(text, '\033'));
    size_t lines = 0, widest = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest), lines++)
        widest = strlen(line) > widest ? strlen(line) : widest;
    assert_int_equal(lines, 5);
    assert_in_range(widest, LOG_LINE_MAX / 2, LOG_LINE_MAX);
}

/* Nothing got lost, but little of it is shown. */
static void must_be_cut(size_t lines)
{
    char *text = printed();
    size_t shown = 0, dropped = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char *count = strstr(line, "tmkms::logs: ");
        if (strcmp(line, "flood") == 0)
            shown++;
        else if (count != NULL)
            dropped += strtoul(count + strlen("tmkms::logs: "), NULL, 10);
    }
    assert_int_equal(shown + dropped, lines);
    assert_in_range(shown, LOGS_LINES_A_SECOND, lines / 2);
}

static void a_flood_is_cut_and_counted(void **state)
{
    enum { LINES = 20000 };
    (void)state;
    int fd = dial();
    for (int i = 0; i < LINES; i++)
        say(fd, "flood\n", 6);
    finish(fd);
    must_be_cut(LINES);
}

/* Connections cost a stranger nothing: the limit is one for all of them. */
static void a_flood_by_many_connections_is_cut(void **state)
{
    enum { CONNECTIONS = 200, LINES_OF_EACH = 100 };
    static char lines[6 * LINES_OF_EACH + 1];
    (void)state;
    for (size_t i = 0; i < LINES_OF_EACH; i++)
        memcpy(lines + 6 * i, "flood\n", 7);
    for (int i = 0; i < CONNECTIONS; i++) {
        int fd = dial();
        say(fd, lines, sizeof lines - 1);
        finish(fd);
    }
    must_be_cut(CONNECTIONS * LINES_OF_EACH);
}

/* The enclave's own log finds room, whoever came before and says nothing. */
static void silent_strangers_make_room(void **state)
{
    (void)state;
    int strangers[2 * LOGS_PEERS_MAX];
    int first = dial();
    say(first, "hel", 3);
    for (size_t i = 0; i < LOGS_PEERS_MAX - 1; i++)
        strangers[i] = dial();
    poll(NULL, 0, 20);
    say(first, "lo\n", 3); /* is not the idlest now */
    poll(NULL, 0, 20);
    for (size_t i = LOGS_PEERS_MAX - 1; i < 2 * LOGS_PEERS_MAX - 2; i++)
        strangers[i] = dial();
    int last = dial();
    say(first, "still here\n", 11);
    say(last, "came in\n", 8);
    finish(last);
    finish(first);
    for (size_t i = 0; i < 2 * LOGS_PEERS_MAX - 2; i++)
        close(strangers[i]);
    char *text = printed();
    assert_non_null(strstr(text, "hello\n"));
    assert_non_null(strstr(text, "still here\n"));
    assert_non_null(strstr(text, "came in\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(lines_are_printed_clean, setup),
        cmocka_unit_test_setup(a_flood_is_cut_and_counted, setup),
        cmocka_unit_test_setup(a_flood_by_many_connections_is_cut, setup),
        cmocka_unit_test_setup(silent_strangers_make_room, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
