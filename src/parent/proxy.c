#include "parent/proxy.h"

#include <errno.h>
#include <event2/dns.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "session/dial.h"

static const char log_name[] = "tmkms::proxy";
static const char resolv_conf[] = "/etc/resolv.conf";

enum {
    TARGETS_MAX = SERVER_PORTS_MAX,
    STUCK_US = 60 * 1000000, /* half-closed, or a receiver that takes nothing */
};

static const struct timeval sweep_time = {.tv_usec = 250000};
static const struct session_timing timing = {.connect_ms = 5000};

struct target {
    struct proxy *proxy;
    struct link_address to;
    bool is_failing; /* said once, until it works again */
};

/* One direction of a link. */
struct flow {
    struct link *link;
    int from, to; /* borrowed */
    struct event *readable, *writable;
    uint8_t *held; /* read, but not taken by the receiver yet; NULL: nothing */
    size_t held_at, held_n;
    bool has_ended;
};

struct link {
    struct target *target;
    struct dial dial;
    int inner, outer; /* the enclave's connection, and ours to the target (-1: not yet) */
    struct flow flows[2];
    uint64_t moved_us; /* when a byte moved last */
    bool is_gone;
    struct link *next;
};

struct proxy {
    struct server *server;
    struct evdns_base *dns;
    struct stat resolv; /* as it was when it was read last */
    struct event *sweep;
    struct link *links;
    size_t links_n, targets_n;
    struct target targets[TARGETS_MAX];
    uint8_t buf[PROXY_HELD_MAX]; /* of whoever reads at the moment */
};

/* ---- the end of a link ---- */

static void flow_stop(struct flow *f)
{
    if (f->readable != NULL)
        event_free(f->readable);
    if (f->writable != NULL)
        event_free(f->writable);
    f->readable = f->writable = NULL;
    free(f->held);
    f->held = NULL;
}

/* The memory is given back by the sweep, when no caller can hold a pointer to it any more. */
static void link_drop(struct link *l)
{
    l->is_gone = true;
    dial_stop(&l->dial);
    flow_stop(&l->flows[0]);
    flow_stop(&l->flows[1]);
    fd_close(&l->inner);
    fd_close(&l->outer);
}

static bool is_stuck(const struct link *l, uint64_t now_us)
{
    bool may_be = l->flows[0].has_ended || l->flows[1].has_ended || l->flows[0].held != NULL ||
                  l->flows[1].held != NULL;
    return may_be && now_us - l->moved_us > STUCK_US;
}

static void bury(struct proxy *p)
{
    for (struct link **at = &p->links; *at != NULL;) {
        struct link *l = *at;
        if (!l->is_gone) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        free(l);
        p->links_n--;
    }
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct proxy *p = arg;
    uint64_t now_us = clock_monotonic_us();
    bury(p);
    for (struct link *l = p->links; l != NULL; l = l->next) {
        if (!l->is_gone && l->outer < 0)
            dial_sweep(&l->dial, now_us);
        else if (is_stuck(l, now_us))
            link_drop(l);
    }
}

/* ---- bytes ---- */

static void flow_end(struct flow *f)
{
    struct link *l = f->link;
    f->has_ended = true;
    event_del(f->readable);
    shutdown(f->to, SHUT_WR);
    if (l->flows[0].has_ended && l->flows[1].has_ended)
        link_drop(l);
}

/* How many bytes the receiver took, -1: it is gone. */
static ssize_t give(struct flow *f, const uint8_t *p, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t put = send(f->to, p + done, n - done, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return errno == EAGAIN ? (ssize_t)done : -1;
        done += (size_t)put;
    }
    return (ssize_t)done;
}

