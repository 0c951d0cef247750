#include "session/session.h"

#include <errno.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "ipc/child.h"
#include "keyring/keyring.h"
#include "sandbox/sandbox.h"
#include "session/validator.h"

static const char log_name[] = "tmkms::session";

const struct session_timing session_timing_default = {
    .connect_ms = 5000,
    .handshake_ms = 10000,
    .write_ms = 5000,
    .idle_unit_ms = 1000,
    .redial_min_ms = 20,
    .redial_max_ms = 100,
    .lookup_ms = 1000,
    .report_ms = 60000,
    .sweep_ms = 250,
};

struct session {
    int control_fd;
    const struct session_timing *timing;
    struct event_base *base;
    struct evdns_base *dns;
    struct vsock vsock;
    struct event *on_control, *on_sweep;
    struct chain *chains;
    struct validator *validators;
    int exit_code;
};

static void session_end(struct session *s, int exit_code)
{
    s->exit_code = exit_code;
    event_base_loopbreak(s->base);
}

/* ---- chains ---- */

static struct chain *find_chain(const struct session *s, const char *id)
{
    for (struct chain *c = s->chains; c != NULL; c = c->next)
        if (strcmp(c->facts.id, id) == 0)
            return c;
    return NULL;
}

/* What waits for the signer stays until it has its answer; then it parks itself. */
static void park_idle(struct session *s, const struct chain *chain)
{
    for (struct validator *v = s->validators; v != NULL; v = v->next)
        if (v->chain == chain && !v->is_waiting)
            validator_park(v);
}

static void on_lost(struct chain *chain)
{
    park_idle(chain->owner, chain);
}

static struct chain *chain_new(struct session *s)
{
    struct chain *chain = calloc(1, sizeof *chain);
    if (chain == NULL)
        return NULL;
    chain->fd = -1;
    chain->base = s->base;
    chain->lost = on_lost;
    chain->owner = s;
    chain->next = s->chains;
    s->chains = chain;
    return chain;
}

static void chain_add(struct session *s, const struct control_chain *facts, int *fd)
{
    struct chain *chain = find_chain(s, facts->id);
    if (chain == NULL)
        chain = chain_new(s);
    if (chain == NULL) {
        control_fail(s->control_fd, "[%s] out of memory", facts->id);
        return;
    }
    chain_attach(chain, facts, *fd);
    *fd = -1;
    for (struct validator *v = s->validators; v != NULL; v = v->next)
        if (strcmp(v->config.chain_id, facts->id) == 0)
            validator_start(v, chain);
}

static void chain_drop(struct session *s, const char *id)
{
    struct chain *chain = find_chain(s, id);
    if (chain == NULL)
        return;
    chain->leaving = true;
    park_idle(s, chain);
}

static void chain_free(struct session *s, struct chain **link)
{
    struct chain *chain = *link;
    *link = chain->next;
    chain_detach(chain);
    for (struct validator *v = s->validators; v != NULL; v = v->next)
        if (v->chain == chain)
            v->chain = NULL;
    free(chain);
}

/* ---- validators ---- */

static bool load_identity(
    const struct config_validator *config, int fd, struct signing_key **ret, struct err *err)
{
    struct err warning = {0};
    if (!keyring_load_fd(ret, fd, config->secret_key, KEY_ED25519, 0, &warning, err))
        return false;
    if (warning.text[0] != '\0')
        log_line(LOG_WARN, "tmkms::keyring", "%s", warning.text);
    report_identity(config, *ret);
    return true;
}

