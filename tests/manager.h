/* manager: the service manager's end of base/notify.h, a datagram socket at which a test hears what a service says. */
#ifndef TMKMS_TESTS_MANAGER_H
#define TMKMS_TESTS_MANAGER_H

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

struct manager {
    char folder[32];
    char name[64]; /* for NOTIFY_SOCKET */
    int socket;
    char text[1024]; /* the last message */
};

static inline void manager_start(struct manager *m, bool is_abstract)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(m->folder, sizeof m->folder, "/tmp/tmkms-notify-XXXXXX");
    assert_non_null(mkdtemp(m->folder));
    if (is_abstract)
        snprintf(m->name, sizeof m->name, "@tmkms-test-notify-%d", (int)getpid());
    else
        snprintf(m->name, sizeof m->name, "%s/notify", m->folder);
    memcpy(at.sun_path, m->name, strlen(m->name));
    if (is_abstract)
        at.sun_path[0] = '\0';
    socklen_t len =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(m->name) + !is_abstract);
    m->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(m->socket, (struct sockaddr *)&at, len), 0);
    setenv("NOTIFY_SOCKET", m->name, 1);
}

static inline void manager_stop(struct manager *m)
{
    close(m->socket);
    unlink(m->name);
    assert_int_equal(rmdir(m->folder), 0);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

/* The next message within ms, "" when none comes. Without a wait it hears what was said before the call. */
static inline const char *manager_hears(struct manager *m, int ms)
{
    struct pollfd p = {.fd = m->socket, .events = POLLIN};
    ssize_t n = poll(&p, 1, ms) == 1 ? recv(m->socket, m->text, sizeof m->text - 1, 0) : 0;
    assert_true(n >= 0);
    m->text[n] = '\0';
    return m->text;
}

#endif
