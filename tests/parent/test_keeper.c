/* The keeper with tmkms-sim for an enclave: it runs, it ends however anybody dies, and nothing is left. */
#include "keeper_rig.h"
#include "run.h"

enum { START_S = 40, END_MS = 10000 }; /* of what comes at once on an idle machine */

static int setup(void **state)
{
    (void)state;
    rig_make_run_dir();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_remove_run_dir();
    return 0;
}

static void path_of(char ret[200], const char *name, const char *file)
{
    snprintf(ret, 200, "%s/%s/%s", run_dir, name, file);
}

static void it_runs_answers_and_ends_with_its_socket(void **state)
{
    (void)state;
    char path[200];
    struct keeper_rig k = rig_spawn();
    struct machine_options o = rig_options(MACHINE_SIMULATED, "one");
    rig_ask(&k, &o);
    struct machine_place place = rig_must_run(&k, START_S);
    path_of(path, "one", "vsock");
    assert_string_equal(place.uds, path);
    assert_int_equal(place.cid, 0);
    assert_true(strlen(place.id) > 4);
    rig_ping(place.uds, "waiting");
    assert_true(rig_processes(place.uds, NULL, 0) > 0);
    uint64_t began = clock_monotonic_us();
    rig_stop(&k);
    assert_true(clock_monotonic_us() - began < END_MS * 1000ULL);
    assert_true(rig_is_gone(place.uds, END_MS));
    path_of(path, "one", "");
    assert_int_not_equal(access(path, F_OK), 0);
}

static void sigterm_ends_it_and_it_says_so(void **state)
{
    (void)state;
    struct keeper_rig k = rig_spawn();
    struct machine_options o = rig_options(MACHINE_SIMULATED, "term");
    rig_ask(&k, &o);
    struct machine_place place = rig_must_run(&k, START_S);
    assert_int_equal(kill(k.pid, SIGTERM), 0);
    struct keeper_message msg = rig_hear(&k, 6);
    assert_int_equal(msg.kind, KEEPER_ENDED);
    assert_contains(msg.u.text, "told to end");
    assert_true(rig_has_ended(k.pid, END_MS));
    assert_true(rig_is_gone(place.uds, END_MS));
    rig_close(&k);
}

static void an_enclave_that_dies_is_reported(void **state)
{
    (void)state;
    struct keeper_rig k = rig_spawn();
    struct machine_options o = rig_options(MACHINE_SIMULATED, "dies");
    rig_ask(&k, &o);
    struct machine_place place = rig_must_run(&k, START_S);
    assert_int_equal(kill(rig_child(&k, place.uds), SIGKILL), 0);
    struct keeper_message msg = rig_hear(&k, 6);
    assert_int_equal(msg.kind, KEEPER_ENDED);
    assert_contains(msg.u.text, "tmkms-sim ended (signal 9");
    assert_contains(msg.u.text, "waiting for the config");
    assert_true(rig_has_ended(k.pid, END_MS));
    rig_close(&k);
}

