/* tmkms nitro persist: the store of enclaves on their parent. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/nitro.h"
#include "cli/nitro_enclave.h"
#include "config/config.h"
#include "parent/persist.h"

struct options {
    struct command_values ports, files, chains;
    const char *config, *cid_text;
    uint32_t cid;
    struct vsock vsock;
};

/* ---- what the configuration says ---- */

static const char *default_file(const struct config_chain *c, char out[CONFIG_PATH_MAX])
{
    if (c->state_file[0] != '\0')
        return c->state_file;
    snprintf(out, CONFIG_PATH_MAX, "%s_priv_validator_state.json", c->id);
    return out;
}

static bool is_chosen(const struct options *o, const char *chain_id)
{
    for (size_t i = 0; i < o->chains.n; i++)
        if (strcmp(o->chains.list[i].text, chain_id) == 0)
            return true;
    return o->chains.n == 0;
}

static bool listen_on(struct persist *p, const struct options *o, uint32_t port, struct err *err)
{
    int listener = vsock_listen_parent(&o->vsock, port, err);
    if (listener < 0 || !persist_listen(p, listener, err))
        return false;
    log_line(LOG_INFO, "tmkms::persist", "listening on vsock port %" PRIu32, port);
    return true;
}

/* Several chains may share a port. */
static bool is_new_port(const struct config *config, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (config->chains[k].state_port == config->chains[i].state_port)
            return false;
    return true;
}

static bool add_chains(
    struct persist *p, const struct options *o, const struct config *config, struct err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < config->chains_n; i++) {
        const struct config_chain *c = &config->chains[i];
        char path[CONFIG_PATH_MAX];
        if (c->state_port == 0 || !is_chosen(o, c->id))
            continue;
        n++;
        if (persist_open_chain(p, default_file(c, path), config_path(o->config), c, err) !=
            PERSIST_OPEN)
            return false;
        if (o->ports.n == 0 && is_new_port(config, i) && !listen_on(p, o, c->state_port, err))
            return false;
    }
    return n > 0 || err_set(err, "no chain of the configuration has a state_vsock_port");
}

static bool add_config(struct persist *p, const struct options *o, struct err *err)
{
    struct config config = {0};
    struct problems problems = {0};
    bool ok = config_read(&config, config_path(o->config), &problems);
    for (size_t i = 0; !ok && i < problems.n; i++)
        if (!problems.list[i].is_warning)
            err_set(err, "%s", problems.list[i].text);
    problems_free(&problems);
    ok = ok && add_chains(p, o, &config, err);
    config_free(&config);
    return ok;
}

/* ---- the command ---- */

static bool add_all(struct persist *p, const struct options *o, struct err *err)
{
    if (o->config != NULL && !add_config(p, o, err))
        return false;
    for (size_t i = 0; i < o->files.n; i++) {
        const char *chain_id = i < o->chains.n ? o->chains.list[i].text : NULL;
        if (persist_open(p, o->files.list[i].text, chain_id, err) != PERSIST_OPEN)
            return false;
    }
    for (size_t i = 0; i < o->ports.n; i++) {
        uint32_t port;
        if (!enclave_number(o->ports.list[i].text, 1, UINT32_MAX - 1, &port))
            return err_set(err, "'%s' is not a vsock port", o->ports.list[i].text);
        if (!listen_on(p, o, port, err))
            return false;
    }
    return true;
}

static int serve(const struct options *o)
{
    static struct server server;
    struct err err;
    if (!server_start(&server, &err))
        return command_failed("%s", err.text);
    struct persist *p = persist_new(&server, o->cid, &err);
    if (p == NULL || !add_all(p, o, &err)) {
        if (p != NULL)
            persist_free(p);
        server_stop(&server);
        return command_failed("%s", err.text);
    }
    bool ok = server_run(&server);
    persist_free(p);
    server_stop(&server);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

int nitro_persist(const struct command *self, int argc, char **argv)
{
    static struct options o;
    const char *uds = NULL;
    bool verbose = false;
    struct err err;
    memset(&o, 0, sizeof o);
    const struct command_flag flags[] = {
        {.letter = 'p', .name = "port", .values = &o.ports},
        {.letter = 's', .name = "statefile", .values = &o.files},
        {.name = "chain", .values = &o.chains},
        {'c', "config", &o.config, NULL},
        {0, "cid", &o.cid_text, NULL},
        {0, "vsock-uds", &uds, NULL},
        {'v', "verbose", NULL, &verbose},
        {0},
    };
    int exit_code = command_flags_only(self, flags, argc, argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (o.config == NULL && (o.ports.n == 0 || o.files.n == 0))
        return command_usage(self, "which port and which state file? Give -p and -s, or -c");
    if (o.cid_text != NULL && !enclave_number(o.cid_text, 1, UINT32_MAX - 1, &o.cid))
        return command_usage(self, "'%s' is not a CID", o.cid_text);
    if (!vsock_from(&o.vsock, uds, &err) || !crypto_start(&err))
        return command_failed("%s", err.text);
    if (verbose)
        log_set_level(LOG_DEBUG);
    return serve(&o);
}

const char nitro_persist_help[] =
    "Keep the state of enclaves in files\n"
    "\n"
    "Each record is on the disk before it is acknowledged, and only then the enclave signs. The "
    "files\n"
    "are those of `tmkms state`: `tmkms state init` makes one, `tmkms state show` prints it.\n"
    "\n"
    "Usage: tmkms nitro persist -p PORT -s STATEFILE\n"
    "       tmkms nitro persist -c tmkms.toml\n"
    "\n"
    "Options:\n"
    "  -p, --port PORT       Vsock port to listen on; may be repeated\n"
    "  -s, --statefile FILE  State file of a chain; may be repeated\n"
    "      --chain ID        The chain that the state file at the same place must be of; with -c:\n"
    "                        only this chain. May be repeated\n"
    "  -c, --config FILE     Every chain with a state_vsock_port, on that port, with its "
    "state_file "
    "or\n"
    "                        ID_priv_validator_state.json in this folder\n"
    "      --cid CID         Only the enclave with this CID [default: any]\n"
    "  -v, --verbose         Log more\n"
    "      --vsock-uds PATH  Unix sockets instead of vsock [default: $TMKMS_VSOCK_UDS]\n"
    "  -h, --help            Print help\n";
