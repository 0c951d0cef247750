/* tmkms nitro start: the enclave's side. */
#include "base/log.h"
#include "cli/nitro.h"
#include "cli/nitro_enclave.h"
#include "enclave/guest.h"
#include "nitro/push.h"

int nitro_start(const struct command *self, int argc, char **argv)
{
    struct guest_options options = {.port = PUSH_PORT};
    const char *port = NULL, *uds = NULL;
    bool verbose = false;
    struct err err;
    const struct command_flag flags[] = {
        {'p', "port", &port, NULL},
        {0, "config_push_port", &port, NULL},
        {0, "config-push-port", &port, NULL},
        {0, "vsock-uds", &uds, NULL},
        {'v', "verbose", NULL, &verbose},
        {0},
    };
    int exit_code = command_flags_only(self, flags, argc, argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (port != NULL && !enclave_number(port, 1, UINT32_MAX - 1, &options.port))
        return command_usage(self, "'%s' is not a vsock port", port);
    if (!vsock_from(&options.vsock, uds, &err))
        return command_failed("%s", err.text);
    if (verbose)
        log_set_level(LOG_DEBUG);
    return guest_run(&options);
}

const char nitro_start_help[] =
    "The enclave's side: wait for a configuration, have KMS unseal the keys, sign\n"
    "\n"
    "This is the command that an enclave image starts. It ends only when something is wrong that "
    "a\n"
    "restart of the enclave must mend; a push that is refused is answered, and the next one "
    "waited\n"
    "for.\n"
    "\n"
    "Usage: tmkms nitro start [OPTIONS]\n"
    "\n"
    "Options:\n"
    "  -p, --port PORT       Vsock port to wait on [default: 5050] (also --config_push_port)\n"
    "  -v, --verbose         Log more; a pushed configuration sets its own level\n"
    "      --vsock-uds PATH  Unix sockets instead of vsock [default: $TMKMS_VSOCK_UDS], to run\n"
    "                        without an enclave\n"
    "  -h, --help            Print help\n";
