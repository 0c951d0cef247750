/* push_rig: both ends of a config push, for tests. */
#ifndef TMKMS_TESTS_PUSH_RIG_H
#define TMKMS_TESTS_PUSH_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "nitro/push.h"

enum { RIG_HEADER = 12 };

static inline uint64_t rig_in_ms(unsigned ms)
{
    return clock_monotonic_us() + ms * 1000ULL;
}

/* The header that announces n bytes, and the text behind it. Returns the length of both. */
static inline size_t rig_frame(uint8_t *out, size_t announced, const char *text)
{
    static const char magic[] = "TMKMSv1\n";
    memcpy(out, magic, 8);
    for (int i = 0; i < 4; i++)
        out[8 + i] = (uint8_t)(announced >> (24 - 8 * i));
    memcpy(out + RIG_HEADER, text, strlen(text));
    return RIG_HEADER + strlen(text);
}

static inline void rig_pair(int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

#endif
