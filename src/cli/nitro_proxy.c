/* tmkms nitro proxy: an enclave's vsock ports lead to validators. */
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "cli/nitro.h"
#include "cli/nitro_enclave.h"
#include "parent/proxy.h"

struct options {
    struct command_values ports, targets; /* of the same place belong together */
    struct vsock vsock;
};

static bool add_pair(struct proxy *p, const struct options *o, size_t i, struct err *err)
{
    struct link_address to;
    uint32_t port;
    const char *text = o->targets.list[i].text;
    bool is_unix = o->targets.list[i].letter == 'u';
    if (!(is_unix ? proxy_address_unix(&to, text, err) : proxy_address_tcp(&to, text, err)))
        return false;
    if (!enclave_number(o->ports.list[i].text, 1, UINT32_MAX - 1, &port))
        return err_set(err, "'%s' is not a vsock port", o->ports.list[i].text);
    int listener = vsock_listen_parent(&o->vsock, port, err);
    if (listener < 0 || !proxy_add(p, listener, &to, err))
        return false;
    log_line(LOG_INFO, "tmkms::proxy", "vsock port %" PRIu32 " leads to %s", port, to.text);
    return true;
}

static int serve(const struct options *o)
{
    static struct server server;
    struct err err;
    if (!server_start(&server, &err))
        return command_failed("%s", err.text);
    struct proxy *p = proxy_new(&server, &err);
    bool ok = p != NULL;
    for (size_t i = 0; ok && i < o->ports.n; i++)
        ok = add_pair(p, o, i, &err);
    if (!ok)
        command_failed("%s", err.text);
    ok = ok && server_run(&server);
    if (p != NULL)
        proxy_free(p);
    server_stop(&server);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

int nitro_proxy(const struct command *self, int argc, char **argv)
{
    static struct options o;
    const char *uds = NULL;
    bool verbose = false;
    struct err err;
    memset(&o, 0, sizeof o);
    const struct command_flag flags[] = {
        {.letter = 'p', .name = "port", .values = &o.ports},
        {.letter = 'u', .name = "uds", .values = &o.targets},
        {.name = "tcp", .values = &o.targets},
        {0, "vsock-uds", &uds, NULL},
        {'v', "verbose", NULL, &verbose},
        {0},
    };
    int exit_code = command_flags_only(self, flags, argc, argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (o.ports.n == 0 || o.ports.n != o.targets.n)
        return command_usage(self, "each -p needs a -u or a --tcp, and the other way round");
    if (!vsock_from(&o.vsock, uds, &err))
        return command_failed("%s", err.text);
    if (verbose)
        log_set_level(LOG_DEBUG);
    return serve(&o);
}

const char nitro_proxy_help[] =
    "Carry an enclave's connections to a validator\n"
    "\n"
    "Usage: tmkms nitro proxy -p PORT -u SOCKET [-p PORT --tcp HOST:PORT ...]\n"
    "\n"
    "Options:\n"
    "  -p, --port PORT       Vsock port to listen on (the port of `addr` in [[validator]])\n"
    "  -u, --uds SOCKET      Unix socket on which the validator listens\n"
    "      --tcp HOST:PORT   Or its TCP address; a name is looked up for every connection\n"
    "  -v, --verbose         Log more\n"
    "      --vsock-uds PATH  Unix sockets instead of vsock [default: $TMKMS_VSOCK_UDS]\n"
    "  -h, --help            Print help\n";
