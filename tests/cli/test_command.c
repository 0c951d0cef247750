/* What every command has in common: help, version, exit codes, unknown names. */
#include "run.h"
#include <stdlib.h>

static struct run_result r;

static void no_arguments_print_help_on_stderr_and_exit_2(void **state)
{
    (void)state;
    run_in(&r, NULL, (const char *const[]){TMKMS_BINARY, NULL});
    assert_int_equal(r.exit_code, 2);
    assert_string_equal(r.out, "");
    assert_contains(r.err, "Usage: tmkms <COMMAND>");
    assert_contains(r.err, "version");
}

static void help_goes_to_stdout(void **state)
{
    (void)state;
    static const char *const words[] = {"--help", "-h", "help"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        RUN(&r, words[i]);
        assert_int_equal(r.exit_code, 0);
        assert_string_equal(r.err, "");
        assert_contains(r.out, "Usage: tmkms <COMMAND>");
    }
}

static void help_of_a_command_is_the_same_in_all_forms(void **state)
{
    (void)state;
    static char first[sizeof r.out];
    RUN(&r, "help", "version");
    assert_int_equal(r.exit_code, 0);
    memcpy(first, r.out, sizeof first);
    assert_contains(first, "Usage: tmkms version");
    RUN(&r, "version", "--help");
    assert_int_equal(r.exit_code, 0);
    assert_string_equal(r.out, first);
    RUN(&r, "version", "-h");
    assert_string_equal(r.out, first);
}

static void version_in_all_forms(void **state)
{
    (void)state;
    static const char *const words[] = {"version", "--version", "-V"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        RUN(&r, words[i]);
        assert_int_equal(r.exit_code, 0);
        assert_string_equal(r.err, "");
        int a, b, c, end = 0;
        assert_int_equal(sscanf(r.out, "%d.%d.%d\n%n", &a, &b, &c, &end), 3);
        assert_int_equal(end, strlen(r.out));
    }
}

static void unknown_names_exit_2_and_suggest(void **state)
{
    (void)state;
    RUN(&r, "vresion");
    assert_int_equal(r.exit_code, 2);
    assert_string_equal(r.out, "");
    assert_contains(r.err, "error: there is no command 'vresion'; did you mean 'version'?");
    assert_contains(r.err, "try 'tmkms --help'");
    RUN(&r, "qqqqqqqq");
    assert_int_equal(r.exit_code, 2);
    assert_null(strstr(r.err, "did you mean"));
    RUN(&r, "--frobnicate");
    assert_int_equal(r.exit_code, 2);
    RUN(&r, "help", "nothing");
    assert_int_equal(r.exit_code, 2);
}

static void unknown_flags_exit_2(void **state)
{
    (void)state;
    static const char *const flags[] = {"--frobnicate", "-x", "--frob=1", "--help=1", "extra"};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        RUN(&r, "version", flags[i]);
        assert_int_equal(r.exit_code, 2);
        assert_string_equal(r.out, "");
        assert_contains(r.err, "error: ");
        assert_contains(r.err, "try 'tmkms version --help'");
    }
}

static void what_cannot_be_written_is_an_error(void **state)
{
    (void)state;
    struct run_result *full = malloc(sizeof *full);
    assert_non_null(full);
    run_in(full, NULL,
        (const char *const[]){"/bin/sh", "-c", TMKMS_BINARY " version >/dev/full", NULL});
    assert_int_equal(full->exit_code, 1);
    assert_contains(full->err, "cannot write to standard output: No space left on device");
    run_in(full, NULL, (const char *const[]){"/bin/sh", "-c", TMKMS_BINARY " version", NULL});
    assert_int_equal(full->exit_code, 0);
    free(full);
}

static void no_colour_in_a_file(void **state)
{
    (void)state;
    RUN(&r, "vresion");
    assert_null(strchr(r.err, '\033'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_arguments_print_help_on_stderr_and_exit_2),
        cmocka_unit_test(help_goes_to_stdout),
        cmocka_unit_test(help_of_a_command_is_the_same_in_all_forms),
        cmocka_unit_test(version_in_all_forms),
        cmocka_unit_test(unknown_names_exit_2_and_suggest),
        cmocka_unit_test(unknown_flags_exit_2),
        cmocka_unit_test(what_cannot_be_written_is_an_error),
        cmocka_unit_test(no_colour_in_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
