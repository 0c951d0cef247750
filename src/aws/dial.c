#include "aws/dial.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"

/* 0, or the errno of why the connection did not come about. */
static int wait_connected(int fd, uint64_t deadline_us)
{
    for (;;) {
        uint64_t now = clock_monotonic_us();
        if (now >= deadline_us)
            return ETIMEDOUT;
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        int n = poll(&p, 1, (int)((deadline_us - now) / 1000U) + 1);
        if (n < 0 && errno != EINTR)
            return errno;
        if (n <= 0)
            continue;
        int why = 0;
        socklen_t size = sizeof why;
        return getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &size) == 0 ? why : errno;
    }
}

static int connect_one(const struct addrinfo *a, uint64_t deadline_us)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int why = connect(fd, a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;
    if (why == EINPROGRESS)
        why = wait_connected(fd, deadline_us);
    int flags = fcntl(fd, F_GETFL);
    if (why == 0 && (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0))
        why = errno;
    if (why != 0)
        fd_close(&fd);
    errno = why;
    return fd;
}

int dial_tcp(const char *host, uint16_t port, uint64_t deadline_us, struct err *err)
{
    char port_text[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list = NULL;
    snprintf(port_text, sizeof port_text, "%u", (unsigned)port);
    int why = getaddrinfo(host, port_text, &hints, &list);
    if (why != 0) {
        err_set(err, "cannot find the address of %s: %s", host, gai_strerror(why));
        return -1;
    }
    int fd = -1;
    for (const struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next)
        fd = connect_one(a, deadline_us);
    if (fd < 0)
        err_errno(err, "cannot connect to %s port %u", host, (unsigned)port);
    freeaddrinfo(list);
    return fd;
}
