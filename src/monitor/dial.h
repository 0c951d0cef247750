/* dial: connections to the unix sockets of nodes. The session has neither the right to make such sockets nor, when
 * everything was started as root, root's reach in the file system: it names a validator, the monitor connects. */
#ifndef TMKMS_MONITOR_DIAL_H
#define TMKMS_MONITOR_DIAL_H

#include "monitor/core.h"

/* dial_answer connects without waiting and sends the session the descriptor, or why there is none. Only addresses of
 * the configuration are dialled. The answer is left out when the session does not read: nothing it does may stop the
 * monitor, and its own deadline ends the attempt. */
void dial_answer(struct monitor *m, const struct control_dial *ask);

#endif
