/* monitor: the process that `tmkms start` is. It starts the config, signer and session processes,
 * hands them their descriptors, forwards their log lines, and reacts to signals: SIGTERM and SIGINT
 * end everything cleanly within a second, SIGHUP reads the configuration again. It parses nothing
 * hostile and never sees a key's bytes. */
#ifndef TMKMS_MONITOR_MONITOR_H
#define TMKMS_MONITOR_MONITOR_H

#include <stdbool.h>

#include "config/config.h"

/* monitor_run: the life of the program. Returns the exit code: 0 after SIGTERM or SIGINT, 1 when
 * something ended it. What keeps it from starting is added to problems; what happens later goes to
 * the log. */
int monitor_run(const char *config_path, struct problems *problems);

#endif
