#include "monitor/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "ipc/control.h"

const struct child CHILD_NONE = {.control = -1, .log = -1};

/* In the child, between fork and exec: the descriptors go to their places, above all of them first,
 * so that none overwrites another that is still to be moved. */
ATTR_NORETURN static void become(
    const char *role, const char *argument, int input, int control, int log)
{
    enum { ABOVE = 64 };
    int from[3] = {
        fcntl(input, F_DUPFD, ABOVE), fcntl(control, F_DUPFD, ABOVE), fcntl(log, F_DUPFD, ABOVE)};
    int null = open("/dev/null", O_RDWR);
    if (input < 0)
        from[0] = null;
    bool ok = dup2(from[0], STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 &&
              dup2(from[1], CHILD_FD_CONTROL) >= 0 && dup2(from[2], CHILD_FD_LOG) >= 0;
    const char *const args[] = {
        "tmkms", role, log_level() == LOG_DEBUG ? "-v" : "-q", argument, NULL};
    char *argv[sizeof args / sizeof args[0]];
    memcpy(argv, args, sizeof argv); /* execv takes no const, but changes nothing */
    if (ok && close_range(CHILD_FD_LOG + 1, ~0U, 0) == 0)
        execv("/proc/self/exe", argv);
    _exit(127);
}

bool child_spawn(
    struct child *ret, const char *role, const char *argument, int input, struct err *err)
{
    int control[2] = {-1, -1}, log[2] = {-1, -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0)
        return err_errno(err, "cannot make a socket pair");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, log) != 0) {
        fd_close(&control[0]);
        fd_close(&control[1]);
        return err_errno(err, "cannot make a socket pair");
    }
    int room = 1 << 20; /* as much as we may have */
    setsockopt(log[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    pid_t pid = fork();
    if (pid == 0)
        become(role, argument, input, control[1], log[1]);
    fd_close(&control[1]);
    fd_close(&log[1]);
    if (pid < 0) {
        fd_close(&control[0]);
        fd_close(&log[0]);
        return err_errno(err, "cannot start a process");
    }
    uint64_t now = clock_monotonic_us();
    *ret = (struct child){.role = role,
        .pid = pid,
        .control = control[0],
        .log = log[0],
        .started_us = now,
        .heard_us = now};
    return true;
}

/* A signature must not wake the monitor: after a look at the log it waits a while before the next.
 * It comes back the sooner the fuller the socket was, long before that has no room for a line. */
static void put_off(struct child *c, unsigned lines)
{
    enum { SHORTEST_US = 1000, LONGEST_US = 10000, FEW = 16, MANY = 64 };
    if (lines > MANY)
        c->log_wait_us = c->log_wait_us > 2 * SHORTEST_US ? c->log_wait_us / 2 : SHORTEST_US;
    else if (lines < FEW || c->log_wait_us == 0)
        c->log_wait_us = LONGEST_US;
    c->log_due_us = clock_monotonic_us() + c->log_wait_us;
}

bool child_forward_log(struct child *c)
{
    enum { AT_ONCE = 1024 };
    bool is_open = true;
    unsigned lines = 0;
    while (is_open && lines < AT_ONCE) {
        char line[LOG_LINE_MAX + 1];
        ssize_t n = recv(c->log, line, LOG_LINE_MAX, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n > 0)
            log_forward(line, (unsigned long)n);
        is_open = n > 0;
        lines++;
    }
    log_flush();
    put_off(c, lines);
    return is_open;
}

void child_close(struct child *c)
{
    fd_close(&c->control);
    if (c->log >= 0)
        child_forward_log(c);
    fd_close(&c->log);
}

void child_stop(struct child *c, uint64_t deadline_us)
{
    int status;
    fd_close(&c->control);
    while (c->pid > 0 && waitpid(c->pid, &status, WNOHANG) == 0) {
        if (clock_monotonic_us() >= deadline_us)
            kill(c->pid, SIGKILL);
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    c->pid = 0;
    child_close(c);
}

const char *child_end_text(int wait_status, char *buf, unsigned long cap)
{
    if (WIFSIGNALED(wait_status))
        snprintf(
            buf, cap, "signal %d (%s)", WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)));
    else
        snprintf(buf, cap, "exit code %d", WEXITSTATUS(wait_status));
    return buf;
}
