/* tmkms init: what it makes parses, and what exists survives. */
#include <stdlib.h>
#include <sys/stat.h>

#include "config/config.h"
#include "crypto/encode.h"
#include "run.h"

static struct run_result r;
static char dir[64];

static int enter(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/tmkms-init-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int leave(void **state)
{
    (void)state;
    const char *const rm[] = {"/bin/rm", "-rf", dir, NULL};
    run_in(&r, NULL, rm);
    return r.exit_code;
}

static const char *in_dir(const char *name)
{
    static char path[4][128];
    static unsigned next;
    char *out = path[next++ % 4];
    snprintf(out, sizeof *path, "%s/%s", dir, name);
    return out;
}

static size_t read_file(const char *path, char *out, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t n = read(fd, out, cap - 1);
    assert_true(n > 0);
    out[n] = '\0';
    close(fd);
    return (size_t)n;
}

static void every_network_makes_a_config_that_we_read(void **state)
{
    (void)state;
    static const char *const names[] = {"cosmoshub", "irishub", "sentinelhub", "osmosis", "core"};
    RUN(&r, "init", "-n", "cosmoshub,irishub,sentinelhub,osmosis,core", in_dir("kms"));
    assert_int_equal(r.exit_code, 0);
    assert_contains(r.err, "    Creating ");
    assert_contains(r.err, "   Generated KMS configuration: ");
    assert_contains(r.err, "   Generated Secret Connection key: ");
    assert_contains(r.out, "tmkms state init -c ");
    struct config config;
    struct problems problems = {0};
    bool ok = config_read(&config, in_dir("kms/tmkms.toml"), &problems);
    for (size_t i = 0; i < problems.n; i++)
        print_message("%s\n", problems.list[i].text);
    assert_true(ok);
    assert_int_equal(problems.n, 0);
    assert_int_equal(config.chains_n, 5);
    assert_int_equal(config.validators_n, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_memory_equal(config.chains[i].id, names[i], strlen(names[i]));
        assert_string_equal(config.validators[i].chain_id, config.chains[i].id);
        assert_string_equal(
            config.validators[i].secret_key, in_dir("kms/secrets/kms-identity.key"));
        assert_memory_equal(
            config.chains[i].state_file, in_dir("kms/state/"), strlen(in_dir("kms/state/")));
    }
    assert_string_equal(config.chains[0].consensus_prefix, "cosmosvalconspub");
    config_free(&config);
}

static void the_template_for_an_enclave_is_one(void **state)
{
    (void)state;
    RUN(&r, "init", "--nitro", "-n", "cosmoshub,irishub,sentinelhub,osmosis,core", in_dir("kms"));
    assert_int_equal(r.exit_code, 0);
    assert_contains(r.out, "tmkms nitro run -c ");
    assert_null(strstr(r.err, "Secret Connection"));
    assert_int_equal(access(in_dir("kms/secrets/kms-identity.key"), F_OK), -1);
    struct config config;
    struct problems problems = {0};
    assert_true(config_read(&config, in_dir("kms/tmkms.toml"), &problems));
    assert_int_equal(problems.n, 0);
    assert_int_equal(config.chains_n, 5);
    assert_int_equal(config_use(&config), CONFIG_ENCLAVE);
    assert_true(config_check_for(CONFIG_ENCLAVE, &config, "tmkms.toml", &problems));
    assert_int_equal(problems.n, 5); /* the public_key of each chain */
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(config.chains[i].state_port, 6666);
        assert_int_equal(config.validators[i].address.vsock_port, 5555 + i);
        assert_contains(config.chains[i].state_file, "/kms/state/");
    }
    config_free(&config);
    problems_free(&problems);
    RUN(&r, "check", "-c", in_dir("kms/tmkms.toml"));
    assert_int_equal(r.exit_code, 0);
    assert_contains(r.out, "cosmoshub-4: 1 validator, for an enclave: state on vsock port 6666, "
                           "expected key not said");
    assert_contains(r.err, "public_key: is missing");
    RUN(&r, "start", "-c", in_dir("kms/tmkms.toml"));
    assert_int_equal(r.exit_code, 1);
    char all[sizeof r.out + sizeof r.err];
    snprintf(all, sizeof all, "%s%s", r.out, r.err);
    assert_contains(all, "encrypted_key_b64: is for the enclave (`tmkms nitro`)");
    RUN(&r, "pubkey", "-c", in_dir("kms/tmkms.toml"));
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "its key is sealed");
}

