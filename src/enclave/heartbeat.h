/* heartbeat: the sign of life that whoever started the enclave waits for: one byte to port 9000 of the parent, and the
 * same byte back (aws-nitro-enclaves-cli, enclave_proc; init.c of the SDK's bootstrap). */
#ifndef TMKMS_ENCLAVE_HEARTBEAT_H
#define TMKMS_ENCLAVE_HEARTBEAT_H

#include <stdbool.h>
#include <stdint.h>

#include "link/vsock.h"

enum { HEARTBEAT_PORT = 9000, HEARTBEAT_BYTE = 0xB7 };

/* heartbeat_send tries again until deadline_us (monotonic): a parent may begin to listen late. A wrong answer is told
 * before that there was none. */
bool heartbeat_send(const struct vsock *v, uint64_t deadline_us, struct err *err) ATTR_MUST_USE;

#endif
