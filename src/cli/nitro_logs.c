/* tmkms nitro logs: what an enclave logs, on standard output. */
#include <string.h>

#include "cli/nitro.h"
#include "cli/nitro_enclave.h"
#include "parent/logs.h"

static int serve(const struct vsock *v, uint32_t port)
{
    static struct server server;
    struct err err;
    if (!server_start(&server, &err))
        return command_failed("%s", err.text);
    struct logs *logs = logs_new(&server, &err);
    int listener = logs != NULL ? vsock_listen_parent(v, port, &err) : -1;
    bool ok = listener >= 0 && logs_listen(logs, listener, &err);
    if (!ok)
        command_failed("%s", err.text);
    ok = ok && server_run(&server);
    if (logs != NULL)
        logs_free(logs);
    server_stop(&server);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

int nitro_logs(const struct command *self, int argc, char **argv)
{
    const char *port_text = NULL, *uds = NULL;
    uint32_t port;
    struct vsock vsock;
    struct err err;
    const struct command_flag flags[] = {
        {'p', "port", &port_text, NULL},
        {0, "vsock-uds", &uds, NULL},
        {0},
    };
    int exit_code = command_flags_only(self, flags, argc, argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (port_text == NULL || !enclave_number(port_text, 1, UINT32_MAX - 1, &port))
        return command_usage(self, "which vsock port? Give log_vsock_port with -p");
    if (!vsock_from(&vsock, uds, &err))
        return command_failed("%s", err.text);
    return serve(&vsock, port);
}

const char nitro_logs_help[] =
    "Print the log of an enclave\n"
    "\n"
    "Usage: tmkms nitro logs -p PORT\n"
    "\n"
    "Options:\n"
    "  -p, --port PORT       Vsock port to listen on: log_vsock_port of [enclave] in tmkms.toml\n"
    "      --vsock-uds PATH  Unix sockets instead of vsock [default: $TMKMS_VSOCK_UDS]\n"
    "  -h, --help            Print help\n";