/* fd: the identity key file, -1: none is needed. */
static void validator_add(struct session *s, const struct config_validator *config, int fd)
{
    struct signing_key *identity = NULL;
    struct err err;
    if (link_address_needs_identity(&config->address) &&
        !load_identity(config, fd, &identity, &err)) {
        control_fail(s->control_fd, "[%s@%s] %s", config->chain_id, config->address.text, err.text);
        return;
    }
    struct validator *v =
        validator_new(config, identity, s->base, s->dns, &s->vsock, s->control_fd, s->timing);
    if (v == NULL) {
        signing_key_free(identity);
        control_fail(
            s->control_fd, "[%s@%s] out of memory", config->chain_id, config->address.text);
        return;
    }
    v->next = s->validators;
    s->validators = v;
    struct chain *chain = find_chain(s, config->chain_id);
    if (chain != NULL)
        validator_start(v, chain);
}

/* A dial that was given up meanwhile has nobody who wants the answer. */
static void dialled(struct session *s, const struct control_dialled *answer, int *fd)
{
    for (struct validator *v = s->validators; v != NULL; v = v->next)
        if (dial_answered(&v->dial, answer->id, *fd, answer->os_error)) {
            *fd = -1;
            return;
        }
}

static void validator_drop(struct session *s, const struct config_validator *config)
{
    struct validator *v = s->validators;
    while (v != NULL && (v->leaving || memcmp(&v->config, config, sizeof *config) != 0))
        v = v->next;
    if (v == NULL)
        return;
    v->leaving = true;
    if (!v->is_serving)
        validator_park(v);
}

/* ---- what the monitor says ---- */

static void answer_ping(const struct session *s)
{
    struct control pong = {.kind = CONTROL_PONG};
    (void)!control_send(s->control_fd, &pong, NULL, 0);
}

static void handle(struct session *s, const struct control *msg, int fds[FD_PASS_MAX], size_t fds_n)
{
    if (msg->kind == CONTROL_CHAIN_ADD_S && fds_n == 1)
        chain_add(s, &msg->u.channel, &fds[0]);
    else if (msg->kind == CONTROL_CHAIN_DROP && fds_n == 0)
        chain_drop(s, msg->u.chain_id);
    else if (msg->kind == CONTROL_VALIDATOR_ADD)
        validator_add(s, &msg->u.validator, fds[0]);
    else if (msg->kind == CONTROL_VALIDATOR_DROP)
        validator_drop(s, &msg->u.validator);
    else if (msg->kind == CONTROL_DIALLED)
        dialled(s, &msg->u.dialled, &fds[0]);
    else if (msg->kind == CONTROL_PING)
        answer_ping(s);
    else if (msg->kind == CONTROL_END)
        (void)!control_send(s->control_fd, msg, NULL, 0); /* all before it has been taken in */
    else
        log_line(LOG_ERROR, log_name,
            "the monitor sent message %u, which the session does not know", msg->kind);
}

static void on_control(evutil_socket_t sock, short what, void *arg)
{
    struct session *s = arg;
    struct control msg;
    int fds[FD_PASS_MAX] = {-1, -1, -1, -1};
    size_t fds_n = 0;
    (void)what;
    int got = control_recv(sock, &msg, fds, FD_PASS_MAX, &fds_n);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got < 0)
        control_fail(sock, "the session cannot read its control socket: %s", strerror(errno));
    if (got <= 0) {
        session_end(s, got == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
        return;
    }
    handle(s, &msg, fds, fds_n);
    for (size_t i = 0; i < FD_PASS_MAX; i++)
        fd_close(&fds[i]);
}

/* ---- deadlines ---- */

/* reconnect = false: when the last of the validators has ended, so does the program. */
static void end_when_all_ended(struct session *s)
{
    const struct validator *ended = NULL;
    for (const struct validator *v = s->validators; v != NULL; v = v->next) {
        if (v->state != VALIDATOR_ENDED)
            return;
        ended = v;
    }
    if (ended == NULL)
        return;
    control_fail(s->control_fd, "%s", ended->ended_why.text);
    session_end(s, EXIT_FAILURE);
}

