/* Each role gives up what it does not need: every forbidden act ends the process with SIGSYS, every
 * needed one works. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sandbox/sandbox.h"

static pid_t test_pid;

/* Runs act() in a child in the given role; the wait status. */
static int run_in(enum sandbox_role role, void (*act)(void))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct err err;
        if (!sandbox_harden(true, &err) || !sandbox_enter(role, &err))
            _exit(99);
        act();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

#ifdef __SANITIZE_ADDRESS__
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

static void assert_forbidden(enum sandbox_role role, void (*act)(void))
{
    int status = run_in(role, act);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void assert_allowed(enum sandbox_role role, void (*act)(void))
{
    int status = run_in(role, act);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void act_open(void)
{
    (void)!open("/etc/hostname", O_RDONLY);
}

static void act_exec(void)
{
    execl("/bin/true", "true", (char *)NULL);
}

static void act_fork(void)
{
    if (fork() == 0)
        _exit(0);
}

static void act_inet_socket(void)
{
    (void)!socket(AF_INET, SOCK_STREAM, 0);
}

static void act_unix_socket(void)
{
    (void)!socket(AF_UNIX, SOCK_STREAM, 0);
}

static void act_signal_another(void)
{
    syscall(SYS_tgkill, test_pid, test_pid, 0);
}

static void act_kill_another(void)
{
    kill(test_pid, 0);
}

static void act_packet_socket(void)
{
    (void)!socket(AF_PACKET, SOCK_RAW, 0);
}

static void act_map_executable(void)
{
    (void)!mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void act_make_executable(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(p, 4096, PROT_READ | PROT_EXEC);
}

static void act_trace(void)
{
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static void act_unlink(void)
{
    unlink("/nonexistent");
}

static void act_flush(void)
{
    fdatasync(STDERR_FILENO);
}

static void *nothing(void *arg)
{
    return arg;
}

static void act_thread(void)
{
    pthread_t t;
    if (pthread_create(&t, NULL, nothing, NULL) != 0 || pthread_join(t, NULL) != 0)
        _exit(1);
}

static void act_ordinary(void)
{
    void *p = malloc(1 << 20);
    if (p == NULL)
        _exit(1);
    free(p);
}

static void test_no_role_opens_files_or_starts_programs(void **state)
{
    (void)state;
    for (enum sandbox_role role = SANDBOX_CONFIG; role <= SANDBOX_SIGNER; role++) {
        assert_forbidden(role, act_open);
        assert_forbidden(role, act_exec);
        assert_forbidden(role, act_unlink);
        assert_forbidden(role, act_trace);
        assert_forbidden(role, act_packet_socket);
        assert_forbidden(role, act_map_executable);
        assert_forbidden(role, act_make_executable);
        assert_allowed(role, act_ordinary);
    }
}

static void test_only_the_session_makes_sockets(void **state)
{
    (void)state;
    assert_allowed(SANDBOX_SESSION, act_inet_socket);
    assert_forbidden(SANDBOX_SIGNER, act_inet_socket);
    assert_forbidden(SANDBOX_CONFIG, act_inet_socket);
}

static void test_the_session_makes_no_unix_sockets(void **state)
{
    (void)state;
    for (enum sandbox_role role = SANDBOX_CONFIG; role <= SANDBOX_SIGNER; role++)
        assert_forbidden(role, act_unix_socket);
}

static void test_signals_go_to_oneself_only(void **state)
{
    (void)state;
    for (enum sandbox_role role = SANDBOX_CONFIG; role <= SANDBOX_SIGNER; role++) {
        assert_forbidden(role, act_signal_another);
        assert_forbidden(role, act_kill_another);
        int status = run_in(role, abort);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

static void test_only_the_signer_flushes_files(void **state)
{
    (void)state;
    assert_allowed(SANDBOX_SIGNER, act_flush);
    assert_forbidden(SANDBOX_SESSION, act_flush);
    assert_forbidden(SANDBOX_CONFIG, act_flush);
}

static void test_no_role_forks(void **state)
{
    (void)state;
    assert_allowed(SANDBOX_SIGNER, act_thread);
    assert_forbidden(SANDBOX_SESSION, act_fork);
    assert_forbidden(SANDBOX_CONFIG, act_fork);
    assert_forbidden(SANDBOX_SIGNER, act_fork);
}

/* Calls that fail with something else, or work, where nothing denies them. */
static const struct {
    long call;
    unsigned long args[4];
} denied[] = {
    {SYS_ptrace, {PTRACE_ATTACH, INT_MAX}},
    {SYS_process_vm_readv, {0, 0, 0, 0}},
    {SYS_process_vm_writev, {0, 0, 0, 0}},
    {SYS_keyctl, {0, (unsigned long)-3, 0}},
    {SYS_add_key, {0, 0}},
    {SYS_request_key, {0, 0}},
    {SYS_setns, {(unsigned long)-1, 0}},
    {SYS_unshare, {CLONE_FILES}},
    {SYS_clone, {CLONE_NEWUSER | SIGCHLD}},
    {SYS_clone, {CLONE_NEWNET | CLONE_NEWUSER | CLONE_NEWPID | SIGCHLD}},
    {SYS_io_uring_setup, {0, 0}},
    {SYS_pidfd_getfd, {(unsigned long)-1, 0, 0}},
    {SYS_ioctl, {(unsigned long)-1, TIOCSTI, 0}},
    {SYS_kcmp, {0, 0, 0, 0}},
};

/* The calls of the list that are denied to this process, a bit each. */
static unsigned count_denied(void)
{
    unsigned bits = 0;
    for (unsigned i = 0; i < sizeof denied / sizeof denied[0]; i++) {
        const unsigned long *a = denied[i].args;
        errno = 0;
        long rc = syscall(denied[i].call, a[0], a[1], a[2], a[3]);
        if (rc == 0 && denied[i].call == SYS_clone)
            _exit(0);
        bits |= (rc == -1 && errno == EPERM ? 1U : 0U) << i;
    }
    return bits;
}

static unsigned denied_in(bool is_sandboxed)
{
    int p[2];
    unsigned bits = 0;
    assert_int_equal(pipe(p), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct err err;
        if (is_sandboxed && (!sandbox_harden(false, &err) || !sandbox_enter(SANDBOX_MONITOR, &err)))
            _exit(99);
        bits = count_denied();
        _exit(write(p[1], &bits, sizeof bits) == sizeof bits ? 0 : 98);
    }
    close(p[1]);
    assert_int_equal(read(p[0], &bits, sizeof bits), sizeof bits);
    close(p[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return bits;
}

static void test_the_monitor_is_denied_what_nobody_needs(void **state)
{
    (void)state;
    unsigned all = (1U << sizeof denied / sizeof denied[0]) - 1;
    unsigned by_the_machine = denied_in(false);
    assert_int_equal(denied_in(true), all);
    /* The machine itself may deny some, never most: then this test would say nothing. */
    assert_true(__builtin_popcount(by_the_machine) * 2 < __builtin_popcount(all));
}

static void act_start_program(void)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", "test \"$(echo one | cat)\" = one", (char *)NULL);
        _exit(98);
    }
    if (waitpid(pid, &status, 0) != pid || status != 0)
        _exit(1);
    act_thread();
}

static void test_the_monitor_starts_programs(void **state)
{
    (void)state;
    assert_allowed(SANDBOX_MONITOR, act_start_program);
    assert_allowed(SANDBOX_MONITOR, act_unix_socket);
    assert_allowed(SANDBOX_MONITOR, act_open);
}

static void act_check_hardened(void)
{
    struct rlimit core;
    if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_max != 0)
        _exit(1);
}

static void test_harden_forbids_dumps_and_new_privileges(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        struct err err;
        if (!sandbox_harden(true, &err))
            _exit(99);
        int death_signal = 0;
        prctl(PR_GET_PDEATHSIG, &death_signal);
        _exit(prctl(PR_GET_DUMPABLE) == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 &&
                      death_signal == SIGKILL
                  ? 0
                  : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_allowed(SANDBOX_SIGNER, act_check_hardened);
}

int main(void)
{
#ifdef SANITIZED
    return 77; /* the sanitizers' own system calls are not in the filters */
#endif
    test_pid = getpid();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_role_opens_files_or_starts_programs),
        cmocka_unit_test(test_only_the_session_makes_sockets),
        cmocka_unit_test(test_the_session_makes_no_unix_sockets),
        cmocka_unit_test(test_signals_go_to_oneself_only),
        cmocka_unit_test(test_only_the_signer_flushes_files),
        cmocka_unit_test(test_no_role_forks),
        cmocka_unit_test(test_the_monitor_is_denied_what_nobody_needs),
        cmocka_unit_test(test_the_monitor_starts_programs),
        cmocka_unit_test(test_harden_forbids_dumps_and_new_privileges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
