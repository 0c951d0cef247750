#include "parent/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "ipc/control.h"
#include "parent/kept.h"
#include "parent/machine_impl.h"
#include "sandbox/sandbox.h"

static const char log_name[] = "tmkms::keeper";

/* ---- messages ---- */

static size_t size_of(uint32_t kind)
{
    size_t head = offsetof(struct keeper_message, u);
    switch (kind) {
    case KEEPER_START:
        return head + sizeof(struct machine_options);
    case KEEPER_RUNS:
        return head + sizeof(struct machine_place);
    case KEEPER_FAILED:
    case KEEPER_ENDED:
        return head + KEEPER_TEXT_MAX;
    }
    return 0;
}

static bool place_is_sound(const struct machine_place *p)
{
    return p->cpu_ids_n <= MACHINE_CPUS_MAX && memchr(p->id, '\0', sizeof p->id) != NULL &&
           memchr(p->uds, '\0', sizeof p->uds) != NULL &&
           memchr(p->console, '\0', sizeof p->console) != NULL;
}

int keeper_recv(int control, struct keeper_message *ret)
{
    struct keeper_message msg = {0};
    size_t fds_n;
    ssize_t n = fd_recv_msg(control, &msg, sizeof msg, NULL, 0, &fds_n);
    if (n == 0 || (n < 0 && errno == ECONNRESET))
        return 0;
    if (n < (ssize_t)offsetof(struct keeper_message, u) || (size_t)n != size_of(msg.kind))
        return -1;
    if (msg.kind == KEEPER_RUNS && !place_is_sound(&msg.u.place))
        return -1;
    if ((msg.kind == KEEPER_FAILED || msg.kind == KEEPER_ENDED) &&
        memchr(msg.u.text, '\0', sizeof msg.u.text) == NULL)
        return -1;
    *ret = msg;
    return 1;
}

bool keeper_spawn(struct child *ret, const struct machine_options *options, struct err *err)
{
    struct keeper_message msg = {.kind = KEEPER_START, .u.options = *options};
    struct child c = CHILD_NONE;
    if (!machine_options_check(options, err) || !child_spawn(&c, "@keeper", NULL, -1, err))
        return false;
    if (!fd_send_msg(c.control, &msg, size_of(KEEPER_START), NULL, 0)) {
        err_errno(err, "cannot tell the keeper process what to start");
        child_stop(&c, 0);
        return false;
    }
    *ret = c;
    return true;
}

/* Best effort: who held the other end may be gone, and that is no news. */
static void report(uint32_t kind, bool is_busy, const char *text)
{
    struct keeper_message msg = {.kind = kind, .is_busy = is_busy};
    snprintf(msg.u.text, sizeof msg.u.text, "%s", text);
    if (!fd_send_msg_before(CHILD_FD_CONTROL, &msg, size_of(kind), NULL, 0, 0))
        log_line(LOG_DEBUG, log_name, "nobody is told: %s", text);
}

static bool report_runs(const struct machine *m, struct err *err)
{
    struct keeper_message msg = {.kind = KEEPER_RUNS, .u.place = m->place};
    return fd_send_msg_before(CHILD_FD_CONTROL, &msg, size_of(KEEPER_RUNS), NULL, 0, 0) ||
           err_errno(err, "cannot report that the enclave runs");
}

/* ---- the process ---- */

/* Credentials are for `nitro run` alone: no machine needs them. */
static void forget_credentials(void)
{
    static const char *const names[] = {
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
}

/* A session of its own: the terminal's signals are for who started the keeper. Other than the children of a monitor it
 * is not killed with its parent, as it has an enclave to end first. */
static bool begin(struct err *err)
{
    log_set_output(CHILD_FD_LOG, true);
    forget_credentials();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    if (setsid() < 0 && errno != EPERM)
        return err_errno(err, "cannot make a session");
    return sandbox_harden(false, err);
}

static bool take_options(struct leash *leash, struct machine_options *ret, struct err *err)
{
    enum { WAIT_US = 10000000 };
    struct keeper_message msg;
    if (!fd_wait(leash->control, POLLIN, clock_monotonic_us() + WAIT_US))
        return err_set(err, "nobody said what to start");
    if (keeper_recv(leash->control, &msg) != 1 || msg.kind != KEEPER_START)
        return err_set(err, "what to start was not understood");
    *ret = msg.u.options;
    return machine_options_check(ret, err);
}

/* From now on nobody waits for the end of the keeper, or for its words: they go into a file. */
static bool detach(struct leash *leash, const struct kept *kept, struct err *err)
{
    char path[MACHINE_PATH_MAX + 16];
    int null ATTR_CLEANUP(fd_close) = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (!kept_path(kept, "keeper.log", path, sizeof path, err))
        return false;
    int log ATTR_CLEANUP(fd_close) =
        open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log < 0 || null < 0)
        return err_errno(err, "cannot create %s", path);
    leash->control = -1;
    bool ok = dup2(null, CHILD_FD_CONTROL) >= 0 && dup2(log, CHILD_FD_LOG) >= 0 &&
              dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 &&
              dup2(log, STDERR_FILENO) >= 0 && chdir("/") == 0;
    log_set_output(CHILD_FD_LOG, false);
    return ok || err_errno(err, "cannot leave the process that asked for the enclave");
}

static bool start(struct machine *m, const struct machine_options *o, const struct kept *kept,
    struct leash *leash, struct err *err)
{
    struct machine_place none = {0};
    if (!kept_write(kept, o, &none, "STARTING", NULL, err) ||
        !machine_start(m, o, kept, leash, err))
        return false;
    if (kept_write(kept, &m->options, &m->place, "RUNNING", NULL, err) && report_runs(m, err) &&
        (!o->is_detached || detach(leash, kept, err)))
        return true;
    machine_stop(m);
    return false;
}

/* Of an enclave that nobody watches, what is left of it says why it ended: until the next start of that name. */
static void leave_or_remove(
    struct machine *m, struct kept *kept, bool ended_by_itself, const char *why)
{
    struct err err;
    bool is_left = m->options.is_detached && ended_by_itself &&
                   kept_write(kept, &m->options, &m->place, "ENDED", why, &err);
    if (is_left)
        kept_leave(kept);
    else
        kept_remove(kept);
}

static int keep(struct machine *m, struct kept *kept, struct leash *leash)
{
    struct err err = {0};
    log_line(LOG_DEBUG, log_name, "enclave %s runs as %s", m->options.name, m->place.id);
    machine_keep(m, &err);
    bool by_itself = !leash->is_cut;
    machine_stop(m);
    leave_or_remove(m, kept, by_itself, err.text);
    report(KEEPER_ENDED, false, err.text);
    if (by_itself)
        log_line(LOG_DEBUG, log_name, "enclave %s: %s", m->options.name, err.text);
    return by_itself ? EXIT_FAILURE : EXIT_SUCCESS;
}

int keeper_main(void)
{
    static struct machine machine;
    struct machine_options options;
    struct kept kept = KEPT_NONE;
    struct leash leash;
    struct err err;
    if (!begin(&err) || !leash_open(&leash, CHILD_FD_CONTROL, &err)) {
        report(KEEPER_FAILED, false, err.text);
        return EXIT_FAILURE;
    }
    if (take_options(&leash, &options, &err) && kept_take(&kept, options.name, &err) &&
        start(&machine, &options, &kept, &leash, &err))
        return keep(&machine, &kept, &leash);
    kept_remove(&kept);
    report(KEEPER_FAILED, machine.is_busy, err.text);
    return EXIT_FAILURE;
}