/* The receiver is slow: nothing more is read for it until it has taken this. */
static bool hold(struct flow *f, const uint8_t *p, size_t n)
{
    f->held = malloc(n);
    if (f->held == NULL)
        return false;
    memcpy(f->held, p, n);
    f->held_at = 0;
    f->held_n = n;
    event_del(f->readable);
    event_add(f->writable, NULL);
    return true;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct flow *f = arg;
    uint8_t *buf = f->link->target->proxy->buf;
    ssize_t got = recv((int)fd, buf, PROXY_HELD_MAX, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    f->link->moved_us = clock_monotonic_us();
    if (got == 0) {
        flow_end(f);
        return;
    }
    ssize_t put = got > 0 ? give(f, buf, (size_t)got) : -1;
    if (put < 0 || (put < got && !hold(f, buf + put, (size_t)(got - put))))
        link_drop(f->link);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct flow *f = arg;
    ssize_t put = give(f, f->held + f->held_at, f->held_n - f->held_at);
    if (put < 0) {
        link_drop(f->link);
        return;
    }
    f->link->moved_us = clock_monotonic_us();
    f->held_at += (size_t)put;
    if (f->held_at < f->held_n)
        return;
    free(f->held);
    f->held = NULL;
    event_del(f->writable);
    event_add(f->readable, NULL);
}

static bool flow_start(struct flow *f, struct link *l, int from, int to)
{
    struct event_base *base = l->target->proxy->server->base;
    *f = (struct flow){.link = l, .from = from, .to = to};
    f->readable = event_new(base, from, EV_READ | EV_PERSIST, on_readable, f);
    f->writable = event_new(base, to, EV_WRITE | EV_PERSIST, on_writable, f);
    return f->readable != NULL && f->writable != NULL && event_add(f->readable, NULL) == 0;
}

/* ---- connections ---- */

static void report(struct target *t, const struct err *why)
{
    if (why != NULL && !t->is_failing)
        log_line(LOG_WARN, log_name, "[%s] %s", t->to.text, why->text);
    if (why == NULL && t->is_failing)
        log_line(LOG_INFO, log_name, "[%s] connected again", t->to.text);
    t->is_failing = why != NULL;
}

static void on_dialled(struct dial *dial, int fd, const struct err *why)
{
    struct link *l = dial->owner;
    report(l->target, why);
    l->outer = fd;
    l->moved_us = clock_monotonic_us();
    if (fd < 0 || !flow_start(&l->flows[0], l, l->inner, l->outer) ||
        !flow_start(&l->flows[1], l, l->outer, l->inner))
        link_drop(l);
}

/* A machine whose network comes up later than this process writes the file anew. */
static void read_resolv_conf(struct proxy *p)
{
    struct stat now = {0};
    if (stat(resolv_conf, &now) == 0 && now.st_ino == p->resolv.st_ino &&
        now.st_mtim.tv_sec == p->resolv.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == p->resolv.st_mtim.tv_nsec)
        return;
    p->resolv = now;
    evdns_base_clear_nameservers_and_suspend(p->dns);
    evdns_base_search_clear(p->dns);
    /* Missing or empty: libevent then asks 127.0.0.1. */
    evdns_base_resolv_conf_parse(p->dns, DNS_OPTIONS_ALL, resolv_conf);
    evdns_base_resume(p->dns);
}

static void on_accepted(void *ctx, int fd)
{
    struct target *t = ctx;
    struct proxy *p = t->proxy;
    struct link *l = p->links_n < PROXY_LINKS_MAX ? calloc(1, sizeof *l) : NULL;
    if (l == NULL) {
        fd_close(&fd);
        return;
    }
    l->target = t;
    l->inner = fd;
    l->outer = -1;
    dial_init(&l->dial);
    l->dial.base = p->server->base;
    l->dial.dns = p->dns;
    l->dial.timing = &timing;
    l->dial.monitor = -1;
    l->dial.to = &t->to;
    l->dial.done = on_dialled;
    l->dial.owner = l;
    l->next = p->links;
    p->links = l;
    p->links_n++;
    if (t->to.kind == LINK_TCP)
        read_resolv_conf(p);
    dial_start(&l->dial);
}

/* ---- addresses ---- */

bool proxy_address_unix(struct link_address *ret, const char *path, struct err *err)
{
    struct link_address a = {.kind = LINK_UNIX};
    if (path[0] == '\0' || strlen(path) >= sizeof a.path)
        return err_set(err, "the path of a socket has 1 to %zu characters, '%.60s' has %zu",
            sizeof a.path - 1, path, strlen(path));
    snprintf(a.path, sizeof a.path, "%s", path);
    snprintf(a.text, sizeof a.text, "unix://%s", path);
    *ret = a;
    return true;
}

bool proxy_address_tcp(struct link_address *ret, const char *text, struct err *err)
{
    char url[LINK_TEXT_MAX];
    if (strstr(text, "//") != NULL || strchr(text, '@') != NULL ||
        (size_t)snprintf(url, sizeof url, "tcp://%s", text) >= sizeof url)
        return err_set(err, "'%.100s' is not HOST:PORT", text);
    return link_address_parse(ret, url, err);
}

/* ---- life ---- */

struct proxy *proxy_new(struct server *s, struct err *err)
{
    struct proxy *p = calloc(1, sizeof *p);
    if (p == NULL) {
        err_set(err, "out of memory");
        return NULL;
    }
    p->server = s;
    p->dns = evdns_base_new(s->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    p->sweep = event_new(s->base, -1, EV_PERSIST, on_sweep, p);
    if (p->dns == NULL || evutil_secure_rng_init() != 0 || p->sweep == NULL ||
        event_add(p->sweep, &sweep_time) != 0) {
        err_set(err, "cannot start the name resolver");
        proxy_free(p);
        return NULL;
    }
    return p;
}

bool proxy_add(struct proxy *p, int listener, const struct link_address *to, struct err *err)
{
    if (p->targets_n == TARGETS_MAX) {
        fd_close(&listener);
        return err_set(err, "more than %d ports", TARGETS_MAX);
    }
    struct target *t = &p->targets[p->targets_n++];
    *t = (struct target){.proxy = p, .to = *to};
    return server_listen(p->server, listener, on_accepted, t, err);
}

void proxy_free(struct proxy *p)
{
    for (struct link *l = p->links; l != NULL; l = l->next)
        link_drop(l);
    if (p->dns != NULL)
        evdns_base_free(p->dns, 0);
    if (p->sweep != NULL)
        event_free(p->sweep);
    bury(p);
    free(p);
}
