/* run-enclave, describe-enclaves and terminate-enclave as processes: with tmkms-sim, and with a program that plays
 * nitro-cli. */
#include "fake_rig.h"

static struct run_result r;
static char old_path[2048];

static int setup(void **state)
{
    (void)state;
    fake_setup();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    setenv("PATH", old_path, 1);
    fake_teardown();
    return 0;
}

static void with_nitro_cli(void)
{
    char path[2200];
    snprintf(path, sizeof path, "%s:%s", fakes, old_path);
    setenv("PATH", path, 1);
}

/* What was printed, as JSON; the caller's. */
static json_t *printed(void)
{
    if (r.exit_code != 0)
        fail_msg("exit code %d: %s", r.exit_code, r.err);
    json_t *json = json_loads(r.out, JSON_REJECT_DUPLICATES, NULL);
    if (json == NULL)
        fail_msg("this is no JSON: %s", r.out);
    return json;
}

static const char *text(const json_t *of, const char *name)
{
    const char *found = json_string_value(json_object_get(of, name));
    return found != NULL ? found : "(none)";
}

static pid_t keeper_of(const json_t *enclave)
{
    return (pid_t)json_integer_value(json_object_get(enclave, "ProcessID"));
}

static bool is_over(pid_t pid)
{
    for (int i = 0; i < 1000 && kill(pid, 0) == 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    return kill(pid, 0) != 0;
}

static void an_enclave_runs_until_it_is_terminated(void **state)
{
    (void)state;
    RUN(&r, "nitro", "run-enclave", "--simulate");
    json_t *ran = printed();
    assert_string_equal(text(ran, "EnclaveName"), "tmkms");
    assert_int_equal(json_integer_value(json_object_get(ran, "NumberOfCPUs")), 2);
    assert_null(json_object_get(ran, "State"));
    rig_ping(text(ran, "VsockUds"), "waiting");
    assert_int_equal(access(text(ran, "ConsoleFile"), R_OK), 0);

    RUN(&r, "nitro", "run-enclave", "--simulate", "--enclave-name", "second");
    json_decref(printed());
    RUN(&r, "nitro", "run-enclave", "--simulate");
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "the enclave tmkms runs already, kept by process");

    RUN(&r, "nitro", "describe-enclaves");
    json_t *all = printed();
    assert_int_equal(json_array_size(all), 2);
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(text(json_array_get(all, i), "State"), "RUNNING");
        assert_string_equal(text(json_array_get(all, i), "Flags"), "NONE");
        assert_string_equal(text(json_array_get(all, i), "Kind"), "simulated");
    }
    json_decref(all);

    RUN(&r, "nitro", "terminate-enclave", "--enclave-id", text(ran, "EnclaveID"));
    json_t *ended = printed();
    assert_string_equal(text(ended, "EnclaveName"), "tmkms");
    assert_true(json_is_true(json_object_get(ended, "Terminated")));
    json_decref(ended);
    assert_true(rig_is_gone(text(ran, "VsockUds"), 2000));
    json_decref(ran);
    RUN(&r, "nitro", "terminate-enclave", "--enclave-name", "tmkms");
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "no enclave tmkms");
    RUN(&r, "nitro", "terminate-enclave", "--all");
    ended = printed();
    assert_int_equal(json_array_size(ended), 1);
    json_decref(ended);
    RUN(&r, "nitro", "terminate-enclave", "--all");
    ended = printed();
    assert_int_equal(json_array_size(ended), 0);
    json_decref(ended);
}

