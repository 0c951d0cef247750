/* vsock: connections between an enclave and its parent, or their stand-in over unix sockets.
 *
 * The stand-in (`--vsock-uds PATH`, the convention of Firecracker and vhost-device-vsock): a
 * connection from the guest to port P of its parent arrives at the unix socket PATH_P; the host
 * reaches port P of the guest by connecting to PATH and saying "CONNECT P\n", which is answered by
 * "OK <number>\n". With no path the kernel's AF_VSOCK is used. */
#ifndef TMKMS_LINK_VSOCK_H
#define TMKMS_LINK_VSOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

enum { VSOCK_PATH_MAX = 92, VSOCK_CID_PARENT = 3, VSOCK_CID_ANY = -1 };

/* How this process reaches the other side; plain data. */
struct vsock {
    char uds[VSOCK_PATH_MAX]; /* "": AF_VSOCK */
    uint32_t parent_cid;      /* 0: VSOCK_CID_PARENT; QEMU's parent is another */
};

/* vsock_from takes the path of --vsock-uds, else $TMKMS_VSOCK_UDS, else AF_VSOCK; and the parent's CID of
 * $TMKMS_VSOCK_PARENT_CID. vsock_export sets both variables for the processes that are started from here. */
bool vsock_from(struct vsock *ret, const char *uds_option, struct err *err) ATTR_MUST_USE;
bool vsock_export(const struct vsock *v, struct err *err) ATTR_MUST_USE;

/* ---- inside the enclave ---- */

/* vsock_dial_parent connects to a port of the parent. Blocking until deadline_us (monotonic); the
 * descriptor is blocking and close-on-exec. -1 and err on failure. */
int vsock_dial_parent(const struct vsock *v, uint32_t port, uint64_t deadline_us, struct err *err);
/* The same without waiting: a non-blocking descriptor that is connecting (EINPROGRESS) or
 * connected. */
int vsock_dial_parent_start(const struct vsock *v, uint32_t port, struct err *err);
/* Once that can be written to: whether it is connected. It is blocking from then on. */
bool vsock_dial_finish(int fd, struct err *err) ATTR_MUST_USE;

/* vsock_listen_guest listens where the parent reaches this enclave's port; with the stand-in that is
 * PATH itself. vsock_accept_guest accepts, -1 and err on failure; vsock_greet is owed to each
 * connection before its first byte: with the stand-in it reads the CONNECT line (for at most 1 s)
 * and refuses other ports. A caller that must not wait for strangers leaves it to a child. */
int vsock_listen_guest(const struct vsock *v, uint32_t port, struct err *err);
int vsock_accept_guest(int listener, struct err *err);
bool vsock_greet(const struct vsock *v, int fd, uint32_t port, struct err *err) ATTR_MUST_USE;

/* ---- on the parent ---- */

/* vsock_dial_guest connects to a port of the enclave with this CID (ignored by the stand-in). */
int vsock_dial_guest(
    const struct vsock *v, uint32_t cid, uint32_t port, uint64_t deadline_us, struct err *err);
/* The same without waiting: a non-blocking descriptor that is connecting or connected. To the stand-in the caller then
 * says "CONNECT PORT\n" himself, and must not close before its "OK": vhost-device-vsock ends when one does. */
int vsock_dial_guest_start(const struct vsock *v, uint32_t cid, uint32_t port, struct err *err);
/* vsock_listen_parent listens where enclaves reach the parent's port (CID any, or PATH_P; a stale
 * socket file that nobody listens on is replaced, a live one is an error). Non-blocking. */
int vsock_listen_parent(const struct vsock *v, uint32_t port, struct err *err);
/* vsock_guest_is_free: does nobody listen at the stand-in's PATH? It connects to find out; a stale
 * socket file is free. */
bool vsock_guest_is_free(const struct vsock *v, struct err *err) ATTR_MUST_USE;
/* The CID of the peer of an accepted connection; with the stand-in 0. */
uint32_t vsock_peer_cid(int fd);
/* vsock_cid_is_guest: can an enclave have this CID? Those below 4 are the hypervisor, loopback, the host and the parent
 * itself: a process of this machine that connects to a port meant for enclaves has one of them. */
bool vsock_cid_is_guest(uint32_t cid);
/* The same of the peer of an accepted connection. Behind the stand-in everybody passes: there the permissions of its
 * files decide. */
bool vsock_peer_is_guest(int fd);

#endif
