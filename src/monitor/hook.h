/* hook: a chain's state_hook, a command that prints {"latest_block_height": "123"}: nothing is
 * signed at or below it. */
#ifndef TMKMS_MONITOR_HOOK_H
#define TMKMS_MONITOR_HOOK_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "monitor/core.h"

/* hook_run runs the chain's hook, if it has one, for at most its timeout; SIGTERM ends it. *ret_height is the
 * height, or untouched when there is no hook or it failed and hook_fail_closed is not set (a
 * warning is logged). false: it failed and closes, or the program is told to end. */
bool hook_run(struct monitor *m, const struct config_chain *chain, int64_t *ret_height,
    struct err *err) ATTR_MUST_USE;

#endif
