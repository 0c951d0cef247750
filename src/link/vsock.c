#include "link/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "base/clock.h"
#include "base/fd.h"

enum {
    BACKLOG = 128,
    HELLO_MAX = 32, /* "CONNECT 4294967295\n", "OK 1073741824\n" */
    HELLO_WAIT_US = 1000000,
    CROWDED_WAIT_MS = 5,
};

/* One end point of either kind, with its words for messages. */
struct place {
    union {
        struct sockaddr any;
        struct sockaddr_un un;
        struct sockaddr_vm vm;
    } address;
    socklen_t address_n;
    char words[160];
};

bool vsock_from(struct vsock *ret, const char *uds_option, struct err *err)
{
    const char *path = uds_option != NULL ? uds_option : getenv("TMKMS_VSOCK_UDS");
    if (path == NULL)
        path = "";
    if (uds_option != NULL && path[0] == '\0')
        return err_set(err, "the path of the stand-in for vsock is empty");
    if (strlen(path) >= sizeof ret->uds)
        return err_set(err,
            "the path of the stand-in for vsock has more than %d characters: %.100s",
            VSOCK_PATH_MAX - 1, path);
    const char *cid = getenv("TMKMS_VSOCK_PARENT_CID");
    memset(ret, 0, sizeof *ret);
    memcpy(ret->uds, path, strlen(path));
    ret->parent_cid = cid != NULL ? (uint32_t)strtoul(cid, NULL, 10) : 0;
    return true;
}

bool vsock_export(const struct vsock *v, struct err *err)
{
    char cid[16];
    snprintf(cid, sizeof cid, "%" PRIu32, v->parent_cid);
    return (setenv("TMKMS_VSOCK_UDS", v->uds, 1) == 0 &&
               setenv("TMKMS_VSOCK_PARENT_CID", cid, 1) == 0) ||
           err_errno(err, "cannot set the environment");
}

/* ---- addresses ---- */

static struct place place_of_vsock(uint32_t cid, uint32_t port)
{
    struct place p = {.address_n = sizeof p.address.vm};
    p.address.vm.svm_family = AF_VSOCK;
    p.address.vm.svm_cid = cid;
    p.address.vm.svm_port = port;
    if (cid == VMADDR_CID_ANY)
        snprintf(p.words, sizeof p.words, "vsock port %" PRIu32, port);
    else
        snprintf(p.words, sizeof p.words, "vsock port %" PRIu32 " of CID %" PRIu32, port, cid);
    return p;
}

static struct place place_of_path(const char *path, const char *suffix)
{
    struct place p = {.address_n = sizeof p.address.un};
    p.address.un.sun_family = AF_UNIX;
    enum { LONGEST = VSOCK_PATH_MAX + sizeof "_4294967295" };
    snprintf(
        p.address.un.sun_path, sizeof p.address.un.sun_path, "%.*s%s", (int)LONGEST, path, suffix);
    snprintf(p.words, sizeof p.words, "the socket %s%s", path, suffix);
    return p;
}

static struct place place_of_parent(const struct vsock *v, uint32_t port, uint32_t cid)
{
    char suffix[16];
    if (v->uds[0] == '\0')
        return place_of_vsock(cid, port);
    snprintf(suffix, sizeof suffix, "_%" PRIu32, port);
    return place_of_path(v->uds, suffix);
}

static struct place place_seen_from_guest(const struct vsock *v, uint32_t port)
{
    return place_of_parent(v, port, v->parent_cid != 0 ? v->parent_cid : VSOCK_CID_PARENT);
}

static int socket_for(const struct place *to, int flags, struct err *err)
{
    int fd = socket(to->address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0)
        err_errno(err, "cannot make a socket for %s%s", to->words,
            errno == EAFNOSUPPORT ? " (this kernel has no vsock)" : "");
    return fd;
}

/* ---- connecting ---- */

static bool set_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0;
}

static bool is_connected(int fd)
{
    int failed = 0;
    socklen_t n = sizeof failed;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &n) != 0)
        return false;
    errno = failed;
    return failed == 0;
}

/* Waits until the connection stands. A unix socket whose backlog is full says EAGAIN and is tried
 * again. */
