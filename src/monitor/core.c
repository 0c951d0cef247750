#include "monitor/core.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "ipc/child.h"
#include "monitor/chains.h"
#include "monitor/dial.h"
#include "monitor/health.h"
#include "monitor/reload.h"
#include "sandbox/sandbox.h"

static const char log_name[] = "tmkms::monitor";

enum {
    STOP_US = 700000,     /* what the children get to end after SIGTERM */
    ANSWER_US = 15000000, /* a child that does not answer the monitor for so long is broken */
    TAKE_US =
        5000000, /* a session that takes no message for so long is, too: it never waits itself */
    SESSION_RESTART_US = 500000, /* between two deaths of the session in a row */
};

/* ---- signals ---- */

static bool open_signals(struct monitor *m, struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return err_errno(err, "cannot block signals");
    m->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return m->signals >= 0 || err_errno(err, "cannot make a signalfd");
}

/* Takes the signals that wait. SIGCHLD needs no care of its own: every turn of the loop looks at
 * the children. */
static void take_signals(struct monitor *m)
{
    struct signalfd_siginfo info;
    while (read(m->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP)
            m->reload_wanted = true;
        if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
            m->stopping = true;
    }
}

/* ---- talking with the children ---- */

static bool is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return fd >= 0 && poll(&p, 1, 0) == 1;
}

