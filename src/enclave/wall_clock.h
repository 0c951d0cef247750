/* wall_clock: the enclave's time of day, which TLS and SigV4 need. It comes from the hypervisor: /dev/ptp0 where there
 * is one, otherwise the timestamp of a document of the Nitro Secure Module. The parent is never asked.
 *
 * A reading says between which moments the true time lies, and the clock is stepped only when it lies outside: QEMU's
 * module knows whole seconds, and nobody is served by a clock that jumps within its own error. */
#ifndef TMKMS_ENCLAVE_WALL_CLOCK_H
#define TMKMS_ENCLAVE_WALL_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

enum { WALL_CLOCK_DRIFT_US = 500000 }; /* what a running clock may be off without a step */

/* The true time, microseconds since 1970: from earliest to latest, at the moment of the call's return. */
struct wall_clock_reading {
    int64_t earliest_us, latest_us;
};

struct wall_clock_source {
    const char *name; /* for messages */
    bool (*read)(int fd, struct wall_clock_reading *ret, struct err *err);
};

extern const struct wall_clock_source wall_clock_ptp; /* fd: of /dev/ptp0 */
extern const struct wall_clock_source wall_clock_nsm; /* fd: of nsm_open */

struct wall_clock {
    const struct wall_clock_source *source;
    int fd; /* borrowed from whoever opened it */
};

/* wall_clock_open takes /dev/ptp0 if there is one that can be read, otherwise the module. root: see machine_file.h. */
struct wall_clock wall_clock_open(const char *root, int nsm);

bool wall_clock_read(
    const struct wall_clock *c, struct wall_clock_reading *ret, struct err *err) ATTR_MUST_USE;

/* wall_clock_step: by how many microseconds a clock that shows now_us must be stepped. 0: it may stay. */
int64_t wall_clock_step(const struct wall_clock_reading *r, int64_t now_us, int64_t tolerated_us);

/* wall_clock_set reads, and steps CLOCK_REALTIME if it must. *ret_step_us: by how much. */
bool wall_clock_set(const struct wall_clock *c, int64_t tolerated_us, int64_t *ret_step_us,
    struct err *err) ATTR_MUST_USE;

#endif
