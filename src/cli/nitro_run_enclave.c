/* tmkms nitro run-enclave: start an enclave and leave it to a keeper of its own. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "cli/nitro.h"
#include "cli/nitro_enclave.h"
#include "cli/nitro_image.h"
#include "parent/keeper.h"
#include "parent/kept.h"

struct flags {
    const char *cpus, *memory, *eif, *cid, *name, *uds, *role, *instance;
    bool is_debug, is_qemu, is_simulated;
};

/* "512", "512M", "2G", "1T"; in MiB. */
static bool memory_from(const char *text, uint32_t *ret)
{
    enum { MIB_MAX = 1 << 22 };
    char digits[16];
    uint32_t v;
    size_t n = strspn(text, "0123456789");
    if (n == 0 || n >= sizeof digits)
        return false;
    snprintf(digits, sizeof digits, "%.*s", (int)n, text);
    unsigned shift = strcasecmp(text + n, "T") == 0 ? 20 : strcasecmp(text + n, "G") == 0 ? 10 : 0;
    if ((shift == 0 && text[n] != '\0' && strcasecmp(text + n, "M") != 0) ||
        !enclave_number(digits, 1, MIB_MAX >> shift, &v))
        return false;
    *ret = v << shift;
    return true;
}

static enum machine_kind kind_of(const struct flags *f)
{
    if (f->is_simulated)
        return MACHINE_SIMULATED;
    return f->is_qemu ? MACHINE_QEMU : machine_kind_here();
}

static bool copy(char *to, size_t cap, const char *text, const char *flag, struct err *err)
{
    if (text != NULL && strlen(text) >= cap)
        return err_set(err, "%s: longer than %zu characters", flag, cap - 1);
    snprintf(to, cap, "%s", text != NULL ? text : "");
    return true;
}

static bool take_image(struct machine_options *o, const char *path, struct err *err)
{
    char absolute[PATH_MAX];
    if (path == NULL)
        return true;
    if (realpath(path, absolute) == NULL)
        return err_errno(err, "--eif-path: cannot find %s", path);
    return copy(o->eif, sizeof o->eif, absolute, "--eif-path", err);
}

/* Where no hardware says whose the enclave is. */
static bool take_parent(struct machine_options *o, const struct flags *f, struct err *err)
{
    return enclave_parent_is_sound(f->role, f->instance, err) &&
           copy(o->role, sizeof o->role, f->role, "--role", err) &&
           copy(o->instance, sizeof o->instance, f->instance, "--instance", err);
}

static bool take_texts(struct machine_options *o, const struct flags *f, struct err *err)
{
    struct vsock vsock = {0};
    if (f->uds != NULL && !vsock_from(&vsock, f->uds, err))
        return false;
    memcpy(o->uds, vsock.uds, sizeof o->uds);
    return copy(o->name, sizeof o->name, f->name != NULL ? f->name : "tmkms", "--enclave-name",
               err) &&
           take_image(o, f->eif, err) && take_parent(o, f, err) && machine_options_check(o, err);
}

/* COMMAND_GO_ON, or the exit code. */
static int take(const struct command *self, const struct flags *f, struct machine_options *ret)
{
    struct err err;
    *ret = (struct machine_options){
        .kind = kind_of(f), .is_debug = f->is_debug ? 1 : 0, .is_detached = 1};
    bool is_real = !f->is_qemu && !f->is_simulated;
    if (f->is_qemu && f->is_simulated)
        return command_usage(self, "--qemu and --simulate: an enclave is one of them");
    if (f->is_simulated && f->eif != NULL)
        return command_usage(
            self, "--simulate boots no image; leave --eif-path out, or boot it with --qemu");
    if (!f->is_simulated && f->eif == NULL)
        return command_usage(
            self, "which image? Give it with --eif-path; `tmkms nitro build-enclave` makes one");
    if (is_real && (f->uds != NULL || f->role != NULL || f->instance != NULL))
        return command_usage(
            self, "--vsock-uds, --role and --instance are for --qemu and --simulate");
    if (f->cpus != NULL && !enclave_number(f->cpus, 1, MACHINE_CPUS_MAX, &ret->cpus))
        return command_usage(self, "'%s' is not a number of processors", f->cpus);
    if (f->memory != NULL && !memory_from(f->memory, &ret->memory_mib))
        return command_usage(
            self, "'%s' is not an amount of memory: MiB, or with M, G or T behind it", f->memory);
    if (f->cid != NULL && !enclave_number(f->cid, 0, UINT32_MAX - 1, &ret->cid))
        return command_usage(self, "'%s' is not a CID", f->cid);
    return take_texts(ret, f, &err) ? COMMAND_GO_ON : command_failed("%s", err.text);
}

/* Until the keeper has said how it went. The lines of its log are for `nitro run`; here they would stand between the
 * lines of the answer. */