/* The control socket ended: say how the process did. It is left to look_at_children to bury it. */
bool core_lost(const struct child *c, struct err *err)
{
    for (int i = 0; i < 100 && c->pid > 0; i++) {
        siginfo_t info = {0};
        char why[64];
        if (waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            info.si_pid == c->pid) {
            int status = info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status;
            return err_set(err, "the %s process ended (%s)", c->role + 1,
                child_end_text(status, why, sizeof why));
        }
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    return err_set(err, "the %s process closed its control socket", c->role + 1);
}

/* What a child says unasked: that it lives, a failure in words, or that it needs a connection. */
static void take_unasked(struct monitor *m, struct child *from, const struct control *msg)
{
    if (msg->kind == CONTROL_PONG)
        health_heard(from);
    else if (msg->kind == CONTROL_FAILED)
        log_line(LOG_ERROR, log_name, "%s", msg->u.text);
    else if (msg->kind == CONTROL_LINK_ASK && from == &m->signer && m->source->give_link != NULL)
        m->source->give_link(m, msg->u.chain_id);
    else if (msg->kind == CONTROL_DIAL && from == &m->session)
        dial_answer(m, &msg->u.dial);
}

/* A child that never stops talking is not listened to for ever. */
static void hear(struct monitor *m, struct child *c)
{
    enum { AT_ONCE = 64 };
    struct control msg;
    size_t fds_n;
    for (int i = 0; i < AT_ONCE && is_readable(c->control); i++) {
        int got = control_recv(c->control, &msg, NULL, 0, &fds_n);
        if (got == 1)
            take_unasked(m, c, &msg);
        else if (got == 0 || (errno != EPROTO && errno != EMSGSIZE))
            fd_close(&c->control);
    }
}

/* A log that may still wait is not looked at, and ends the turn when it is due. */
static int log_to_watch(const struct child *c, uint64_t now, int *timeout_ms)
{
    if (c->log < 0 || now >= c->log_due_us)
        return c->log;
    int ms = (int)((c->log_due_us - now + 999) / 1000);
    if (*timeout_ms < 0 || ms < *timeout_ms)
        *timeout_ms = ms;
    return -1;
}

static void hear_aside(struct monitor *m, const struct pollfd *polled)
{
    bool is_heard = false;
    for (size_t i = 0; i < m->aside_n; i++) {
        m->aside[i].revents = polled[i].revents;
        is_heard |= polled[i].revents != 0;
    }
    if (is_heard)
        m->source->hear_aside(m);
}

void core_turn(struct monitor *m, struct pollfd *extra, size_t extra_n, int timeout_ms)
{
    enum { OWN = 5 };
    uint64_t now = clock_monotonic_us();
    struct pollfd p[OWN + CORE_EXTRA_MAX + CORE_ASIDE_MAX] = {
        {.fd = m->signals, .events = POLLIN},
        {.fd = log_to_watch(&m->signer, now, &timeout_ms), .events = POLLIN},
        {.fd = log_to_watch(&m->session, now, &timeout_ms), .events = POLLIN},
        {.fd = m->signer.control, .events = POLLIN},
        {.fd = m->session.control, .events = POLLIN},
    };
    size_t at = OWN;
    for (size_t i = 0; i < extra_n && i < CORE_EXTRA_MAX; i++)
        p[at++] = extra[i];
    memcpy(&p[at], m->aside, m->aside_n * sizeof p[0]);
    poll(p, at + m->aside_n, health_timeout_ms(m, timeout_ms));
    for (size_t i = OWN; i < at; i++)
        extra[i - OWN].revents = p[i].revents;
    if (p[1].revents != 0 && !child_forward_log(&m->signer))
        fd_close(&m->signer.log);
    if (p[2].revents != 0 && !child_forward_log(&m->session))
        fd_close(&m->session.log);
    if (p[0].revents != 0)
        take_signals(m);
    if (p[3].revents != 0 && m->awaited != &m->signer)
        hear(m, &m->signer);
    if (p[4].revents != 0 && m->awaited != &m->session)
        hear(m, &m->session);
    hear_aside(m, &p[at]);
    health_turn(m);
}

/* Nobody who waits here may wait for ever: one that takes nothing would hold all the others. */
static void give_up(struct child *c)
{
    log_line(LOG_ERROR, log_name, "the %s process takes no messages and is killed", c->role + 1);
    if (c->pid > 0)
        kill(c->pid, SIGKILL);
    fd_close(&c->control);
    errno = ETIMEDOUT;
}

bool core_send(
    struct monitor *m, struct child *to, const struct control *msg, const int *fds, size_t fds_n)
{
    uint64_t deadline = clock_monotonic_us() + (to == &m->signer ? ANSWER_US : TAKE_US);
    while (!control_send_now(to->control, msg, fds, fds_n)) {
        if (errno != EAGAIN || m->stopping)
            return false;
        if (clock_monotonic_us() >= deadline) {
            give_up(to);
            return false;
        }
        struct pollfd p = {.fd = to->control, .events = POLLOUT};
        core_turn(m, &p, 1, 100);
    }
    return true;
}

static bool await(struct monitor *m, struct child *from, uint32_t kind, struct control *ret,
    int *ret_fd, struct err *err)
{
    uint64_t deadline = clock_monotonic_us() + ANSWER_US;
    while (clock_monotonic_us() < deadline) {
        if (!is_readable(from->control)) {
            core_turn(m, NULL, 0, 100);
            if (m->stopping)
                return err_set(err, "told to end");
            continue;
        }
        size_t fds_n;
        int got = control_recv(from->control, ret, ret_fd, ret_fd != NULL ? 1 : 0, &fds_n);
        if (got != 1)
            return core_lost(from, err);
        if (ret->kind == CONTROL_FAILED)
            return err_set(err, "%s", ret->u.text);
        if (ret->kind == kind)
            return true;
        take_unasked(m, from, ret);
    }
    return err_set(err, "the %s process does not answer", from->role + 1);
}

bool core_await_fd(struct monitor *m, struct child *from, uint32_t kind, struct control *ret,
    int *ret_fd, struct err *err)
{
    if (from->control < 0)
        return core_lost(from, err);
    m->awaited = from;
    bool ok = await(m, from, kind, ret, ret_fd, err);
    m->awaited = NULL;
    return ok;
}

bool core_await(
    struct monitor *m, struct child *from, uint32_t kind, struct control *ret, struct err *err)
{
    return core_await_fd(m, from, kind, ret, NULL, err);
}

/* ---- the session ---- */

/* A session knows nothing at its start: chains first, then validators, then the question whether
 * all went well. */
bool core_start_session(struct monitor *m, struct err *err)
{
    if (!child_spawn(&m->session, "@session", NULL, -1, err))
        return false;
    for (size_t i = 0; i < m->chains_n; i++)
        if (!chains_connect(m, &m->chains[i], err))
            return false;
    for (size_t i = 0; i < m->config.validators_n; i++)
        if (!reload_add_validator(m, &m->config.validators[i], err))
            return false;
    return reload_confirm_session(m, err);
}

bool core_session_runs(const struct monitor *m)
{
    return m->session.pid > 0 && m->session.control >= 0 && m->session_due_us == 0;
}

static void restart_session(struct monitor *m)
{
    struct err err;
    m->session_due_us = 0;
    if (core_start_session(m, &err)) {
        log_line(LOG_INFO, log_name, "the session process runs again");
        return;
    }
    if (!m->stopping)
        log_line(LOG_ERROR, log_name, "cannot start the session process: %s", err.text);
    child_stop(&m->session, 0);
    m->session_due_us = clock_monotonic_us() + SESSION_RESTART_US;
}

/* ---- the children ---- */

static bool has_ended(struct monitor *m, struct child *c, int *ret_status)
{
    if (c->pid <= 0 || waitpid(c->pid, ret_status, WNOHANG) != c->pid)
        return false;
    c->pid = 0;
    hear(m, c);
    child_close(c);
    return true;
}

/* A dead signer ends the program: its memory was the floor against rollback. A session that was
 * killed is started again; one that ended by itself had nothing more to do, and has said so.
 * Returns -1 to go on, else the exit code. */
static int bury(struct monitor *m)
{
    int status;
    char why[64];
    if (has_ended(m, &m->signer, &status)) {
        log_line(LOG_ERROR, log_name, "the signer process ended (%s), and tmkms with it",
            child_end_text(status, why, sizeof why));
        return WIFEXITED(status) && WEXITSTATUS(status) == CHILD_EXIT_STATE ? CHILD_EXIT_STATE
                                                                            : EXIT_FAILURE;
    }
    uint64_t lived_from = m->session.started_us;
    if (has_ended(m, &m->session, &status)) {
        if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE)
            return EXIT_FAILURE;
        log_line(LOG_ERROR, log_name, "the session process ended (%s) and is started again",
            child_end_text(status, why, sizeof why));
        uint64_t now = clock_monotonic_us();
        m->session_due_us =
            now - lived_from > 10 * SESSION_RESTART_US ? now : now + SESSION_RESTART_US;
    }
    return -1;
}

