#include "enclave/watch.h"

#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

struct step {
    uint64_t deadline_us;
    uint32_t seconds;
    char name[WATCH_STEP_MAX];
};

/* Ends with PID 1's end of the socket. */
ATTR_NORETURN static void stand_watch(int steps, watch_end *end, void *ctx)
{
    struct step now = {.deadline_us = UINT64_MAX};
    size_t fds_n;
    for (;;) {
        if (!fd_wait(steps, POLLIN, now.deadline_us)) {
            char words[WATCH_STEP_MAX + 64];
            snprintf(words, sizeof words, "%s took more than %u seconds", now.name, now.seconds);
            end(ctx, words);
            _exit(EXIT_FAILURE);
        }
        if (fd_recv_msg(steps, &now, sizeof now, NULL, 0, &fds_n) != (ssize_t)sizeof now)
            _exit(EXIT_SUCCESS);
        now.name[sizeof now.name - 1] = '\0';
    }
}

bool watch_start(struct watch *ret, watch_end *end, void *ctx, struct err *err)
{
    int pair[2] ATTR_CLEANUP(fd_close_pair) = {-1, -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return err_errno(err, "cannot make a socket pair");
    pid_t pid = fork();
    if (pid < 0)
        return err_errno(err, "cannot start a process");
    if (pid == 0) {
        fd_close(&pair[0]);
        stand_watch(pair[1], end, ctx);
    }
    *ret = (struct watch){.pid = pid, .steps = pair[0]};
    pair[0] = -1;
    return true;
}

void watch_step(const struct watch *w, const char *step, unsigned seconds)
{
    struct step s = {
        .deadline_us = clock_monotonic_us() + seconds * 1000000ULL, .seconds = seconds};
    snprintf(s.name, sizeof s.name, "%s", step);
    (void)!fd_send_msg_before(w->steps, &s, sizeof s, NULL, 0, 0);
}

void watch_stop(struct watch *w)
{
    fd_close(&w->steps);
    if (w->pid > 0)
        waitpid(w->pid, NULL, 0);
    w->pid = 0;
}