static bool await_keeper(
    struct child *c, uint64_t deadline_us, struct keeper_message *ret, struct err *err)
{
    while (clock_monotonic_us() < deadline_us) {
        struct pollfd p = {.fd = c->control, .events = POLLIN};
        if (poll(&p, 1, 500) <= 0)
            continue;
        switch (keeper_recv(c->control, ret)) {
        case 1:
            return ret->kind == KEEPER_RUNS || err_set(err, "%s", ret->u.text);
        case 0:
            return err_set(err, "the process that keeps the enclave ended");
        default:
            return err_set(err, "the process that keeps the enclave said something strange");
        }
    }
    return err_set(err, "the enclave did not start in time");
}

static int print(const char *name)
{
    static struct kept_seen seen[KEPT_MAX];
    static const char *const of_a_running_one[] = {"State", "Flags", "EifPath", "Kind"};
    size_t n;
    struct err err;
    json_t *found = NULL;
    if (!kept_list(seen, &n, &err))
        return command_failed("%s", err.text);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(seen[i].name, name) == 0)
            found = json_incref(seen[i].record);
        json_decref(seen[i].record);
    }
    for (size_t i = 0; i < sizeof of_a_running_one / sizeof of_a_running_one[0]; i++)
        json_object_del(found, of_a_running_one[i]);
    return found != NULL ? nitro_json_print(found)
                         : command_failed("the enclave %s has ended already", name);
}

static int start(const struct machine_options *o)
{
    enum { SLACK_US = 20000000 };
    static struct keeper_message said;
    struct child keeper;
    struct err err;
    if (!keeper_spawn(&keeper, o, &err))
        return command_failed("%s", err.text);
    if (await_keeper(&keeper, clock_monotonic_us() + machine_start_us(o) + SLACK_US, &said, &err)) {
        child_close(&keeper); /* it lives on */
        return print(o->name);
    }
    child_stop(&keeper, clock_monotonic_us() + KEEPER_STOP_US);
    return command_failed("%s", err.text);
}

int nitro_run_enclave(const struct command *self, int argc, char **argv)
{
    struct flags f = {0};
    struct machine_options options;
    const struct command_flag flags[] = {
        {0, "cpu-count", &f.cpus, NULL},
        {0, "memory", &f.memory, NULL},
        {0, "eif-path", &f.eif, NULL},
        {0, "enclave-cid", &f.cid, NULL},
        {0, "enclave-name", &f.name, NULL},
        {0, "debug-mode", NULL, &f.is_debug},
        {0, "qemu", NULL, &f.is_qemu},
        {0, "simulate", NULL, &f.is_simulated},
        {0, "vsock-uds", &f.uds, NULL},
        {0, "role", &f.role, NULL},
        {0, "instance", &f.instance, NULL},
        {0},
    };
    int exit_code = command_flags_only(self, flags, argc, argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    exit_code = take(self, &f, &options);
    return exit_code == COMMAND_GO_ON ? start(&options) : exit_code;
}

const char nitro_run_enclave_help[] =
    "Start an enclave, and leave it running\n"
    "\n"
    "Through nitro-cli where it is installed, otherwise through /dev/nitro_enclaves. A process of "
    "its\n"
    "own keeps the enclave; `tmkms nitro terminate-enclave` ends both. For an enclave that is "
    "watched\n"
    "and started again, use `tmkms nitro run`.\n"
    "\n"
    "Usage: tmkms nitro run-enclave --eif-path FILE [OPTIONS]\n"
    "       tmkms nitro run-enclave --simulate [OPTIONS]\n"
    "\n"
    "Options:\n"
    "      --eif-path FILE       The enclave image\n"
    "      --cpu-count N         Processors [default: 2; 1 with --qemu]\n"
    "      --memory N            MiB, or with M, G or T behind it [default: 64, or four times the\n"
    "                            image if that is more]\n"
    "      --enclave-cid CID     [default: 0, any]\n"
    "      --enclave-name NAME   One enclave has a name at a time [default: tmkms]\n"
    "      --debug-mode          All registers are zero: KMS decrypts nothing for such an enclave\n"
    "      --qemu                Under QEMU's nitro-enclave machine ($TMKMS_QEMU and\n"
    "                            $TMKMS_VHOST_VSOCK, else from the PATH)\n"
    "      --simulate            No machine: tmkms-sim as a local process ($TMKMS_SIM, else "
    "beside\n"
    "                            this program)\n"
    "      --vsock-uds PATH      Where the other commands reach it, with --qemu and --simulate\n"
    "                            [default: a socket in the run folder, printed as VsockUds]\n"
    "      --role ARN            With --qemu and --simulate: what PCR3 is computed from\n"
    "      --instance ID         and PCR4\n"
    "  -h, --help                Print help\n";
