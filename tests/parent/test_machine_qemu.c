/* Enclaves under QEMU, with programs that play QEMU and its back end: what is there before what; every way to end. */
#include "fake_rig.h"

enum { START_S = 60 };

static int setup(void **state)
{
    (void)state;
    fake_setup();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_teardown();
    return 0;
}

static struct machine_place start(struct keeper_rig *k, const struct machine_options *o)
{
    *k = rig_spawn();
    rig_ask(k, o);
    return rig_must_run(k, START_S);
}

/* The arguments of the last call, as fake_machines.py wrote them down. */
static const char *last_call(const char *program)
{
    char name[32];
    snprintf(name, sizeof name, "%s.calls", program);
    char *calls = strdup(fake_read(name));
    size_t n = strlen(calls);
    static char last[4096];
    assert_true(n > 0 && calls[n - 1] == '\n');
    calls[n - 1] = '\0';
    const char *newline = strrchr(calls, '\n');
    snprintf(last, sizeof last, "%s", newline != NULL ? newline + 1 : calls);
    free(calls);
    return last;
}

static void it_boots_with_the_command_that_works(void **state)
{
    (void)state;
    struct keeper_rig k;
    char words[1024];
    struct machine_options o = fake_options(MACHINE_QEMU, "q1");
    snprintf(o.role, sizeof o.role, "arn:aws:iam::123456789012:role/a,b");
    snprintf(o.instance, sizeof o.instance, "i-0123456789abcdef0");
    struct machine_place place = start(&k, &o);
    assert_int_equal(place.cid, 0);
    assert_int_equal(place.cpus, 1);
    assert_int_equal(place.memory_mib, 64);
    assert_int_equal(strncmp(place.id, "i-0123456789abcdef0-enc", 23), 0);
    snprintf(words, sizeof words, "%s/q1/vsock", run_dir);
    assert_string_equal(place.uds, words);
    snprintf(words, sizeof words,
        "[\"-M\", "
        "\"nitro-enclave,vsock=c,id=%s,parent-role=arn:aws:iam::123456789012:role/a,,b,parent-id="
        "i-0123456789abcdef0\", \"-accel\", \"tcg\", \"-cpu\", \"max\", \"-smp\", \"1\", \"-m\", "
        "\"64M\", ",
        place.id);
    assert_contains(last_call("qemu"), words);
    snprintf(words, sizeof words,
        "\"-kernel\", \"%s\", \"-chardev\", \"socket,id=c,path=%s/q1/vhost.sock\", \"-display\", "
        "\"none\", \"-serial\", \"file:%s\", \"-monitor\", \"none\", \"-no-reboot\", \"-append\", "
        "\"quiet tmkms.parent_cid=2 reboot=t",
        image_path, run_dir, place.console);
    assert_contains(last_call("qemu"), words);
    assert_null(strstr(last_call("qemu"), "tmkms.debug"));
    snprintf(
        words, sizeof words, "socket=%s/q1/vhost.sock,uds-path=%s/q1/vsock\"", run_dir, run_dir);
    assert_contains(last_call("vhost"), words);
    rig_stop(&k);
    assert_true(rig_is_gone(fakes, 3000));
}

static void each_option_has_its_word(void **state)
{
    (void)state;
    struct keeper_rig k;
    struct machine_options o = fake_options(MACHINE_QEMU, "q2");
    o.cpus = 3, o.memory_mib = 129, o.is_debug = 1;
    snprintf(o.uds, sizeof o.uds, "%s/v", fakes);
    struct machine_place place = start(&k, &o);
    assert_string_equal(place.uds, o.uds);
    assert_int_equal(place.cpus, 3);
    assert_int_equal(place.memory_mib, 130);
    assert_contains(last_call("qemu"), "\"-smp\", \"3\", \"-m\", \"130M\"");
    assert_contains(last_call("qemu"), " tmkms.debug=1\"]");
    assert_null(strstr(last_call("qemu"), "parent-role"));
    rig_stop(&k);
    assert_int_not_equal(access(o.uds, F_OK), 0); /* nor a socket outside the folder */
}