int core_watch(struct monitor *m)
{
    int code = bury(m);
    if (code < 0 && m->session_due_us != 0 && clock_monotonic_us() >= m->session_due_us)
        restart_session(m);
    return code;
}

/* ---- start and stop ---- */

/* Standard streams, children, pipes, and room above 64, where a child's descriptors wait for their places; the signer
 * has two for each chain, the session one for each chain and validator. */
bool core_check_descriptors(const struct config *config, struct err *err)
{
    enum { FOR_ITSELF = 96, FOR_EACH = 2 };
    rlim_t needed = FOR_ITSELF + FOR_EACH * (config->chains_n + config->validators_n);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max >= needed)
        return true;
    return err_set(err,
        "a process may open %llu files, and tmkms needs %llu here; raise the limit with "
        "`LimitNOFILE=%llu` in the systemd unit or `ulimit -Hn`",
        (unsigned long long)limit.rlim_max, (unsigned long long)needed, (unsigned long long)needed);
}

/* Many validators need many descriptors; the hard limit is ours to use. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

void core_stop(struct monitor *m)
{
    uint64_t deadline = clock_monotonic_us() + STOP_US;
    child_stop(&m->session, deadline);
    child_stop(&m->signer, deadline);
    for (size_t i = 0; i < m->chains_n; i++)
        fd_close(&m->chains[i].lock);
    fd_close(&m->signals);
    notify_close(&m->notify);
    free(m->chains);
    config_free(&m->config);
}

bool core_start(struct monitor *m, struct err *err)
{
    m->signals = -1;
    m->signer = m->session = CHILD_NONE;
    m->notify = NOTIFY_NONE;
    raise_descriptor_limit();
    m->chains = calloc(CONFIG_CHAINS_MAX, sizeof *m->chains);
    if (m->chains == NULL)
        return err_set(err, "out of memory");
    return core_check_descriptors(&m->config, err) && open_signals(m, err) &&
           sandbox_harden(false, err);
}
