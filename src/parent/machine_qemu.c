/* The `nitro-enclave` machine of QEMU, with vhost-device-vsock as the other end of its vsock: two processes. What must
 * be there before what: the heartbeat's listener and the back end's socket before QEMU; the console's file is fresh. A
 * connection to the stand-in that ends without a word harms the back end: so nobody looks by connecting whether it
 * lives. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fd.h"
#include "parent/heartbeat.h"
#include "parent/machine_impl.h"

static const char machine_type[] = "nitro-enclave";

enum { OPTION_MAX = 1024, HELP_US = 30000000 };

static bool find_tools(struct machine *m, char backend[PROCESS_PATH_MAX], struct err *err)
{
    static struct process_result help;
    if (!process_find(m->tool, "TMKMS_QEMU", "qemu-system-x86_64", NULL, err) ||
        !process_find(backend, "TMKMS_VHOST_VSOCK", "vhost-device-vsock", NULL, err))
        return err_prefix(err, "an enclave under QEMU");
    const char *const argv[] = {m->tool, "-M", "help", NULL};
    if (!process_run(m->leash, argv, clock_monotonic_us() + HELP_US, 0, &help, err))
        return false;
    if (help.is_success && strstr(help.out, machine_type) != NULL)
        return true;
    return err_set(err,
        "%s has no machine '%s': it is older than QEMU 9.2, or was built without libcbor or "
        "GnuTLS, as "
        "Debian's is; tools/get-qemu.sh builds one that has it, and $TMKMS_QEMU names it",
        m->tool, machine_type);
}

/* ---- the words of the command line ---- */

/* A comma inside a value is written twice. */
static void write_value(struct writer *w, const char *name, const char *value)
{
    write_text(w, name);
    for (const char *p = value; *p != '\0'; p++)
        write_text(w, (const char[]){*p, *p == ',' ? ',' : '\0', '\0'});
}

static bool write_machine(const struct machine *m, char ret[OPTION_MAX], struct err *err)
{
    struct writer w = writer_of(ret, OPTION_MAX - 1);
    write_text(&w, machine_type);
    write_value(&w, ",vsock=c,id=", m->place.id);
    if (m->options.role[0] != '\0')
        write_value(&w, ",parent-role=", m->options.role);
    if (m->options.instance[0] != '\0')
        write_value(&w, ",parent-id=", m->options.instance);
    ret[w.n] = '\0';
    return !w.bad || err_set(err, "the options of the machine are too long");
}

/* 0: not known. */
static uint64_t tsc_khz(void)
{
    char text[8192];
    static const char key[] = "cpu MHz";
    FILE *f = fopen("/proc/cpuinfo", "re");
    size_t n = f != NULL ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f != NULL)
        fclose(f);
    text[n] = '\0';
    const char *at = strstr(text, key);
    at = at != NULL ? strchr(at, ':') : NULL;
    double mhz = at != NULL ? strtod(at + 1, NULL) : 0;
    return mhz >= 1 && mhz < 1e6 ? (uint64_t)(mhz * 1000) : 0;
}

/* Behind the image's own command line, and in no register. The clock: calibrated on a busy machine, the guest's counter
 * is found unstable and its time falls to steps of 4 ms. reboot=t: the keyboard controller's reset would boot the same
 * QEMU again instead of ending it. */
static void write_append(const struct machine *m, char ret[OPTION_MAX])
{
    uint64_t khz = tsc_khz();
    int n = snprintf(ret, OPTION_MAX, "quiet tmkms.parent_cid=2 reboot=t");
    if (khz != 0)
        n += snprintf(ret + n, OPTION_MAX - (size_t)n, " tsc=reliable tsc_early_khz=%" PRIu64, khz);
    if (m->options.is_debug)
        snprintf(ret + n, OPTION_MAX - (size_t)n, " tmkms.debug=1");
}

/* ---- the two processes ---- */

/* Unique on this machine as the name is; each back end knows its own guest only. */
static uint32_t guest_cid(const char *name)
{
    uint32_t hash = 2166136261U; /* FNV-1a */
    for (const char *p = name; *p != '\0'; p++)
        hash = (hash ^ (uint8_t)*p) * 16777619U;
    return 16 + hash % (1U << 30);
}

static bool start_backend(
    struct machine *m, const char *program, const char *socket, int log, struct err *err)
{
    char vm[OPTION_MAX];
    const char *const argv[] = {program, "--vm", vm, NULL};
    if (strchr(socket, ',') != NULL || strchr(m->place.uds, ',') != NULL)
        return err_set(err, "vhost-device-vsock takes no path with a comma: %s",
            strchr(socket, ',') != NULL ? socket : m->place.uds);
    snprintf(vm, sizeof vm, "guest-cid=%" PRIu32 ",socket=%s,uds-path=%s",
        guest_cid(m->options.name), socket, m->place.uds);
    return process_start(&m->backend, argv, log, log, err) &&
           machine_await_socket(m, socket, &m->backend, err) &&
           machine_await_socket(m, m->place.uds, &m->backend, err);
}

static bool start_qemu(struct machine *m, const char *socket, int log, struct err *err)
{
    char machine[OPTION_MAX], chardev[OPTION_MAX], append[OPTION_MAX], memory[16], cpus[16],
        serial[MACHINE_PATH_MAX + 8];
    struct writer w = writer_of(chardev, sizeof chardev - 1);
    write_value(&w, "socket,id=c,path=", socket);
    chardev[w.n] = '\0';
    write_append(m, append);
    snprintf(memory, sizeof memory, "%" PRIu32 "M", m->options.memory_mib);
    snprintf(cpus, sizeof cpus, "%" PRIu32, m->options.cpus);
    snprintf(serial, sizeof serial, "file:%s", m->place.console);
    const char *const argv[] = {m->tool, "-M", machine, "-accel", "tcg", "-cpu", "max", "-smp",
        cpus, "-m", memory, "-kernel", m->options.eif, "-chardev", chardev, "-display", "none",
        "-serial", serial, "-monitor", "none", "-no-reboot", "-append", append, NULL};
    return write_machine(m, machine, err) && process_start(&m->program, argv, log, log, err);
}

static bool await_boot(struct machine *m, struct err *err)
{
    const int dying[2] = {m->program.fd, m->backend.fd};
    if (heartbeat_await(m->leash, m->heartbeat, 0, dying, m->deadline_us, err))
        return true;
    if (!machine_process_ended(m, err))
        machine_quote(m->place.console, "its console", err);
    return false;
}

static bool start(struct machine *m, struct err *err)
{
    char backend[PROCESS_PATH_MAX], socket[VSOCK_PATH_MAX];
    int log ATTR_CLEANUP(fd_close) = -1;
    if (!find_tools(m, backend, err) || !machine_choose_uds(m, err) ||
        !kept_path(m->kept, "vhost.sock", socket, sizeof socket, err) ||
        !kept_path(m->kept, "console.log", m->place.console, sizeof m->place.console, err))
        return false;
    m->heartbeat = heartbeat_listen(m->leash, &m->vsock, m->deadline_us, err);
    if (m->heartbeat < 0 || !machine_claim_uds(m, err))
        return false;
    machine_make_id(
        m, m->options.instance[0] != '\0' ? m->options.instance : "i-qemu", clock_realtime_us());
    log = machine_open_log(m->log, sizeof m->log, m->kept, "machine.log", err);
    return log >= 0 && start_backend(m, backend, socket, log, err) &&
           start_qemu(m, socket, log, err) && await_boot(m, err);
}

const struct machine_ops machine_qemu = {
    .start = start, .keep = machine_keep_processes, .stop = machine_stop_processes};
