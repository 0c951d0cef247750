/* keeper_rig: a keeper process with both ends of its sockets in the test's hand, and a run folder of the test's own. */
#ifndef TMKMS_TESTS_PARENT_KEEPER_RIG_H
#define TMKMS_TESTS_PARENT_KEEPER_RIG_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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
#include "folder.h"
#include "ipc/control.h"
#include "nitro/push.h"
#include "parent/keeper.h"

struct keeper_rig {
    pid_t pid;
    int control, log;
};

static char run_dir[64]; /* $TMKMS_RUN_DIR */

static inline void rig_make_run_dir(void)
{
    snprintf(run_dir, sizeof run_dir, "/tmp/tmkms-test-run-XXXXXX");
    assert_non_null(mkdtemp(run_dir));
    setenv("TMKMS_RUN_DIR", run_dir, 1);
}

/* Also checks that nothing is left of any enclave. */
static inline void rig_remove_run_dir(void)
{
    assert_int_equal(folder_count(run_dir), 0);
    assert_int_equal(rmdir(run_dir), 0);
}

static inline struct machine_options rig_options(enum machine_kind kind, const char *name)
{
    struct machine_options o = {.kind = kind};
    snprintf(o.name, sizeof o.name, "%s", name);
    return o;
}

static inline struct keeper_rig rig_spawn(void)
{
    int control[2], log[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, log), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int to_control = fcntl(control[1], F_DUPFD, 64), to_log = fcntl(log[1], F_DUPFD, 64);
        dup2(to_control, CHILD_FD_CONTROL);
        dup2(to_log, CHILD_FD_LOG);
        close_range(CHILD_FD_LOG + 1, ~0U, 0);
        execl(TMKMS_BINARY, "tmkms", "@keeper", "-q", NULL);
        _exit(127);
    }
    close(control[1]);
    close(log[1]);
    return (struct keeper_rig){.pid = pid, .control = control[0], .log = log[0]};
}

static inline void rig_ask(const struct keeper_rig *k, const struct machine_options *o)
{
    struct keeper_message msg = {.kind = KEEPER_START, .u.options = *o};
    size_t n = offsetof(struct keeper_message, u) + sizeof *o;
    assert_true(fd_send_msg(k->control, &msg, n, NULL, 0));
}

static inline struct keeper_message rig_hear(const struct keeper_rig *k, unsigned seconds)
{
    struct keeper_message msg;
    if (!fd_wait(k->control, POLLIN, clock_monotonic_us() + seconds * 1000000ULL))
        fail_msg("the keeper says nothing");
    assert_int_equal(keeper_recv(k->control, &msg), 1);
    return msg;
}

static inline struct machine_place rig_must_run(const struct keeper_rig *k, unsigned seconds)
{
    struct keeper_message msg = rig_hear(k, seconds);
    if (msg.kind != KEEPER_RUNS)
        fail_msg("it does not run: %s", msg.u.text);
    return msg.u.place;
}

static inline bool rig_has_ended(pid_t pid, unsigned milliseconds)
{
    for (unsigned i = 0; i < milliseconds / 2; i++) {
        if (waitpid(pid, NULL, WNOHANG) == pid)
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    return false;
}

static inline void rig_close(struct keeper_rig *k)
{
    fd_close(&k->control);
    fd_close(&k->log);
}

/* Ends the keeper by closing its control socket: within three seconds, as promised, and some for a busy machine. */
static inline void rig_stop(struct keeper_rig *k)
{
    rig_close(k);
    assert_true(rig_has_ended(k->pid, 6000));
}

/* The processes whose command line holds text; the numbers of the first of them. */
static inline size_t rig_processes(const char *text, pid_t *ret, size_t cap)
{
    size_t n = 0;
    DIR *d = opendir("/proc");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char path[300], line[4096];
        snprintf(path, sizeof path, "/proc/%s/cmdline", e->d_name);
        int fd = e->d_name[0] >= '1' && e->d_name[0] <= '9' ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        ssize_t got = fd >= 0 ? read(fd, line, sizeof line) : -1;
        fd_close(&fd);
        if (got > 0 && memmem(line, (size_t)got, text, strlen(text)) != NULL) {
            if (n < cap)
                ret[n] = (pid_t)strtol(e->d_name, NULL, 10);
            n++;
        }
    }
    closedir(d);
    return n;
}

/* The child of the keeper that was started with text among its arguments. */
static inline pid_t rig_child(const struct keeper_rig *k, const char *text)
{
    pid_t found[16];
    size_t n = rig_processes(text, found, 16);
    for (size_t i = 0; i < n && i < 16; i++) {
        char path[64];
        long parent = 0;
        snprintf(path, sizeof path, "/proc/%d/stat", found[i]);
        FILE *f = fopen(path, "r");
        if (f != NULL && fscanf(f, "%*d %*s %*c %ld", &parent) == 1 && parent == k->pid) {
            fclose(f);
            return found[i];
        }
        if (f != NULL)
            fclose(f);
    }
    fail_msg("the keeper has no child with %s", text);
    return 0;
}

static inline bool rig_is_gone(const char *text, unsigned milliseconds)
{
    for (unsigned i = 0; i < milliseconds / 10; i++) {
        if (rig_processes(text, NULL, 0) == 0)
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return false;
}

/* The enclave's own word, over its config port. */
static inline void rig_ping(const char *uds, const char *state)
{
    struct vsock v;
    struct err err;
    uint64_t deadline = clock_monotonic_us() + 20000000;
    if (!vsock_from(&v, uds, &err))
        fail_msg("%s", err.text);
    int fd = vsock_dial_guest(&v, 0, PUSH_PORT, deadline, &err);
    json_t *ping = json_pack("{s:s}", "op", "ping");
    json_t *answer = fd >= 0 ? push_ask(fd, ping, deadline, NULL, &err) : NULL;
    if (answer == NULL)
        fail_msg("no answer to a ping: %s", err.text);
    assert_string_equal(json_string_value(json_object_get(answer, "state")), state);
    json_decref(ping);
    json_decref(answer);
    close(fd);
}

#endif
