/* dial: from an address in the configuration to a connected socket: name lookup, then each address
 * in turn, each with its own deadline. A unix socket is connected by the monitor,
 * for a process that has one. */
#ifndef TMKMS_SESSION_DIAL_H
#define TMKMS_SESSION_DIAL_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <sys/socket.h>

#include "base/err.h"
#include "config/address.h"
#include "link/vsock.h"
#include "session/session.h"

struct evdns_base;
struct dial_lookup;

enum { DIAL_ADDRESSES_MAX = 8 };

union dial_socket_address {
    struct sockaddr any;
    struct sockaddr_storage space;
};

struct dial {
    /* Set by the owner before the first dial_start: */
    struct event_base *base;
    struct evdns_base *dns;
    const struct session_timing *timing;
    const struct vsock *vsock;
    int monitor; /* the control socket: connects unix sockets for us; -1: we do it ourselves */
    const struct link_address *to;
    /* Called once for each dial_start, perhaps before it returns. fd is the callee's, or -1 with
     * why. */
    void (*done)(struct dial *dial, int fd, const struct err *why);
    void *owner;

    union dial_socket_address address[DIAL_ADDRESSES_MAX];
    socklen_t address_len[DIAL_ADDRESSES_MAX];
    size_t addresses_n, next;
    uint64_t looked_up_us; /* 0: never */
    struct dial_lookup *lookup;
    uint32_t asked; /* the monitor was asked under this number, 0: it was not */
    int fd;         /* being connected, -1: none */
    struct event writable;
    uint64_t deadline_us; /* 0: nothing under way */
    struct err why;       /* of the last failure */
};

void dial_init(struct dial *dial);
void dial_start(struct dial *dial);
/* What the monitor answered to this dial, if it has the number id (else false): a connected
 * descriptor, taken over, or -1 and an errno. */
bool dial_answered(struct dial *dial, uint32_t id, int fd, int os_error);
/* Fails what is late. */
void dial_sweep(struct dial *dial, uint64_t now_us);
/* Gives up what is under way; done is not called. */
void dial_stop(struct dial *dial);

#endif
