/* The run folder among people who would like to have something of ours removed or written elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "folder.h"
#include "parent/kept.h"
#include "run.h"

enum { NOBODY = 65534 };

static char base[64];

static const char *in(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", base, name);
    return path;
}

static void make(const char *name, mode_t mode)
{
    assert_int_equal(mkdir(in(name), 0700), 0);
    assert_int_equal(chmod(in(name), mode), 0);
}

static void write_to(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void give_away(const char *name)
{
    assert_int_equal(lchown(in(name), NOBODY, NOBODY), 0);
}

static void use(const char *name)
{
    setenv("TMKMS_RUN_DIR", in(name), 1);
}

/* Every case has a folder of somebody else's, with something in it that must stay. */
static int setup(void **state)
{
    (void)state;
    snprintf(base, sizeof base, "/tmp/tmkms-test-kept-XXXXXX");
    assert_non_null(mkdtemp(base));
    make("victim", 0755);
    make("victim/tmkms", 0755);
    write_to(in("victim/precious"), "x");
    write_to(in("victim/tmkms/precious"), "x");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    assert_int_equal(access(in("victim/precious"), F_OK), 0);
    assert_int_equal(access(in("victim/tmkms/precious"), F_OK), 0);
    assert_int_equal(folder_count(in("victim")), 2);
    assert_int_equal(folder_count(in("victim/tmkms")), 1);
    snprintf(command, sizeof command, "rm -rf '%s'", base);
    assert_int_equal(system(command), 0);
    unsetenv("TMKMS_RUN_DIR");
    return 0;
}

static void assert_refused(const char *words)
{
    struct kept k;
    struct err err = {.text = ""};
    if (kept_take(&k, "tmkms", &err))
        fail_msg("%s is taken", k.folder);
    assert_contains(err.text, words);
    kept_clean("tmkms");
}

static size_t listed(struct kept_seen seen[KEPT_MAX])
{
    size_t n = 99;
    struct err err;
    if (!kept_list(seen, &n, &err))
        fail_msg("%s", err.text);
    return n;
}

static void it_is_made_and_removed(void **state)
{
    (void)state;
    static struct kept_seen seen[KEPT_MAX];
    struct kept k;
    struct err err;
    struct stat st;
    use("run");
    assert_int_equal(listed(seen), 0);
    assert_true(access(in("run"), F_OK) != 0); /* looking makes nothing */
    assert_true(kept_take(&k, "tmkms", &err));
    assert_string_equal(k.folder, in("run/tmkms"));
    assert_int_equal(stat(in("run/tmkms"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    kept_leave(&k);
    write_to(in("run/tmkms/old"), "x");
    assert_true(kept_take(&k, "tmkms", &err));
    assert_int_equal(folder_count(in("run/tmkms")), 1);
    kept_remove(&k);
    assert_int_equal(folder_count(in("run")), 0);
}

static void what_others_may_write_to_is_refused(void **state)
{
    (void)state;
    make("pub", 0777);
    assert_int_equal(symlink(in("victim"), in("pub/tmkms")), 0);
    use("pub");
    assert_refused("others may write to the folder");
    use("pub/run"); /* which somebody can move away and replace */
    assert_refused("others may write to");
    make("group", 0770);
    use("group");
    assert_refused("others may write to the folder");
    make("run", 0755);
    make("run/tmkms", 0770);
    write_to(in("run/tmkms/file"), "x");
    use("run");
    assert_refused("others may write to the folder tmkms");
    assert_int_equal(access(in("run/tmkms/file"), F_OK), 0);
    make("sticky", 01777);
    use("sticky/run"); /* as in /tmp: what is ours there stays ours */
    struct kept k;
    struct err err;
    assert_true(kept_take(&k, "tmkms", &err));
    kept_remove(&k);
}

static void links_are_not_followed(void **state)
{
    (void)state;
    static struct kept_seen seen[KEPT_MAX];
    assert_int_equal(symlink(in("victim"), in("link")), 0);
    use("link");
    assert_refused("is no folder");
    use("link//");
    assert_refused("is no folder");
    make("run", 0755);
    assert_int_equal(symlink(in("victim"), in("run/tmkms")), 0);
    use("run");
    assert_refused("tmkms is no folder");
    assert_int_equal(unlink(in("run/tmkms")), 0);
    make("run/tmkms", 0700);
    write_to(in("record"), "{}");
    assert_int_equal(symlink(in("record"), in("run/tmkms/record.json")), 0);
    assert_int_equal(symlink(in("record"), in("run/tmkms/lock")), 0);
    assert_int_equal(listed(seen), 0);
    struct kept k;
    struct err err;
    assert_false(kept_take(&k, "tmkms", &err));
    assert_int_equal(unlink(in("run/tmkms/lock")), 0);
    assert_int_equal(unlink(in("run/tmkms/record.json")), 0);
    assert_int_equal(mkfifo(in("run/tmkms/record.json"), 0600), 0); /* nobody writes into it */
    assert_int_equal(listed(seen), 0);
}

/* A link of our own on the way is one that we meant; what is used then is the folder behind it. */
static void a_link_of_ours_on_the_way_is_resolved(void **state)
{
    (void)state;
    char path[MACHINE_PATH_MAX];
    struct err err;
    make("far", 0755);
    assert_int_equal(symlink(in("far"), in("near")), 0);
    use("near/run");
    if (!kept_run_folder(path, &err))
        fail_msg("%s", err.text);
    assert_string_equal(path, in("far/run"));
    make("pub", 0777);
    assert_int_equal(symlink(in("pub"), in("short")), 0);
    use("short/run");
    assert_refused("others may write to");
}

static void what_belongs_to_others_is_refused(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    make("sticky", 01777);
    make("sticky/run", 0755);
    give_away("sticky/run");
    use("sticky/run");
    assert_refused("belongs to user 65534");
    assert_int_equal(symlink(in("victim"), in("sticky/link")), 0);
    give_away("sticky/link");
    use("sticky/link/tmkms");
    assert_refused("belongs to user 65534");
    make("home", 0755);
    give_away("home");
    use("home/run");
    assert_refused("could put something else in place of the run folder");
    make("run", 0755);
    make("run/tmkms", 0700);
    give_away("run/tmkms");
    use("run");
    assert_refused("the folder tmkms belongs to user 65534");
}

/* As root in the folder of the service's user: it is shown, and what is left behind there is removed. */
static void root_looks_after_a_service(void **state)
{
    (void)state;
    static struct kept_seen seen[KEPT_MAX];
    if (geteuid() != 0)
        skip();
    make("run", 0755);
    make("run/tmkms", 0700);
    write_to(in("run/tmkms/record.json"), "{\"State\": \"ENDED\"}");
    give_away("run");
    give_away("run/tmkms");
    use("run");
    assert_int_equal(listed(seen), 1);
    assert_string_equal(seen[0].name, "tmkms");
    assert_int_equal(seen[0].keeper, 0);
    json_decref(seen[0].record);
    kept_clean("tmkms");
    assert_int_equal(folder_count(in("run")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_is_made_and_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(what_others_may_write_to_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(links_are_not_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_link_of_ours_on_the_way_is_resolved, setup, teardown),
        cmocka_unit_test_setup_teardown(what_belongs_to_others_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(root_looks_after_a_service, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
