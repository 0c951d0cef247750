/* chains: the chains that run, from the monitor's side: opening their files, the machine-wide lock,
 * and the steps with the signer (see ipc/control.h). */
#ifndef TMKMS_MONITOR_CHAINS_H
#define TMKMS_MONITOR_CHAINS_H

#include <stdbool.h>
#include <sys/types.h>

#include "config/config.h"
#include "ipc/control.h"
#include "monitor/child.h"

/* A chain that the signer has open. */
struct chain {
    struct config_chain config;
    struct public_key key;
    int lock; /* the abstract socket that stops a second process with this chain and key */
    dev_t state_dev;
    ino_t state_ino;
};

struct monitor {
    const char *config_path;
    struct config config; /* as it runs */
    struct chain *chains; /* room for CONFIG_CHAINS_MAX */
    size_t chains_n;
    struct child signer;
    struct child session;
    int signals;             /* signalfd */
    bool stopping;           /* SIGTERM or SIGINT was seen */
    uint64_t session_due_us; /* when a dead session is started again, 0: it runs */
};

/* chains_open goes through all steps until the signer has the chain open. On false nothing of it
 * remains. */
bool chains_open(
    struct monitor *m, const struct config_chain *config, struct err *err) ATTR_MUST_USE;
void chains_drop(struct monitor *m, struct chain *chain);
struct chain *chains_find(struct monitor *m, const char *id);

/* chains_connect makes a fresh socket pair between session and signer for the chain. */
bool chains_connect(struct monitor *m, const struct chain *chain, struct err *err) ATTR_MUST_USE;

/* monitor_await waits for one message of the given kind from a child, forwarding log lines
 * meanwhile. A CONTROL_FAILED from that child becomes the err. */
bool monitor_await(struct monitor *m, struct child *from, uint32_t kind, struct control *ret,
    struct err *err) ATTR_MUST_USE;

#endif
