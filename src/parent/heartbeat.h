/* heartbeat: the sign of life of an enclave that boots: it connects to port 9000 of its parent, sends the byte 0xB7 and
 * gets it back. The listener is there before the enclave is started. */
#ifndef TMKMS_PARENT_HEARTBEAT_H
#define TMKMS_PARENT_HEARTBEAT_H

#include "base/attr.h"
#include "base/err.h"
#include "enclave/heartbeat.h"
#include "link/vsock.h"
#include "parent/leash.h"
#include "parent/process.h"

/* heartbeat_listen: with AF_VSOCK the port is shared by all that start enclaves on this parent: it waits until
 * deadline_us for its turn. -1 and err. */
int heartbeat_listen(struct leash *l, const struct vsock *v, uint64_t deadline_us, struct err *err);

/* heartbeat_await: cid: of the enclave; 0: any. dying: polled besides (an enclave's descriptor, pidfds), -1 for none;
 * false with an empty err when one of them has something to say, otherwise err holds words. */
bool heartbeat_await(struct leash *l, int listener, uint32_t cid, const int dying[2],
    uint64_t deadline_us, struct err *err) ATTR_MUST_USE;

#endif
