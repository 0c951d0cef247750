#include "parent/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "monitor/child.h"

const struct process PROCESS_NONE = {.fd = -1};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* ---- finding programs ---- */

static bool is_program(
    char ret[PROCESS_PATH_MAX], const char *folder, size_t folder_n, const char *name)
{
    int n = snprintf(ret, PROCESS_PATH_MAX, "%.*s/%s", (int)folder_n, folder, name);
    return n > 0 && n < PROCESS_PATH_MAX && ret[0] == '/' && access(ret, X_OK) == 0;
}

static bool is_on_path(char ret[PROCESS_PATH_MAX], const char *name)
{
    const char *at = getenv("PATH");
    while (at != NULL && *at != '\0') {
        size_t n = strcspn(at, ":");
        if (n < PROCESS_PATH_MAX && is_program(ret, at, n, name))
            return true;
        at += at[n] == ':' ? n + 1 : n;
    }
    return false;
}

bool process_find(char ret[PROCESS_PATH_MAX], const char *variable, const char *name,
    const char *folder, struct err *err)
{
    const char *given = variable != NULL ? getenv(variable) : NULL;
    if (given != NULL && given[0] != '\0') {
        if (strlen(given) >= PROCESS_PATH_MAX || access(given, X_OK) != 0)
            return err_set(
                err, "$%s: %.200s is not a program that can be started", variable, given);
        snprintf(ret, PROCESS_PATH_MAX, "%s", given);
        return true;
    }
    if (folder != NULL ? is_program(ret, folder, strlen(folder), name) : is_on_path(ret, name))
        return true;
    if (folder != NULL)
        return err_set(err, "there is no %s in %s; $%s can name another", name, folder, variable);
    return err_set(err, "there is no %s on the PATH%s%s%s", name, variable != NULL ? "; $" : "",
        variable != NULL ? variable : "", variable != NULL ? " can name one" : "");
}

bool process_own_folder(char ret[PROCESS_PATH_MAX], struct err *err)
{
    char path[PROCESS_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n < 0)
        return err_errno(err, "cannot look where this program is");
    path[n] = '\0';
    *strrchr(path, '/') = '\0';
    snprintf(ret, PROCESS_PATH_MAX, "%s", path);
    return true;
}

/* ---- starting ---- */

