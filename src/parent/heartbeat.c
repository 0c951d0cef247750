#include "parent/heartbeat.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

enum { TURN_US = 100000, ANSWER_US = 1000000 };

int heartbeat_listen(struct leash *l, const struct vsock *v, uint64_t deadline_us, struct err *err)
{
    for (;;) {
        errno = 0;
        int fd = vsock_listen_parent(v, HEARTBEAT_PORT, err);
        if (fd >= 0 || errno != EADDRINUSE || v->uds[0] != '\0')
            return fd;
        uint64_t now = clock_monotonic_us();
        uint64_t again = now + TURN_US < deadline_us ? now + TURN_US : deadline_us;
        if (now >= deadline_us || leash_wait(l, NULL, 0, again) == LEASH_CUT) {
            err_prefix(err, "another enclave is being started");
            return -1;
        }
    }
}

/* A stranger may connect as well: only the byte, from the enclave, counts. */
static bool beats(int listener, uint32_t cid, uint64_t deadline_us)
{
    uint64_t now = clock_monotonic_us();
    uint8_t byte = 0;
    int fd ATTR_CLEANUP(fd_close) = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 || !vsock_peer_is_guest(fd) || (cid != 0 && vsock_peer_cid(fd) != cid))
        return false;
    if (now + ANSWER_US < deadline_us)
        deadline_us = now + ANSWER_US;
    return fd_read_before(fd, &byte, 1, deadline_us) && byte == HEARTBEAT_BYTE &&
           fd_write_before(fd, &byte, 1, deadline_us);
}

bool heartbeat_await(struct leash *l, int listener, uint32_t cid, const int dying[2],
    uint64_t deadline_us, struct err *err)
{
    for (;;) {
        struct pollfd p[] = {{.fd = listener, .events = POLLIN}, {.fd = dying[0], .events = POLLIN},
            {.fd = dying[1], .events = POLLIN}};
        switch (leash_wait(l, p, 3, deadline_us)) {
        case LEASH_READY:
            break;
        case LEASH_LATE:
        case LEASH_CUT:
            return leash_failed(l, "it was started, but sent no heartbeat in time", err);
        }
        if (p[0].revents != 0 && beats(listener, cid, deadline_us))
            return true;
        if (p[1].revents != 0 || p[2].revents != 0)
            return err_set(err, "%s", "");
    }
}
