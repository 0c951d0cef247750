#include "monitor/dial.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "link/vsock.h"

static const struct link_address *find_address(const struct monitor *m, const char *text)
{
    for (size_t i = 0; i < m->config.validators_n; i++)
        if (strcmp(m->config.validators[i].address.text, text) == 0)
            return &m->config.validators[i].address;
    return NULL;
}

/* At once, or not at all: a unix socket whose backlog is full says EAGAIN. -1 with errno set. */
static int connect_path(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof to) != 0) {
        int why = errno;
        fd_close(&fd);
        errno = why;
    }
    return fd;
}

/* Behind vsock's stand-in a port is a unix socket too. */
static int connect_to(const struct link_address *to)
{
    struct vsock vsock;
    struct err err;
    errno = EACCES;
    if (to != NULL && to->kind == LINK_UNIX)
        return connect_path(to->path);
    if (to != NULL && to->kind == LINK_VSOCK && vsock_from(&vsock, NULL, &err) &&
        vsock.uds[0] != '\0')
        return vsock_dial_parent_start(&vsock, to->vsock_port, &err);
    return -1;
}

void dial_answer(struct monitor *m, const struct control_dial *ask)
{
    struct control answer = {.kind = CONTROL_DIALLED, .u.dialled.id = ask->id};
    struct pollfd p = {.fd = m->session.control, .events = POLLOUT};
    if (poll(&p, 1, 0) != 1 || (p.revents & POLLOUT) == 0)
        return;
    int fd = connect_to(find_address(m, ask->address));
    if (fd < 0)
        answer.u.dialled.os_error = errno;
    (void)!control_send_now(m->session.control, &answer, &fd, fd >= 0 ? 1 : 0);
    fd_close(&fd);
}
