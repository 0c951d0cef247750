#include "enclave/boot.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "enclave/cmdline.h"
#include "enclave/entropy.h"
#include "enclave/guest.h"
#include "enclave/heartbeat.h"
#include "enclave/last_words.h"
#include "enclave/mounts.h"
#include "enclave/nsm_module.h"
#include "enclave/wall_clock.h"
#include "enclave/watch.h"
#include "monitor/child.h"
#include "nitro/nsm.h"
#include "sandbox/sandbox.h"

static const char log_name[] = "tmkms::enclave";

enum {
    CLOCK_EVERY_US = 60000000,
    HEARTBEAT_US = 10000000,
    TURN_MS = 1000,
    CLOCK_SECONDS = 150, /* longer than the driver of the security module waits for it */
    LAST_ERROR_MAX = 512,
};

struct boot {
    const struct boot_options *options;
    struct vsock vsock;
    struct cmdline cmdline;
    struct watch watch;
    struct wall_clock clock;
    uint64_t clock_due_us;
    bool clock_fails; /* and that was said */
    bool is_init;     /* this is PID 1, and may restart the machine */
    int nsm, listener;
    pid_t guest;
    int guest_log;                   /* its lines; -1: ended */
    _Atomic uint32_t *log_port;      /* shared with the guest, which learns it */
    char last_error[LAST_ERROR_MAX]; /* of the guest */
};

/* ---- the end ---- */

static void end_machine(void *ctx, const char *words)
{
    const struct boot *b = ctx;
    last_words_say(&b->vsock, b->log_port != NULL ? *b->log_port : 0, words);
    if (b->is_init)
        reboot(RB_AUTOBOOT);
}

/* ---- the steps ---- */

static bool read_cmdline(struct boot *b, struct err *err)
{
    if (!cmdline_read(&b->cmdline, b->options->root, err))
        return false;
    b->vsock.parent_cid = b->cmdline.parent_cid;
    if (b->cmdline.is_debug)
        log_set_level(LOG_DEBUG);
    return true;
}

/* Before the heartbeat: whoever hears it may push at once. */
static bool listen_for_configs(struct boot *b, struct err *err)
{
    b->listener = vsock_listen_guest(&b->vsock, b->cmdline.port, err);
    return b->listener >= 0;
}

static bool send_heartbeat(struct boot *b, struct err *err)
{
    return heartbeat_send(&b->vsock, clock_monotonic_us() + HEARTBEAT_US, err);
}

static bool check_pcr(int nsm, unsigned index, bool is_debug, struct err *err)
{
    static const uint8_t zero[PCR_LEN];
    struct nsm_pcr pcr;
    if (!nsm_describe_pcr(nsm, index, &pcr, err))
        return false;
    if (memcmp(pcr.value, zero, sizeof zero) != 0)
        return true;
    if (!is_debug)
        return err_set(err,
            "PCR%u is zero: this enclave was started in debug mode, where whoever runs the parent "
            "can read its console "
            "and no key policy can know it. Start it without --debug-mode, or build the image with "
            "`tmkms nitro "
            "build-enclave --debug`",
            index);
    log_line(LOG_WARN, log_name,
        "PCR%u is zero, which this image was built to take: for trials only", index);
    return true;
}

static bool load_nsm(struct boot *b, struct err *err)
{
    return !b->options->is_machine ||
           nsm_module_start(b->options->root, nsm_module_load_into_kernel, err);
}

static bool check_nsm(struct boot *b, struct err *err)
{
    b->nsm = nsm_open(err);
    if (b->nsm < 0)
        return false;
    for (unsigned i = 0; i <= 2; i++)
        if (!check_pcr(b->nsm, i, b->cmdline.is_debug, err))
            return false;
    return true;
}

static bool start_entropy(struct boot *b, struct err *err)
{
    return entropy_start(b->options->root, b->nsm, err);
}

static bool keep_clock(struct boot *b, int64_t tolerated_us, struct err *err)
{
    int64_t step_us;
    b->clock_due_us = clock_monotonic_us() + CLOCK_EVERY_US;
    if (!b->options->is_machine)
        return true;
    if (!wall_clock_set(&b->clock, tolerated_us, &step_us, err))
        return false;
    if (step_us != 0)
        log_line(LOG_INFO, log_name, "the clock was stepped by %+.3f s, as %s says",
            (double)step_us / 1e6, b->clock.source->name);
    return true;
}

static bool start_clock(struct boot *b, struct err *err)
{
    b->clock = wall_clock_open(b->options->root, b->nsm);
    return keep_clock(b, 0, err);
}

static void tell_memory(void)
{
    enum { MIB = 1 << 20 };
    struct sysinfo m;
    if (sysinfo(&m) == 0)
        log_line(LOG_DEBUG, log_name, "%lu of %lu MiB of memory are free",
            m.freeram * m.mem_unit / MIB, m.totalram * m.mem_unit / MIB);
}

ATTR_NORETURN static void be_guest(struct boot *b, int log)
{
    struct guest_options options = {.vsock = b->vsock,
        .port = b->cmdline.port,
        .nsm = b->nsm,
        .listener = b->listener,
        .log_port = b->log_port};
    fd_close(&b->watch.steps);
    log_set_output(log, true);
    _exit(guest_run(&options));
}

