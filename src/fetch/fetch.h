/* fetch: the keyless process that speaks HTTPS to KMS, and how the monitor talks with it. It gets a job and connected
 * descriptors, opens nothing itself, and ends with its answer. One SEQPACKET message each:
 *
 *   monitor -> fetch    JOB       what to ask, credentials, the time, the deadline; once, first
 *   fetch   -> monitor  DIAL      it wants a connection (again, when the last one failed)
 *   monitor -> fetch    LINE      fd: a connected descriptor; or without one, and text says why not
 *   fetch   -> monitor  ANSWER    kms_answer; then it ends
 *   end of file                   either side is gone
 *
 * Host byte order, plain structs; the receiver checks lengths, ranges and zero-termination. */
#ifndef TMKMS_FETCH_FETCH_H
#define TMKMS_FETCH_FETCH_H

#include <stdbool.h>
#include <stdint.h>

#include "aws/kms.h"
#include "base/attr.h"
#include "base/err.h"

struct fetch_job {
    struct kms_request request;
    struct aws_credentials credentials;
    int64_t now_s;        /* the trusted time */
    uint64_t deadline_us; /* on the monotonic clock, which all processes share */
};

/* ---- the child ----------------------------------------------------------------------- */

/* `@fetch`: takes one job from CHILD_FD_CONTROL and answers it. Its exit code. */
int fetch_main(void);

/* ---- the monitor's side: control is the child's control socket (see monitor/fetch_child.h) ----------- */

/* fetch_start hands the job over; the caller wipes its own copy. */
bool fetch_start(int control, const struct fetch_job *job, struct err *err) ATTR_MUST_USE;

enum fetch_event {
    FETCH_WANTS_LINE, /* answer with fetch_give_line */
    FETCH_ANSWERED,   /* *ret is filled; it may say that KMS refused (ret->ok == 0) */
    FETCH_ENDED,      /* the process is gone, or talks nonsense, without an answer */
};

/* fetch_feed takes one message: call it when control is readable (it blocks otherwise). */
enum fetch_event fetch_feed(int control, struct kms_answer *ret);

/* fd is borrowed; -1: no connection, and why (may be NULL) says the reason. false: the child is gone. */
bool fetch_give_line(int control, int fd, const char *why) ATTR_MUST_USE;

#endif