static void a_killed_keeper_leaves_no_process(void **state)
{
    (void)state;
    struct keeper_rig k = rig_spawn();
    struct machine_options o = rig_options(MACHINE_SIMULATED, "killed");
    rig_ask(&k, &o);
    struct machine_place place = rig_must_run(&k, START_S);
    assert_int_equal(kill(k.pid, SIGKILL), 0);
    assert_true(rig_has_ended(k.pid, END_MS));
    assert_true(rig_is_gone(place.uds, END_MS));
    rig_close(&k);
    /* The folder that it could not remove is in nobody's way, and what was in it goes. */
    char left[200];
    path_of(left, "killed", "left");
    assert_int_equal(close(open(left, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
    struct keeper_rig again = rig_spawn();
    rig_ask(&again, &o);
    place = rig_must_run(&again, START_S);
    assert_int_not_equal(access(left, F_OK), 0);
    rig_ping(place.uds, "waiting");
    rig_stop(&again);
}

static void a_name_is_given_once(void **state)
{
    (void)state;
    char owner[64];
    struct keeper_rig first = rig_spawn(), second = rig_spawn();
    struct machine_options o = rig_options(MACHINE_SIMULATED, "twice");
    rig_ask(&first, &o);
    struct machine_place place = rig_must_run(&first, START_S);
    rig_ask(&second, &o);
    struct keeper_message msg = rig_hear(&second, START_S);
    assert_int_equal(msg.kind, KEEPER_FAILED);
    snprintf(owner, sizeof owner, "kept by `tmkms nitro run` (process %d)", (int)getpid());
    assert_contains(msg.u.text, owner);
    assert_null(strstr(msg.u.text, "terminate-enclave"));
    assert_true(rig_has_ended(second.pid, END_MS));
    rig_close(&second);
    rig_ping(place.uds, "waiting"); /* the first is not touched */
    rig_stop(&first);
}

static void a_socket_in_use_is_left_alone(void **state)
{
    (void)state;
    struct keeper_rig first = rig_spawn(), second = rig_spawn();
    struct machine_options o = rig_options(MACHINE_SIMULATED, "mine");
    rig_ask(&first, &o);
    struct machine_place place = rig_must_run(&first, START_S);
    struct machine_options other = rig_options(MACHINE_SIMULATED, "other");
    snprintf(other.uds, sizeof other.uds, "%s", place.uds);
    rig_ask(&second, &other);
    struct keeper_message msg = rig_hear(&second, START_S);
    assert_int_equal(msg.kind, KEEPER_FAILED);
    assert_contains(msg.u.text, "in use by another process");
    assert_true(rig_has_ended(second.pid, END_MS));
    rig_close(&second);
    rig_ping(place.uds, "waiting");
    rig_stop(&first);
}

static void a_program_that_fails_is_quoted(void **state)
{
    (void)state;
    char path[200];
    snprintf(path, sizeof path, "%s-sim", run_dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    assert_true(fd >= 0 && fd_write_exact(fd, "#!/bin/sh\necho no enclave today\nexit 4\n", 38));
    close(fd);
    setenv("TMKMS_SIM", path, 1);
    struct keeper_rig k = rig_spawn();
    struct machine_options o = rig_options(MACHINE_SIMULATED, "fails");
    rig_ask(&k, &o);
    struct keeper_message msg = rig_hear(&k, START_S);
    assert_int_equal(msg.kind, KEEPER_FAILED);
    assert_contains(msg.u.text, "exit code 4");
    assert_contains(msg.u.text, "no enclave today");
    assert_true(rig_has_ended(k.pid, END_MS));
    rig_close(&k);
    unlink(path);
    struct keeper_rig none = rig_spawn();
    rig_ask(&none, &o);
    msg = rig_hear(&none, START_S);
    assert_int_equal(msg.kind, KEEPER_FAILED);
    assert_contains(msg.u.text, "$TMKMS_SIM");
    assert_true(rig_has_ended(none.pid, END_MS));
    rig_close(&none);
    unsetenv("TMKMS_SIM");
}

/* Of a long output the last lines, each from its beginning, on one line. */
static void the_last_whole_lines_are_quoted(void **state)
{
    (void)state;
    char path[200];
    static const char script[] = "#!/bin/sh\nfor i in $(seq 100 199); do printf 'line %s of "
                                 "many\\r\\n\\n' $i; done\nexit 4\n";
    snprintf(path, sizeof path, "%s-sim", run_dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    assert_true(fd >= 0 && fd_write_exact(fd, script, sizeof script - 1));
    close(fd);
    setenv("TMKMS_SIM", path, 1);
    struct keeper_rig k = rig_spawn();
    struct machine_options o = rig_options(MACHINE_SIMULATED, "many");
    rig_ask(&k, &o);
    struct keeper_message msg = rig_hear(&k, START_S);
    assert_int_equal(msg.kind, KEEPER_FAILED);
    assert_contains(msg.u.text, "says last: line 1");
    assert_contains(msg.u.text, "line 198 of many | line 199 of many");
    assert_string_equal(msg.u.text + strlen(msg.u.text) - 16, "line 199 of many");
    assert_null(strchr(msg.u.text, '\n'));
    assert_true(rig_has_ended(k.pid, 10000));
    rig_close(&k);
    unlink(path);
    unsetenv("TMKMS_SIM");
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    struct machine_options o = rig_options(MACHINE_SIMULATED, "x");
    struct keeper_message msg = {.kind = KEEPER_START, .u.options = o};
    size_t whole = offsetof(struct keeper_message, u) + sizeof o;
    const size_t lengths[] = {1, 4, 8, whole - 1};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct keeper_rig k = rig_spawn();
        assert_true(fd_send_msg(k.control, &msg, lengths[i], NULL, 0));
        struct keeper_message answer = rig_hear(&k, START_S);
        assert_int_equal(answer.kind, KEEPER_FAILED);
        assert_true(rig_has_ended(k.pid, END_MS));
        rig_close(&k);
    }
    static const char *const names[] = {"", "..", "a/b", "-x", "a b", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct keeper_rig k = rig_spawn();
        o = rig_options(MACHINE_SIMULATED, names[i]);
        rig_ask(&k, &o);
        struct keeper_message answer = rig_hear(&k, START_S);
        assert_int_equal(answer.kind, KEEPER_FAILED);
        assert_contains(answer.u.text, "no name for an enclave");
        assert_true(rig_has_ended(k.pid, END_MS));
        rig_close(&k);
    }
}

static void options_are_checked(void **state)
{
    (void)state;
    struct err err;
    struct machine_options good = rig_options(MACHINE_QEMU, "x"), o;
    snprintf(good.eif, sizeof good.eif, "/x.eif");
    assert_true(machine_options_check(&good, &err));
    o = good, o.kind = MACHINE_KINDS;
    assert_false(machine_options_check(&o, &err));
    o = good, o.cid = 3;
    assert_false(machine_options_check(&o, &err));
    assert_contains(err.text, "CID 3");
    o = good, o.cid = UINT32_MAX;
    assert_false(machine_options_check(&o, &err));
    o = good, o.memory_mib = 63;
    assert_false(machine_options_check(&o, &err));
    assert_contains(err.text, "64 MiB at least");
    o = good, o.cpus = MACHINE_CPUS_MAX + 1;
    assert_false(machine_options_check(&o, &err));
    o = good, o.eif[0] = 'x';
    assert_false(machine_options_check(&o, &err));
    assert_contains(err.text, "absolute");
    o = good, o.eif[0] = '\0';
    assert_false(machine_options_check(&o, &err));
    o = good, memset(o.name, 'a', sizeof o.name);
    assert_false(machine_options_check(&o, &err));
    o = good, memset(o.uds, 'a', sizeof o.uds);
    assert_false(machine_options_check(&o, &err));
}

static void memory_follows_the_image(void **state)
{
    (void)state;
    assert_int_equal(machine_memory_for(0), 64);
    assert_int_equal(machine_memory_for(16 << 20), 64);
    assert_int_equal(machine_memory_for((16 << 20) + 1), 66);
    assert_int_equal(machine_memory_for(100ULL << 20), 400);
    assert_int_equal(machine_memory_for((100ULL << 20) + (1 << 18)), 402);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_runs_answers_and_ends_with_its_socket, setup, teardown),
        cmocka_unit_test_setup_teardown(sigterm_ends_it_and_it_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(an_enclave_that_dies_is_reported, setup, teardown),
        cmocka_unit_test_setup_teardown(a_killed_keeper_leaves_no_process, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_is_given_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_socket_in_use_is_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_program_that_fails_is_quoted, setup, teardown),
        cmocka_unit_test_setup_teardown(the_last_whole_lines_are_quoted, setup, teardown),
        cmocka_unit_test_setup_teardown(nonsense_is_refused, setup, teardown),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(memory_follows_the_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
