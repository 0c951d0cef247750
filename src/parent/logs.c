#include "parent/logs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "link/vsock.h"

struct peer {
    struct logs *logs;
    int fd;
    struct event *readable;
    char line[LOG_LINE_MAX];
    size_t n;
    uint64_t heard_us; /* its last byte, or its begin */
    struct peer *next;
};

struct logs {
    struct server *server;
    struct peer *peers;
    size_t peers_n;
    const char *prefix;
    uint32_t cid;
    uint64_t second; /* of the count below; one for all: connections cost a stranger nothing */
    unsigned printed, dropped;
};

static void peer_free(struct peer *peer)
{
    struct peer **at = &peer->logs->peers;
    while (*at != peer)
        at = &(*at)->next;
    *at = peer->next;
    peer->logs->peers_n--;
    event_free(peer->readable);
    fd_close(&peer->fd);
    free(peer);
}

static void say_dropped(struct logs *l)
{
    if (l->dropped > 0)
        log_line(LOG_WARN, "tmkms::logs", "%u lines of an enclave were dropped", l->dropped);
    l->dropped = 0;
}

static void forward(struct peer *peer)
{
    char line[LOG_LINE_MAX];
    size_t before = strnlen(peer->logs->prefix, LOGS_PREFIX_MAX);
    size_t room = sizeof line - 2 - before;
    size_t n = peer->n < room ? peer->n : room;
    memcpy(line, peer->logs->prefix, before);
    memcpy(line + before, peer->line, n);
    line[before + n] = '\n';
    log_forward(line, before + n + 1);
    log_flush();
}

static void print_line(struct peer *peer)
{
    struct logs *l = peer->logs;
    uint64_t second = clock_monotonic_us() / 1000000;
    if (second != l->second) {
        l->second = second;
        l->printed = 0;
        say_dropped(l);
    }
    if (peer->n > 0 && l->printed++ < LOGS_LINES_A_SECOND) {
        forward(peer);
    } else if (peer->n > 0) {
        l->dropped++;
    }
    peer->n = 0;
}

static void take(struct peer *peer, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n')
            print_line(peer);
        else if (peer->n < LOG_LINE_MAX - 2) /* the rest of a long line is cut */
            peer->line[peer->n++] = p[i];
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct peer *peer = arg;
    char buf[16384];
    ssize_t got = recv((int)fd, buf, sizeof buf, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got > 0) {
        peer->heard_us = clock_monotonic_us();
        take(peer, buf, (size_t)got);
        return;
    }
    print_line(peer);
    say_dropped(peer->logs);
    peer_free(peer);
}

/* Strangers that connect and say nothing cannot keep the enclave's own log out. */
static void make_room(struct logs *l)
{
    struct peer *idlest = l->peers;
    for (struct peer *p = l->peers; p != NULL; p = p->next)
        if (p->heard_us <= idlest->heard_us) /* the newest come first */
            idlest = p;
    peer_free(idlest);
}

static void on_accepted(void *ctx, int fd)
{
    struct logs *l = ctx;
    if (l->cid != 0 && vsock_peer_cid(fd) != l->cid) {
        fd_close(&fd);
        return;
    }
    if (l->peers_n == LOGS_PEERS_MAX)
        make_room(l);
    struct peer *peer = calloc(1, sizeof *peer);
    if (peer != NULL)
        peer->readable = event_new(l->server->base, fd, EV_READ | EV_PERSIST, on_readable, peer);
    if (peer == NULL || peer->readable == NULL) {
        free(peer);
        fd_close(&fd);
        return;
    }
    peer->logs = l;
    peer->fd = fd;
    peer->heard_us = clock_monotonic_us();
    peer->next = l->peers;
    l->peers = peer;
    l->peers_n++;
    event_add(peer->readable, NULL);
}

struct logs *logs_new(struct server *s, struct err *err)
{
    struct logs *l = calloc(1, sizeof *l);
    if (l == NULL)
        err_set(err, "out of memory");
    else
        *l = (struct logs){.server = s, .prefix = ""};
    return l;
}

void logs_set_prefix(struct logs *l, const char *prefix)
{
    l->prefix = prefix;
}

void logs_set_cid(struct logs *l, uint32_t cid)
{
    l->cid = cid;
}

bool logs_listen(struct logs *l, int listener, struct err *err)
{
    return server_listen(l->server, listener, on_accepted, l, err);
}

void logs_free(struct logs *l)
{
    while (l->peers != NULL)
        peer_free(l->peers);
    free(l);
}
