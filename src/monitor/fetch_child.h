/* fetch_child: one question to KMS through a fetch process of its own. */
#ifndef TMKMS_MONITOR_FETCH_CHILD_H
#define TMKMS_MONITOR_FETCH_CHILD_H

#include "aws/kms.h"
#include "monitor/core.h"

/* fetch_run starts the process, gives it the connections it asks for (dial must keep to the deadline it gets), forwards
 * log lines meanwhile and waits up to deadline_us and a little more. false when KMS did not do what was asked, with its
 * reason, or when the program is told to end. */
bool fetch_run(struct monitor *m, const struct kms_request *req,
    const struct aws_credentials *creds, int64_t now_s, kms_dial *dial, void *ctx,
    uint64_t deadline_us, struct kms_answer *ret, struct err *err) ATTR_MUST_USE;

#endif
