/* tmkms check: says at once what start would refuse, and what an operator should know. */
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "folder.h"
#include "keyring/keyring.h"
#include "monitor/machine_lock.h"
#include "run.h"
#include "sanitizer.h"
#include "state/journal.h"

static struct run_result r;
static char dir[64];

static const char *in_dir(const char *name)
{
    static char path[8][128];
    static unsigned next;
    char *out = path[next++ % 8];
    snprintf(out, sizeof *path, "%s/%s", dir, name);
    return out;
}

static void write_file(const char *name, const char *text, mode_t mode)
{
    int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

/* Two chains, a unix and a tcp node. */
static const char config[] =
    "[[chain]]\nid = \"hub\"\nkey_format = { type = \"hex\" }\nstate_file = \"hub.json\"\n"
    "[[chain]]\nid = \"zone\"\nkey_format = { type = \"bech32\", account_key_prefix = \"a\", "
    "consensus_key_prefix = \"zonevalconspub\" }\nstate_file = \"zone.json\"\n"
    "[[validator]]\nchain_id = \"hub\"\naddr = \"unix://node.sock\"\n"
    "[[validator]]\nchain_id = \"zone\"\naddr = \"tcp://127.0.0.1:1\"\nsecret_key = "
    "\"identity.key\"\n"
    "[[providers.softsign]]\nchain_ids = [\"hub\"]\npath = \"hub.key\"\n"
    "[[providers.softsign]]\nchain_ids = [\"zone\"]\nkey_type = \"account\"\npath = \"zone.key\"\n";

static void make_state(
    const char *name, const char *chain_id, const char *key_file, enum key_type type)
{
    struct signing_key *key;
    struct err warning, err = {0};
    if (!keyring_load(&key, in_dir(key_file), type, KEY_FILE_BASE64, &warning, &err))
        fail_msg("%s", err.text);
    struct record rec = {.key = *signing_key_public(key), .mark.floor = 41};
    snprintf(rec.chain_id, sizeof rec.chain_id, "%s", chain_id);
    signing_key_free(key);
    unlink(in_dir(name));
    if (!journal_create(in_dir(name), &rec, &err))
        fail_msg("%s", err.text);
}

/* Everything that start wants. */
static int enter(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/tmkms-check-XXXXXX");
    assert_non_null(mkdtemp(dir));
    char text[2048];
    snprintf(text, sizeof text, "%s", config);
    write_file("tmkms.toml", text, 0600);
    /* 32 bytes each, none of them equal */
    write_file("hub.key", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", 0600);
    write_file("zone.key", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=", 0600);
    write_file("identity.key", "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=", 0600);
    make_state("hub.json", "hub", "hub.key", KEY_ED25519);
    make_state("zone.json", "zone", "zone.key", KEY_SECP256K1);
    return 0;
}

static int leave(void **state)
{
    (void)state;
    folder_remove(dir);
    return 0;
}

static void check(int exit_code)
{
    RUN_IN(&r, dir, "check");
    if (r.exit_code != exit_code)
        fail_msg("exit code %d\n%s%s", r.exit_code, r.out, r.err);
    if (exit_code != 0)
        assert_string_equal(r.out, "");
    else
        assert_memory_equal(r.out, "ok: tmkms.toml: 2 chains, 2 validators", 38);
}

static void a_good_setup_is_ok_and_shows_the_keys(void **state)
{
    (void)state;
    check(0);
    assert_string_equal(r.err, "");
    assert_contains(r.out, ", 0 warnings\n");
    assert_contains(r.out, "  hub: 1 validator, nothing signed above height 41, ed25519 key "
                           "8A88E3DD7409F195FD52DB2D3CBA5D72CA6709BF1D94121BF3748801B40F6F5C\n");
    assert_contains(r.out, "secp256k1 key zonevalconspub1");
}

static void everything_missing_comes_at_once(void **state)
{
    (void)state;
    static const char *const names[] = {
        "hub.key", "zone.key", "identity.key", "hub.json", "zone.json"};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(unlink(in_dir(names[i])), 0);
    check(1);
    assert_contains(r.err,
        "error: tmkms.toml: [[providers.softsign]] \"hub.key\": path: there is no such "
        "file; make a key with `tmkms softsign keygen -t consensus hub.key`");
    assert_contains(r.err, "`tmkms softsign keygen -t account zone.key`");
    assert_contains(r.err,
        "[[validator]] \"tcp://127.0.0.1:1\": secret_key: there is no file identity.key; make "
        "an identity key with `tmkms softsign keygen -t consensus identity.key`");
    assert_contains(r.err, "[[chain]] \"hub\": state_file: hub.json is missing; for a key that has "
                           "signed nothing yet make "
                           "it with `tmkms state init -c tmkms.toml --chain hub`");
    assert_contains(r.err, "[[chain]] \"zone\": state_file: zone.json is missing");
    assert_contains(r.err, "5 problems\n");
}

static void a_bad_config_is_told(void **state)
{
    (void)state;
    write_file("tmkms.toml", "colour = 1\n[[chain]]\nid = 5\n", 0600);
    check(1);
    assert_contains(r.err, "error: tmkms.toml:1: colour: unknown key");
    assert_contains(
        r.err, "error: tmkms.toml:3: [[chain]] number 1: id: is an integer; write a string");
    RUN_IN(&r, dir, "check", "-c", "none.toml");
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "none.toml: cannot be opened: No such file or directory");
    RUN_IN(&r, dir, "check", "none.toml");
    assert_int_equal(r.exit_code, 2);
}

static void errors_of_the_config_do_not_hide_the_files(void **state)
{
    (void)state;
    char text[sizeof config + 64];
    snprintf(text, sizeof text, "colour = 1\n%s", config);
    write_file("tmkms.toml", text, 0600);
    assert_int_equal(unlink(in_dir("hub.key")), 0);
    assert_int_equal(unlink(in_dir("zone.json")), 0);
    check(1);
    assert_contains(r.err, "error: tmkms.toml:1: colour: unknown key");
    assert_contains(r.err, "[[providers.softsign]] \"hub.key\": path: there is no such file");
    assert_contains(r.err, "[[chain]] \"zone\": state_file: zone.json is missing");
    assert_contains(r.err, "3 problems\n");
}

static void foreign_states_and_keys_are_refused(void **state)
{
    (void)state;
    make_state("hub.json", "hub", "identity.key", KEY_ED25519);
    check(1);
    assert_contains(
        r.err, "[[chain]] \"hub\": state_file: the state file hub.json belongs to the public key");
    make_state("hub.json", "other", "hub.key", KEY_ED25519);
    check(1);
    assert_contains(r.err, "belongs to the chain other, not to hub");
    write_file("hub.json", "{\"height\":\"5\",\"round\":\"0\",\"step\":1,\"block_id\":null}", 0600);
    check(1);
    assert_contains(r.err, "tmkms state import");
    make_state("hub.json", "hub", "hub.key", KEY_ED25519);
    unlink(in_dir("zone.json"));
    assert_int_equal(link(in_dir("hub.json"), in_dir("zone.json")), 0);
    check(1);
    assert_contains(r.err, "zone.json is the state file of chain hub under another name");
    make_state("zone.json", "zone", "zone.key", KEY_SECP256K1);
    write_file("hub.key", "not a key", 0600);
    write_file("identity.key", "not a key", 0600);
    check(1);
    assert_contains(
        r.err, "[[providers.softsign]] \"hub.key\": path: key file hub.key: this is not base64");
    assert_contains(r.err,
        "[[validator]] \"tcp://127.0.0.1:1\": secret_key: key file identity.key: this is not");
    assert_contains(r.err, "2 problems\n");
}

static void loose_permissions_are_warned_of(void **state)
{
    (void)state;
    assert_int_equal(chmod(in_dir("hub.key"), 0644), 0);
    assert_int_equal(chmod(in_dir("identity.key"), 0640), 0);
    assert_int_equal(chmod(in_dir("hub.json"), 0666), 0);
    assert_int_equal(chmod(dir, 0777), 0);
    check(0);
    assert_contains(r.err,
        "warning: tmkms.toml: [[providers.softsign]] \"hub.key\": path: key file hub.key: "
        "others can read it");
    assert_contains(r.err, "key file identity.key: others can read it");
    assert_contains(r.err, "others can write to hub.json");
    assert_contains(r.err, "everybody can replace files in .;");
    assert_int_equal(chmod(in_dir("zone.key"), 0622), 0);
    check(1);
    assert_contains(r.err, "key file zone.key: others can write to it");
}

static void a_consensus_key_is_no_identity(void **state)
{
    (void)state;
    write_file("identity.key", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", 0600);
    check(0);
    assert_contains(r.err, "secret_key: identity.key is the consensus key of chain hub");
}

static void hooks_must_be_there(void **state)
{
    (void)state;
    char text[sizeof config + 256];
    snprintf(text, sizeof text,
        "%s[[chain]]\nid = \"c\"\nkey_format = {type = \"hex\"}\n"
        "state_hook = {cmd = [\"./hook\"]}\n",
        config);
    write_file("tmkms.toml", text, 0600);
    /* the chain has no key: a problem of the configuration */
    check(1);
    assert_contains(r.err, "[[chain]] \"c\": no key for this chain");
    snprintf(text, sizeof text, "%s", config);
    char *at = strstr(text, "[[chain]]\nid = \"zone\"");
    char rest[sizeof config];
    snprintf(rest, sizeof rest, "%s", at);
    snprintf(at, sizeof text - (size_t)(at - text), "state_hook = {cmd = [\"./hook\"]}\n%s", rest);
    write_file("tmkms.toml", text, 0600);
    check(1);
    assert_contains(
        r.err, "[[chain]] \"hub\": state_hook: cmd: ./hook cannot be run: No such file");
    write_file("hook", "#!/bin/sh\n", 0700);
    check(0);
}

static void sockets_and_running_signers_are_seen(void **state)
{
    (void)state;
    write_file("node.sock", "", 0600);
    int fd = open(in_dir("hub.json"), O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    check(0);
    assert_contains(r.err, "node.sock is no socket");
    assert_contains(r.err, "hub.json is in use by process");
    close(fd);
    unlink(in_dir("node.sock"));
    check(0);
    assert_string_equal(r.err, "");
}

/* Under a shell, which can lower limits. */
static void check_limited(const char *limits)
{
    char line[512];
    snprintf(line, sizeof line,
        "%s; exec setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock %s check", limits,
        TMKMS_BINARY);
    run_in(&r, dir, (const char *const[]){"/bin/sh", "-c", line, NULL});
}

static void limits_must_suffice(void **state)
{
    (void)state;
    check_limited("true");
    assert_int_equal(r.exit_code, 0);
    check_limited("ulimit -n 100");
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "a process may open 100 files, and tmkms needs");
    /* Only root can take the right to lock memory from itself; ASan makes mlock do nothing. */
    if (geteuid() != 0 || RUNS_UNDER_ASAN)
        return;
    /* enough for either key, not for both */
    check_limited("ulimit -l 8");
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "cannot lock memory for a key (RLIMIT_MEMLOCK is 8192 bytes)");
    check_limited("ulimit -l 32");
    assert_int_equal(r.exit_code, 0);
}

static void a_fifo_is_no_configuration(void **state)
{
    (void)state;
    unlink(in_dir("tmkms.toml"));
    assert_int_equal(mkfifo(in_dir("tmkms.toml"), 0600), 0);
    check(1);
    assert_contains(r.err, "tmkms.toml: is no regular file");
}

/* Any user can take the name: then start is refused, though nobody signs. */
static void a_stolen_lock_is_told(void **state)
{
    (void)state;
    struct signing_key *key;
    struct err warning, err;
    int lock = -1;
    assert_true(
        keyring_load(&key, in_dir("hub.key"), KEY_ED25519, KEY_FILE_BASE64, &warning, &err));
    assert_true(machine_lock_take(&lock, "hub", signing_key_public(key), &err));
    check(1);
    assert_contains(r.err, "[[chain]] \"hub\": id: another tmkms process on this machine");
    assert_contains(r.err, "another user has taken its lock, the socket @tmkms-");
    RUN_IN(&r, dir, "start");
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "another user has taken its lock, the socket @tmkms-");
    close(lock);
    check(0);
    assert_true(
        machine_lock_take(&lock, "hub", signing_key_public(key), &err)); /* check took nothing */
    close(lock);
    signing_key_free(key);
}

static void a_damaged_slot_is_told(void **state)
{
    (void)state;
    int fd = open(in_dir("hub.json"), O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "x", 1, SLOT_SIZE + 20), 1);
    check(0);
    assert_contains(
        r.err, "warning: tmkms.toml: [[chain]] \"hub\": state_file: hub.json lost a record");
    assert_int_equal(pwrite(fd, "x", 1, 20), 1);
    check(1);
    assert_contains(r.err, "the state file hub.json is damaged in both slots");
    close(fd);
}

