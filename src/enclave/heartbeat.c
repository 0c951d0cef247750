#include "enclave/heartbeat.h"

#include <poll.h>
#include <stddef.h>

#include "base/clock.h"
#include "base/fd.h"

enum {
    ATTEMPT_US = 2000000, /* a parent that does not listen may also not refuse */
    AGAIN_MS = 50,
};

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* *is_wrong: the parent answered, and something else. */
static bool exchange(const struct vsock *v, uint64_t deadline_us, bool *is_wrong, struct err *err)
{
    const uint8_t sent = HEARTBEAT_BYTE;
    uint8_t back = 0;
    int fd ATTR_CLEANUP(fd_close) = vsock_dial_parent(v, HEARTBEAT_PORT, deadline_us, err);
    if (fd < 0)
        return false;
    if (!fd_write_before(fd, &sent, 1, deadline_us) || !fd_read_before(fd, &back, 1, deadline_us))
        return err_set(err, "the parent does not answer on port %d", HEARTBEAT_PORT);
    *is_wrong = back != sent;
    return !*is_wrong || err_set(err, "the parent answers 0x%02X on port %d, not 0x%02X", back,
                             HEARTBEAT_PORT, sent);
}

bool heartbeat_send(const struct vsock *v, uint64_t deadline_us, struct err *err)
{
    struct err wrong;
    bool was_wrong = false, is_wrong = false;
    while (!exchange(v, sooner(deadline_us, clock_monotonic_us() + ATTEMPT_US), &is_wrong, err)) {
        if (is_wrong)
            wrong = *err;
        was_wrong |= is_wrong;
        is_wrong = false;
        /* The last attempt has no time left for an answer: one that came before says more. */
        if (clock_monotonic_us() >= deadline_us) {
            *err = was_wrong ? wrong : *err;
            return err_prefix(err, "no heartbeat");
        }
        poll(NULL, 0, AGAIN_MS);
    }
    return true;
}
