#include "enclave/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "enclave/guest_impl.h"
#include "monitor/chains.h"
#include "sandbox/sandbox.h"

static const char log_name[] = "tmkms::nitro";

enum {
    PUSH_LIFE_US = 180000000, /* no client of the config port stays longer */
    LOG_REDIAL_US = 2000000,
    FAREWELL_US = 500000, /* for the last answers, at the end */
};

/* ---- clients of the config port ---- */

static struct guest_push *free_push(struct guest *g)
{
    for (int i = 0; i < GUEST_PUSHES_MAX; i++)
        if (g->pushes[i].child.pid == 0)
            return &g->pushes[i];
    return NULL;
}

/* A full house makes room by ending the oldest: strangers that connect and say nothing cannot keep the operator out. */
static struct guest_push *make_room(struct guest *g)
{
    struct guest_push *oldest = NULL;
    for (int i = 0; i < GUEST_PUSHES_MAX; i++) {
        struct guest_push *p = &g->pushes[i];
        if (p != g->served && (oldest == NULL || p->child.started_us < oldest->child.started_us))
            oldest = p;
    }
    child_stop(&oldest->child, 0);
    return oldest;
}

static void accept_push(struct guest *g)
{
    struct err err;
    char port[16];
    int client = vsock_accept_guest(g->listener, &err);
    if (client < 0)
        return;
    snprintf(port, sizeof port, "%u", g->port);
    struct guest_push *push = free_push(g);
    if (push == NULL)
        push = make_room(g);
    *push = (struct guest_push){.child = CHILD_NONE};
    if (!child_spawn(&push->child, "@push", port, client, &err))
        log_line(LOG_ERROR, log_name, "a push cannot be served: %s", err.text);
    fd_close(&client);
}

static void bury_pushes(struct guest *g)
{
    for (int i = 0; i < GUEST_PUSHES_MAX; i++) {
        struct child *c = &g->pushes[i].child;
        int status;
        if (c->pid == 0 || &g->pushes[i] == g->served)
            continue;
        if (waitpid(c->pid, &status, WNOHANG) == c->pid) {
            c->pid = 0;
            child_close(c);
        } else if (clock_monotonic_us() - c->started_us > PUSH_LIFE_US) {
            child_stop(c, 0);
        }
    }
}

/* Those whose request waits have said all that they will say before its turn. */
static void watch_pushes(struct guest *g)
{
    g->m.aside_n = GUEST_PUSHES_MAX + 1;
    for (int i = 0; i < GUEST_PUSHES_MAX; i++) {
        const struct guest_push *p = &g->pushes[i];
        bool is_heard = p->child.pid != 0 && !p->is_asking;
        g->m.aside[i] = (struct pollfd){.fd = is_heard ? p->child.control : -1, .events = POLLIN};
    }
    g->m.aside[GUEST_PUSHES_MAX] = (struct pollfd){.fd = g->listener, .events = POLLIN};
}

/* Also while a request is in work: new clients are let in, and a ping is answered. */
void guest_hear_clients(struct monitor *m)
{
    struct guest *g = (struct guest *)m;
    for (int i = 0; i < GUEST_PUSHES_MAX; i++)
        if (m->aside[i].revents != 0)
            guest_push_hear(g, &g->pushes[i]);
    if (m->aside[GUEST_PUSHES_MAX].revents != 0)
        accept_push(g);
    bury_pushes(g);
    watch_pushes(g);
}

static void serve_pushes(struct guest *g)
{
    for (int i = 0; i < GUEST_PUSHES_MAX; i++) {
        struct guest_push *p = &g->pushes[i];
        if (p->child.pid == 0 || !p->is_asking)
            continue;
        g->served = p;
        guest_push_serve(g, p);
        g->served = NULL;
        p->is_asking = false;
    }
    bury_pushes(g);
    watch_pushes(g);
}

/* Answers that are on their way may arrive: a client wants to know why its request ends with the enclave. */
static void stop_pushes(struct guest *g)
{
    uint64_t deadline = clock_monotonic_us() + FAREWELL_US;
    for (int i = 0; i < GUEST_PUSHES_MAX; i++)
        fd_close(&g->pushes[i].child.control);
    for (int i = 0; i < GUEST_PUSHES_MAX; i++)
        child_stop(&g->pushes[i].child, deadline);
}

/* ---- log lines to the parent ---- */

/* A parent that does not listen, or does not read, costs lines, never time. */
static void keep_log_link(struct guest *g)
{
    uint64_t now = clock_monotonic_us();
    if (g->log_port == 0 || log_has_second() || now < g->log_due_us)
        return;
    struct err err;
    g->log_due_us = now + LOG_REDIAL_US;
    int fd = vsock_dial_parent_start(&g->vsock, g->log_port, &err);
    if (fd >= 0)
        log_set_second(fd);
}

/* ---- the life of the enclave's monitor ---- */

static int run_loop(struct guest *g)
{
    watch_pushes(g);
    while (!g->m.stopping) {
        core_turn(&g->m, NULL, 0, g->m.session_due_us != 0 ? 50 : 500);
        if (g->m.stopping)
            return EXIT_SUCCESS;
        int code = core_watch(&g->m);
        if (code >= 0)
            return code;
        serve_pushes(g);
        keep_log_link(g);
    }
    return EXIT_SUCCESS;
}

static bool start_signer(struct guest *g, struct err *err)
{
    struct control nsm = {.kind = CONTROL_NSM};
    return child_spawn(&g->m.signer, "@signer", NULL, -1, err) &&
           (core_send(&g->m, &g->m.signer, &nsm, &g->nsm, 1) ||
               err_errno(err, "cannot reach the signer process"));
}

static bool start(struct guest *g, struct err *err)
{
    if (!core_start(&g->m, err) || !crypto_start(err))
        return false;
    /* The children find the other side of vsock the same way. */
    if (!vsock_export(&g->vsock, err))
        return false;
    if (g->nsm < 0)
        g->nsm = nsm_open(err);
    if (g->nsm < 0 || !start_signer(g, err))
        return false;
    if (g->listener < 0)
        g->listener = vsock_listen_guest(&g->vsock, g->port, err);
    return g->listener >= 0 && sandbox_enter(SANDBOX_MONITOR, err);
}

int guest_run(const struct guest_options *options)
{
    static struct guest g;
    struct err err;
    g = (struct guest){.m = {.source = &guest_source},
        .vsock = options->vsock,
        .port = options->port,
        .nsm = options->nsm > 0 ? options->nsm : -1,
        .listener = options->listener > 0 ? options->listener : -1,
        .told_log_port = options->log_port};
    for (int i = 0; i < GUEST_PUSHES_MAX; i++)
        g.pushes[i].child = CHILD_NONE;
    int code = EXIT_FAILURE;
    if (start(&g, &err)) {
        log_line(LOG_INFO, log_name, "waiting for the config on vsock port %u", options->port);
        code = run_loop(&g);
    } else {
        log_line(LOG_ERROR, log_name, "%s", err.text);
    }
    stop_pushes(&g);
    if (code == EXIT_SUCCESS)
        log_line(LOG_INFO, log_name, "Shutdown completed successfully");
    fd_close(&g.listener);
    guest_forget_identities(&g);
    core_stop(&g.m);
    fd_close(&g.nsm);
    return code;
}
