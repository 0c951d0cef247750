/* child: how each of our child processes begins. */
#ifndef TMKMS_IPC_CHILD_H
#define TMKMS_IPC_CHILD_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"

/* How the signer ends when nothing is known about a state any more; the program ends so too. */
enum { CHILD_EXIT_STATE = 3 };

/* child_start: log lines go to the monitor, the terminal's and the service manager's signals are
 * left to the monitor, and the process is hardened (sandbox_harden). Call first; sandbox_enter
 * follows when all is set up. */
bool child_start(struct err *err) ATTR_MUST_USE;

#endif