static bool start_guest(struct boot *b, struct err *err)
{
    tell_memory();
    int room = 1 << 20; /* as much as we may have */
    int pair[2] ATTR_CLEANUP(fd_close_pair) = {-1, -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return err_errno(err, "cannot make a socket pair");
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    b->guest = fork();
    if (b->guest < 0)
        return err_errno(err, "cannot start a process");
    if (b->guest == 0) {
        fd_close(&pair[0]);
        be_guest(b, pair[1]);
    }
    fd_close(&b->listener);
    b->guest_log = pair[0];
    pair[0] = -1;
    return true;
}

static const struct step {
    const char *name;
    unsigned seconds;
    bool (*take)(struct boot *b, struct err *err);
} steps[] = {
    {"reading the command line", 10, read_cmdline},
    {"opening the config port", 10, listen_for_configs},
    {"the heartbeat", 30, send_heartbeat},
    {"loading the security module's driver", 30, load_nsm},
    {"asking the security module", 30, check_nsm},
    {"seeding the random generator", 30, start_entropy},
    {"setting the clock", 30, start_clock},
    {"starting the monitor", 10, start_guest},
};

static bool take_steps(struct boot *b, struct err *err)
{
    for (unsigned i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        log_line(LOG_DEBUG, log_name, "boot: %s", steps[i].name);
        watch_step(&b->watch, steps[i].name, steps[i].seconds);
        if (!steps[i].take(b, err))
            return err_prefix(err, "%s", steps[i].name);
    }
    return true;
}

/* ---- while the guest runs ---- */

static void remember_error(struct boot *b, const char *line, size_t n)
{
    static const char mark[] = " ERROR ";
    const char *at = memmem(line, n, mark, sizeof mark - 1);
    if (at == NULL)
        return;
    at += sizeof mark - 1;
    snprintf(b->last_error, sizeof b->last_error, "%.*s", (int)(line + n - at), at);
}

static void copy_lines(struct boot *b, char *text, size_t n)
{
    while (n > 0) {
        char *end = memchr(text, '\n', n);
        size_t line_n = end != NULL ? (size_t)(end - text) : n;
        remember_error(b, text, line_n);
        char line[LOG_LINE_MAX + 1];
        size_t copied = line_n < LOG_LINE_MAX - 1 ? line_n : LOG_LINE_MAX - 1;
        memcpy(line, text, copied);
        log_forward(line, copied);
        size_t used = end != NULL ? line_n + 1 : n;
        text += used;
        n -= used;
    }
    log_flush();
}

static void copy_log(struct boot *b)
{
    enum { AT_ONCE = 256 };
    char text[LOG_WRITE_MAX];
    for (int i = 0; i < AT_ONCE && b->guest_log >= 0; i++) {
        ssize_t n = recv(b->guest_log, text, sizeof text, MSG_DONTWAIT);
        if (n < 0)
            return;
        if (n == 0)
            fd_close(&b->guest_log);
        copy_lines(b, text, (size_t)n);
    }
}

/* true: the guest has ended, *ret_status tells how. */
static bool bury(struct boot *b, int *ret_status)
{
    struct err err;
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == b->guest) {
            *ret_status = status;
            return true;
        }
        if (pid != b->watch.pid)
            continue;
        fd_close(&b->watch.steps);
        if (!watch_start(&b->watch, end_machine, b, &err))
            log_line(LOG_ERROR, log_name, "nothing watches PID 1: %s", err.text);
    }
    return false;
}

static void look_at_clock(struct boot *b)
{
    struct err err;
    if (clock_monotonic_us() < b->clock_due_us)
        return;
    watch_step(&b->watch, "a look at the clock", CLOCK_SECONDS);
    bool ok = keep_clock(b, WALL_CLOCK_DRIFT_US, &err);
    if (!ok && !b->clock_fails)
        log_line(LOG_ERROR, log_name, "the clock is not kept: %s", err.text);
    if (ok && b->clock_fails)
        log_line(LOG_INFO, log_name, "the clock is kept again");
    b->clock_fails = !ok;
    tell_memory();
}

static int watch_guest(struct boot *b)
{
    int status;
    while (!bury(b, &status)) {
        struct pollfd p = {.fd = b->guest_log, .events = POLLIN};
        watch_step(&b->watch, "waiting for the monitor", CLOCK_SECONDS);
        poll(&p, 1, TURN_MS);
        copy_log(b);
        look_at_clock(b);
    }
    copy_log(b);
    return status;
}

/* ---- PID 1 ---- */

static bool prepare(struct boot *b, struct err *err)
{
    umask(077);
    signal(SIGPIPE, SIG_IGN);
    if (b->options->is_machine && (!mounts_make(err) || !mounts_open_console(err)))
        return false;
    b->log_port =
        mmap(NULL, sizeof *b->log_port, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (b->log_port == MAP_FAILED) {
        b->log_port = NULL;
        return err_errno(err, "out of memory");
    }
    return sandbox_harden(false, err) && watch_start(&b->watch, end_machine, b, err);
}

/* Why the guest ended, with what it said last. */
static void tell_end(const struct boot *b, int status, char *words, size_t cap)
{
    char why[64];
    child_end_text(status, why, sizeof why);
    if (b->last_error[0] != '\0')
        snprintf(words, cap, "its monitor ended (%s): %s", why, b->last_error);
    else
        snprintf(words, cap, "its monitor ended (%s)", why);
}

int boot_run(const struct boot_options *options)
{
    static struct boot b;
    struct err err;
    int code = EXIT_FAILURE;
    b = (struct boot){.options = options,
        .vsock = options->vsock,
        .watch = {.steps = -1},
        .is_init = options->is_machine && getpid() == 1,
        .nsm = -1,
        .listener = -1,
        .guest_log = -1};
    if (prepare(&b, &err) && take_steps(&b, &err)) {
        int status = watch_guest(&b);
        code = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
        tell_end(&b, status, err.text, sizeof err.text);
    }
    watch_step(&b.watch, "the end", 5);
    end_machine(&b, err.text);
    watch_stop(&b.watch);
    return code;
}
