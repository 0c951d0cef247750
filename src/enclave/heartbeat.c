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

enum outcome { HEARD, SILENT, WRONG };

static enum outcome exchange(const struct vsock *v, uint64_t deadline_us, struct err *err)
{
    const uint8_t sent = HEARTBEAT_BYTE;
    uint8_t back = 0;
    int fd ATTR_CLEANUP(fd_close) = vsock_dial_parent(v, HEARTBEAT_PORT, deadline_us, err);
    if (fd < 0)
        return SILENT;
    if (!fd_write_before(fd, &sent, 1, deadline_us) || !fd_read_before(fd, &back, 1, deadline_us)) {
        err_set(err, "the parent does not answer on port %d", HEARTBEAT_PORT);
        return SILENT;
    }
    if (back == sent)
        return HEARD;
    err_set(err, "the parent answers 0x%02X on port %d, not 0x%02X", back, HEARTBEAT_PORT, sent);
    return WRONG;
}

bool heartbeat_send(const struct vsock *v, uint64_t deadline_us, struct err *err)
{
    struct err now, told;
    bool is_answered = false;
    for (;;) {
        enum outcome o = exchange(v, sooner(deadline_us, clock_monotonic_us() + ATTEMPT_US), &now);
        if (o == HEARD)
            return true;
        /* The last attempt has no time left for an answer: one that came before says more. */
        if (o == WRONG || !is_answered)
            told = now;
        is_answered = is_answered || o == WRONG;
        if (clock_monotonic_us() >= deadline_us)
            return err_set(err, "no heartbeat: %s", told.text);
        poll(NULL, 0, AGAIN_MS);
    }
}
