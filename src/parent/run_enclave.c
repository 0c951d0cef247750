/* The keeper, and the enclave through it. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "parent/run_impl.h"

static const char log_name[] = "tmkms::run";

/* ---- what is wanted ---- */

static uint32_t kind_of(const struct run_options *o)
{
    if (o->how == RUN_QEMU)
        return MACHINE_QEMU;
    return o->how == RUN_SIMULATED ? MACHINE_SIMULATED : (uint32_t)machine_kind_here();
}

static bool fill_options(struct machine_options *ret, const struct run *r, struct err *err)
{
    const struct config_enclave *e = &r->config.config.enclave;
    const char *eif = r->options->eif != NULL ? r->options->eif : e->eif;
    *ret = (struct machine_options){.kind = kind_of(r->options),
        .cpus = e->cpus,
        .memory_mib = e->memory_mib,
        .cid = e->cid,
        .is_debug = r->options->is_debug,
        .port = r->options->port};
    snprintf(ret->name, sizeof ret->name, "%s", e->name);
    snprintf(ret->role, sizeof ret->role, "%s", r->options->role != NULL ? r->options->role : "");
    snprintf(ret->instance, sizeof ret->instance, "%s",
        r->options->instance != NULL ? r->options->instance : "");
    /* In place of AF_VSOCK it is for who tests with another program of the name nitro-cli. */
    if (ret->kind == MACHINE_QEMU || ret->kind == MACHINE_SIMULATED)
        snprintf(ret->uds, sizeof ret->uds, "%s", r->vsock.uds);
    if (ret->kind == MACHINE_SIMULATED)
        return true;
    char *whole = realpath(eif, NULL);
    if (whole == NULL)
        return err_errno(err, "the image %.200s cannot be opened", eif);
    bool fits = strlen(whole) < sizeof ret->eif;
    snprintf(ret->eif, sizeof ret->eif, "%s", whole);
    free(whole);
    return fits || err_set(err, "the path of the image %.200s is too long", eif);
}

bool run_enclave_check(const struct run *r, struct err *err)
{
    static const char device[] = "/dev/nitro_enclaves";
    struct machine_options o;
    if (!fill_options(&o, r, err))
        return false;
    if (o.eif[0] != '\0' && access(o.eif, R_OK) != 0)
        return err_errno(err, "the image %s cannot be opened", o.eif);
    if (o.kind == MACHINE_DEVICE && access(device, R_OK | W_OK) != 0)
        return err_set(err,
            "there is no nitro-cli here, and %s cannot be opened: %s. Is this an instance with "
            "enclaves enabled? For trials on another machine there are --qemu and --simulate",
            device, strerror(errno));
    return machine_options_check(&o, err);
}

void run_enclave_words(const struct run *r, char *out, size_t cap)
{
    const struct config_enclave *e = &r->config.config.enclave;
    if (r->options->how == RUN_SIMULATED)
        snprintf(out, cap, "%s as a process of this machine", e->name);
    else
        snprintf(out, cap, "%s from %.300s, %s", e->name,
            r->options->eif != NULL ? r->options->eif : e->eif,
            machine_kind_name((enum machine_kind)kind_of(r->options)));
}

/* ---- what the keeper says ---- */

static void take_message(struct run *r, const struct keeper_message *msg)
{
    struct run_keeper *k = &r->keeper;
    switch ((enum keeper_kind)msg->kind) {
    case KEEPER_RUNS:
        k->end_by_us = 0;
        run_on_runs(r, &msg->u.place);
        return;
    case KEEPER_FAILED:
        k->has_failed = true;
        k->is_busy = msg->is_busy != 0;
        snprintf(k->last_words, sizeof k->last_words, "%s", msg->u.text);
        return;
    case KEEPER_ENDED:
        snprintf(k->last_words, sizeof k->last_words, "%s", msg->u.text);
        return;
    case KEEPER_START:
        break;
    }
    log_line(LOG_WARN, log_name, "the keeper says what was not understood");
}

