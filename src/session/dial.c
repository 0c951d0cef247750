#include "session/dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/dns.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "ipc/control.h"

/* A lookup outlives the dial that gave it up: libevent calls back once more after a cancel. */
struct dial_lookup {
    struct dial *dial; /* NULL: given up */
    struct evdns_getaddrinfo_request *request;
};

static void connect_next(struct dial *dial);

void dial_init(struct dial *dial)
{
    dial->fd = -1;
}

static void finish(struct dial *dial, int fd)
{
    dial->deadline_us = 0;
    dial->done(dial, fd, fd < 0 ? &dial->why : NULL);
}

static uint64_t in_ms(uint32_t ms)
{
    return clock_monotonic_us() + (uint64_t)ms * 1000;
}

/* ---- sockets ---- */

static void set_tcp_options(int fd)
{
    /* Each is a help, not a condition: a socket without one still works. */
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 5},
        {IPPROTO_TCP, TCP_KEEPINTVL, 2},
        {IPPROTO_TCP, TCP_KEEPCNT, 3},
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

static void explain(struct dial *dial, int os_error)
{
    if (os_error == ETIMEDOUT)
        err_set(&dial->why, "I/O error: no connection within %u ms", dial->timing->connect_ms);
    else
        err_set(&dial->why, "I/O error: %s (os error %d)", strerror(os_error), os_error);
}

static void attempt_failed(struct dial *dial, int os_error)
{
    event_del(&dial->writable);
    fd_close(&dial->fd);
    explain(dial, os_error);
    connect_next(dial);
}

static void connected(struct dial *dial)
{
    int fd = dial->fd;
    dial->fd = -1;
    event_del(&dial->writable);
    finish(dial, fd);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    int os_error = 0;
    socklen_t n = sizeof os_error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &os_error, &n) != 0)
        os_error = errno;
    if (os_error != 0)
        attempt_failed(arg, os_error);
    else
        connected(arg);
}

static bool has_started(struct dial *dial, size_t i)
{
    const struct sockaddr *to = &dial->address[i].any;
    dial->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (dial->fd < 0)
        return false;
    set_tcp_options(dial->fd);
    return connect(dial->fd, to, dial->address_len[i]) == 0 || errno == EINPROGRESS;
}

static void await_connection(struct dial *dial)
{
    dial->deadline_us = in_ms(dial->timing->connect_ms);
    event_assign(&dial->writable, dial->base, dial->fd, EV_WRITE, on_writable, dial);
    event_add(&dial->writable, NULL);
}

/* Starts the next address; at the end of the list the dial has failed. A loop, as an attempt can
 * fail at once. */
static void connect_next(struct dial *dial)
{
    while (dial->next < dial->addresses_n) {
        if (has_started(dial, dial->next++)) {
            await_connection(dial);
            return;
        }
        err_set(&dial->why, "I/O error: %s (os error %d)", strerror(errno), errno);
        fd_close(&dial->fd);
    }
    finish(dial, -1);
}

/* ---- addresses ---- */

static void add_address(struct dial *dial, const void *address, size_t n)
{
    if (dial->addresses_n == DIAL_ADDRESSES_MAX || n > sizeof dial->address[0])
        return;
    memcpy(&dial->address[dial->addresses_n], address, n);
    dial->address_len[dial->addresses_n++] = (socklen_t)n;
}

static bool add_literal(struct dial *dial)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(dial->to->port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(dial->to->port)};
    if (inet_pton(AF_INET, dial->to->host, &in4.sin_addr) == 1)
        add_address(dial, &in4, sizeof in4);
    else if (inet_pton(AF_INET6, dial->to->host, &in6.sin6_addr) == 1)
        add_address(dial, &in6, sizeof in6);
    return dial->addresses_n > 0;
}

static void on_looked_up(int result, struct evutil_addrinfo *list, void *arg)
{
    struct dial_lookup *lookup = arg;
    struct dial *dial = lookup->dial;
    free(lookup);
    if (dial != NULL) {
        dial->lookup = NULL;
        dial->looked_up_us = clock_monotonic_us();
        for (struct evutil_addrinfo *a = list; a != NULL; a = a->ai_next)
            add_address(dial, a->ai_addr, a->ai_addrlen);
        if (dial->addresses_n == 0)
            err_set(&dial->why, "I/O error: cannot resolve %s: %s", dial->to->host,
                evutil_gai_strerror(result));
    }
    if (list != NULL)
        evutil_freeaddrinfo(list);
    if (dial != NULL)
        connect_next(dial);
}

