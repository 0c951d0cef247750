/* chains: the chains that run, from the monitor's side: opening their files, the machine-wide lock,
 * and the steps with the signer (see ipc/control.h). */
#ifndef TMKMS_MONITOR_CHAINS_H
#define TMKMS_MONITOR_CHAINS_H

#include "monitor/core.h"

extern const struct monitor_source chains_from_files;

/* chains_open goes through all steps until the signer has the chain open. On false nothing of it
 * remains. */
bool chains_open(
    struct monitor *m, const struct config_chain *config, struct err *err) ATTR_MUST_USE;
void chains_drop(struct monitor *m, struct chain *chain);
struct chain *chains_find(struct monitor *m, const char *id);

/* chains_connect makes a fresh socket pair between session and signer for the chain; whether the session
 * lives is not looked at. */
bool chains_connect(struct monitor *m, const struct chain *chain, struct err *err) ATTR_MUST_USE;

#endif