static void the_parents_files_are_looked_at(void **state)
{
    (void)state;
    static const char form[] =
        "[enclave]\neif = \"no.eif\"\n"
        "[[chain]]\nid = \"hub\"\nkey_format = { type = \"hex\" }\nstate_vsock_port = 6666\n"
        "public_key = \"%s\"\nstate_file = \"hub.json\"\n"
        "[[validator]]\nchain_id = \"hub\"\naddr = { port = 5555 }\nnode = \"tcp://h:1\"\n"
        "[[providers.softsign]]\nchain_ids = [\"hub\"]\nencrypted_key_b64 = \"AQICAHgBAg==\"\n"
        "aws_region = \"eu-west-1\"\n";
    static const char own[] = "8A88E3DD7409F195FD52DB2D3CBA5D72CA6709BF1D94121BF3748801B40F6F5C",
                      other[] = "D75A980182B10AB7D54BFED3C964073A0EE172F3DAA62325AF021A68F707511A";
    char text[1024];
    snprintf(text, sizeof text, form, own);
    write_file("tmkms.toml", text, 0600);
    RUN_IN(&r, dir, "check");
    assert_int_equal(r.exit_code, 0);
    assert_contains(r.err, "warning: tmkms.toml: [enclave]: eif: no.eif cannot be opened here");
    assert_contains(r.out, ", 1 warning\n");
    snprintf(text, sizeof text, form, other);
    write_file("tmkms.toml", text, 0600);
    RUN_IN(&r, dir, "check");
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "error: tmkms.toml: [[chain]] \"hub\": state_file: ");
    assert_int_equal(unlink(in_dir("hub.json")), 0); /* as on the machine of who writes it */
    RUN_IN(&r, dir, "check");
    assert_int_equal(r.exit_code, 0);
    assert_contains(r.err, "hub.json is not on this machine");
}

