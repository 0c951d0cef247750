/* proxy: carries the bytes of many connections between an enclave's vsock ports and sockets of the host:
 * `tmkms nitro proxy` (a validator's socket or TCP port) and `tmkms nitro kms-proxy` (KMS).
 *
 * The other side is dialled before a byte is read; when it cannot be reached the connection is closed
 * at once, and the enclave dials again. Names are looked up for every connection. Each direction ends
 * by itself (half-close), holds at most PROXY_HELD_MAX bytes that the receiver did not take yet, and
 * reads nothing more meanwhile. */
#ifndef TMKMS_PARENT_PROXY_H
#define TMKMS_PARENT_PROXY_H

#include "base/attr.h"
#include "base/err.h"
#include "config/address.h"
#include "parent/server.h"

enum { PROXY_HELD_MAX = 65536, PROXY_LINKS_MAX = 2048 };

struct proxy;

struct proxy *proxy_new(struct server *s, struct err *err);
/* proxy_add: what arrives at the listener (taken over) goes to a LINK_UNIX or LINK_TCP address. */
bool proxy_add(
    struct proxy *p, int listener, const struct link_address *to, struct err *err) ATTR_MUST_USE;
void proxy_free(struct proxy *p); /* before the server stops */

/* The address of a unix socket, and of HOST:PORT (IPv6 literals in brackets). */
bool proxy_address_unix(struct link_address *ret, const char *path, struct err *err) ATTR_MUST_USE;
bool proxy_address_tcp(struct link_address *ret, const char *text, struct err *err) ATTR_MUST_USE;

#endif