/* A shell's $(tmkms nitro run-enclave ... 2>&1) waits for the end of the pipe, not of the command. */
static void nobody_waits_for_an_enclave_that_was_started(void **state)
{
    (void)state;
    static const char *const argv[] = {TMKMS_BINARY, "nitro", "run-enclave", "--simulate", NULL};
    enum { PATIENCE_US = 20000000 };
    int ends[2], status;
    char text_read[4096];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    close(ends[1]);
    uint64_t deadline = clock_monotonic_us() + PATIENCE_US;
    ssize_t n = 1;
    while (n > 0 && fd_wait(ends[0], POLLIN, deadline))
        n = read(ends[0], text_read, sizeof text_read);
    assert_int_equal(n, 0);
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    RUN(&r, "nitro", "terminate-enclave", "--enclave-name", "tmkms");
    json_decref(printed());
}

static void one_that_died_is_shown_with_its_reason(void **state)
{
    (void)state;
    RUN(&r, "nitro", "run-enclave", "--simulate", "--debug-mode");
    json_t *ran = printed();
    pid_t keeper = keeper_of(ran);
    struct keeper_rig k = {.pid = keeper};
    assert_int_equal(kill(rig_child(&k, text(ran, "VsockUds")), SIGKILL), 0);
    assert_true(is_over(keeper));
    json_decref(ran);
    RUN(&r, "nitro", "describe-enclaves");
    json_t *all = printed();
    assert_int_equal(json_array_size(all), 1);
    assert_string_equal(text(json_array_get(all, 0), "State"), "ENDED");
    assert_string_equal(text(json_array_get(all, 0), "Flags"), "DEBUG_MODE");
    assert_contains(text(json_array_get(all, 0), "Reason"), "signal 9");
    json_decref(all);
    RUN(&r, "nitro", "run-enclave", "--simulate"); /* its name is free */
    json_decref(printed());
    RUN(&r, "nitro", "describe-enclaves");
    assert_contains(r.out, "RUNNING");
    assert_null(strstr(r.out, "ENDED"));
    RUN(&r, "nitro", "terminate-enclave", "--enclave-name", "tmkms");
    json_decref(printed());
}

static void what_a_killed_keeper_left_is_removed(void **state)
{
    (void)state;
    RUN(&r, "nitro", "run-enclave", "--simulate");
    json_t *ran = printed();
    assert_int_equal(kill(keeper_of(ran), SIGKILL), 0);
    assert_true(is_over(keeper_of(ran)));
    assert_true(rig_is_gone(text(ran, "VsockUds"), 2000));
    json_decref(ran);
    assert_int_equal(folder_count(run_dir), 1);
    RUN(&r, "nitro", "describe-enclaves");
    assert_string_equal(r.out, "[]\n");
    assert_int_equal(folder_count(run_dir), 0);
}

static void nitro_cli_is_used_where_it_is_installed(void **state)
{
    (void)state;
    with_nitro_cli();
    RUN(&r, "nitro", "run-enclave", "--eif-path", image_path, "--memory", "128M", "--cpu-count",
        "4", "--enclave-cid", "40");
    json_t *ran = printed();
    assert_int_equal(json_integer_value(json_object_get(ran, "EnclaveCID")), 40);
    assert_int_equal(json_integer_value(json_object_get(ran, "MemoryMiB")), 128);
    assert_int_equal(json_integer_value(json_object_get(ran, "NumberOfCPUs")), 4);
    assert_int_equal(json_array_size(json_object_get(ran, "CPUIDs")), 2);
    assert_null(json_object_get(ran, "VsockUds"));
    RUN(&r, "nitro", "describe-enclaves");
    json_t *all = printed();
    const json_t *one = json_array_get(all, 0);
    const json_t *measured = json_object_get(one, "Measurements");
    assert_string_equal(text(measured, "PCR0"), IMAGE_A_PCR1); /* one ramdisk: PCR0 is PCR1 */
    assert_string_equal(text(measured, "PCR2"), IMAGE_B_PCR2);
    assert_string_equal(text(one, "ImageName"), "t");
    assert_string_equal(text(one, "EnclaveID"), text(ran, "EnclaveID"));
    json_decref(all);

    /* It outlives a keeper that is killed; then it is ended all the same. */
    assert_int_equal(kill(keeper_of(ran), SIGKILL), 0);
    assert_true(is_over(keeper_of(ran)));
    RUN(&r, "nitro", "describe-enclaves");
    assert_contains(r.out, "ABANDONED");
    assert_contains(fake_read("enclaves.json"), text(ran, "EnclaveID"));
    RUN(&r, "nitro", "terminate-enclave", "--enclave-id", text(ran, "EnclaveID"));
    json_decref(printed());
    assert_string_equal(fake_read("enclaves.json"), "[]");
    json_decref(ran);
}

