/* `tmkms start` under a service manager: what it says, when, and what it says no more when a part of it hangs. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "manager.h"
#include "monitor/health.h"
#include "program.h"

enum { WAIT_MS = 8000, PATIENCE_MS = HEALTH_PATIENCE_US / 1000 };

struct fixture {
    struct program p;
    struct manager manager;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    program_init(&f->p);
    manager_start(&f->manager, false);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    program_free(&f->p);
    manager_stop(&f->manager);
    free(f);
    return 0;
}

/* One chain "one", with a node that is not there: whether it is does not matter to the manager. */
static void configure_one(struct fixture *f)
{
    char address[128];
    snprintf(address, sizeof address, "unix://%s/node.sock", f->p.folder);
    program_chain(&f->p, "one", "");
    program_provider(&f->p, "\"one\"");
    program_validator(&f->p, "one", address);
    program_write_config(&f->p);
}

/* The next message that is not the watchdog's. */
static void assert_hears(struct fixture *f, const char *text)
{
    while (strcmp(manager_hears(&f->manager, WAIT_MS), "WATCHDOG=1\n") == 0)
        ;
    assert_string_equal(f->manager.text, text);
}

static const char ready[] = "READY=1\nSTATUS=Signing for 1 chain, 1 validator\n";

static void start_until_ready(struct fixture *f)
{
    configure_one(f);
    program_start(&f->p);
    assert_hears(f, ready);
}

static void end(struct fixture *f)
{
    kill(f->p.pid, SIGTERM);
    assert_int_equal(program_wait(&f->p, WAIT_MS), 0);
}

static void test_ready_comes_when_it_can_sign(void **state)
{
    struct fixture *f = *state;
    start_until_ready(f);
    assert_true(program_child(&f->p, "@signer") > 0);
    assert_true(program_child(&f->p, "@session") > 0);
    end(f);
    assert_hears(f, "STOPPING=1\n");
    assert_string_equal(manager_hears(&f->manager, 0), "");
}

static void test_ready_waits_for_a_slow_start(void **state)
{
    struct fixture *f = *state;
    program_chain(&f->p, "one", "state_hook = { cmd = [\"sleep\", \"60\"], timeout_secs = 60 }\n");
    program_provider(&f->p, "\"one\"");
    program_write_config(&f->p);
    program_start(&f->p);
    assert_string_equal(manager_hears(&f->manager, 1000), "");
    end(f);
    assert_hears(f, "STOPPING=1\n");
}

static void test_a_failed_start_is_never_ready(void **state)
{
    struct fixture *f = *state;
    char path[128];
    configure_one(f);
    snprintf(path, sizeof path, "%s/one.json", f->p.folder);
    assert_int_equal(unlink(path), 0);
    program_start(&f->p);
    assert_int_equal(program_wait(&f->p, WAIT_MS), 1);
    const char *said = manager_hears(&f->manager, 0);
    assert_memory_equal(said, "STATUS=Cannot start: ", strlen("STATUS=Cannot start: "));
    assert_non_null(strstr(said, "tmkms state init"));
    assert_hears(f, "STOPPING=1\n");
}

static void reload(struct fixture *f, const char *then)
{
    kill(f->p.pid, SIGHUP);
    unsigned long long at;
    assert_int_equal(
        sscanf(manager_hears(&f->manager, WAIT_MS), "RELOADING=1\nMONOTONIC_USEC=%llu\n", &at), 1);
    assert_in_range(at, clock_monotonic_us() - WAIT_MS * 1000ULL, clock_monotonic_us());
    assert_hears(f, then);
}

static void test_a_reload_begins_and_ends(void **state)
{
    struct fixture *f = *state;
    start_until_ready(f);
    program_chain(&f->p, "two", "");
    program_provider(&f->p, "\"two\"");
    program_write_config(&f->p);
    reload(f, "READY=1\nSTATUS=Signing for 2 chains, 1 validator\n");
    snprintf(f->p.config, sizeof f->p.config, "nonsense\n");
    program_write_config(&f->p);
    reload(f, "READY=1\nSTATUS=Signing for 2 chains, 1 validator; the last reload was refused, the "
              "log says why\n");
}

static void test_a_session_that_died_is_told(void **state)
{
    struct fixture *f = *state;
    start_until_ready(f);
    for (int i = 0; i < 2; i++) { /* the second time it waits before it starts again */
        kill(program_child(&f->p, "@session"), SIGKILL);
        const char *said = manager_hears(&f->manager, WAIT_MS);
        if (strcmp(said, "STATUS=Not signing: the session process is started again\n") == 0)
            assert_hears(f, ready);
        else
            assert_string_equal(said, ready);
    }
}

/* How many watchdog messages come within ms. */
static int pings(struct fixture *f, int ms)
{
    int n = 0;
    for (uint64_t end = clock_monotonic_us() + (uint64_t)ms * 1000, now;
         (now = clock_monotonic_us()) < end;)
        n += strcmp(manager_hears(&f->manager, (int)((end - now) / 1000)), "WATCHDOG=1\n") == 0;
    return n;
}

static void the_watchdog_sees(struct fixture *f, const char *role)
{
    setenv("WATCHDOG_USEC", "600000", 1);
    start_until_ready(f);
    assert_in_range(pings(f, 1000), 1, 6);
    pid_t child = program_child(&f->p, role);
    assert_true(child > 0);
    kill(child, SIGSTOP);
    pings(f, PATIENCE_MS + 200);
    assert_int_equal(pings(f, 800), 0);
    kill(child, SIGCONT);
    pings(f, 1000);
    assert_in_range(pings(f, 1000), 1, 6);
}

static void test_the_watchdog_sees_a_stopped_signer(void **state)
{
    the_watchdog_sees(*state, "@signer");
}

static void test_the_watchdog_sees_a_stopped_session(void **state)
{
    the_watchdog_sees(*state, "@session");
}

static void test_a_manager_that_cannot_be_understood_is_told_nothing(void **state)
{
    struct fixture *f = *state;
    setenv("NOTIFY_SOCKET", "vsock:2:1", 1);
    configure_one(f);
    program_start(&f->p);
    assert_true(program_says(
        &f->p, "the service manager is told nothing: NOTIFY_SOCKET=vsock:2:1", WAIT_MS));
    end(f);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_ready_comes_when_it_can_sign),
        T(test_ready_waits_for_a_slow_start),
        T(test_a_failed_start_is_never_ready),
        T(test_a_reload_begins_and_ends),
        T(test_a_session_that_died_is_told),
        T(test_the_watchdog_sees_a_stopped_signer),
        T(test_the_watchdog_sees_a_stopped_session),
        T(test_a_manager_that_cannot_be_understood_is_told_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
