/* tmkms nitro run: an enclave and everything it needs on its parent. */
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "cli/nitro.h"
#include "cli/nitro_enclave.h"
#include "nitro/push.h"
#include "parent/machine.h"
#include "parent/run.h"

struct flags {
    const char *config, *eif, *cid, *port, *state_file, *node, *uds, *role, *instance;
    bool is_qemu, is_simulated, is_debug, verbose;
};

/* COMMAND_GO_ON, or the exit code. */
static int check(const struct command *self, const struct flags *f)
{
    if (f->is_qemu && f->is_simulated)
        return command_usage(self, "--qemu and --simulate: an enclave is one of them");
    if (f->cid != NULL && (f->is_qemu || f->is_simulated || f->eif != NULL || f->is_debug))
        return command_usage(self, "--cid names an enclave that somebody else starts; --eif, "
                                   "--qemu, --simulate and --debug-mode start one");
    if (f->is_simulated && f->eif != NULL)
        return command_usage(
            self, "--simulate boots no image; leave --eif out, or boot it with --qemu");
    if ((f->role != NULL || f->instance != NULL) && !f->is_qemu && !f->is_simulated)
        return command_usage(self, "--role and --instance are for --qemu and --simulate");
    return COMMAND_GO_ON;
}

static enum run_how how_of(const struct flags *f)
{
    if (f->cid != NULL)
        return RUN_ATTACH;
    if (f->is_qemu)
        return RUN_QEMU;
    return f->is_simulated ? RUN_SIMULATED : RUN_START;
}

static int take(const struct command *self, const struct flags *f, struct run_options *ret)
{
    struct err err;
    int exit_code = check(self, f);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    *ret = (struct run_options){.how = how_of(f),
        .config = config_path(f->config),
        .eif = f->eif,
        .state_file = f->state_file,
        .node_unix = f->node,
        .role = f->role,
        .instance = f->instance,
        .port = PUSH_PORT,
        .is_debug = f->is_debug,
        .is_verbose = f->verbose};
    if (f->cid != NULL && !enclave_number(f->cid, 0, UINT32_MAX, &ret->cid))
        return command_usage(self, "'%s' is not a CID", f->cid);
    if (f->cid != NULL && !machine_cid_is_free(ret->cid))
        return command_usage(self,
            "CID %" PRIu32 " is taken by the system; an enclave has one from %d on, which `tmkms "
            "nitro describe-enclaves` shows",
            ret->cid, MACHINE_CID_MIN);
    if (f->port != NULL && !enclave_number(f->port, 1, UINT32_MAX - 1, &ret->port))
        return command_usage(self, "'%s' is not a vsock port", f->port);
    if (!vsock_from(&ret->vsock, f->uds, &err) ||
        !enclave_parent_is_sound(f->role, f->instance, &err))
        return command_failed("%s", err.text);
    return COMMAND_GO_ON;
}

static int run(const struct run_options *options)
{
    struct problems problems = {0};
    int code = run_supervise(options, &problems);
    for (size_t i = 0; i < problems.n && problems.errors_n > 0; i++)
        if (problems.list[i].is_warning)
            command_warn("%s", problems.list[i].text);
        else
            command_failed("%s", problems.list[i].text);
    problems_free(&problems);
    return code;
}

int nitro_run(const struct command *self, int argc, char **argv)
{
    struct flags f = {0};
    struct run_options options;
    const struct command_flag flags[] = {
        {'c', "config", &f.config, NULL},
        {0, "eif", &f.eif, NULL},
        {0, "cid", &f.cid, NULL},
        {0, "qemu", NULL, &f.is_qemu},
        {0, "simulate", NULL, &f.is_simulated},
        {0, "debug-mode", NULL, &f.is_debug},
        {'s', "statefile", &f.state_file, NULL},
        {'u', "uds", &f.node, NULL},
        {0, "role", &f.role, NULL},
        {0, "instance", &f.instance, NULL},
        {'p', "port", &f.port, NULL},
        {0, "vsock-uds", &f.uds, NULL},
        {'v', "verbose", NULL, &f.verbose},
        {0},
    };
    int exit_code = command_flags_only(self, flags, argc, argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    exit_code = take(self, &f, &options);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (f.verbose)
        log_set_level(LOG_DEBUG);
    return run(&options);
}

const char nitro_run_help[] =
    "Run an enclave and everything it needs on this machine, and keep it running\n"
    "\n"
    "Starts the enclave, carries its connections to KMS and to the validators, keeps its state,\n"
    "brings it the configuration and fresh credentials, prints its log, and starts it again when\n"
    "it ends or hangs. In the place of `run-enclave`, `kms-proxy`, `persist`, `proxy`, `logs` and\n"
    "`push-config`. SIGTERM ends all of it; SIGHUP pushes the configuration again.\n"
    "\n"
    "Exit codes: 0 after SIGTERM; 1 failed, another start may help (also where another process "
    "has\n"
    "the state file); 3 a state file is missing, wrong or cannot be written: a person has to "
    "look.\n"
    "\n"
    "Usage: tmkms nitro run [OPTIONS]\n"
    "\n"
    "Options:\n"
    "  -c, --config FILE     Configuration [default: $TMKMS_CONFIG_FILE, or tmkms.toml]\n"
    "      --eif FILE        The enclave image [default: eif of [enclave]]\n"
    "      --cid CID         Start none: the enclave with this CID is started by somebody else\n"
    "      --qemu            Boot the image under QEMU. For trials: it protects nothing\n"
    "      --simulate        No image: the enclave is a process of this machine. For trials: it\n"
    "                        protects nothing\n"
    "      --debug-mode      An enclave in debug mode, whose PCRs are zero. For trials\n"
    "      --role ARN        With --qemu and --simulate: what PCR3 is computed from\n"
    "      --instance ID     and PCR4\n"
    "  -s, --statefile FILE  State file of the only chain [default: its state_file]\n"
    "  -u, --uds PATH        Socket of the only validator [default: its node]\n"
    "  -p, --port PORT       Config port of the enclave [default: 5050]\n"
    "      --vsock-uds PATH  Unix sockets instead of vsock [default: $TMKMS_VSOCK_UDS; with "
    "--qemu\n"
    "                        and --simulate NAME.vsock in $TMKMS_RUN_DIR or /run/tmkms]\n"
    "  -v, --verbose         Log more\n"
    "  -h, --help            Print help\n";
