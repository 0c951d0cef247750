/* session: the process that talks with the validators: dials them, reads their requests, hands what
 * must be signed to the signer as typed requests and writes the replies. It holds no consensus key
 * and opens no files; everything it has comes over the control socket (ipc/control.h), in any
 * order, at any time:
 *
 *   a validator whose chain has no channel to the signer waits; it dials when the channel arrives
 *   a channel that ends closes the chain's connections; a new one (CONTROL_CHAIN_ADD_S) revives
 * them a validator that is dropped ends after the request it waits for
 *
 * Unix sockets are connected by the monitor, which is asked each time; so are validators behind vsock when
 * TMKMS_VSOCK_UDS names its stand-in (link/vsock.h).
 *
 * One thread and one event loop; nothing blocks, and the work done for one event is bounded, so
 * that one validator never delays another. */
#ifndef TMKMS_SESSION_SESSION_H
#define TMKMS_SESSION_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Every time limit of the session, in milliseconds (reference: the node's own in CometBFT privval:
 * accept 3 s, read and write 5 s, ping 3.3 s, accept only on demand). */
struct session_timing {
    uint32_t connect_ms;
    uint32_t handshake_ms; /* from the connect on: the node accepts only when it needs us */
    uint32_t write_ms;     /* a reply must be taken within this time */
    uint32_t idle_unit_ms; /* length of one second of a validator's `timeout` */
    uint32_t redial_min_ms, redial_max_ms;
    uint32_t lookup_ms; /* how long the result of a name lookup is used again, good or bad */
    uint32_t report_ms; /* at most one line about a failing validator in this time */
    uint32_t sweep_ms;  /* how often deadlines are looked at */
};

extern const struct session_timing session_timing_default;

/* session_run serves control_fd until its end of file. The exit code of the process: 0 after the
 * end of file; 1 when every validator had `reconnect = false` and has ended, or the monitor's
 * messages make no sense. is_sandboxed: system calls are restricted before the first message is
 * read. */
int session_run(int control_fd, const struct session_timing *timing, bool is_sandboxed);

/* session_main is the whole child process: CHILD_FD_CONTROL, CHILD_FD_LOG. */
int session_main(void);

#endif
