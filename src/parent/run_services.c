/* What an enclave connects to, in the supervisor's own loop. It stays over the lives of enclaves. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "parent/run_impl.h"

static const char log_name[] = "tmkms::run";

/* ret_is_state: one is missing or wrong, which does not pass by itself. */
static bool open_states(struct run *r, bool *ret_is_state, struct err *err)
{
    for (size_t i = 0; i < r->config.config.chains_n; i++) {
        char path[CONFIG_PATH_MAX];
        const struct config_chain *c = &r->config.config.chains[i];
        const char *file = run_config_state_file(r->options, c, path);
        enum persist_opened opened = persist_open_chain(r->persist, file, r->config.file, c, err);
        *ret_is_state = opened == PERSIST_WRONG;
        if (opened != PERSIST_OPEN)
            return false;
        log_line(LOG_INFO, log_name, "[%s] the state is in %s", c->id, file);
    }
    return true;
}

static bool open_port(struct run *r, const struct run_port *port, struct err *err)
{
    int listener = vsock_listen_parent(&r->vsock, port->port, err);
    if (listener < 0)
        return false;
    switch (port->kind) {
    case RUN_PORT_STATE:
        return persist_listen(r->persist, listener, err);
    case RUN_PORT_LOG:
        return logs_listen(r->logs, listener, err);
    case RUN_PORT_NODE:
    case RUN_PORT_KMS:
        break;
    }
    log_line(LOG_INFO, log_name, "vsock port %" PRIu32 " leads to %s", port->port, port->to.text);
    return proxy_add(r->proxy, listener, &port->to, err);
}

uint32_t run_state_cid(const struct run *r)
{
    if (r->vsock.uds[0] != '\0')
        return 0;
    return r->cid != 0 ? r->cid : PERSIST_NOBODY;
}

bool run_services_start(struct run *r, bool *ret_is_state, struct err *err)
{
    *ret_is_state = false;
    r->persist = persist_new(&r->server, run_state_cid(r), err);
    r->proxy = r->persist != NULL ? proxy_new(&r->server, err) : NULL;
    r->logs = r->proxy != NULL ? logs_new(&r->server, err) : NULL;
    if (r->logs == NULL)
        return false;
    logs_set_prefix(r->logs, "enclave: ");
    /* Before any port: who else serves this state holds its lock. */
    if (!open_states(r, ret_is_state, err))
        return false;
    for (size_t i = 0; i < r->config.ports_n; i++)
        if (!open_port(r, &r->config.ports[i], err))
            return false;
    return true;
}

static void remove_sockets(struct run *r)
{
    for (size_t i = 0; i < r->server.ports_n && i < r->config.ports_n; i++) {
        char path[VSOCK_PATH_MAX + 16];
        snprintf(path, sizeof path, "%s_%" PRIu32, r->vsock.uds, r->config.ports[i].port);
        unlink(path);
    }
}

void run_services_stop(struct run *r)
{
    if (r->vsock.uds[0] != '\0')
        remove_sockets(r);
    if (r->logs != NULL)
        logs_free(r->logs);
    if (r->proxy != NULL)
        proxy_free(r->proxy);
    if (r->persist != NULL)
        persist_free(r->persist);
    r->logs = NULL;
    r->proxy = NULL;
    r->persist = NULL;
}