static void a_refusal_is_in_words(void **state)
{
    (void)state;
    with_nitro_cli();
    fake_write("nitro-cli.mood", "busy", 0600);
    RUN(&r, "nitro", "run-enclave", "--eif-path", image_path);
    assert_int_equal(r.exit_code, 1);
    assert_string_equal(r.out, "");
    assert_contains(r.err, "nitro-enclaves-allocator");
    setenv("PATH", "/nonexistent", 1); /* no tool, and no device */
    RUN(&r, "nitro", "run-enclave", "--eif-path", image_path);
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "/dev/nitro_enclaves");
}

static void wrong_usage_is_explained(void **state)
{
    (void)state;
    static const struct {
        const char *args[6];
        const char *words;
        int exit_code;
    } cases[] = {
        {{"run-enclave"}, "which image?", 2},
        {{"run-enclave", "--qemu", "--simulate"}, "one of them", 2},
        {{"run-enclave", "--simulate", "--eif-path", "/x"}, "boots no image", 2},
        {{"run-enclave", "--simulate", "--cpu-count", "0"}, "not a number of processors", 2},
        {{"run-enclave", "--simulate", "--memory", "12K"}, "not an amount of memory", 2},
        {{"run-enclave", "--simulate", "--memory", "5T"}, "not an amount of memory", 2},
        {{"run-enclave", "--simulate", "--memory", "32"}, "64 MiB at least", 1},
        {{"run-enclave", "--simulate", "--enclave-cid", "x"}, "not a CID", 2},
        {{"run-enclave", "--simulate", "--enclave-cid", "3"}, "CID 3 is taken", 1},
        {{"run-enclave", "--simulate", "--enclave-name", "a b"}, "no name for an enclave", 1},
        {{"run-enclave", "--simulate", "--instance", "i-1"}, "i-1", 1},
        {{"run-enclave", "--simulate", "more"}, "unexpected argument", 2},
        {{"run-enclave", "--eif-path", "/x", "--vsock-uds", "/y"}, "are for --qemu", 2},
        {{"run-enclave", "--qemu", "--eif-path", "/nonexistent"}, "cannot find /nonexistent", 1},
        {{"describe-enclaves", "more"}, "unexpected argument", 2},
        {{"terminate-enclave"}, "which enclave?", 2},
        {{"terminate-enclave", "--all", "--enclave-name", "x"}, "which enclave?", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const *a = cases[i].args;
        run_in(&r, NULL,
            (const char *const[]){TMKMS_BINARY, "nitro", a[0], a[1], a[2], a[3], a[4], a[5], NULL});
        assert_int_equal(r.exit_code, cases[i].exit_code);
        assert_contains(r.err, cases[i].words);
    }
    assert_int_equal(folder_count(run_dir), 0);
    setenv("TMKMS_RUN_DIR", "relative", 1);
    RUN(&r, "nitro", "describe-enclaves");
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "not an absolute path");
    setenv("TMKMS_RUN_DIR", run_dir, 1);
}

int main(void)
{
    snprintf(old_path, sizeof old_path, "%s", getenv("PATH"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_enclave_runs_until_it_is_terminated, setup, teardown),
        cmocka_unit_test_setup_teardown(
            nobody_waits_for_an_enclave_that_was_started, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_died_is_shown_with_its_reason, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_killed_keeper_left_is_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(nitro_cli_is_used_where_it_is_installed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refusal_is_in_words, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_usage_is_explained, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
