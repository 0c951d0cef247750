/* tmkms nitro kms-proxy: an enclave's vsock port leads to KMS, and to nothing else. */
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "cli/nitro.h"
#include "cli/nitro_enclave.h"
#include "cli/nitro_place.h"
#include "parent/kms_proxy.h"
#include "parent/proxy.h"

enum { KMS_PORT = 8000 };

static bool add(struct proxy *p, const struct vsock *v, uint32_t port,
    const struct link_address *to, struct err *err)
{
    int listener = vsock_listen_parent(v, port, err);
    if (listener < 0 || !proxy_add(p, listener, to, err))
        return false;
    log_line(LOG_INFO, "tmkms::proxy", "vsock port %" PRIu32 " leads to %s", port, to->text);
    return true;
}

static int serve(const struct vsock *v, uint32_t port, const struct link_address *to)
{
    static struct server server;
    struct err err;
    if (!server_start(&server, &err))
        return command_failed("%s", err.text);
    struct proxy *p = proxy_new(&server, &err);
    bool ok = p != NULL && add(p, v, port, to, &err);
    if (!ok)
        command_failed("%s", err.text);
    ok = ok && server_run(&server);
    if (p != NULL)
        proxy_free(p);
    server_stop(&server);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

int nitro_kms_proxy(const struct command *self, int argc, char **argv)
{
    static struct command_values allowed;
    const char *allow[COMMAND_VALUES_MAX];
    const char *port_text = NULL, *region = place_region_of_environment(), *uds = NULL;
    uint32_t port = KMS_PORT;
    bool verbose = false;
    struct vsock vsock;
    struct link_address to;
    struct err err;
    allowed.n = 0;
    const struct command_flag flags[] = {
        {'p', "port", &port_text, NULL},
        {0, "region", &region, NULL},
        {.name = "allow", .values = &allowed},
        {0, "vsock-uds", &uds, NULL},
        {'v', "verbose", NULL, &verbose},
        {0},
    };
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (argc > 1)
        return command_usage(self, "expected at most 1 argument, got %d", argc);
    if (argc == 0 && region == NULL)
        return command_usage(self, "which region? Give --region, or HOST:443");
    if (port_text != NULL && !enclave_number(port_text, 1, UINT32_MAX - 1, &port))
        return command_usage(self, "'%s' is not a vsock port", port_text);
    for (size_t i = 0; i < allowed.n; i++)
        allow[i] = allowed.list[i].text;
    if (!vsock_from(&vsock, uds, &err) ||
        !kms_proxy_target(&to, region, argc == 1 ? argv[0] : NULL, allow, allowed.n, &err))
        return command_failed("%s", err.text);
    if (verbose)
        log_set_level(LOG_DEBUG);
    return serve(&vsock, port, &to);
}

const char nitro_kms_proxy_help[] =
    "Carry an enclave's connections to KMS\n"
    "\n"
    "TLS ends in the enclave: this command sees nothing but encrypted bytes. It does what AWS's\n"
    "`vsock-proxy` does, which works as well.\n"
    "\n"
    "Usage: tmkms nitro kms-proxy [OPTIONS] [HOST:PORT]\n"
    "\n"
    "Options:\n"
    "  -p, --port PORT        Vsock port to listen on [default: 8000]\n"
    "      --region REGION    KMS of this region [default: $AWS_REGION, $AWS_DEFAULT_REGION]\n"
    "      --allow HOST:PORT  Another host that HOST:PORT may be, such as a VPC endpoint; without\n"
    "                         it only KMS on port 443 is allowed. May be repeated\n"
    "  -v, --verbose          Log more\n"
    "      --vsock-uds PATH   Unix sockets instead of vsock [default: $TMKMS_VSOCK_UDS]\n"
    "  -h, --help             Print help\n";
