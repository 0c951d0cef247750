/* child: one child process of the monitor, with its control and log sockets. */
#ifndef TMKMS_MONITOR_CHILD_H
#define TMKMS_MONITOR_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/err.h"

struct child {
    const char *role; /* "@signer", ...: what it is started as */
    pid_t pid;        /* 0: not running */
    int control;      /* -1: closed */
    int log;
    uint64_t log_due_us; /* its lines may wait until then */
    uint64_t log_wait_us;
    uint64_t started_us;
    uint64_t heard_us; /* when it was started or last answered a PING (health.h) */
    bool is_asked;     /* a PING is on its way */
};

extern const struct child CHILD_NONE;

/* child_spawn starts this program again in the given role (argument: shown in messages, may be
 * NULL) with input as its standard input (-1: /dev/null). */
bool child_spawn(struct child *ret, const char *role, const char *argument, int input,
    struct err *err) ATTR_MUST_USE;

/* Writes the log lines that wait in the child's log socket, and sets the time before which nobody
 * needs to look again. false: the socket has ended. */
bool child_forward_log(struct child *c);

/* Closes the sockets (which asks the child to end), waits until deadline_us on the monotonic clock,
 * then kills. */
void child_stop(struct child *c, uint64_t deadline_us);
void child_close(struct child *c); /* the sockets only */

/* Why a process ended, in words: "exit code 1", "signal 31 (Bad system call)". */
const char *child_end_text(int wait_status, char *buf, unsigned long cap);

#endif
