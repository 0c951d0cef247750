#include "monitor/fetch_child.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/fd.h"
#include "crypto/secret.h"
#include "fetch/fetch.h"

enum {
    GRACE_US = 2 * 1000000, /* for the child's word that its deadline has passed */
    END_US = 1000000,
    TURN_MS = 1000,
};

static bool hand_over(int control, const struct kms_request *req,
    const struct aws_credentials *creds, int64_t now_s, uint64_t deadline_us, struct err *err)
{
    struct fetch_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return err_set(err, "out of memory");
    job->request = *req;
    job->credentials = *creds;
    job->now_s = now_s;
    job->deadline_us = deadline_us;
    bool ok = fetch_start(control, job, err);
    secret_wipe(job, sizeof *job);
    free(job);
    return ok;
}

static bool give_line(int control, kms_dial *dial, void *ctx, uint64_t deadline_us)
{
    struct err why = {0};
    int fd ATTR_CLEANUP(fd_close) = dial(ctx, deadline_us, &why);
    return fetch_give_line(control, fd, why.text);
}

/* What KMS is asked for is the signer's. */
static bool signer_is_lost(const struct monitor *m)
{
    return m->signer.pid > 0 && m->signer.control < 0;
}

/* Waits until the child has something to say. */
static bool await(struct monitor *m, struct child *child, uint64_t deadline_us, struct err *err)
{
    while (clock_monotonic_us() < deadline_us && !m->stopping) {
        struct pollfd p[] = {
            {.fd = child->control, .events = POLLIN}, {.fd = child->log, .events = POLLIN}};
        core_turn(m, p, 2, TURN_MS);
        if (p[1].revents != 0 && !child_forward_log(child))
            fd_close(&child->log);
        if (signer_is_lost(m))
            return core_lost(&m->signer, err);
        if (p[0].revents != 0)
            return true;
    }
    return err_set(err, m->stopping ? "told to end" : "the fetch process does not answer in time");
}

static bool serve(struct monitor *m, struct child *child, kms_dial *dial, void *ctx,
    uint64_t deadline_us, struct kms_answer *ret, struct err *err)
{
    for (;;) {
        if (!await(m, child, deadline_us + GRACE_US, err))
            return false;
        switch (fetch_feed(child->control, ret)) {
        case FETCH_WANTS_LINE:
            if (give_line(child->control, dial, ctx, deadline_us))
                continue;
            break;
        case FETCH_ANSWERED:
            return ret->ok == 1 || err_set(err, "%s", ret->error);
        case FETCH_ENDED:
            break;
        }
        return err_set(err, "the fetch process ended without an answer");
    }
}

bool fetch_run(struct monitor *m, const struct kms_request *req,
    const struct aws_credentials *creds, int64_t now_s, kms_dial *dial, void *ctx,
    uint64_t deadline_us, struct kms_answer *ret, struct err *err)
{
    struct child child;
    if (!child_spawn(&child, "@fetch", NULL, -1, err))
        return false;
    bool ok = hand_over(child.control, req, creds, now_s, deadline_us, err) &&
              serve(m, &child, dial, ctx, deadline_us, ret, err);
    if (child.log >= 0)
        child_forward_log(&child);
    child_stop(&child, m->stopping ? 0 : clock_monotonic_us() + END_US);
    return ok;
}
