/* Enclaves through nitro-cli, with a program that plays it: one that is left behind, one that dies, each refusal. */
#include "fake_rig.h"

enum { START_S = 60 };

static char old_path[2048];

static int setup(void **state)
{
    (void)state;
    char path[2200];
    fake_setup();
    snprintf(path, sizeof path, "%s:%s", fakes, old_path);
    setenv("PATH", path, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    setenv("PATH", old_path, 1);
    fake_teardown();
    return 0;
}

static struct machine_place start(struct keeper_rig *k, const struct machine_options *o)
{
    *k = rig_spawn();
    rig_ask(k, o);
    return rig_must_run(k, START_S);
}

static size_t calls_with(const char *words)
{
    size_t n = 0;
    for (const char *at = fake_read("nitro-cli.calls"); (at = strstr(at, words)) != NULL; at++)
        n++;
    return n;
}

static const char stranger[] =
    "{\"EnclaveName\": \"other\", \"EnclaveID\": \"i-1-enc2\", \"State\": \"RUNNING\"}";

/* The process that the tool has for the enclave. */
static pid_t tools_process(void)
{
    json_t *all = json_loads(fake_read("enclaves.json"), 0, NULL);
    size_t n = json_array_size(all);
    assert_true(n > 0);
    pid_t pid = (pid_t)json_integer_value(json_object_get(json_array_get(all, n - 1), "ProcessID"));
    assert_true(pid > 1);
    json_decref(all);
    return pid;
}

static void it_runs_and_is_ended_by_its_id(void **state)
{
    (void)state;
    struct keeper_rig k;
    char text[400];
    struct machine_options o = fake_options(MACHINE_NITRO_CLI, "n1");
    snprintf(text, sizeof text, "[%s]", stranger);
    fake_write("enclaves.json", text, 0600);
    struct machine_place place = start(&k, &o);
    assert_int_equal(place.cid, 18);
    assert_int_equal(place.cpus, 2);
    assert_int_equal(place.memory_mib, 64);
    assert_int_equal(place.cpu_ids_n, 2);
    assert_int_equal(place.cpu_ids[1], 3);
    assert_string_equal(place.uds, "");
    assert_int_equal(strncmp(place.id, "i-0123456789abcdef0-enc", 23), 0);
    snprintf(text, sizeof text,
        "[\"run-enclave\", \"--cpu-count\", \"2\", \"--memory\", \"64\", \"--eif-path\", \"%s\", "
        "\"--enclave-name\", \"n1\"]",
        image_path);
    assert_int_equal(calls_with(text), 1);
    assert_int_equal(calls_with("terminate-enclave"), 0);
    rig_close(&k);
    assert_true(rig_has_ended(k.pid, 10000));
    snprintf(text, sizeof text, "[\"terminate-enclave\", \"--enclave-id\", \"%s\"]", place.id);
    assert_int_equal(calls_with(text), 1);
    assert_int_equal(calls_with("terminate-enclave"), 1);
    assert_contains(fake_read("enclaves.json"), "other");
    assert_true(rig_is_gone(fakes, 3000));
}

static void one_that_was_left_behind_is_ended_first(void **state)
{
    (void)state;
    struct keeper_rig k;
    struct machine_options o = fake_options(MACHINE_NITRO_CLI, "n2");
    o.cid = 77, o.is_debug = 1;
    struct machine_place first = start(&k, &o);
    assert_int_equal(first.cid, 77);
    assert_int_equal(calls_with("\"--enclave-cid\", \"77\", \"--debug-mode\""), 1);
    assert_int_equal(kill(k.pid, SIGKILL), 0);
    assert_true(rig_has_ended(k.pid, 2000));
    rig_close(&k);
    assert_contains(fake_read("enclaves.json"), first.id); /* nobody could end it */
    struct machine_place second = start(&k, &o);
    assert_string_not_equal(first.id, second.id);
    assert_null(strstr(fake_read("enclaves.json"), first.id));
    assert_contains(fake_read("enclaves.json"), second.id);
    rig_close(&k);
    assert_true(rig_has_ended(k.pid, 10000));
    assert_string_equal(fake_read("enclaves.json"), "[]");
}

static bool has_called(const char *words, size_t n, unsigned seconds)
{
    for (unsigned i = 0; i < seconds * 20 && calls_with(words) < n; i++)
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    return calls_with(words) >= n;
}

static void one_that_dies_is_noticed(void **state)
{
    (void)state;
    struct keeper_rig k;
    struct machine_options o = fake_options(MACHINE_NITRO_CLI, "n3");
    start(&k, &o);
    fake_write("nitro-cli.mood", "deaf", 0600); /* says nothing about the enclave */
    assert_true(has_called("describe-enclaves", calls_with("describe-enclaves") + 2, 60));
    assert_false(fd_wait(k.control, POLLIN, clock_monotonic_us() + 100000));
    fake_write("nitro-cli.mood", "", 0600);
    assert_int_equal(kill(tools_process(), SIGKILL), 0);
    struct keeper_message msg = rig_hear(&k, 20);
    assert_int_equal(msg.kind, KEEPER_ENDED);
    assert_contains(msg.u.text, "shows the enclave");
    assert_true(rig_has_ended(k.pid, 10000));
    rig_close(&k);
    /* Or it is in the list no more. */
    start(&k, &o);
    pid_t keeps = tools_process();
    char text[200];
    snprintf(text, sizeof text, "[%s]", stranger);
    fake_write("enclaves.json", text, 0600);
    msg = rig_hear(&k, 60);
    assert_int_equal(msg.kind, KEEPER_ENDED);
    assert_true(rig_has_ended(k.pid, 10000));
    rig_close(&k);
    assert_int_equal(kill(keeps, SIGKILL), 0);
    assert_contains(fake_read("enclaves.json"), "other");
}

static void one_look_that_misses_it_ends_nothing(void **state)
{
    (void)state;
    struct keeper_rig k;
    struct machine_options o = fake_options(MACHINE_NITRO_CLI, "n7");
    struct machine_place place = start(&k, &o);
    fake_write("nitro-cli.mood", "forgetful", 0600);
    for (int i = 0; i < 600 && fake_read("nitro-cli.mood")[0] != '\0'; i++)
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    assert_string_equal(fake_read("nitro-cli.mood"), "");
    assert_true(has_called("describe-enclaves", calls_with("describe-enclaves") + 1, 40));
    assert_false(fd_wait(k.control, POLLIN, clock_monotonic_us() + 2000000));
    assert_int_equal(calls_with("terminate-enclave"), 0);
    assert_contains(fake_read("enclaves.json"), place.id);
    rig_close(&k);
    assert_true(rig_has_ended(k.pid, 10000));
    assert_string_equal(fake_read("enclaves.json"), "[]");
}

/* Each code that people meet: words that help, and whether another try makes sense. */
static void each_code_is_explained(void **state)
{
    (void)state;
    static const struct {
        const char *said, *words;
        uint32_t is_busy;
    } cases[] = {
        {"[ E22 ] Insufficient CPUs available.", "raise cpu_count", 1},
        {"[ E26 ] Insufficient memory requested.", "four times its image", 0},
        {"[ E29 ] Ioctl failure.", "describe-enclaves", 1},
        {"[ E36 ] Enclave boot failure.", "signing certificate", 0},
        {"[ E39 ] Enclave process connection failure.", "starting or ending", 1},
        {"Resources are in use", "another enclave has the resources", 1},
        {"[ E51 ] Something else.", "Something else. For more details, see the log.", 0},
    };
    struct machine_options o = fake_options(MACHINE_NITRO_CLI, "n6");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char mood[200];
        snprintf(mood, sizeof mood, "refuse %s", cases[i].said);
        fake_write("nitro-cli.mood", mood, 0600);
        struct keeper_message msg = fake_must_fail(&o, cases[i].words);
        assert_contains(msg.u.text, cases[i].said);
        assert_int_equal(msg.is_busy, cases[i].is_busy);
    }
}

