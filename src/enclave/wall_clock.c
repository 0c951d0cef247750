#include "enclave/wall_clock.h"

#include <fcntl.h>
#include <time.h>

#include "base/clock.h"
#include "base/fd.h"
#include "enclave/machine_file.h"
#include "nitro/nsm.h"

enum { MS = 1000, SECOND = 1000000 };

/* 2024: a source that says less has no time. */
static const int64_t too_early_us = 1704067200LL * SECOND;

/* Linux, Documentation/driver-api/ptp.rst: a descriptor as the number of a clock. */
static clockid_t clock_of(int fd)
{
    enum { CLOCKFD = 3 };
    return (clockid_t)(~(unsigned)fd << 3 | CLOCKFD);
}

static bool read_ptp(int fd, struct wall_clock_reading *ret, struct err *err)
{
    struct timespec t;
    if (clock_gettime(clock_of(fd), &t) != 0)
        return err_errno(err, "cannot read /dev/ptp0");
    ret->earliest_us = ret->latest_us = (int64_t)t.tv_sec * SECOND + t.tv_nsec / MS;
    return true;
}

/* The document was made at some moment of the exchange; one whose time is a whole second may be up to a second older
 * than it says. */
static bool read_nsm(int nsm, struct wall_clock_reading *ret, struct err *err)
{
    uint64_t ms, asked_us = clock_monotonic_us();
    if (!nsm_time_ms(nsm, &ms, err))
        return err_prefix(err, "cannot learn the time");
    if (ms > INT64_MAX / MS / 2)
        return err_set(err, "the Nitro Secure Module gives no sensible time");
    ret->earliest_us = (int64_t)ms * MS;
    ret->latest_us = ret->earliest_us + (int64_t)(clock_monotonic_us() - asked_us) +
                     (ms % 1000 == 0 ? SECOND : MS);
    return true;
}

const struct wall_clock_source wall_clock_ptp = {.name = "/dev/ptp0", .read = read_ptp};
const struct wall_clock_source wall_clock_nsm = {
    .name = "the Nitro Secure Module", .read = read_nsm};

struct wall_clock wall_clock_open(const char *root, int nsm)
{
    struct wall_clock_reading unused;
    struct wall_clock ptp = {.source = &wall_clock_ptp,
        .fd = machine_file_open(root, wall_clock_ptp.name, O_RDONLY, NULL)};
    if (ptp.fd >= 0 && wall_clock_read(&ptp, &unused, NULL))
        return ptp;
    fd_close(&ptp.fd);
    return (struct wall_clock){.source = &wall_clock_nsm, .fd = nsm};
}

bool wall_clock_read(const struct wall_clock *c, struct wall_clock_reading *ret, struct err *err)
{
    struct wall_clock_reading r = {0};
    if (!c->source->read(c->fd, &r, err))
        return false;
    if (r.earliest_us < too_early_us)
        return err_set(err, "the time of %s lies before 2024", c->source->name);
    *ret = r;
    return true;
}

int64_t wall_clock_step(const struct wall_clock_reading *r, int64_t now_us, int64_t tolerated_us)
{
    if (now_us < r->earliest_us - tolerated_us)
        return r->earliest_us - now_us;
    if (now_us > r->latest_us + tolerated_us)
        return r->latest_us - now_us;
    return 0;
}

static bool set_realtime(int64_t us, struct err *err)
{
    struct timespec t = {.tv_sec = us / SECOND, .tv_nsec = us % SECOND * MS};
    return clock_settime(CLOCK_REALTIME, &t) == 0 || err_errno(err, "cannot set the clock");
}

bool wall_clock_set(
    const struct wall_clock *c, int64_t tolerated_us, int64_t *ret_step_us, struct err *err)
{
    struct wall_clock_reading r = {0};
    if (!wall_clock_read(c, &r, err))
        return false;
    int64_t now_us = (int64_t)clock_realtime_us();
    int64_t step_us = wall_clock_step(&r, now_us, tolerated_us);
    if (step_us != 0 && !set_realtime(now_us + step_us, err))
        return false;
    *ret_step_us = step_us;
    return true;
}
