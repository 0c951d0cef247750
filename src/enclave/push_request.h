/* push_request: a push that was parsed, checked and told to the monitor in the frames of
 * push_frames.h. */
#ifndef TMKMS_ENCLAVE_PUSH_REQUEST_H
#define TMKMS_ENCLAVE_PUSH_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

/* push_request_forward: false with words when the request is not sound, and then nothing was sent; or
 * when the monitor does not take it until deadline_us. */
bool push_request_forward(
    json_t *push, int control, uint64_t deadline_us, struct err *err) ATTR_MUST_USE;

#endif
