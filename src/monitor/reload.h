/* reload: what changes while the program runs. */
#ifndef TMKMS_MONITOR_RELOAD_H
#define TMKMS_MONITOR_RELOAD_H

#include "monitor/chains.h"

/* reload_config reads the configuration again and adds, changes and drops chains and validators;
 * connections of what did not change are not touched. A configuration with errors, or one that
 * changes the key or the state file of a running chain, changes nothing: false, and it is logged why. What cannot be
 * added is logged and left out. */
bool reload_config(struct monitor *m) ATTR_MUST_USE;

/* reload_add_validator opens the identity key and hands the validator to the session; whether that
 * lives is not looked at (reload_confirm_session does). */
bool reload_add_validator(
    struct monitor *m, const struct config_validator *v, struct err *err) ATTR_MUST_USE;

/* Whether the configuration has this validator, with all its settings. */
bool reload_has_validator(const struct config *c, const struct config_validator *v) ATTR_MUST_USE;

/* reload_confirm_session waits until the session has taken in all that was sent. */
bool reload_confirm_session(struct monitor *m, struct err *err) ATTR_MUST_USE;

#endif
