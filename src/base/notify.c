#include "base/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

const struct notify NOTIFY_NONE = {.socket = -1};

/* ---- what the manager asks for ---- */

static bool parse_number(uint64_t *ret, const char *text)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || text[digits] != '\0')
        return false;
    errno = 0;
    unsigned long long v = strtoull(text, NULL, 10);
    if (errno != 0)
        return false;
    *ret = v;
    return true;
}

/* "@name" is a name outside the file system, which the kernel writes with a zero in front. */
static bool parse_socket(struct notify *n, const char *path, struct err *err)
{
    size_t len = strlen(path);
    n->to = (struct sockaddr_un){.sun_family = AF_UNIX};
    if ((path[0] != '/' && path[0] != '@') || len < 2 || len >= sizeof n->to.sun_path)
        return err_set(
            err, "NOTIFY_SOCKET=%.120s is neither a path nor @ and a name of a unix socket", path);
    memcpy(n->to.sun_path, path, len);
    if (path[0] == '@')
        n->to.sun_path[0] = '\0';
    n->to_len =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (path[0] == '/' ? 1 : 0));
    return true;
}

/* A watchdog that is meant for another process is none for this one. */
static bool parse_watchdog(struct notify *n, const char *usec, const char *pid, struct err *err)
{
    uint64_t patience, whose;
    if (usec == NULL)
        return true;
    if (!parse_number(&patience, usec) || patience == 0)
        return err_set(err, "WATCHDOG_USEC=%.40s is not a number of microseconds", usec);
    if (pid != NULL && !parse_number(&whose, pid))
        return err_set(err, "WATCHDOG_PID=%.40s is not the number of a process", pid);
    if (pid == NULL || whose == (uint64_t)getpid())
        n->ping_us = patience / 3 > 0 ? patience / 3 : 1;
    return true;
}

bool notify_open(struct notify *ret, struct err *err)
{
    struct notify n = NOTIFY_NONE;
    const char *path = getenv("NOTIFY_SOCKET");
    *ret = NOTIFY_NONE;
    bool wanted = path != NULL && path[0] != '\0';
    bool ok = !wanted || (parse_socket(&n, path, err) && parse_watchdog(&n, getenv("WATCHDOG_USEC"),
                                                             getenv("WATCHDOG_PID"), err));
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    if (!ok || !wanted)
        return ok;
    n.socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (n.socket < 0)
        return err_errno(err, "cannot make a socket for the service manager");
    *ret = n;
    return true;
}

void notify_close(struct notify *n)
{
    fd_close(&n->socket);
    *n = NOTIFY_NONE;
}

/* ---- what it is told ---- */

/* Connected anew each time: a manager that was started again has another socket at the same place, and only a
 * connected socket tells when there is room. */
static void send_text(struct notify *n, const char *text, uint64_t wait_us)
{
    uint64_t deadline = clock_monotonic_us() + wait_us;
    if (n->socket < 0)
        return;
    if (connect(n->socket, (const struct sockaddr *)&n->to, n->to_len) != 0)
        return;
    while (send(n->socket, text, strlen(text), MSG_NOSIGNAL) < 0)
        if (errno != EINTR && (errno != EAGAIN || !fd_wait(n->socket, POLLOUT, deadline)))
            return;
}

/* A second line would be a message of its own. */
static void set_status(struct notify *n, const char *fmt, va_list args) ATTR_PRINTF(2, 0);
static void set_status(struct notify *n, const char *fmt, va_list args)
{
    if (vsnprintf(n->status, sizeof n->status, fmt, args) < 0)
        n->status[0] = '\0';
    for (char *p = n->status; *p != '\0'; p++)
        if (*p < 0x20 || *p > 0x7e)
            *p = '?';
}

void notify_ready(struct notify *n, const char *fmt, ...)
{
    char text[NOTIFY_STATUS_MAX + 32];
    va_list args;
    va_start(args, fmt);
    set_status(n, fmt, args);
    va_end(args);
    snprintf(text, sizeof text, "READY=1\nSTATUS=%s\n", n->status);
    send_text(n, text, NOTIFY_WAIT_US);
}

void notify_status(struct notify *n, const char *fmt, ...)
{
    char text[NOTIFY_STATUS_MAX + 32], before[NOTIFY_STATUS_MAX];
    va_list args;
    memcpy(before, n->status, sizeof before);
    va_start(args, fmt);
    set_status(n, fmt, args);
    va_end(args);
    if (strcmp(before, n->status) == 0)
        return;
    snprintf(text, sizeof text, "STATUS=%s\n", n->status);
    send_text(n, text, NOTIFY_WAIT_US);
}

void notify_reloading(struct notify *n)
{
    char text[64];
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\n", clock_monotonic_us());
    send_text(n, text, NOTIFY_WAIT_US);
}

void notify_stopping(struct notify *n)
{
    send_text(n, "STOPPING=1\n", NOTIFY_WAIT_US);
}

void notify_watchdog(struct notify *n)
{
    uint64_t now = clock_monotonic_us();
    if (n->ping_us == 0 || now - n->pinged_us < n->ping_us)
        return;
    n->pinged_us = now;
    send_text(n, "WATCHDOG=1\n", 0);
}