static void look_up(struct dial *dial)
{
    struct evutil_addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    char port[8];
    snprintf(port, sizeof port, "%u", dial->to->port);
    struct dial_lookup *lookup = calloc(1, sizeof *lookup);
    if (lookup == NULL) {
        err_set(&dial->why, "out of memory");
        finish(dial, -1);
        return;
    }
    lookup->dial = dial;
    dial->lookup = lookup;
    dial->deadline_us = in_ms(dial->timing->connect_ms);
    struct evdns_getaddrinfo_request *request =
        evdns_getaddrinfo(dial->dns, dial->to->host, port, &hints, on_looked_up, lookup);
    /* The answer may have come already (/etc/hosts), and the lookup with it gone. */
    if (request != NULL && dial->lookup == lookup)
        lookup->request = request;
}

static void give_up_lookup(struct dial *dial)
{
    struct dial_lookup *lookup = dial->lookup;
    if (lookup == NULL)
        return;
    dial->lookup = NULL;
    lookup->dial = NULL;
    evdns_getaddrinfo_cancel(lookup->request);
}

/* A name that was looked up a moment ago keeps its addresses, or its failure: a node that is down
 * is dialled many times a second, its name server need not know. */
static bool lookup_is_fresh(const struct dial *dial)
{
    return dial->looked_up_us != 0 &&
           clock_monotonic_us() - dial->looked_up_us < (uint64_t)dial->timing->lookup_ms * 1000;
}

/* ---- what the monitor connects ---- */

static bool needs_monitor(const struct dial *dial)
{
    return dial->monitor >= 0 && (dial->to->kind == LINK_UNIX ||
                                     (dial->to->kind == LINK_VSOCK && dial->vsock->uds[0] != '\0'));
}

static void monitor_failed(struct dial *dial, int os_error)
{
    dial->asked = 0;
    explain(dial, os_error);
    finish(dial, -1);
}

static void ask_monitor(struct dial *dial)
{
    static uint32_t last_id;
    struct control ask = {.kind = CONTROL_DIAL};
    last_id += last_id == UINT32_MAX ? 2 : 1;
    ask.u.dial.id = dial->asked = last_id;
    memcpy(ask.u.dial.address, dial->to->text, sizeof ask.u.dial.address);
    dial->deadline_us = in_ms(dial->timing->connect_ms);
    if (!control_send(dial->monitor, &ask, NULL, 0))
        monitor_failed(dial, errno);
}

bool dial_answered(struct dial *dial, uint32_t id, int fd, int os_error)
{
    if (dial->asked == 0 || dial->asked != id)
        return false;
    if (fd < 0) {
        monitor_failed(dial, os_error);
    } else {
        dial->asked = 0;
        finish(dial, fd);
    }
    return true;
}

/* ---- starting and ending ---- */

static void start_vsock(struct dial *dial)
{
    dial->fd = vsock_dial_parent_start(dial->vsock, dial->to->vsock_port, &dial->why);
    if (dial->fd >= 0)
        await_connection(dial);
    else
        finish(dial, -1);
}

static void start_unix(struct dial *dial)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%s", dial->to->path);
    dial->next = dial->addresses_n = 0;
    add_address(dial, &to, sizeof to);
    connect_next(dial);
}

void dial_start(struct dial *dial)
{
    if (needs_monitor(dial)) {
        ask_monitor(dial);
        return;
    }
    if (dial->to->kind == LINK_UNIX) {
        start_unix(dial);
        return;
    }
    if (dial->to->kind == LINK_VSOCK) {
        start_vsock(dial);
        return;
    }
    dial->next = 0;
    bool is_known = dial->addresses_n > 0 && dial->looked_up_us == 0;
    if (is_known || lookup_is_fresh(dial)) {
        connect_next(dial);
        return;
    }
    dial->addresses_n = 0;
    if (add_literal(dial))
        connect_next(dial);
    else
        look_up(dial);
}

void dial_sweep(struct dial *dial, uint64_t now_us)
{
    if (dial->deadline_us == 0 || now_us < dial->deadline_us)
        return;
    if (dial->asked != 0) {
        monitor_failed(dial, ETIMEDOUT);
        return;
    }
    if (dial->lookup == NULL) {
        attempt_failed(dial, ETIMEDOUT);
        return;
    }
    give_up_lookup(dial);
    dial->looked_up_us = now_us;
    err_set(
        &dial->why, "I/O error: cannot resolve %s: no answer from the name server", dial->to->host);
    finish(dial, -1);
}

void dial_stop(struct dial *dial)
{
    give_up_lookup(dial);
    if (dial->fd >= 0)
        event_del(&dial->writable);
    fd_close(&dial->fd);
    dial->asked = 0;
    dial->deadline_us = 0;
}
