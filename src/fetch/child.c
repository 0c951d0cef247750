#include <stdlib.h>

#include "aws/aws.h"
#include "base/fd.h"
#include "base/log.h"
#include "crypto/key.h"
#include "crypto/secret.h"
#include "fetch/message.h"
#include "ipc/child.h"
#include "ipc/control.h"
#include "sandbox/sandbox.h"

/* The child's messages are large: they do not lie on the stack. */
struct work {
    struct fetch_message job, line, answer;
};

/* kms_dial: the monitor makes the connections. */
static int ask_for_line(void *ctx, uint64_t deadline_us, struct err *err)
{
    struct work *w = ctx;
    int fd = -1;
    (void)deadline_us; /* the monitor keeps to the job's */
    w->line.kind = FETCH_DIAL;
    if (!fetch_send(CHILD_FD_CONTROL, &w->line, -1) ||
        fetch_recv(CHILD_FD_CONTROL, &w->line, &fd) != 1 || w->line.kind != FETCH_LINE) {
        fd_close(&fd);
        err_set(err, "the monitor gives no connection");
        return -1;
    }
    if (fd < 0)
        err_set(err, "%s", w->line.u.text);
    return fd;
}

static bool work_job(struct work *w)
{
    int fd;
    bool has_job = fetch_recv(CHILD_FD_CONTROL, &w->job, &fd) == 1 && w->job.kind == FETCH_JOB;
    fd_close(&fd);
    if (!has_job)
        return false;
    const struct fetch_job *job = &w->job.u.job;
    w->answer.kind = FETCH_ANSWER;
    bool ok = kms_call(&job->request, &job->credentials, job->now_s, ask_for_line, w,
        job->deadline_us, &w->answer.u.answer);
    log_line(LOG_DEBUG, "tmkms::fetch", "KMS %s", ok ? "answered" : "did not do what was asked");
    return fetch_send(CHILD_FD_CONTROL, &w->answer, -1);
}

int fetch_main(void)
{
    struct err err;
    struct work *w = calloc(1, sizeof *w);
    if (w == NULL || !child_start(&err) || !crypto_start(&err) || !aws_start(&err) ||
        !sandbox_enter(SANDBOX_FETCH, &err)) {
        log_line(LOG_ERROR, "tmkms::fetch", "%s", w == NULL ? "out of memory" : err.text);
        free(w);
        return EXIT_FAILURE;
    }
    bool ok = work_job(w);
    secret_wipe(w, sizeof *w);
    free(w);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