static void free_validators(struct session *s, bool all)
{
    for (struct validator **link = &s->validators; *link != NULL;) {
        struct validator *v = *link;
        if (all || (v->leaving && v->state == VALIDATOR_PARKED)) {
            *link = v->next;
            validator_free(v);
        } else {
            link = &v->next;
        }
    }
}

static void free_chains(struct session *s, bool all)
{
    for (struct chain **link = &s->chains; *link != NULL;) {
        if (all || ((*link)->leaving && (*link)->first == NULL))
            chain_free(s, link);
        else
            link = &(*link)->next;
    }
}

/* One timer for all deadlines: a timer per request would cost more than the deadlines are worth. */
static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
    struct session *s = arg;
    (void)fd;
    (void)what;
    uint64_t now = clock_monotonic_us();
    for (struct validator *v = s->validators; v != NULL; v = v->next)
        validator_sweep(v, now);
    free_validators(s, false);
    free_chains(s, false);
    end_when_all_ended(s);
}

/* ---- the process ---- */

static void log_libevent(int severity, const char *text)
{
    (void)severity;
    log_line(LOG_DEBUG, "tmkms::libevent", "%s", text);
}

/* What reads files (resolver, hosts) is done here, as no file can be opened later. */
static bool set_up(struct session *s, struct err *err)
{
    event_set_log_callback(log_libevent);
    if (!crypto_start(err) || !vsock_from(&s->vsock, NULL, err))
        return false;
    struct event_config *cfg = event_config_new();
    if (cfg == NULL)
        return err_set(err, "out of memory");
    event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
    s->base = event_base_new_with_config(cfg);
    event_config_free(cfg);
    if (s->base == NULL)
        return err_set(err, "cannot make an event loop");
    s->dns = evdns_base_new(s->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    if (s->dns == NULL || evutil_secure_rng_init() != 0)
        return err_set(err, "cannot start the name resolver");
    /* A missing or empty resolv.conf is fine: libevent then asks 127.0.0.1, and only for names. */
    evdns_base_resolv_conf_parse(s->dns, DNS_OPTIONS_ALL, "/etc/resolv.conf");
    evutil_make_socket_nonblocking(s->control_fd);
    s->on_control = event_new(s->base, s->control_fd, EV_READ | EV_PERSIST, on_control, s);
    s->on_sweep = event_new(s->base, -1, EV_PERSIST, on_sweep, s);
    struct timeval every = {.tv_sec = s->timing->sweep_ms / 1000,
        .tv_usec = (suseconds_t)(s->timing->sweep_ms % 1000) * 1000};
    return (s->on_control != NULL && s->on_sweep != NULL && event_add(s->on_control, NULL) == 0 &&
               event_add(s->on_sweep, &every) == 0) ||
           err_set(err, "cannot register with the event loop");
}

static void tear_down(struct session *s)
{
    free_chains(s, true);
    free_validators(s, true);
    if (s->on_control != NULL)
        event_free(s->on_control);
    if (s->on_sweep != NULL)
        event_free(s->on_sweep);
    if (s->dns != NULL)
        evdns_base_free(s->dns, 0);
    if (s->base != NULL)
        event_base_free(s->base);
}

int session_run(int control_fd, const struct session_timing *timing, bool is_sandboxed)
{
    struct session s = {.control_fd = control_fd, .timing = timing};
    struct err err;
    if (!set_up(&s, &err) || (is_sandboxed && !sandbox_enter(SANDBOX_SESSION, &err))) {
        control_fail(control_fd, "the session process cannot start: %s", err.text);
        return EXIT_FAILURE;
    }
    event_base_dispatch(s.base);
    tear_down(&s);
    return s.exit_code;
}

int session_main(void)
{
    struct err err;
    if (!child_start(&err)) {
        control_fail(CHILD_FD_CONTROL, "the session process cannot start: %s", err.text);
        return EXIT_FAILURE;
    }
    return session_run(CHILD_FD_CONTROL, &session_timing_default, true);
}
