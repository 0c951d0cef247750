#include "parent/server.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "link/vsock.h"

enum { TOLD_EVERY_S = 10 };

/* No descriptors or memory left: others may give some back. */
static const struct timeval pause_time = {.tv_usec = 100000};

static void on_signal(evutil_socket_t signal, short what, void *arg)
{
    (void)signal;
    (void)what;
    struct server *s = arg;
    event_base_loopbreak(s->base);
}

/* A process of this machine plays the enclave. */
static void refuse(struct server_port *p, int fd)
{
    uint64_t second = clock_monotonic_us() / 1000000;
    if (second - p->told_second >= TOLD_EVERY_S) {
        p->told_second = second;
        log_line(LOG_WARN, "tmkms::server",
            "a connection from CID %" PRIu32 " is refused: no enclave has it, it is a process of "
            "this machine",
            vsock_peer_cid(fd));
    }
    close(fd);
}

static void on_connection(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    enum { AT_ONCE = 16 };
    struct server_port *p = arg;
    for (int i = 0; i < AT_ONCE; i++) {
        int got = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (got >= 0 && !vsock_peer_is_guest(got)) {
            refuse(p, got);
            continue;
        }
        if (got >= 0) {
            p->accepted(p->ctx, got);
            continue;
        }
        if (errno == EAGAIN)
            return;
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            log_line(LOG_WARN, "tmkms::server", "cannot accept a connection: %s", strerror(errno));
            event_del(p->readable);
            event_add(p->pause, &pause_time);
            return;
        }
    }
}

static void on_pause_over(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct server_port *p = arg;
    event_add(p->readable, NULL);
}

bool server_start(struct server *s, struct err *err)
{
    memset(s, 0, sizeof *s);
    signal(SIGPIPE, SIG_IGN);
    s->base = event_base_new();
    if (s->base == NULL)
        return err_set(err, "cannot make an event loop");
    s->on_term = evsignal_new(s->base, SIGTERM, on_signal, s);
    s->on_int = evsignal_new(s->base, SIGINT, on_signal, s);
    if (s->on_term != NULL && s->on_int != NULL && event_add(s->on_term, NULL) == 0 &&
        event_add(s->on_int, NULL) == 0)
        return true;
    server_stop(s);
    return err_set(err, "cannot wait for signals");
}

bool server_listen(
    struct server *s, int listener, server_accepted *accepted, void *ctx, struct err *err)
{
    if (s->ports_n == SERVER_PORTS_MAX) {
        fd_close(&listener);
        return err_set(err, "more than %d ports", SERVER_PORTS_MAX);
    }
    struct server_port *p = &s->ports[s->ports_n++];
    *p = (struct server_port){.listener = listener, .accepted = accepted, .ctx = ctx};
    p->readable = event_new(s->base, listener, EV_READ | EV_PERSIST, on_connection, p);
    p->pause = event_new(s->base, -1, 0, on_pause_over, p);
    return (p->readable != NULL && p->pause != NULL && event_add(p->readable, NULL) == 0) ||
           err_set(err, "out of memory");
}

bool server_run(struct server *s)
{
    event_base_dispatch(s->base);
    return !s->has_failed;
}

void server_fail(struct server *s)
{
    s->has_failed = true;
    event_base_loopbreak(s->base);
}

void server_stop(struct server *s)
{
    for (size_t i = 0; i < s->ports_n; i++) {
        if (s->ports[i].readable != NULL)
            event_free(s->ports[i].readable);
        if (s->ports[i].pause != NULL)
            event_free(s->ports[i].pause);
        fd_close(&s->ports[i].listener);
    }
    s->ports_n = 0;
    if (s->on_term != NULL)
        event_free(s->on_term);
    if (s->on_int != NULL)
        event_free(s->on_int);
    if (s->base != NULL)
        event_base_free(s->base);
    s->base = NULL;
}