static void each_death_is_told_apart(void **state)
{
    (void)state;
    struct keeper_rig k;
    static const char *const ends[] = {"good.eif", "guest-cid="};
    static const char *const words[] = {"qemu ended (signal 9", "vhost ended (signal 9"};
    struct machine_options o = fake_options(MACHINE_QEMU, "q3");
    for (size_t i = 0; i < 2; i++) {
        start(&k, &o);
        pid_t victim = rig_child(&k, ends[i]);
        assert_int_equal(kill(victim, SIGKILL), 0);
        struct keeper_message msg = rig_hear(&k, 10);
        assert_int_equal(msg.kind, KEEPER_ENDED);
        char expected[64]; /* python3 is what runs */
        snprintf(expected, sizeof expected, "%s", words[i]);
        assert_contains(msg.u.text, expected);
        assert_contains(msg.u.text, "its console says last: ?[0mbooting | ready");
        assert_true(rig_has_ended(k.pid, 3000));
        rig_close(&k);
        assert_true(rig_is_gone(fakes, 3000));
    }
    fake_write("qemu.mood", "short", 0600);
    start(&k, &o);
    struct keeper_message msg = rig_hear(&k, 20);
    assert_int_equal(msg.kind, KEEPER_ENDED);
    assert_contains(msg.u.text, "exit code 0");
    assert_true(rig_has_ended(k.pid, 3000));
    rig_close(&k);
}

static void a_start_that_fails_says_why(void **state)
{
    (void)state;
    struct machine_options o = fake_options(MACHINE_QEMU, "q4");
    fake_write("qemu.mood", "old", 0600);
    fake_must_fail(&o, "has no machine 'nitro-enclave'");
    fake_write("qemu.mood", "dies", 0600);
    struct keeper_message msg = fake_must_fail(&o, "exit code 1");
    assert_contains(msg.u.text, "out of luck");
    assert_contains(msg.u.text, "Kernel panic");
    fake_write("qemu.mood", "", 0600);
    fake_write("vhost.mood", "dies", 0600);
    msg = fake_must_fail(&o, "vhost ended (exit code 1)");
    assert_contains(msg.u.text, "no vsock today");
    fake_write("vhost.mood", "", 0600);
    snprintf(o.eif, sizeof o.eif, "%s/qemu", fakes);
    fake_must_fail(&o, "/qemu");
    snprintf(o.eif, sizeof o.eif, "%s/none", fakes);
    fake_must_fail(&o, "/none");
    o = fake_options(MACHINE_QEMU, "q4");
    snprintf(o.uds, sizeof o.uds, "%s/a,b", fakes);
    fake_must_fail(&o, "comma");
    setenv("TMKMS_QEMU", "/nonexistent/qemu", 1);
    o = fake_options(MACHINE_QEMU, "q4");
    fake_must_fail(&o, "$TMKMS_QEMU: /nonexistent/qemu");
    assert_true(rig_is_gone(fakes, 3000));
}

static void it_can_be_stopped_while_it_boots(void **state)
{
    (void)state;
    struct machine_options o = fake_options(MACHINE_QEMU, "q5");
    fake_write("qemu.mood", "silent", 0600);
    struct keeper_rig k = rig_spawn();
    rig_ask(&k, &o);
    for (int i = 0; i < 1000 && strstr(fake_read("qemu.calls"), "-kernel") == NULL; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_contains(fake_read("qemu.calls"), "-kernel");
    assert_false(fd_wait(k.control, POLLIN, clock_monotonic_us() + 300000));
    rig_stop(&k);
    assert_true(rig_is_gone(fakes, 3000));
}

static void a_killed_keeper_leaves_no_process(void **state)
{
    (void)state;
    struct keeper_rig k;
    struct machine_options o = fake_options(MACHINE_QEMU, "q6");
    start(&k, &o);
    assert_true(rig_processes(fakes, NULL, 0) >= 2);
    assert_int_equal(kill(k.pid, SIGKILL), 0);
    assert_true(rig_has_ended(k.pid, 2000));
    assert_true(rig_is_gone(fakes, 3000));
    rig_close(&k);
    start(&k, &o); /* over the stale sockets */
    rig_stop(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_boots_with_the_command_that_works, setup, teardown),
        cmocka_unit_test_setup_teardown(each_option_has_its_word, setup, teardown),
        cmocka_unit_test_setup_teardown(each_death_is_told_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(a_start_that_fails_says_why, setup, teardown),
        cmocka_unit_test_setup_teardown(it_can_be_stopped_while_it_boots, setup, teardown),
        cmocka_unit_test_setup_teardown(a_killed_keeper_leaves_no_process, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
