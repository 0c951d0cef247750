#include "monitor/config_child.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "ipc/child.h"
#include "ipc/control.h"
#include "monitor/child.h"
#include "sandbox/sandbox.h"

enum { CONFIG_CHILD_SECONDS = 10 };

/* ---- the child ---- */

static bool send_config(const struct config *config)
{
    struct control msg;
    for (size_t i = 0; i < config->chains_n; i++) {
        msg.kind = CONTROL_CHAIN_ADD;
        msg.u.chain = config->chains[i];
        if (!control_send(CHILD_FD_CONTROL, &msg, NULL, 0))
            return false;
    }
    for (size_t i = 0; i < config->validators_n; i++) {
        msg.kind = CONTROL_VALIDATOR_ADD;
        msg.u.validator = config->validators[i];
        if (!control_send(CHILD_FD_CONTROL, &msg, NULL, 0))
            return false;
    }
    return true;
}

static bool send_problems(const struct problems *problems)
{
    for (size_t i = 0; i < problems->n; i++) {
        const struct problem *p = &problems->list[i];
        struct control msg = {.kind = p->is_warning ? CONTROL_WARNING : CONTROL_FAILED};
        snprintf(msg.u.text, sizeof msg.u.text, "%s", p->text);
        if (!control_send(CHILD_FD_CONTROL, &msg, NULL, 0))
            return false;
    }
    return true;
}

int config_child_main(const char *name)
{
    struct err err;
    size_t n = 0;
    char *text = malloc(CONFIG_FILE_MAX);
    if (text == NULL || !child_start(&err) || !crypto_start(&err) ||
        !sandbox_enter(SANDBOX_CONFIG, &err) ||
        !fd_read_all(STDIN_FILENO, text, CONFIG_FILE_MAX, &n, &err)) {
        control_fail(CHILD_FD_CONTROL, "%s: %s", name, text == NULL ? "out of memory" : err.text);
        return EXIT_FAILURE;
    }
    struct config config = {0};
    struct problems problems = {0};
    bool ok = config_parse(&config, bytes_of(text, n), name, &problems) &&
              config_check_for(CONFIG_HOST, &config, name, &problems);
    struct control end = {.kind = CONTROL_END};
    ok = send_problems(&problems) && ok && send_config(&config) &&
         control_send(CHILD_FD_CONTROL, &end, NULL, 0);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- the monitor's side ---- */

static bool append(void **list, size_t *n, size_t max, const void *item, size_t size)
{
    if (*n >= max)
        return false;
    void *grown = realloc(*list, (*n + 1) * size);
    if (grown == NULL)
        return false;
    memcpy((char *)grown + *n * size, item, size);
    *list = grown;
    ++*n;
    return true;
}

static bool take(struct config *c, struct problems *problems, const struct control *msg)
{
    if (msg->kind == CONTROL_CHAIN_ADD) {
        void *list = c->chains;
        bool ok =
            append(&list, &c->chains_n, CONFIG_CHAINS_MAX, &msg->u.chain, sizeof msg->u.chain);
        c->chains = list;
        return ok;
    }
    if (msg->kind == CONTROL_VALIDATOR_ADD) {
        void *list = c->validators;
        bool ok = append(&list, &c->validators_n, CONFIG_VALIDATORS_MAX, &msg->u.validator,
            sizeof msg->u.validator);
        c->validators = list;
        return ok;
    }
    if (msg->kind != CONTROL_WARNING && msg->kind != CONTROL_FAILED)
        return false;
    problems_add(problems, msg->kind == CONTROL_WARNING, "%s", msg->u.text);
    return true;
}

static bool wait_readable(struct monitor *m, int fd, uint64_t deadline_us)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (p.revents == 0 && !m->stopping && clock_monotonic_us() < deadline_us)
        core_turn(m, &p, 1, 500);
    return p.revents != 0 && !m->stopping;
}

/* true: the file came whole, up to CONTROL_END. */
static bool collect(
    struct monitor *m, struct child *child, struct config *c, struct problems *problems)
{
    uint64_t deadline = clock_monotonic_us() + CONFIG_CHILD_SECONDS * 1000000ULL;
    while (wait_readable(m, child->control, deadline)) {
        struct control msg;
        size_t fds_n;
        if (control_recv(child->control, &msg, NULL, 0, &fds_n) != 1)
            return false;
        if (msg.kind == CONTROL_END)
            return true;
        if (!take(c, problems, &msg))
            return false;
    }
    return false;
}

bool config_child_read(
    struct monitor *m, struct config *ret, const char *path, struct problems *problems)
{
    struct child child;
    struct err err;
    int file = config_open(path, &err);
    if (file < 0) {
        problems_add(problems, false, "config error: %s", err.text);
        return false;
    }
    bool started = child_spawn(&child, "@config", path, file, &err);
    fd_close(&file);
    if (!started) {
        problems_add(problems, false, "%s", err.text);
        return false;
    }
    struct config config = {0};
    bool whole = collect(m, &child, &config, problems);
    child_stop(&child, m->stopping ? 0 : clock_monotonic_us() + 1000000U);
    if (!whole && problems->errors_n == 0)
        problems_add(problems, false, "%s: the process that reads the configuration failed", path);
    if (problems->errors_n > 0) {
        config_free(&config);
        return false;
    }
    *ret = config;
    return true;
}
