#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "config/config.h"
#include "nitro/eif.h"
#include "parent/heartbeat.h"
#include "parent/machine_impl.h"

enum {
    MEMORY_MIN_MIB = 64, /* NE_ERR_ENCLAVE_MEM_MIN_SIZE */
    MEMORY_MAX_MIB = 4 << 20,
    EIF_FACTOR = 4, /* what AWS's tool asks for: the image is unpacked beside itself */
    STOP_US = 1500000,
    TURN_US = 50000,
    QUOTE_MAX = 600,
};

/* `tmkms check` must not accept what no machine takes. */
static_assert((int)CONFIG_CPUS_MAX == (int)MACHINE_CPUS_MAX, "processors");
static_assert((int)CONFIG_MEMORY_MIN_MIB == (int)MEMORY_MIN_MIB, "memory");

static const struct machine_ops *const kinds[MACHINE_KINDS] = {
    [MACHINE_NITRO_CLI] = &machine_nitro_cli,
    [MACHINE_DEVICE] = &machine_device,
    [MACHINE_QEMU] = &machine_qemu,
    [MACHINE_SIMULATED] = &machine_simulated,
};
static const char *const kind_names[MACHINE_KINDS] = {
    [MACHINE_NITRO_CLI] = "nitro-cli",
    [MACHINE_DEVICE] = "device",
    [MACHINE_QEMU] = "qemu",
    [MACHINE_SIMULATED] = "simulated",
};

/* ---- what is wanted ---- */

enum machine_kind machine_kind_here(void)
{
    char path[PROCESS_PATH_MAX];
    return process_find(path, NULL, "nitro-cli", NULL, NULL) ? MACHINE_NITRO_CLI : MACHINE_DEVICE;
}

const char *machine_kind_name(enum machine_kind kind)
{
    return kind_names[kind];
}

uint32_t machine_memory_for(uint64_t eif_size)
{
    uint64_t mib = (eif_size * EIF_FACTOR + (1 << 20) - 1) >> 20;
    if (mib < MEMORY_MIN_MIB)
        mib = MEMORY_MIN_MIB;
    return (uint32_t)(mib + mib % 2);
}

static bool name_is_sound(const char *name)
{
    if (name[0] == '\0' || name[0] == '.' || name[0] == '-')
        return false;
    for (const char *p = name; *p != '\0'; p++)
        if (!isalnum((unsigned char)*p) && strchr("._-", *p) == NULL)
            return false;
    return true;
}

static bool is_text(const char *text, size_t cap)
{
    return memchr(text, '\0', cap) != NULL;
}

bool machine_cid_is_free(uint32_t cid)
{
    return cid >= MACHINE_CID_MIN && cid != UINT32_MAX;
}

static bool numbers_are_sound(const struct machine_options *o, struct err *err)
{
    if (o->cpus > MACHINE_CPUS_MAX)
        return err_set(err, "more than %d processors for an enclave", MACHINE_CPUS_MAX);
    if (o->memory_mib != 0 && (o->memory_mib < MEMORY_MIN_MIB || o->memory_mib > MEMORY_MAX_MIB))
        return err_set(err, "%" PRIu32 " MiB of memory: an enclave has %d MiB at least",
            o->memory_mib, MEMORY_MIN_MIB);
    if (o->cid != 0 && !machine_cid_is_free(o->cid))
        return err_set(err,
            "CID %" PRIu32 " is taken by the system; give one from %d on, or 0 for any", o->cid,
            MACHINE_CID_MIN);
    return true;
}

bool machine_options_check(const struct machine_options *o, struct err *err)
{
    if (o->kind >= MACHINE_KINDS || o->is_debug > 1 || o->is_detached > 1 ||
        !is_text(o->name, sizeof o->name) || !is_text(o->eif, sizeof o->eif) ||
        !is_text(o->uds, sizeof o->uds) || !is_text(o->role, sizeof o->role) ||
        !is_text(o->instance, sizeof o->instance))
        return err_set(err, "what kind of enclave is wanted cannot be understood");
    if (!name_is_sound(o->name))
        return err_set(err,
            "'%s' is no name for an enclave: letters, digits, '.', '_' and '-', the first of them "
            "a "
            "letter, a digit or '_'",
            o->name);
    if (o->kind != MACHINE_SIMULATED && o->eif[0] != '/')
        return err_set(err, o->eif[0] == '\0' ? "no enclave image is named"
                                              : "the enclave image must be an absolute path");
    if (o->uds[0] != '\0' && (o->kind == MACHINE_NITRO_CLI || o->kind == MACHINE_DEVICE))
        return err_set(err,
            "a Nitro enclave is reached over vsock; a path instead of it is for QEMU and "
            "for the simulation");
    return numbers_are_sound(o, err);
}

