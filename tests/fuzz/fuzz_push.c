/* A push from any hand: it is refused with words and nothing is sent, or all of it becomes frames that
 * the monitor's own checks accept. */
#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "enclave/push_frames.h"
#include "enclave/push_request.h"
#include "nitro/push.h"

static int pair[2] = {-1, -1};

static void start(void)
{
    int room = 64 << 20;
    struct err err;
    if (!crypto_start(&err) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) != 0)
        abort();
    (void)!setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    log_set_level(LOG_ERROR);
}

/* The kind of the last frame; 0: there was none. */
static uint32_t take_frames(void)
{
    static struct push_frame frame;
    uint32_t last = 0;
    uint8_t probe;
    while (recv(pair[1], &probe, 1, MSG_PEEK | MSG_DONTWAIT) == 1) {
        if (push_frame_recv(pair[1], &frame) != 1)
            abort();
        last = frame.kind;
    }
    return last;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct err err = {0};
    if (pair[0] < 0)
        start();
    json_t *push = push_parse(bytes_of(data, n), &err);
    if (push == NULL) {
        if (err.text[0] == '\0')
            abort();
        return 0;
    }
    bool ok = push_request_forward(push, pair[0], clock_monotonic_us() + 50000, &err);
    uint32_t last = take_frames();
    json_decref(push);
    if (!ok && err.text[0] == '\0')
        abort();
    if (ok && last != CONTROL_END && last != PUSH_CREDENTIALS && last != PUSH_ATTEST &&
        last != PUSH_PING)
        abort();
    return 0;
}