static void on_heard(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct run *r = arg;
    static struct keeper_message msg;
    int got = keeper_recv((int)fd, &msg);
    if (got == 1)
        take_message(r, &msg);
    else
        event_del(r->keeper.heard); /* its end follows */
}

static void on_logged(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct run *r = arg;
    if (!child_forward_log(&r->keeper.child))
        event_del(r->keeper.logged);
}

/* ---- its life ---- */

static void forget(struct run_keeper *k)
{
    if (k->heard != NULL)
        event_free(k->heard);
    if (k->logged != NULL)
        event_free(k->logged);
    k->heard = k->logged = NULL;
}

bool run_enclave_start(struct run *r, struct err *err)
{
    struct run_keeper *k = &r->keeper;
    struct machine_options o;
    *k = (struct run_keeper){.child = CHILD_NONE};
    if (!fill_options(&o, r, err) || !keeper_spawn(&k->child, &o, err))
        return false;
    k->start_us = machine_start_us(&o);
    k->end_by_us = clock_monotonic_us() + k->start_us + KEEPER_STOP_US;
    k->heard = event_new(r->server.base, k->child.control, EV_READ | EV_PERSIST, on_heard, r);
    k->logged = event_new(r->server.base, k->child.log, EV_READ | EV_PERSIST, on_logged, r);
    if (k->heard != NULL && k->logged != NULL && event_add(k->heard, NULL) == 0 &&
        event_add(k->logged, NULL) == 0)
        return true;
    run_enclave_stop(r);
    return err_set(err, "out of memory");
}

/* Killed, it takes the enclave with it at once: all but AWS's tool, which it has to ask. */
void run_enclave_end(struct run *r, bool at_once)
{
    struct run_keeper *k = &r->keeper;
    if (k->child.pid <= 0)
        return;
    if (at_once && kind_of(r->options) != MACHINE_NITRO_CLI)
        kill(k->child.pid, SIGKILL);
    if (k->child.control < 0) /* it was told before, and has its time since then */
        return;
    if (k->heard != NULL)
        event_free(k->heard);
    k->heard = NULL;
    fd_close(&k->child.control);
    k->end_by_us = clock_monotonic_us() + KEEPER_STOP_US;
}

void run_enclave_tick(struct run *r, uint64_t now_us)
{
    struct run_keeper *k = &r->keeper;
    if (k->child.pid <= 0 || k->end_by_us == 0 || now_us <= k->end_by_us)
        return;
    if (r->is_stopping && kind_of(r->options) == MACHINE_NITRO_CLI) {
        log_line(LOG_ERROR, log_name,
            "the process that keeps the enclave does not end and is killed; the enclave may still "
            "run: see `nitro-cli describe-enclaves`");
        r->exit_code = EXIT_FAILURE;
    }
    kill(k->child.pid, SIGKILL);
    k->end_by_us = 0;
}

/* Its last message may still wait. */
static void hear_the_last(struct run *r)
{
    static struct keeper_message msg;
    for (int i = 0; i < 4 && r->keeper.child.control >= 0; i++) {
        if (keeper_recv(r->keeper.child.control, &msg) != 1)
            return;
        if (msg.kind != KEEPER_RUNS)
            take_message(r, &msg);
    }
}

void run_enclave_reap(struct run *r)
{
    struct run_keeper *k = &r->keeper;
    int status;
    char why[64];
    if (k->child.pid <= 0 || waitpid(k->child.pid, &status, WNOHANG) != k->child.pid)
        return;
    hear_the_last(r);
    if (k->last_words[0] == '\0')
        snprintf(k->last_words, sizeof k->last_words, "its keeper ended (%s)",
            child_end_text(status, why, sizeof why));
    forget(k);
    k->child.pid = 0;
    child_close(&k->child);
    run_on_gone(r, k->last_words);
}

void run_enclave_stop(struct run *r)
{
    forget(&r->keeper);
    if (r->keeper.child.pid > 0)
        child_stop(&r->keeper.child, clock_monotonic_us() + KEEPER_STOP_US);
}