static void a_refused_start_says_what_to_do(void **state)
{
    (void)state;
    struct machine_options o = fake_options(MACHINE_NITRO_CLI, "n4");
    fake_write("nitro-cli.mood", "busy", 0600);
    struct keeper_message msg = fake_must_fail(&o, "[ E27 ] Insufficient memory available");
    assert_contains(msg.u.text, "systemctl restart nitro-enclaves-allocator");
    assert_int_equal(msg.is_busy, 1);
    fake_write("nitro-cli.mood", "garbled", 0600);
    msg = fake_must_fail(&o, "printed no JSON");
    assert_int_equal(msg.is_busy, 0);
    fake_write("nitro-cli.mood", "deaf", 0600);
    fake_must_fail(&o, "nitro-cli describe-enclaves failed (exit code 1): [ E49 ] Socket error.");
    setenv("PATH", "/nonexistent", 1);
    fake_must_fail(&o, "there is no nitro-cli on the PATH");
    snprintf(o.uds, sizeof o.uds, "/tmp/x");
    fake_must_fail(&o, "reached over vsock");
}

static void it_can_be_stopped_while_the_tool_works(void **state)
{
    (void)state;
    struct machine_options o = fake_options(MACHINE_NITRO_CLI, "n5");
    fake_write("nitro-cli.mood", "slow", 0600);
    struct keeper_rig k = rig_spawn();
    rig_ask(&k, &o);
    for (int i = 0; i < 1000 && calls_with("describe") == 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    rig_stop(&k);
    assert_true(rig_is_gone(fakes, 3000));
}

/* What the tool starts belongs to a process that lives on when the tool is killed. */
static void nothing_is_left_of_a_start_that_was_cut(const char *mood)
{
    struct machine_options o = fake_options(MACHINE_NITRO_CLI, "n8");
    fake_write("nitro-cli.mood", mood, 0600);
    struct keeper_rig k = rig_spawn();
    rig_ask(&k, &o);
    assert_true(has_called("run-enclave", 1, START_S));
    nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL);
    assert_int_equal(kill(k.pid, SIGTERM), 0);
    assert_true(rig_has_ended(k.pid, 20000));
    rig_close(&k);
    assert_true(rig_is_gone(fakes, 10000)); /* whatever still started something */
    assert_string_equal(fake_read("enclaves.json"), "[]");
    assert_int_equal(calls_with("terminate-enclave"), 1);
}

static void a_start_that_is_cut_is_waited_for(void **state)
{
    (void)state;
    nothing_is_left_of_a_start_that_was_cut("late 2");
}

static void one_that_comes_after_the_wait_is_ended_as_well(void **state)
{
    (void)state;
    nothing_is_left_of_a_start_that_was_cut("late 8");
}

int main(void)
{
    snprintf(old_path, sizeof old_path, "%s", getenv("PATH"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_runs_and_is_ended_by_its_id, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_was_left_behind_is_ended_first, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_dies_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(one_look_that_misses_it_ends_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(each_code_is_explained, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_start_says_what_to_do, setup, teardown),
        cmocka_unit_test_setup_teardown(it_can_be_stopped_while_the_tool_works, setup, teardown),
        cmocka_unit_test_setup_teardown(a_start_that_is_cut_is_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(
            one_that_comes_after_the_wait_is_ended_as_well, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
