#include "monitor/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

enum { HOOK_OUTPUT_MAX = 4096, HOOK_ARGS_MAX = 64 };

ATTR_NORETURN static void exec_hook(const struct config_chain *chain, int output)
{
    char args[CONFIG_HOOK_MAX];
    char *argv[HOOK_ARGS_MAX + 1] = {0};
    memcpy(args, chain->hook_args, sizeof args);
    char *p = args;
    for (uint32_t i = 0; i < chain->hook_args_n && i < HOOK_ARGS_MAX; i++) {
        argv[i] = p;
        p += strlen(p) + 1;
    }
    setpgid(0, 0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int null = open("/dev/null", O_RDONLY);
    if (argv[0] != NULL && dup2(null, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0)
        execvp(argv[0], argv);
    _exit(127);
}

/* Reads until the hook closes its output. Meanwhile the monitor takes signals and forwards log lines. false:
 * too long, too late, broken, or the program is told to end. */
static bool read_output(
    struct monitor *m, int fd, char *out, size_t cap, uint64_t deadline_us, size_t *ret_n)
{
    size_t n = 0;
    for (;;) {
        uint64_t now = clock_monotonic_us();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (now >= deadline_us || n == cap || m->stopping)
            return false;
        core_turn(m, &p, 1, (int)((deadline_us - now) / 1000U) + 1);
        if (p.revents == 0)
            continue;
        ssize_t got = read(fd, out + n, cap - n);
        if (got < 0 && errno != EINTR)
            return false;
        if (got == 0)
            break;
        n += got > 0 ? (size_t)got : 0;
    }
    *ret_n = n;
    return true;
}

/* A hook that closed its output and lives on is killed at the deadline, with what it started. */
static int reap(struct monitor *m, pid_t pid, uint64_t deadline_us)
{
    int status = 0;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (clock_monotonic_us() >= deadline_us || m->stopping)
            kill(-pid, SIGKILL);
        core_turn(m, NULL, 0, 2);
    }
    return status;
}

/* The operator's own program answers: one small object with one known key. White space is free, all
 * else is not. */
static bool parse_height(char *text, int64_t *ret)
{
    char squeezed[HOOK_OUTPUT_MAX];
    size_t n = 0;
    for (const char *p = text; *p != '\0'; p++)
        if (strchr(" \t\r\n", *p) == NULL)
            squeezed[n++] = *p;
    squeezed[n] = '\0';
    static const char key[] = "{\"latest_block_height\":\"";
    if (strncmp(squeezed, key, sizeof key - 1) != 0)
        return false;
    const char *digits = squeezed + sizeof key - 1;
    size_t len = strspn(digits, "0123456789");
    if (len == 0 || len > 18 || strcmp(digits + len, "\"}") != 0)
        return false;
    *ret = strtoll(digits, NULL, 10);
    return true;
}

static bool ask_hook(
    struct monitor *m, const struct config_chain *chain, int64_t *ret_height, struct err *err)
{
    int pipe_fds[2] ATTR_CLEANUP(fd_close_pair) = {-1, -1};
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return err_errno(err, "cannot make a pipe");
    pid_t pid = fork();
    if (pid < 0)
        return err_errno(err, "cannot start a process");
    if (pid == 0)
        exec_hook(chain, pipe_fds[1]);
    setpgid(pid, pid); /* as the child does: whichever comes first */
    fd_close(&pipe_fds[1]);
    char out[HOOK_OUTPUT_MAX];
    size_t n = 0;
    uint64_t deadline = clock_monotonic_us() + chain->hook_timeout_secs * 1000000ULL;
    bool whole = read_output(m, pipe_fds[0], out, sizeof out - 1, deadline, &n);
    int status = reap(m, pid, whole ? deadline : 0);
    out[n] = '\0';
    if (m->stopping)
        return err_set(err, "told to end");
    if (!whole)
        return err_set(err, "%s did not answer within %" PRIu32 " s", chain->hook_args,
            chain->hook_timeout_secs);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return err_set(err, "%s failed", chain->hook_args);
    return parse_height(out, ret_height) ||
           err_set(err, "%s must print {\"latest_block_height\": \"NUMBER\"}", chain->hook_args);
}

bool hook_run(
    struct monitor *m, const struct config_chain *chain, int64_t *ret_height, struct err *err)
{
    struct err why;
    if (chain->hook_args_n == 0 || ask_hook(m, chain, ret_height, &why))
        return true;
    if (chain->hook_fail_closed || m->stopping)
        return err_set(err, "state_hook: %s", why.text);
    log_line(LOG_WARN, "tmkms::state",
        "[%s] state_hook: %s; going on without it (fail_closed = false)", chain->id, why.text);
    return true;
}
