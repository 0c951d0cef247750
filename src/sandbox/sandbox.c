#include "sandbox/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

bool sandbox_harden(bool is_child, struct err *err)
{
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0)
        return err_errno(err, "cannot switch core files off");
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return err_errno(err, "cannot make the process undumpable");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return err_errno(err, "cannot forbid new privileges");
    if (is_child && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return err_errno(err, "cannot tie the process to its parent");
    return true;
}

/* A sanitizer build makes system calls of its own: there a forbidden call is logged by the kernel,
 * not punished. */
#if defined(__SANITIZE_ADDRESS__)
#define FORBIDDEN SCMP_ACT_LOG
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FORBIDDEN SCMP_ACT_LOG
#endif
#endif
#ifndef FORBIDDEN
#define FORBIDDEN SCMP_ACT_KILL_PROCESS
#define DENIED SCMP_ACT_ERRNO(EPERM)
#else
#define DENIED SCMP_ACT_LOG
#endif

/* Every process: run, allocate, log, end. */
static const int calls_common[] = {
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(madvise),
    SCMP_SYS(mremap),
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(close),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(lseek),
    SCMP_SYS(futex),
    SCMP_SYS(getrandom),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(recvmsg),
    SCMP_SYS(recvfrom),
    SCMP_SYS(poll),
    SCMP_SYS(sched_yield),
};

static const int calls_fetch[] = {
    SCMP_SYS(fcntl),
    SCMP_SYS(shutdown),
};

static const int calls_signer[] = {
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(fdatasync),
    SCMP_SYS(flock),
    SCMP_SYS(fcntl),
    SCMP_SYS(shutdown),
    SCMP_SYS(mlock),
    SCMP_SYS(mlock2),
    SCMP_SYS(munlock),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(getrlimit),
    SCMP_SYS(prlimit64),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(memfd_create),
    SCMP_SYS(fchmod),
};

static const int calls_session[] = {
    SCMP_SYS(connect),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(shutdown),
    SCMP_SYS(fcntl),
    SCMP_SYS(ioctl),
    SCMP_SYS(bind),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(mlock),
    SCMP_SYS(mlock2),
    SCMP_SYS(munlock),
    SCMP_SYS(prlimit64),
    SCMP_SYS(getrlimit),
    SCMP_SYS(sendmmsg),
};

static bool allow_list(scmp_filter_ctx ctx, const int *calls, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0) != 0)
            return false;
    return true;
}
#define ALLOW_LIST(ctx, calls) allow_list(ctx, calls, sizeof(calls) / sizeof((calls)[0]))

/* Memory may be mapped and protected, but never made executable. */
static bool allow_plain_memory(scmp_filter_ctx ctx)
{
    struct scmp_arg_cmp not_exec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
    return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, not_exec) == 0 &&
           seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, not_exec) == 0;
}

/* Threads, but no processes. The flags of clone3 lie in memory that a filter cannot read: without
 * it the C library falls back to clone. */
static bool allow_threads(scmp_filter_ctx ctx)
{
    return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) == 0 &&
           seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
               SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)) == 0;
}

/* The security module of an enclave: one request of one device. tmkms-sim's stand-in for it makes a
 * socket pair for each exchange, which reaches nobody but who gets its other end over a socket that
 * is there already. */
static bool allow_nsm(scmp_filter_ctx ctx)
{
    const scmp_datum_t nsm_ioctl_raw = 0xC0200A00; /* Linux, include/uapi/linux/nsm.h */
    return seccomp_rule_add(
               ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, nsm_ioctl_raw)) == 0 &&
           seccomp_rule_add(
               ctx, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX)) == 0;
}

static bool allow_sockets_of(scmp_filter_ctx ctx, int family)
{
    return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
               SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)family)) == 0;
}

/* abort(3) and pthreads send signals to the own process; nobody needs to send any to another. */
static bool allow_signals_to_self(scmp_filter_ctx ctx)
{
    return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
               SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid())) == 0;
}

static bool fill_child(scmp_filter_ctx ctx, enum sandbox_role role)
{
    if (!ALLOW_LIST(ctx, calls_common) || !allow_plain_memory(ctx) || !allow_signals_to_self(ctx))
        return false;
    switch (role) {
    case SANDBOX_MONITOR:
        break;
    case SANDBOX_CONFIG:
        return true;
    case SANDBOX_FETCH:
        return ALLOW_LIST(ctx, calls_fetch);
    case SANDBOX_SESSION:
        return ALLOW_LIST(ctx, calls_session) && allow_sockets_of(ctx, AF_INET) &&
               allow_sockets_of(ctx, AF_INET6) && allow_sockets_of(ctx, AF_VSOCK);
    case SANDBOX_SIGNER:
        return ALLOW_LIST(ctx, calls_signer) && allow_threads(ctx) && allow_nsm(ctx);
    }
    return false;
}

/* ---- the monitor ---- */

/* It starts programs, and a state hook may be any: so a list of what nobody here needs, which fails
 * with EPERM. Its children inherit it and add their own filters. */
