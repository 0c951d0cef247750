/* The kernel's command line: what is ours, what is others', and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "enclave/cmdline.h"
#include "link/vsock.h"
#include "nitro/push.h"
#include "run.h"

static const struct cmdline defaults = {.parent_cid = VSOCK_CID_PARENT, .port = PUSH_PORT};
static struct cmdline c;
static struct err err;

static bool parse(const char *text)
{
    return cmdline_parse(&c, bytes_of_text(text), &err);
}

static void assert_is(const char *text, struct cmdline wanted)
{
    if (!parse(text))
        fail_msg("'%s': %s", text, err.text);
    assert_int_equal(c.is_debug, wanted.is_debug);
    assert_int_equal(c.parent_cid, wanted.parent_cid);
    assert_int_equal(c.port, wanted.port);
}

static void defaults_without_ours(void **state)
{
    (void)state;
    assert_is("", defaults);
    assert_is("\n", defaults);
    assert_is("reboot=k panic=1 console=ttyS0 quiet random.trust_cpu=on\n", defaults);
    assert_is("xtmkms.debug=1 tmkms=1 tmkms_debug=1 TMKMS.debug=1", defaults);
}

static void what_is_ours(void **state)
{
    (void)state;
    assert_is("tmkms.debug=1", (struct cmdline){true, 3, 5050});
    assert_is("quiet tmkms.parent_cid=2 tmkms.port=77\n", (struct cmdline){false, 2, 77});
    assert_is("tmkms.port=4294967294\ttmkms.debug=0", (struct cmdline){false, 3, 4294967294U});
}

static void the_last_one_counts(void **state)
{
    (void)state;
    assert_is("tmkms.debug=1 tmkms.debug=0", defaults);
    assert_is("tmkms.parent_cid=3 quiet tmkms.parent_cid=2", (struct cmdline){false, 2, 5050});
}

/* A key inside of another's quoted value, or behind --, is not ours. */
static void what_only_looks_like_ours(void **state)
{
    (void)state;
    assert_is("foo=\"a tmkms.debug=1 b\" quiet", defaults);
    assert_is("foo=\"a tmkms.debug=1", defaults);
    assert_is("quiet -- tmkms.debug=1 tmkms.what=2", defaults);
}

static void refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"tmkms.", "tmkms.debug", "tmkms.debug=", "tmkms.debug=2",
        "tmkms.debug=01x", "tmkms.debug=yes", "tmkms.debug=\"1\"", "tmkms.Debug=1",
        "tmkms.debug =1", "tmkms.debugger=1", "tmkms.parent_cid=0", "tmkms.parent_cid=-1",
        "tmkms.parent_cid=4294967295", "tmkms.parent_cid=0x3", "tmkms.port=0",
        "tmkms.port=4294967295", "tmkms.port=18446744073709551617", "tmkms.port= 5",
        "tmkms.port=5050 tmkms.port=x", "tmkms.root=/tmp"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        c = defaults;
        c.port = 1;
        if (parse(bad[i]))
            fail_msg("'%s' was taken", bad[i]);
        assert_contains(err.text, "the kernel's command line says tmkms.");
        assert_int_equal(c.port, 1); /* left as it was */
    }
}

static void file_below_a_root(void **state)
{
    (void)state;
    char root[] = "/tmp/tmkms-test-cmdline-XXXXXX", path[64];
    assert_non_null(mkdtemp(root));
    assert_false(cmdline_read(&c, root, &err));
    assert_contains(err.text, "cannot open /proc/cmdline");
    snprintf(path, sizeof path, "%s/proc", root);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/proc/cmdline", root);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("quiet tmkms.port=9\n", f);
    fclose(f);
    assert_true(cmdline_read(&c, root, &err));
    assert_int_equal(c.port, 9);
    f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i <= CMDLINE_MAX; i++)
        fputc('a', f);
    fclose(f);
    assert_false(cmdline_read(&c, root, &err));
    assert_contains(err.text, "longer than");
    unlink(path);
    *strrchr(path, '/') = '\0';
    rmdir(path);
    rmdir(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_without_ours),
        cmocka_unit_test(what_is_ours),
        cmocka_unit_test(the_last_one_counts),
        cmocka_unit_test(what_only_looks_like_ours),
        cmocka_unit_test(refused),
        cmocka_unit_test(file_below_a_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
