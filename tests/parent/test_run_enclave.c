/* The supervisor and the process that keeps its enclave: when that is killed, and when not. This program is the keeper
 * itself when it is started as one. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "folder.h"
#include "ipc/control.h"
#include "parent/run_impl.h"

static char folder[64];
static struct run r;
static struct run_options options;

/* ---- the keeper ---- */

/* Says that an enclave runs, and ends when told to. */
static int keeper(void)
{
    struct keeper_message msg;
    if (keeper_recv(CHILD_FD_CONTROL, &msg) != 1 || msg.kind != KEEPER_START)
        return EXIT_FAILURE;
    msg = (struct keeper_message){.kind = KEEPER_RUNS, .u.place = {.id = "i-0-enc1"}};
    size_t n = offsetof(struct keeper_message, u) + sizeof msg.u.place;
    if (!fd_send_msg(CHILD_FD_CONTROL, &msg, n, NULL, 0))
        return EXIT_FAILURE;
    return keeper_recv(CHILD_FD_CONTROL, &msg) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static pid_t deaf_process(void)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* should the test fail */
    while (pid == 0)
        pause();
    return pid;
}

static bool has_ended(pid_t pid, int *ret_status)
{
    return waitpid(pid, ret_status, WNOHANG) == pid;
}

/* ---- a supervisor without the rest ---- */

static void on_nothing(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
}