static const int calls_denied[] = {
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(process_madvise),
    SCMP_SYS(kcmp),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(move_mount),
    SCMP_SYS(open_tree),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount),
    SCMP_SYS(fspick),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(setns),
    SCMP_SYS(unshare),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(fanotify_init),
    SCMP_SYS(keyctl),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(reboot),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(acct),
    SCMP_SYS(syslog),
    SCMP_SYS(vhangup),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(quotactl),
    SCMP_SYS(quotactl_fd),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(adjtimex),
};

static const uint32_t new_namespaces[] = {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
    CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET};

static bool fill_monitor(scmp_filter_ctx ctx)
{
    for (size_t i = 0; i < sizeof calls_denied / sizeof calls_denied[0]; i++)
        if (seccomp_rule_add(ctx, DENIED, calls_denied[i], 0) != 0)
            return false;
    for (size_t i = 0; i < sizeof new_namespaces / sizeof new_namespaces[0]; i++)
        if (seccomp_rule_add(ctx, DENIED, SCMP_SYS(clone), 1,
                SCMP_A0(SCMP_CMP_MASKED_EQ, new_namespaces[i], new_namespaces[i])) != 0)
            return false;
    return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) == 0 &&
           seccomp_rule_add(ctx, DENIED, SCMP_SYS(ioctl), 1,
               SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, TIOCSTI)) == 0;
}

/* ---- capabilities and identity ---- */

#define CAP_BIT(cap) (1U << (cap))

static bool read_capabilities(struct __user_cap_data_struct ret[2], struct err *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(SYS_capget, &header, ret) == 0 || err_errno(err, "cannot read the capabilities");
}

/* All that matter are among the lower 32. */
static bool keep_capabilities(uint32_t keep_low, struct err *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct now[2] = {0};
    if (!read_capabilities(now, err))
        return false;
    uint32_t low = now[0].permitted & keep_low;
    struct __user_cap_data_struct kept[2] = {
        {.effective = low, .permitted = low, .inheritable = 0}, {0}};
    return syscall(SYS_capset, &header, kept) == 0 ||
           err_errno(err, "cannot drop the capabilities");
}

/* Fails without CAP_SETPCAP: then there is nothing to drop, as no_new_privs is set. */
static void keep_bounds(uint32_t keep_low)
{
    for (int cap = 0; cap <= 63; cap++)
        if (!(cap < 32 && (keep_low >> cap & 1)))
            prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

/* Root's files stay root's for a process that has root's number, even without capabilities. A root
 * that may not change it (a container that dropped everything) has to stay what it is. Changing it
 * undoes parts of sandbox_harden. */
static bool become_nobody(struct err *err)
{
    enum { NOBODY = 65534 };
    struct __user_cap_data_struct now[2] = {0};
    int death_signal = 0;
    if (!read_capabilities(now, err))
        return false;
    if (geteuid() != 0 || (now[0].effective & CAP_BIT(CAP_SETUID)) == 0 ||
        (now[0].effective & CAP_BIT(CAP_SETGID)) == 0)
        return true;
    if (prctl(PR_GET_PDEATHSIG, &death_signal, 0, 0, 0) != 0 || setgroups(0, NULL) != 0 ||
        setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0)
        return err_errno(err, "cannot become the user nobody (%d)", NOBODY);
    return (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 &&
               prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) == 0) ||
           err_errno(err, "cannot harden the process");
}

static uint32_t needed_capabilities(enum sandbox_role role)
{
    switch (role) {
    case SANDBOX_MONITOR: /* files and sockets of others, ending the session, and what children drop */
        return CAP_BIT(CAP_DAC_OVERRIDE) | CAP_BIT(CAP_DAC_READ_SEARCH) | CAP_BIT(CAP_KILL) |
               CAP_BIT(CAP_SETUID) | CAP_BIT(CAP_SETGID) | CAP_BIT(CAP_SETPCAP);
    case SANDBOX_SIGNER:
        return CAP_BIT(CAP_DAC_READ_SEARCH);
    case SANDBOX_CONFIG:
    case SANDBOX_FETCH:
    case SANDBOX_SESSION:
        break;
    }
    return 0;
}

static bool give_up_privileges(enum sandbox_role role, struct err *err)
{
    uint32_t keep = needed_capabilities(role);
    keep_bounds(keep);
    return (role != SANDBOX_SESSION || become_nobody(err)) && keep_capabilities(keep, err);
}

bool sandbox_enter(enum sandbox_role role, struct err *err)
{
    if (!give_up_privileges(role, err))
        return false;
    bool is_monitor = role == SANDBOX_MONITOR;
    scmp_filter_ctx ctx = seccomp_init(is_monitor ? SCMP_ACT_ALLOW : FORBIDDEN);
    if (ctx == NULL)
        return err_set(err, "cannot make a seccomp filter");
    bool ok = (is_monitor ? fill_monitor(ctx) : fill_child(ctx, role)) && seccomp_load(ctx) == 0;
    seccomp_release(ctx);
    return ok || err_set(err,
                     "cannot install the seccomp filter: the kernel needs CONFIG_SECCOMP_FILTER");
}
