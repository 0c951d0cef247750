#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

static enum log_level max_level = LOG_INFO;
static int out_fd = STDOUT_FILENO;
static bool out_is_link;
static bool out_is_known;  /* whether it is a terminal has been looked at */
static int second_fd = -1; /* the monitor's; it has one thread */
static atomic_uint lost;

/* Lines that wait for log_flush, and what a terminal has not taken yet of a line it began. Only the
 * one thread of a process that writes its log itself uses them. */
static struct {
    char text[LOG_WRITE_MAX];
    size_t n;
} batch, rest;
static unsigned batch_lines;

void log_set_level(enum log_level level)
{
    max_level = level;
}

enum log_level log_level(void)
{
    return max_level;
}

void log_set_output(int fd, bool is_monitor_link)
{
    out_fd = fd;
    out_is_link = is_monitor_link;
    out_is_known = false;
    rest.n = 0;
}

/* A terminal says that it can be written to when it can take one byte, and then lets the writer wait
 * for as long as nobody reads. An open file description of our own does not wait, and changes
 * nothing for others who have the terminal open. */
static void look_at_output(void)
{
    out_is_known = true;
    if (!isatty(out_fd))
        return;
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", out_fd);
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0)
        out_fd = fd;
}

static bool would_block(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    return poll(&p, 1, 0) != 1 || (p.revents & POLLOUT) == 0;
}

void log_set_second(int fd)
{
    if (second_fd >= 0)
        close(second_fd);
    second_fd = fd;
}

bool log_has_second(void)
{
    return second_fd >= 0;
}

static void emit_second(const char *line, size_t n)
{
    ssize_t put = send(second_fd, line, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    bool is_connecting = put < 0 && (errno == EAGAIN || errno == ENOTCONN);
    if (put != (ssize_t)n && !is_connecting)
        log_set_second(-1);
}

/* A pipe has room for LOG_WRITE_MAX bytes when it says so, and takes them whole. */
static size_t write_some(const char *text, size_t n)
{
    ssize_t put = would_block(out_fd) ? -1 : write(out_fd, text, n);
    return put > 0 ? (size_t)put : 0;
}

/* What was begun is ended first. false: nothing was written. */
static bool write_whole(const char *text, size_t n)
{
    size_t put = rest.n > 0 ? write_some(rest.text, rest.n) : 0;
    memmove(rest.text, rest.text + put, rest.n - put);
    rest.n -= put;
    if (rest.n > 0)
        return false;
    put = write_some(text, n);
    if (put == 0)
        return false;
    rest.n = n - put;
    memcpy(rest.text, text + put, rest.n);
    return true;
}

/* A line never waits for its reader: what cannot be written now is dropped and counted. */
static bool emit(const char *line, size_t n)
{
    if (second_fd >= 0)
        emit_second(line, n);
    if (out_is_link)
        return send(out_fd, line, n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n;
    if (!out_is_known)
        look_at_output();
    return write_whole(line, n);
}

static size_t clean(char *line, size_t n)
{
    while (n > 0 && line[n - 1] == '\n')
        n--;
    for (size_t i = 0; i < n; i++)
        if (line[i] < 0x20 || line[i] > 0x7e)
            line[i] = '?';
    line[n] = '\n';
    return n + 1;
}

static size_t head(char *line, size_t cap, enum log_level level, const char *module)
{
    static const char *const names[] = {
        [LOG_ERROR] = "ERROR", [LOG_WARN] = " WARN", [LOG_INFO] = " INFO", [LOG_DEBUG] = "DEBUG"};
    uint64_t us = clock_realtime_us();
    time_t s = (time_t)(us / 1000000U);
    struct tm tm;
    gmtime_r(&s, &tm);
    char when[32];
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    int n = snprintf(
        line, cap, "%s.%06uZ %s %s: ", when, (unsigned)(us % 1000000U), names[level], module);
    return n < 0 ? 0 : (size_t)n;
}

static void tell_lost(void)
{
    unsigned count = atomic_exchange(&lost, 0);
    if (count == 0)
        return;
    char line[256];
    size_t n = head(line, sizeof line, LOG_WARN, "tmkms::log");
    int more = snprintf(
        line + n, sizeof line - n, "%u log lines were lost: the reader was too slow\n", count);
    if (more < 0 || !emit(line, n + (size_t)more))
        atomic_fetch_add(&lost, count);
}

static void emit_lines(const char *text, size_t n, unsigned lines)
{
    if (atomic_load(&lost) > 0)
        tell_lost();
    if (!emit(text, n))
        atomic_fetch_add(&lost, lines);
}

void log_line(enum log_level level, const char *module, const char *fmt, ...)
{
    if (level > max_level)
        return;
    char line[LOG_LINE_MAX + 1];
    size_t n = head(line, sizeof line, level, module);
    va_list args;
    va_start(args, fmt);
    int more = vsnprintf(line + n, LOG_LINE_MAX - n, fmt, args);
    va_end(args);
    if (more > 0)
        n += (size_t)more < LOG_LINE_MAX - n ? (size_t)more : LOG_LINE_MAX - n - 1;
    n = clean(line, n);
    if (batch.n > 0)
        log_flush();
    emit_lines(line, n, 1);
}

void log_forward(char *line, unsigned long n)
{
    if (n == 0 || n >= LOG_LINE_MAX)
        return;
    n = clean(line, n);
    if (batch.n + n > sizeof batch.text)
        log_flush();
    memcpy(batch.text + batch.n, line, n);
    batch.n += n;
    batch_lines++;
}

void log_flush(void)
{
    if (batch.n > 0)
        emit_lines(batch.text, batch.n, batch_lines);
    batch.n = 0;
    batch_lines = 0;
}