int main(void)
{
    struct err err;
    if (!crypto_start(&err))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_good_setup_is_ok_and_shows_the_keys, enter, leave),
        cmocka_unit_test_setup_teardown(everything_missing_comes_at_once, enter, leave),
        cmocka_unit_test_setup_teardown(a_bad_config_is_told, enter, leave),
        cmocka_unit_test_setup_teardown(errors_of_the_config_do_not_hide_the_files, enter, leave),
        cmocka_unit_test_setup_teardown(foreign_states_and_keys_are_refused, enter, leave),
        cmocka_unit_test_setup_teardown(loose_permissions_are_warned_of, enter, leave),
        cmocka_unit_test_setup_teardown(a_consensus_key_is_no_identity, enter, leave),
        cmocka_unit_test_setup_teardown(hooks_must_be_there, enter, leave),
        cmocka_unit_test_setup_teardown(sockets_and_running_signers_are_seen, enter, leave),
        cmocka_unit_test_setup_teardown(a_stolen_lock_is_told, enter, leave),
        cmocka_unit_test_setup_teardown(a_damaged_slot_is_told, enter, leave),
        cmocka_unit_test_setup_teardown(the_parents_files_are_looked_at, enter, leave),
        cmocka_unit_test_setup_teardown(limits_must_suffice, enter, leave),
        cmocka_unit_test_setup_teardown(a_fifo_is_no_configuration, enter, leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