/* nitro-cli's own rule: so long for every started 6 GiB of image and every started 100 GiB of memory. */
static uint64_t boot_us(uint64_t eif_size, uint64_t memory_mib)
{
    enum { UNIT_US = 90000000, EIF_UNIT_GIB = 6, MEMORY_UNIT_GIB = 100 };
    return UNIT_US * (1 + (eif_size >> 30) / EIF_UNIT_GIB + memory_mib / 1024 / MEMORY_UNIT_GIB);
}

uint64_t machine_start_us(const struct machine_options *o)
{
    enum { SIMULATED_US = 30000000, QEMU_US = 120000000, TOOL_US = 60000000 };
    struct stat st;
    uint64_t eif_size = stat(o->eif, &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
    switch ((enum machine_kind)o->kind) {
    case MACHINE_SIMULATED:
        return SIMULATED_US;
    case MACHINE_QEMU: /* emulated, on a machine that may have other work */
        return QEMU_US;
    case MACHINE_NITRO_CLI: /* and what it takes to end a stale one */
        return boot_us(eif_size, o->memory_mib) + TOOL_US;
    case MACHINE_DEVICE:
        break;
    }
    return boot_us(eif_size, o->memory_mib);
}

/* ---- the life of one ---- */

/* The image is checked before anything is started with it: the hypervisor and QEMU say little about a bad one. */
static bool look_at_image(struct machine *m, struct err *err)
{
    struct machine_options *o = &m->options;
    struct eif_file file = {0};
    struct eif eif;
    if (!eif_file_open(&file, o->eif, err))
        return false;
    bool ok = eif_parse(&eif, file.content, err) || err_prefix(err, "%s", o->eif);
    if (ok && eif.is_aarch64 && o->kind == MACHINE_QEMU)
        ok = err_set(
            err, "%s is an image for aarch64, which QEMU's nitro-enclave machine is not", o->eif);
    m->eif_size = file.content.n;
    eif_file_close(&file);
    if (o->memory_mib == 0)
        o->memory_mib = machine_memory_for(m->eif_size);
    return ok;
}

bool machine_start(struct machine *m, const struct machine_options *o, const struct kept *kept,
    struct leash *leash, struct err *err)
{
    *m = (struct machine){.options = *o,
        .leash = leash,
        .kept = kept,
        .heartbeat = -1,
        .tool_process = -1,
        .program = PROCESS_NONE,
        .backend = PROCESS_NONE,
        .device = &device_linux,
        .enclave = {.fd = -1}};
    if (m->options.cpus == 0)
        m->options.cpus = o->kind == MACHINE_QEMU ? 1 : 2;
    m->options.memory_mib += m->options.memory_mib % 2;
    if (o->kind != MACHINE_SIMULATED && !look_at_image(m, err))
        return false;
    m->deadline_us = clock_monotonic_us() + machine_start_us(&m->options);
    m->place.cpus = m->options.cpus;
    m->place.memory_mib = m->options.memory_mib;
    if (kinds[o->kind]->start(m, err))
        return true;
    machine_stop(m);
    return false;
}

void machine_keep(struct machine *m, struct err *err)
{
    kinds[m->options.kind]->keep(m, err);
}

void machine_stop(struct machine *m)
{
    kinds[m->options.kind]->stop(m);
    fd_close(&m->heartbeat);
}

/* ---- shared by the kinds ---- */

void machine_make_id(struct machine *m, const char *instance, uint64_t number)
{
    snprintf(m->place.id, sizeof m->place.id, "%.40s-enc%" PRIx64, instance, number);
}

bool machine_choose_uds(struct machine *m, struct err *err)
{
    char uds[VSOCK_PATH_MAX];
    if (m->options.uds[0] != '\0')
        return vsock_from(&m->vsock, m->options.uds, err);
    return kept_path(m->kept, "vsock", uds, sizeof uds, err) && vsock_from(&m->vsock, uds, err);
}

static void remove_socket(const char *path)
{
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path);
}

bool machine_claim_uds(struct machine *m, struct err *err)
{
    if (!vsock_guest_is_free(&m->vsock, err))
        return false;
    remove_socket(m->vsock.uds);
    memcpy(m->place.uds, m->vsock.uds, sizeof m->place.uds);
    return true;
}