static void secrets_are_for_the_owner_only(void **state)
{
    (void)state;
    struct stat st;
    RUN(&r, "init", dir);
    assert_int_equal(r.exit_code, 0);
    assert_int_equal(stat(in_dir("secrets"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(stat(in_dir("state"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(stat(in_dir("secrets/kms-identity.key"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    char text[128];
    uint8_t seed[64];
    size_t n = read_file(in_dir("secrets/kms-identity.key"), text, sizeof text);
    assert_int_equal(n, 44);
    assert_true(base64_decode(bytes_of(text, n), seed, sizeof seed, &n));
    assert_int_equal(n, 32);
}

static void what_exists_is_replaced_by_force_only(void **state)
{
    (void)state;
    static char config[2][16384], key[3][128];
    RUN(&r, "init", dir);
    assert_int_equal(r.exit_code, 0);
    read_file(in_dir("tmkms.toml"), config[0], sizeof config[0]);
    read_file(in_dir("secrets/kms-identity.key"), key[0], sizeof key[0]);
    RUN(&r, "init", "-n", "osmosis", dir);
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "exists already and is left as it is; `--force`");
    read_file(in_dir("tmkms.toml"), config[1], sizeof config[1]);
    assert_string_equal(config[0], config[1]);
    unlink(in_dir("tmkms.toml"));
    RUN(&r, "init", "-n", "osmosis", dir);
    assert_int_equal(r.exit_code, 0);
    assert_contains(r.err, "     Keeping Secret Connection key");
    read_file(in_dir("secrets/kms-identity.key"), key[1], sizeof key[1]);
    assert_string_equal(key[0], key[1]);
    RUN(&r, "init", "--force", dir);
    assert_int_equal(r.exit_code, 0);
    read_file(in_dir("secrets/kms-identity.key"), key[2], sizeof key[2]);
    assert_string_not_equal(key[0], key[2]);
}

static void bad_requests_make_nothing(void **state)
{
    (void)state;
    RUN(&r, "init");
    assert_int_equal(r.exit_code, 1);
    RUN(&r, "init", in_dir("a"), in_dir("b"));
    assert_int_equal(r.exit_code, 1);
    RUN(&r, "init", "-n", "cosmoshub,nohub", in_dir("a"));
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "error: unknown CometBFT network: `nohub`");
    assert_contains(r.err, "- sentinelhub");
    RUN(&r, "init", "-n", "core,core", in_dir("a"));
    assert_int_equal(r.exit_code, 1);
    RUN(&r, "init", "-n", "", in_dir("a"));
    assert_int_equal(r.exit_code, 1);
    assert_int_equal(access(in_dir("a"), F_OK), -1);
    RUN(&r, "init", in_dir("none/a"));
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "No such file or directory");
    RUN(&r, "init", "--network", "core", "-n");
    assert_int_equal(r.exit_code, 2);
    RUN(&r, "init", in_dir("quote\"d"));
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "choose another folder");
    assert_int_equal(access(in_dir("quote\"d"), F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_network_makes_a_config_that_we_read, enter, leave),
        cmocka_unit_test_setup_teardown(the_template_for_an_enclave_is_one, enter, leave),
        cmocka_unit_test_setup_teardown(secrets_are_for_the_owner_only, enter, leave),
        cmocka_unit_test_setup_teardown(what_exists_is_replaced_by_force_only, enter, leave),
        cmocka_unit_test_setup_teardown(bad_requests_make_nothing, enter, leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