static bool connect_before(int fd, const struct place *to, uint64_t deadline_us)
{
    while (connect(fd, &to->address.any, to->address_n) != 0) {
        if (errno == EINPROGRESS)
            return fd_wait(fd, POLLOUT, deadline_us) && is_connected(fd);
        if (errno != EAGAIN && errno != EINTR)
            return false;
        if (clock_monotonic_us() >= deadline_us) {
            errno = ETIMEDOUT;
            return false;
        }
        poll(NULL, 0, CROWDED_WAIT_MS);
    }
    return true;
}

static int dial(const struct place *to, uint64_t deadline_us, struct err *err)
{
    int fd = socket_for(to, SOCK_NONBLOCK, err);
    if (fd >= 0 && (!connect_before(fd, to, deadline_us) || !set_blocking(fd))) {
        err_errno(err, "cannot connect to %s", to->words);
        fd_close(&fd);
    }
    return fd;
}

int vsock_dial_parent(const struct vsock *v, uint32_t port, uint64_t deadline_us, struct err *err)
{
    struct place to = place_seen_from_guest(v, port);
    return dial(&to, deadline_us, err);
}

static int dial_start(const struct place *to, struct err *err)
{
    int fd = socket_for(to, SOCK_NONBLOCK, err);
    if (fd >= 0 && connect(fd, &to->address.any, to->address_n) != 0 && errno != EINPROGRESS) {
        err_errno(err, "cannot connect to %s", to->words);
        fd_close(&fd);
    }
    return fd;
}

int vsock_dial_parent_start(const struct vsock *v, uint32_t port, struct err *err)
{
    struct place to = place_seen_from_guest(v, port);
    return dial_start(&to, err);
}

bool vsock_dial_finish(int fd, struct err *err)
{
    return (is_connected(fd) && set_blocking(fd)) || err_errno(err, "cannot connect");
}

/* A short line, with its newline, and not one byte more: what follows belongs to the caller. */
static bool read_line(int fd, char line[HELLO_MAX], uint64_t deadline_us)
{
    for (size_t n = 0; n + 1 < HELLO_MAX; n++) {
        if (!fd_read_before(fd, &line[n], 1, deadline_us))
            return false;
        line[n + 1] = '\0';
        if (line[n] == '\n')
            return true;
    }
    errno = EPROTO;
    return false;
}

static bool say_connect(int fd, uint32_t port, uint64_t deadline_us)
{
    char line[HELLO_MAX];
    int n = snprintf(line, sizeof line, "CONNECT %" PRIu32 "\n", port);
    if (!fd_write_before(fd, line, (size_t)n, deadline_us) || !read_line(fd, line, deadline_us))
        return false;
    if (strncmp(line, "OK ", 3) == 0)
        return true;
    errno = EPROTO;
    return false;
}

static struct place place_of_guest(const struct vsock *v, uint32_t cid, uint32_t port)
{
    return v->uds[0] != '\0' ? place_of_path(v->uds, "") : place_of_vsock(cid, port);
}

int vsock_dial_guest_start(const struct vsock *v, uint32_t cid, uint32_t port, struct err *err)
{
    struct place to = place_of_guest(v, cid, port);
    return dial_start(&to, err);
}

int vsock_dial_guest(
    const struct vsock *v, uint32_t cid, uint32_t port, uint64_t deadline_us, struct err *err)
{
    bool is_standin = v->uds[0] != '\0';
    struct place to = place_of_guest(v, cid, port);
    int fd = dial(&to, deadline_us, err);
    if (fd >= 0 && is_standin && !say_connect(fd, port, deadline_us)) {
        if (errno == 0)
            err_set(err, "nobody listens on port %" PRIu32 " behind %s", port, to.words);
        else
            err_errno(err, "cannot connect to port %" PRIu32 " behind %s", port, to.words);
        fd_close(&fd);
    }
    return fd;
}

/* ---- listening ---- */

/* A path may be taken over when it is a socket that nobody listens on, or nothing. */
static bool is_free(const struct place *at, struct err *err)
{
    struct stat st;
    const char *path = at->address.un.sun_path;
    if (lstat(path, &st) != 0)
        return errno == ENOENT || err_errno(err, "cannot look at %s", path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, "%s is there already and is no socket", path);
    int fd = socket_for(at, SOCK_NONBLOCK, err);
    if (fd < 0)
        return false;
    bool is_dead = connect(fd, &at->address.any, at->address_n) != 0 && errno == ECONNREFUSED;
    close(fd);
    return is_dead || err_set(err, "%s is in use by another process; stop it first", path);
}