static int setup(void **state)
{
    (void)state;
    char tool[96];
    snprintf(folder, sizeof folder, "/tmp/tmkms-run-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(tool, sizeof tool, "%s/nitro-cli", folder);
    int fd = open(tool, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    assert_true(fd >= 0);
    close(fd);
    setenv("PATH", folder, 1);
    options = (struct run_options){.how = RUN_START};
    r = (struct run){.options = &options,
        .config = RUN_CONFIG_NONE,
        .notify = NOTIFY_NONE,
        .limits = &PULSE_LIMITS,
        .keeper.child = CHILD_NONE,
        .push = {.out = -1, .errors = -1},
        .ping = {.fd = -1}};
    r.server.base = event_base_new();
    assert_non_null(r.server.base);
    struct err err;
    assert_non_null(r.persist = persist_new(&r.server, 0, &err));
    struct event **const timers[] = {&r.start_due, &r.push_due, &r.ping_due};
    for (size_t i = 0; i < sizeof timers / sizeof timers[0]; i++)
        assert_non_null(*timers[i] = event_new(r.server.base, -1, 0, on_nothing, NULL));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    event_free(r.start_due);
    event_free(r.push_due);
    event_free(r.ping_due);
    persist_free(r.persist);
    event_base_free(r.server.base);
    folder_remove(folder);
    return 0;
}

/* ---- */

static void one_that_does_not_end_is_killed_in_every_phase(void **state)
{
    (void)state;
    static const enum run_phase phases[] = {PHASE_STARTING, PHASE_BOOTING, PHASE_ENDING};
    for (size_t i = 0; i < sizeof phases / sizeof phases[0]; i++) {
        int pair[2], status;
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        r.keeper = (struct run_keeper){.child = CHILD_NONE};
        r.keeper.child.pid = deaf_process();
        r.keeper.child.control = pair[0];
        r.phase = phases[i];
        run_enclave_end(&r, true);
        uint64_t told = clock_monotonic_us();
        run_enclave_tick(&r, told + KEEPER_STOP_US / 2);
        assert_false(has_ended(r.keeper.child.pid, &status)); /* AWS's tool needs its time */
        run_enclave_end(&r, true);
        assert_true(
            r.keeper.end_by_us <= told + KEEPER_STOP_US); /* once more gives no more of it */
        run_enclave_tick(&r, told + KEEPER_STOP_US + 1);
        assert_int_equal(waitpid(r.keeper.child.pid, &status, 0), r.keeper.child.pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        close(pair[1]);
    }
}

/* systemd kills all of it then, and an enclave of AWS's tool would live on. */
static void the_unit_waits_longer_than_the_keeper_may_take(void **state)
{
    (void)state;
    static const char key[] = "TimeoutStopSec=";
    char line[512];
    unsigned long seconds = 0;
    FILE *f = fopen(VECTORS_DIR "/../../packaging/systemd/tmkms-nitro.service", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, sizeof key - 1) == 0)
            seconds = strtoul(line + sizeof key - 1, NULL, 10);
    fclose(f);
    assert_true(seconds * 1000000 > KEEPER_STOP_US);
}

static void one_whose_enclave_runs_has_no_end(void **state)
{
    (void)state;
    struct err err;
    int status;
    options.how = RUN_SIMULATED;
    snprintf(r.vsock.uds, sizeof r.vsock.uds, "%s/vsock", folder);
    snprintf(r.config.config.enclave.name, sizeof r.config.config.enclave.name, "one");
    r.phase = PHASE_STARTING;
    if (!run_enclave_start(&r, &err))
        fail_msg("%s", err.text);
    assert_true(r.keeper.end_by_us > clock_monotonic_us() + KEEPER_STOP_US);
    while (r.phase == PHASE_STARTING)
        assert_int_equal(event_base_loop(r.server.base, EVLOOP_ONCE), 0);
    assert_int_equal(r.phase, PHASE_BOOTING);
    run_enclave_tick(&r, clock_monotonic_us() + 3600ULL * 1000000);
    assert_false(has_ended(r.keeper.child.pid, &status));
    run_enclave_stop(&r);
    assert_int_equal(r.keeper.child.pid, 0);
}

/* ---- what follows from answers and from time ---- */

static void answer_at(enum ping_answer answer, uint64_t since_us)
{
    r.pulse.since_us = since_us;
    r.pulse.asked_us = since_us;
    run_on_answer(&r, answer, NULL);
    assert_int_equal(r.pulse.asked_us, 0);
}

static void one_whose_process_hangs_is_lost_in_the_end(void **state)
{
    (void)state;
    const uint64_t long_ago = clock_monotonic_us() - r.limits->silence_us - 1;
    r.phase = PHASE_READY;
    r.pulse = (struct pulse){.has_answered = true};
    answer_at(PING_SILENT, long_ago);
    assert_true(r.hangs);
    assert_true(pulse_is_lost(&r.pulse, r.limits, clock_monotonic_us()));
    answer_at(PING_READY, long_ago);
    assert_false(r.hangs);
    assert_false(pulse_is_lost(&r.pulse, r.limits, clock_monotonic_us()));
    /* A signer that waits for KMS in a push answers nobody. */
    r.pulse.is_busy = true;
    answer_at(PING_SILENT, long_ago);
    assert_false(r.hangs);
    assert_true(r.pulse.since_us > long_ago);
}

static void a_push_that_ends_gives_time_for_the_answer(void **state)
{
    (void)state;
    const uint64_t now = clock_monotonic_us();
    r.pulse = (struct pulse){.has_answered = true,
        .is_busy = true,
        .since_us = now - r.limits->busy_us,
        .asked_us = now - r.limits->busy_us + 1000000};
    assert_false(pulse_is_lost(&r.pulse, r.limits, now));
    run_push_stop(&r);
    assert_false(r.pulse.is_busy);
    assert_false(pulse_is_lost(&r.pulse, r.limits, clock_monotonic_us()));
    assert_true(pulse_is_lost(&r.pulse, r.limits, clock_monotonic_us() + r.limits->answer_us + 1));
}

static void waiting_is_not_being_stuck(void **state)
{
    (void)state;
    const uint64_t minute = 60ULL * 1000000, now = 1000 * minute;
    r.keeper.start_us = 150ULL * 1000000;
    static const struct {
        enum run_phase phase;
        enum run_how how;
        uint64_t good_us, bad_us; /* 0: never */
    } cases[] = {
        {PHASE_OFF, RUN_START, 30000000, 90000000},
        {PHASE_STARTING, RUN_START, 170000000, 300000000},
        {PHASE_BOOTING, RUN_START, 90000000, 200000000},
        {PHASE_BOOTING, RUN_ATTACH, 900000000, 0},
        {PHASE_ANSWERING, RUN_START, 900000000, 0},
        {PHASE_READY, RUN_START, 900000000, 0},
        {PHASE_ENDING, RUN_START, 30000000, 90000000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        options.how = cases[i].how;
        r.phase = cases[i].phase;
        r.phase_since_us = now - cases[i].good_us;
        assert_false(run_is_stuck(&r, now));
        r.phase_since_us = now - cases[i].bad_us;
        assert_int_equal(run_is_stuck(&r, now), cases[i].bad_us != 0);
        r.phase_since_us = now + 1; /* entered in the turn of the loop that looks */
        assert_false(run_is_stuck(&r, now));
    }
}

static void nobody_writes_the_state_of_no_enclave(void **state)
{
    (void)state;
    assert_int_equal(run_state_cid(&r), PERSIST_NOBODY);
    r.cid = 16;
    assert_int_equal(run_state_cid(&r), 16);
    snprintf(r.vsock.uds, sizeof r.vsock.uds, "/x"); /* where no peer has a CID */
    assert_int_equal(run_state_cid(&r), 0);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "@keeper") == 0)
        return keeper();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            one_that_does_not_end_is_killed_in_every_phase, setup, teardown),
        cmocka_unit_test(the_unit_waits_longer_than_the_keeper_may_take),
        cmocka_unit_test_setup_teardown(one_whose_enclave_runs_has_no_end, setup, teardown),
        cmocka_unit_test_setup_teardown(
            one_whose_process_hangs_is_lost_in_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_push_that_ends_gives_time_for_the_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(waiting_is_not_being_stuck, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_writes_the_state_of_no_enclave, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