ATTR_NORETURN static void become(const char *const *argv, pid_t keeper, int out, int errors)
{
    enum { ABOVE = 64 };
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int to[2] = {fcntl(out >= 0 ? out : null, F_DUPFD_CLOEXEC, ABOVE),
        fcntl(errors >= 0 ? errors : null, F_DUPFD_CLOEXEC, ABOVE)};
    char *args[64];
    size_t n = 0;
    while (argv[n] != NULL && n + 1 < sizeof args / sizeof args[0])
        n++;
    memcpy(args, argv, n * sizeof args[0]); /* execv takes no const, but changes nothing */
    args[n] = NULL;
    /* A keeper that died before the first line had its effect kills nobody any more. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 && getppid() == keeper &&
        dup2(null, STDIN_FILENO) >= 0 && dup2(to[0], STDOUT_FILENO) >= 0 &&
        dup2(to[1], STDERR_FILENO) >= 0 && close_range(STDERR_FILENO + 1, ~0U, 0) == 0)
        execv(args[0], args);
    _exit(127);
}

bool process_start(
    struct process *ret, const char *const *argv, int out, int errors, struct err *err)
{
    pid_t keeper = getpid(), pid = fork();
    if (pid == 0)
        become(argv, keeper, out, errors);
    if (pid < 0)
        return err_errno(err, "cannot start %s", argv[0]);
    struct process p = {.pid = pid, .fd = (int)syscall(SYS_pidfd_open, pid, 0)};
    snprintf(p.name, sizeof p.name, "%s", base_name(argv[0]));
    *ret = p;
    if (p.fd >= 0)
        return true;
    err_errno(err, "cannot watch %s", argv[0]);
    process_stop(ret, 0);
    return false;
}

bool process_has_ended(struct process *p, char *why, size_t why_cap)
{
    int status;
    if (p->pid == 0 || waitpid(p->pid, &status, WNOHANG) != p->pid)
        return false;
    child_end_text(status, why, why_cap);
    fd_close(&p->fd);
    *p = PROCESS_NONE;
    return true;
}

void process_stop(struct process *p, uint64_t deadline_us)
{
    char why[64];
    if (p->pid == 0)
        return;
    kill(p->pid, SIGTERM);
    while (!process_has_ended(p, why, sizeof why)) {
        if (clock_monotonic_us() >= deadline_us)
            kill(p->pid, SIGKILL);
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
}

/* ---- running to the end ---- */

struct text {
    int fd;
    char *buf;
    size_t n, cap;
};

/* What does not fit is read all the same, so that the program is not held up. */
static void take(struct text *t)
{
    char rest[4096];
    size_t room = t->cap - 1 - t->n;
    ssize_t got = read(t->fd, room > 0 ? t->buf + t->n : rest, room > 0 ? room : sizeof rest);
    if (got > 0 && room > 0)
        t->n += (size_t)got;
    t->buf[t->n] = '\0';
    if (got == 0 || (got < 0 && errno != EINTR))
        fd_close(&t->fd);
}

/* Until the program has ended; a child of its own that holds the pipes open is not waited for. */
static bool attend(struct leash *l, struct process *p, struct text *out, struct text *errors,
    uint64_t deadline_us, uint64_t grace_us, struct process_result *ret, struct err *err)
{
    struct leash none = {.control = -1, .signals = -1}, *given = l;
    for (bool is_over = false; !is_over || out->fd >= 0 || errors->fd >= 0;) {
        struct pollfd fds[] = {{.fd = out->fd, .events = POLLIN},
            {.fd = errors->fd, .events = POLLIN}, {.fd = p->fd, .events = POLLIN}};
        enum leash_event event = leash_wait(l, fds, 3, is_over ? 0 : deadline_us);
        if (event == LEASH_CUT && !is_over && grace_us > 0) {
            uint64_t end = clock_monotonic_us() + grace_us;
            deadline_us = end < deadline_us ? end : deadline_us;
            l = &none;
            continue;
        }
        if (event != LEASH_READY)
            return is_over || leash_failed(given, "no answer in time", err);
        if (fds[0].revents != 0)
            take(out);
        if (fds[1].revents != 0)
            take(errors);
        if (fds[2].revents != 0)
            is_over = process_has_ended(p, ret->end, sizeof ret->end);
    }
    return true;
}

bool process_run(struct leash *l, const char *const *argv, uint64_t deadline_us, uint64_t grace_us,
    struct process_result *ret, struct err *err)
{
    int out[2] ATTR_CLEANUP(fd_close_pair) = {-1, -1};
    int errors[2] ATTR_CLEANUP(fd_close_pair) = {-1, -1};
    struct process p = PROCESS_NONE;
    memset(ret, 0, sizeof *ret);
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(errors, O_CLOEXEC) != 0)
        return err_errno(err, "cannot make a pipe");
    if (!process_start(&p, argv, out[1], errors[1], err))
        return false;
    fd_close(&out[1]);
    fd_close(&errors[1]);
    struct text texts[2] = {{.fd = out[0], .buf = ret->out, .cap = sizeof ret->out},
        {.fd = errors[0], .buf = ret->errors, .cap = sizeof ret->errors}};
    out[0] = errors[0] = -1;
    bool ok = attend(l, &p, &texts[0], &texts[1], deadline_us, grace_us, ret, err);
    fd_close(&texts[0].fd);
    fd_close(&texts[1].fd);
    process_stop(&p, 0);
    ret->is_success = strcmp(ret->end, "exit code 0") == 0;
    return ok || err_prefix(err, "%s", base_name(argv[0]));
}