/* The new socket listens under another name first and then takes the place of a stale one: at no
 * moment is there a path without a listener. */
static bool bind_path(int fd, const struct place *at, struct err *err)
{
    struct place fresh = place_of_path(at->address.un.sun_path, "~");
    const char *name = fresh.address.un.sun_path;
    if (!is_free(at, err))
        return false;
    unlink(name);
    if (bind(fd, &fresh.address.any, fresh.address_n) != 0 || listen(fd, BACKLOG) != 0 ||
        rename(name, at->address.un.sun_path) != 0) {
        err_errno(err, "cannot listen on %s", at->words);
        unlink(name);
        return false;
    }
    return true;
}

static bool bind_vsock(int fd, const struct place *at, struct err *err)
{
    return (bind(fd, &at->address.any, at->address_n) == 0 && listen(fd, BACKLOG) == 0) ||
           err_errno(err, "cannot listen on %s", at->words);
}

static int listen_at(const struct place *at, int flags, struct err *err)
{
    int fd = socket_for(at, flags, err);
    bool is_unix = at->address.any.sa_family == AF_UNIX;
    if (fd >= 0 && !(is_unix ? bind_path(fd, at, err) : bind_vsock(fd, at, err)))
        fd_close(&fd);
    return fd;
}

int vsock_listen_guest(const struct vsock *v, uint32_t port, struct err *err)
{
    struct place at =
        v->uds[0] != '\0' ? place_of_path(v->uds, "") : place_of_vsock(VMADDR_CID_ANY, port);
    return listen_at(&at, 0, err);
}

int vsock_listen_parent(const struct vsock *v, uint32_t port, struct err *err)
{
    struct place at = place_of_parent(v, port, VMADDR_CID_ANY);
    return listen_at(&at, SOCK_NONBLOCK, err);
}

static bool greet(int fd, uint32_t port, struct err *err)
{
    char line[HELLO_MAX], wanted[HELLO_MAX], answer[HELLO_MAX];
    uint64_t deadline_us = clock_monotonic_us() + HELLO_WAIT_US;
    snprintf(wanted, sizeof wanted, "CONNECT %" PRIu32 "\n", port);
    if (!read_line(fd, line, deadline_us))
        return err_set(err, "a connection that did not say which port it wants");
    if (strcmp(line, wanted) != 0)
        return err_set(err, "a connection to a port other than %" PRIu32, port);
    int n = snprintf(answer, sizeof answer, "OK %" PRIu32 "\n", port);
    return fd_write_before(fd, answer, (size_t)n, deadline_us) ||
           err_set(err, "a connection that ended at once");
}

int vsock_accept_guest(int listener, struct err *err)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        err_errno(err, "cannot accept a connection");
    return fd;
}

bool vsock_greet(const struct vsock *v, int fd, uint32_t port, struct err *err)
{
    return v->uds[0] == '\0' || greet(fd, port, err);
}

bool vsock_guest_is_free(const struct vsock *v, struct err *err)
{
    struct place at = place_of_path(v->uds, "");
    return is_free(&at, err);
}

uint32_t vsock_peer_cid(int fd)
{
    struct sockaddr_vm peer;
    socklen_t n = sizeof peer;
    bool is_vsock = getpeername(fd, (struct sockaddr *)&peer, &n) == 0 && n >= sizeof peer &&
                    peer.svm_family == AF_VSOCK;
    return is_vsock ? peer.svm_cid : 0;
}

bool vsock_cid_is_guest(uint32_t cid)
{
    return cid > VSOCK_CID_PARENT && cid != VMADDR_CID_ANY;
}

/* By the socket's own family: a peer that has left already has no name any more, but its bytes are here. */
bool vsock_peer_is_guest(int fd)
{
    int family = AF_VSOCK;
    socklen_t n = sizeof family;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &n) == 0 && family != AF_VSOCK)
        return true;
    return vsock_cid_is_guest(vsock_peer_cid(fd));
}