static void remove_sockets(const struct machine *m)
{
    char path[VSOCK_PATH_MAX + 16];
    if (m->place.uds[0] == '\0')
        return;
    remove_socket(m->place.uds);
    snprintf(path, sizeof path, "%s_%d", m->place.uds, HEARTBEAT_PORT);
    remove_socket(path);
}

int machine_open_log(
    char *ret_path, size_t cap, const struct kept *kept, const char *name, struct err *err)
{
    if (!kept_path(kept, name, ret_path, cap, err))
        return -1;
    int fd = open(ret_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        err_errno(err, "cannot create %s", ret_path);
    return fd;
}

/* The last whole lines of the text that fit, as one. */
static void join_lines(const char *text, size_t n, char ret[QUOTE_MAX + 1])
{
    static const char mark[] = " | ";
    size_t at = QUOTE_MAX;
    while (n > 0) {
        size_t from = n, mark_n = at < QUOTE_MAX ? sizeof mark - 1 : 0;
        while (from > 0 && text[from - 1] != '\n')
            from--;
        while (n > from && isspace((unsigned char)text[n - 1]))
            n--;
        if (n - from + mark_n > at)
            break;
        if (n > from) {
            at -= mark_n;
            memcpy(ret + at, mark, mark_n);
            at -= n - from;
            memcpy(ret + at, text + from, n - from);
        }
        n = from > 0 ? from - 1 : 0;
    }
    memmove(ret, ret + at, QUOTE_MAX - at);
    ret[QUOTE_MAX - at] = '\0';
}

void machine_quote(const char *path, const char *whose, struct err *err)
{
    char text[QUOTE_MAX], joined[QUOTE_MAX + 1];
    struct stat st;
    int fd ATTR_CLEANUP(fd_close) = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) != 0)
        return;
    bool is_cut = st.st_size > QUOTE_MAX;
    ssize_t got = pread(fd, text, QUOTE_MAX, is_cut ? st.st_size - QUOTE_MAX : 0);
    size_t n = got > 0 ? (size_t)got : 0;
    const char *newline = is_cut ? memchr(text, '\n', n) : NULL;
    size_t from = newline != NULL && newline + 1 < text + n ? (size_t)(newline + 1 - text) : 0;
    for (size_t i = 0; i < n; i++)
        if (text[i] != '\n' && (text[i] < 0x20 || text[i] > 0x7e))
            text[i] = text[i] == '\r' ? ' ' : '?';
    join_lines(text + from, n - from, joined);
    size_t used = strlen(err->text);
    if (joined[0] != '\0')
        snprintf(err->text + used, sizeof err->text - used, "; %s says last: %s", whose, joined);
}

bool machine_await_socket(
    struct machine *m, const char *path, const struct process *of, struct err *err)
{
    char what[100];
    struct stat st;
    snprintf(what, sizeof what, "%s did not listen in time", of->name);
    while (!machine_process_ended(m, err)) {
        uint64_t now = clock_monotonic_us();
        struct pollfd p = {.fd = of->fd, .events = POLLIN};
        if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
            return true;
        if (now >= m->deadline_us || leash_wait(m->leash, &p, 1, now + TURN_US) == LEASH_CUT)
            return leash_failed(m->leash, what, err);
    }
    return false;
}

bool machine_process_ended(struct machine *m, struct err *err)
{
    struct process *const all[] = {&m->program, &m->backend};
    char why[64];
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct process was = *all[i];
        if (!process_has_ended(all[i], why, sizeof why))
            continue;
        err_set(err, "%s ended (%s)", was.name, why);
        machine_quote(m->log, "it", err);
        machine_quote(m->place.console, "its console", err);
        return true;
    }
    return false;
}

void machine_keep_processes(struct machine *m, struct err *err)
{
    while (!machine_process_ended(m, err)) {
        struct pollfd p[] = {
            {.fd = m->program.fd, .events = POLLIN}, {.fd = m->backend.fd, .events = POLLIN}};
        if (leash_wait(m->leash, p, 2, UINT64_MAX) != LEASH_READY) {
            leash_failed(m->leash, "", err);
            return;
        }
    }
}

void machine_stop_processes(struct machine *m)
{
    uint64_t deadline = clock_monotonic_us() + STOP_US;
    process_stop(&m->program, deadline);
    process_stop(&m->backend, deadline);
    remove_sockets(m);
}
