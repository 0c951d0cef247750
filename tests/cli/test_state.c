/* tmkms state: init, show, import, export, repair, as an operator uses them. */
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <jansson.h>

#include "run.h"

#define PUBKEY "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
#define PUBKEY_UPPER "0102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F20"
#define OTHER_PUBKEY "2102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
/* The flags that name a file by hand. */
#define TARGET "--state-file", "s.json", "--chain", "c-1", "--pubkey", PUBKEY
#define STATE(...) RUN_IN(&r, folder, "state", __VA_ARGS__)
#define DONE(...)                                                                                  \
    do {                                                                                           \
        STATE(__VA_ARGS__);                                                                        \
        if (r.exit_code != 0)                                                                      \
            fail_msg("exit %d: %s", r.exit_code, r.err);                                           \
    } while (0)
#define FAILS(word, ...)                                                                           \
    do {                                                                                           \
        STATE(__VA_ARGS__);                                                                        \
        assert_int_equal(r.exit_code, 1);                                                          \
        assert_contains(r.err, word);                                                              \
    } while (0)

static struct run_result r;
static char folder[] = "/tmp/tmkms-state-XXXXXX";

static int open_in_folder(const char *name, int how)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, how | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

static void put(const char *name, const char *text)
{
    int fd = open_in_folder(name, O_WRONLY | O_CREAT | O_TRUNC);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void forget(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

static void fresh(const char *height)
{
    forget("s.json");
    DONE("init", TARGET, "--height", height);
}

static void rot(off_t at)
{
    int fd = open_in_folder("s.json", O_WRONLY);
    assert_int_equal(pwrite(fd, "?", 1, at), 1);
    close(fd);
}

/* "floor/burns_first/slot slot" of `state show --json`. */
static const char *shown(void)
{
    static char text[256];
    DONE("show", "--state-file", "s.json", "--json");
    json_t *root = json_loads(r.out, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    const json_t *slots = json_object_get(root, "slots");
    snprintf(text, sizeof text, "%s/%d/%s %s", json_string_value(json_object_get(root, "floor")),
        json_is_true(json_object_get(root, "burns_first")),
        json_string_value(json_array_get(slots, 0)), json_string_value(json_array_get(slots, 1)));
    json_decref(root);
    return text;
}

/* ---- init and show ------------------------------------------------------------------ */

static void init_makes_a_state_once(void **state)
{
    (void)state;
    struct stat st;
    char path[128];
    forget("s.json");
    DONE("init", TARGET);
    assert_contains(r.err, "Created state file s.json for chain c-1: nothing was signed yet");
    assert_string_equal(shown(), "0/0/valid valid");
    snprintf(path, sizeof path, "%s/s.json", folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    FAILS("exists already", "init", TARGET, "--height", "7");
    assert_string_equal(shown(), "0/0/valid valid");
    fresh("7");
    assert_contains(r.err, "signs above height 7");
    assert_string_equal(shown(), "7/0/valid valid");
}

static void show_is_for_people_too(void **state)
{
    (void)state;
    fresh("7");
    DONE("show", "--state-file", "s.json");
    assert_contains(r.out, "chain:       c-1\n");
    assert_contains(r.out, "public key:  ed25519 010203");
    assert_contains(r.out, "signs above height 7");
    assert_string_equal(r.err, "");
    FAILS(
        "belongs to the chain c-1, not to c-2", "show", "--state-file", "s.json", "--chain", "c-2");
    FAILS("belongs to the public key", "show", "--state-file", "s.json", "--pubkey", OTHER_PUBKEY);
    FAILS("tmkms state init", "show", "--state-file", "missing");
}

/* A signer holds the lock: looking is allowed, nothing else, and the refusal says why. */
static void a_running_signer_is_left_alone(void **state)
{
    (void)state;
    fresh("7");
    put("comet.json", "{\"height\":\"36\",\"round\":0,\"step\":3}");
    int fd = open_in_folder("s.json", O_RDWR);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    assert_string_equal(shown(), "7/0/valid valid");
    FAILS("in use by", "import", TARGET, "comet.json");
    FAILS("in use by", "export", "--state-file", "s.json");
    FAILS("in use by", "repair", TARGET, "--height", "50");
    FAILS("exists already", "init", TARGET);
    close(fd);
    assert_string_equal(shown(), "7/0/valid valid");
}

/* ---- import and export ---------------------------------------------------------------- */

static void import_burns_the_height_of_foreign_files(void **state)
{
    (void)state;
    put("comet.json", "{\"height\":\"36\",\"round\":0,\"step\":3}");
    put("rust.json", "{\"height\":\"40\",\"round\":\"0\",\"step\":1,\"block_id\":null}");
    forget("s.json");
    DONE("import", TARGET, "comet.json");
    assert_contains(r.err, "Created state file s.json for chain c-1: signs above height 36");
    assert_string_equal(shown(), "36/0/valid valid");
    DONE("import", TARGET, "rust.json");
    assert_contains(r.err, "Imported state file s.json for chain c-1: signs above height 40");
    assert_string_equal(shown(), "40/0/valid valid");
    FAILS(
        "\"round\" is not a number in quotes", "import", TARGET, "--format", "tmkms", "comet.json");
    FAILS("cannot open", "import", TARGET, "missing.json");
}

static void import_never_lowers_without_force(void **state)
{
    (void)state;
    put("rust.json", "{\"height\":\"30\",\"round\":\"0\",\"step\":1,\"block_id\":null}");
    fresh("36");
    FAILS("would lower", "import", TARGET, "rust.json");
    assert_contains(r.err, "36");
    assert_string_equal(shown(), "36/0/valid valid");
    DONE("import", TARGET, "--force", "rust.json");
    assert_contains(r.err, "is lowered: from signs above height 36, to signs above height 30");
    assert_string_equal(shown(), "30/0/valid valid");
}

static void import_leaves_damaged_and_foreign_targets_alone(void **state)
{
    (void)state;
    put("comet.json", "{\"height\":\"36\",\"round\":0,\"step\":3}");
    fresh("7");
    rot(100);
    FAILS("tmkms state repair", "import", TARGET, "comet.json");
    put("s.json", "{\"height\":\"30\",\"round\":\"0\",\"step\":1,\"block_id\":null}");
    FAILS("move it aside", "import", TARGET, "comet.json");
    FAILS("move it aside", "repair", TARGET, "--height", "50");
    fresh("7");
    FAILS("belongs to the chain c-1, not to c-2", "import", "--state-file", "s.json", "--chain",
        "c-2", "--pubkey", PUBKEY, "comet.json");
}

static void export_and_import_keep_everything(void **state)
{
    (void)state;
    fresh("7");
    rot(100);
    FAILS("tmkms state repair", "export", "--state-file", "s.json");
    DONE("repair", TARGET);
    assert_string_equal(shown(), "7/1/valid valid");
    DONE("export", "--state-file", "s.json");
    put("export.json", r.out);
    assert_contains(r.err, "only one of the two may sign");
    FAILS("a height to give up", "export", "--state-file", "s.json", "--format", "cometbft");
    forget("s.json");
    DONE("import", TARGET, "export.json");
    assert_string_equal(shown(), "7/1/valid valid"); /* the height that is owed comes along */
    FAILS("belongs to another public key", "import", "--state-file", "new.json", "--chain", "c-1",
        "--pubkey", OTHER_PUBKEY, "export.json");
    FAILS("belongs to the chain c-1", "import", "--state-file", "new.json", "--chain", "c-2",
        "--pubkey", PUBKEY, "export.json");
}

static void exports_for_other_signers_burn_the_height(void **state)
{
    (void)state;
    fresh("7");
    DONE("export", "--state-file", "s.json", "--format", "cometbft");
    assert_contains(r.out, "\"height\": \"7\"");
    put("comet.json", r.out);
    DONE("export", "--state-file", "s.json", "--format", "tmkms");
    assert_contains(r.out, "\"height\":\"7\"");
    put("rust.json", r.out);
    DONE("import", TARGET, "comet.json");
    DONE("import", TARGET, "rust.json");
    assert_string_equal(shown(), "7/0/valid valid");
}

/* ---- repair ----------------------------------------------------------------------------- */

static void repair_of_one_slot_still_owes_a_height(void **state)
{
    (void)state;
    fresh("7");
    rot(4096 + 100);
    assert_string_equal(shown(), "7/1/valid damaged");
    DONE("repair", "--state-file", "s.json");
    assert_contains(r.err, "slot 1 of s.json is damaged");
    assert_contains(r.err, "signs above height 7, and not the first height asked for");
    assert_string_equal(shown(), "7/1/valid valid");
    DONE("repair", "--state-file", "s.json", "--height", "20");
    assert_string_equal(shown(), "20/0/valid valid");
    DONE("repair", "--state-file", "s.json");
    assert_contains(r.err, "nothing to repair");
}

static void repair_never_lowers(void **state)
{
    (void)state;
    fresh("20");
    FAILS("never lowers", "repair", "--state-file", "s.json", "--height", "19");
    rot(100);
    FAILS("never lowers", "repair", "--state-file", "s.json", "--height", "19");
    assert_string_equal(shown(), "20/1/damaged valid");
}

static void repair_of_nothing_needs_a_height(void **state)
{
    (void)state;
    static const int sizes[] = {0, 100, 4096, 8192, 9000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        forget("s.json");
        int fd = open_in_folder("s.json", O_RDWR | O_CREAT);
        assert_int_equal(ftruncate(fd, sizes[i]), 0);
        close(fd);
        FAILS("say whose it is", "repair", "--state-file", "s.json", "--height", "50");
        FAILS("--height", "repair", TARGET);
        DONE("repair", TARGET, "--height", "50");
        assert_string_equal(shown(), "50/0/valid valid");
    }
}

/* The beginning of a state file is no other program's file. */
static void a_cut_file_is_damage(void **state)
{
    (void)state;
    static const int sizes[] = {1, 5, 13, 14, 200, 4000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        fresh("7");
        int fd = open_in_folder("s.json", O_RDWR);
        assert_int_equal(ftruncate(fd, sizes[i]), 0);
        close(fd);
        FAILS("is cut short", "show", TARGET);
        assert_contains(r.err,
            "`tmkms state repair --state-file s.json --chain c-1 --pubkey " PUBKEY
            " --height H`");
        assert_contains(r.err, "at least two above the latest committed height");
        DONE("repair", TARGET, "--height", "50");
        assert_string_equal(shown(), "50/0/valid valid");
    }
    put("s.json", "{\"some\":1}");
    FAILS("is not a state file of this program", "repair", TARGET, "--height", "50");
    assert_contains(r.err, "`mv s.json s.json.old`");
}

/* The command that a message names does what the message says. */
static void commands_in_messages_are_complete(void **state)
{
    (void)state;
    FAILS("`tmkms state init --state-file none.json --chain c-1 --pubkey " PUBKEY "`", "show",
        "--state-file", "none.json", "--chain", "c-1", "--pubkey", PUBKEY);
    fresh("7");
    rot(100);
    FAILS("`tmkms state repair --state-file s.json --chain c-1 --pubkey " PUBKEY "`", "export",
        TARGET);
    RUN_IN(&r, folder, "state", "init", "--state-file", "no/such/s.json", "--chain", "c-1",
        "--pubkey", PUBKEY);
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "there is no folder no/such (`mkdir -p no/such` makes it)");
}

static void repair_mends_the_size(void **state)
{
    (void)state;
    static const int sizes[] = {4096, 5000, 8191, 8193, 20000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        fresh("7");
        int fd = open_in_folder("s.json", O_RDWR);
        assert_int_equal(ftruncate(fd, sizes[i]), 0);
        close(fd);
        FAILS("instead of 8192", "show", "--state-file", "s.json");
        DONE("repair", "--state-file", "s.json");
        assert_string_equal(shown(), "7/1/valid valid");
    }
}

/* ---- with a configuration ---------------------------------------------------------------- */

static void write_config(void)
{
    forget("a.json");
    forget("b.json");
    put("tmkms.toml",
        "[[chain]]\nid = \"a-1\"\nkey_format = { type = \"hex\" }\nstate_file = \"a.json\"\n"
        "[[chain]]\nid = \"b-1\"\nkey_format = { type = \"hex\" }\nstate_file = \"b.json\"\n"
        "[[providers.softsign]]\nchain_ids = [\"a-1\", \"b-1\"]\npath = \"k.key\"\n"
        "[[validator]]\nchain_id = \"a-1\"\naddr = \"unix://a.sock\"\n"
        "[[validator]]\nchain_id = \"b-1\"\naddr = \"unix://b.sock\"\n");
    forget("k.key");
    RUN_IN(&r, folder, "softsign", "keygen", "k.key");
    assert_int_equal(r.exit_code, 0);
}

static void the_configuration_names_file_and_key(void **state)
{
    (void)state;
    write_config();
    DONE("init", "--chain", "b-1", "--height", "5");
    FAILS("a.json", "show", "-c", "tmkms.toml");
    assert_contains(r.out, "chain:       b-1");
    FAILS("b.json exists already", "init"); /* and a-1 is made nevertheless */
    DONE("show");
    assert_contains(r.out, "chain:       a-1");
    FAILS("say which with --chain", "export");
    DONE("export", "b-1");
    FAILS("no chain c-1", "show", "--chain", "c-1");
}

/* The lines that may be missing, each at its place. */
static void write_enclave_config(const char *state_file, const char *public_key)
{
    char text[1024];
    snprintf(text, sizeof text,
        "[[chain]]\nid = \"a-1\"\nkey_format = { type = \"hex\" }\nstate_vsock_port = 6666\n%s%s"
        "[[providers.softsign]]\nchain_ids = [\"a-1\"]\nencrypted_key_b64 = \"AAAA\"\n"
        "aws_region = \"eu-west-1\"\n"
        "[[validator]]\nchain_id = \"a-1\"\naddr = { port = 5555 }\n",
        state_file, public_key);
    put("tmkms.toml", text);
}

static void the_parent_of_an_enclave_has_its_file_in_the_configuration(void **state)
{
    (void)state;
    static const char file[] = "state_file = \"a.json\"\n";
    forget("a.json");
    write_enclave_config("", "public_key = \"" PUBKEY "\"\n");
    FAILS("write state_file beside state_vsock_port", "init");
    write_enclave_config(file, "");
    FAILS("write public_key", "init");
    write_enclave_config(file, "public_key = \"" PUBKEY "\"\n");
    DONE("init", "--height", "7");
    write_enclave_config(file, ""); /* the file says whose it is */
    DONE("show");
    assert_contains(r.out, "chain:       a-1");
    assert_contains(r.out, PUBKEY_UPPER);
    write_enclave_config(file, "public_key = \"" OTHER_PUBKEY "\"\n");
    STATE("show");
    assert_int_equal(r.exit_code, 1);
}

static void wrong_usage_exits_with_2(void **state)
{
    (void)state;
    static const char *const wrong[][9] = {
        {"state", "init", "--bogus"},
        {"state", "bogus"},
        {"state", "init", "--height", "-1"},
        {"state", "init", "--height", "12x"},
        {"state", "init", "--height", "9223372036854775808"},
        {"state", "init", "--state-file", "s.json"},
        {"state", "init", "--key", "k"},
        {"state", "import"},
        {"state", "import", "a", "b", "c"},
        {"state", "import", "--format", "bogus", "a"},
        {"state", "export", "--format", "bogus"},
        {"state", "show", "--state-file", "s.json", "-c", "tmkms.toml"},
        {"state", "init", "--state-file", "s.json", "--chain", "bad chain", "--pubkey", PUBKEY},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *argv[11] = {TMKMS_BINARY};
        memcpy(argv + 1, wrong[i], sizeof wrong[i]);
        run_in(&r, folder, argv);
        if (r.exit_code != 2)
            fail_msg("row %zu: exit %d", i, r.exit_code);
        assert_contains(r.err, "--help");
    }
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const names[] = {"s.json", "comet.json", "rust.json", "export.json",
        "a.json", "b.json", "k.key", "tmkms.toml"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        forget(names[i]);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_makes_a_state_once),
        cmocka_unit_test(show_is_for_people_too),
        cmocka_unit_test(a_running_signer_is_left_alone),
        cmocka_unit_test(import_burns_the_height_of_foreign_files),
        cmocka_unit_test(import_never_lowers_without_force),
        cmocka_unit_test(import_leaves_damaged_and_foreign_targets_alone),
        cmocka_unit_test(export_and_import_keep_everything),
        cmocka_unit_test(exports_for_other_signers_burn_the_height),
        cmocka_unit_test(repair_of_one_slot_still_owes_a_height),
        cmocka_unit_test(repair_never_lowers),
        cmocka_unit_test(repair_of_nothing_needs_a_height),
        cmocka_unit_test(a_cut_file_is_damage),
        cmocka_unit_test(commands_in_messages_are_complete),
        cmocka_unit_test(repair_mends_the_size),
        cmocka_unit_test(the_configuration_names_file_and_key),
        cmocka_unit_test(the_parent_of_an_enclave_has_its_file_in_the_configuration),
        cmocka_unit_test(wrong_usage_exits_with_2),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
