/* server: an event loop that accepts connections until SIGTERM or SIGINT; what the commands on the parent
 * of an enclave are made of. Over vsock no process of this machine gets further than accept (vsock_peer_is_guest). */
#ifndef TMKMS_PARENT_SERVER_H
#define TMKMS_PARENT_SERVER_H

#include <event2/event.h>
#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"

enum { SERVER_PORTS_MAX = 256 };

/* fd: non-blocking, the callee's. */
typedef void server_accepted(void *ctx, int fd);

struct server_port {
    int listener;
    struct event *readable, *pause;
    server_accepted *accepted;
    void *ctx;
    uint64_t told_second; /* when a refused peer was told of last */
};

struct server {
    struct event_base *base;
    struct event *on_term, *on_int;
    struct server_port ports[SERVER_PORTS_MAX];
    size_t ports_n;
    bool has_failed; /* server_fail */
};

bool server_start(struct server *s, struct err *err) ATTR_MUST_USE;
/* server_listen takes over the listener (closed in any case). It lives as long as the server. */
bool server_listen(struct server *s, int listener, server_accepted *accepted, void *ctx,
    struct err *err) ATTR_MUST_USE;
/* server_run returns true after a signal, false after server_fail. */
bool server_run(struct server *s);
void server_fail(struct server *s);
void server_stop(struct server *s);

#endif
