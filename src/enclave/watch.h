/* watch: a process that ends the machine when a step of PID 1 takes too long. PID 1 may hang in a system call, where no
 * signal reaches it; a machine that hangs and does not say where is the worst of all. */
#ifndef TMKMS_ENCLAVE_WATCH_H
#define TMKMS_ENCLAVE_WATCH_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/err.h"

enum { WATCH_STEP_MAX = 64 };

struct watch {
    pid_t pid; /* 0: not started */
    int steps; /* -1: closed */
};

/* What happens when a step takes too long, in the watching process; words says which. */
typedef void watch_end(void *ctx, const char *words);

bool watch_start(struct watch *ret, watch_end *end, void *ctx, struct err *err) ATTR_MUST_USE;

/* watch_step: this begins now and may take so many seconds; the one before is over. */
void watch_step(const struct watch *w, const char *step, unsigned seconds);

/* watch_stop: nothing is watched any more. */
void watch_stop(struct watch *w);

#endif
