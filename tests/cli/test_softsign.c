/* `tmkms softsign` as an operator runs it. */
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "crypto/encode.h"
#include "folder.h"
#include "keyring/keyring.h"
#include "run.h"
#include "vectors.h"

static struct run_result result;
static char folder[] = "/tmp/tmkms-softsign-XXXXXX";
static struct err err, warning;

static int start(void **state)
{
    (void)state;
    return crypto_start(&err) && mkdtemp(folder) != NULL ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

/* A path in the test's folder; each call has its own buffer, two at a time. */
static const char *in_folder(const char *name)
{
    static char paths[2][128];
    static unsigned turn;
    char *path = paths[turn++ % 2];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static size_t read_file(const char *path, char *text, size_t cap)
{
    size_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(fd_read_all(fd, text, cap - 1, &n, &err));
    close(fd);
    text[n] = '\0';
    return n;
}

static void write_file(const char *path, struct bytes content, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_true(fd_write_exact(fd, content.p, content.n));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

/* 44 characters of base64, no line end, mode 0600, loads as a key of this type. */
static void check_key_file(const char *path, enum key_type type)
{
    char text[128];
    struct stat st;
    struct signing_key *key = NULL;
    assert_int_equal(read_file(path, text, sizeof text), 44);
    assert_int_equal(text[43], '=');
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_true(keyring_load(&key, path, type, KEY_FILE_BASE64, &warning, &err));
    assert_string_equal(warning.text, "");
    signing_key_free(key);
}

static void keygen_makes_a_key(void **state)
{
    (void)state;
    char want[256], first[128], second[128];
    const char *path = in_folder("signing.key");
    folder_empty(folder);
    RUN(&result, "softsign", "keygen", path);
    assert_int_equal(result.exit_code, 0);
    assert_string_equal(result.out, "");
    snprintf(want, sizeof want, "   Generated consensus (Ed25519) private key at: %s\n", path);
    assert_memory_equal(result.err, want, strlen(want));
    assert_contains(result.err, "tmkms pubkey ");
    check_key_file(path, KEY_ED25519);
    read_file(path, first, sizeof first);
    assert_null(strstr(result.err, first));
    assert_int_equal(folder_count(folder), 1);

    const char *other = in_folder("other.key");
    RUN(&result, "softsign", "keygen", other, "--type=consensus");
    assert_int_equal(result.exit_code, 0);
    read_file(other, second, sizeof second);
    assert_string_not_equal(first, second);
}

static void keygen_makes_account_keys(void **state)
{
    (void)state;
    const char *path = in_folder("account.key");
    folder_empty(folder);
    RUN(&result, "softsign", "keygen", "-t", "account", path);
    assert_int_equal(result.exit_code, 0);
    assert_contains(result.err, "   Generated account (secp256k1) private key at: /tmp/");
    assert_contains(result.err, "`tmkms pubkey -t account /tmp/");
    check_key_file(path, KEY_SECP256K1);
}

static void mode_does_not_depend_on_the_umask(void **state)
{
    (void)state;
    folder_empty(folder);
    const char *path = in_folder("k");
    mode_t before = umask(0);
    RUN(&result, "softsign", "keygen", path);
    umask(before);
    assert_int_equal(result.exit_code, 0);
    check_key_file(path, KEY_ED25519);
}

static void an_existing_file_is_kept(void **state)
{
    (void)state;
    char text[128];
    const char *path = in_folder("k");
    folder_empty(folder);
    write_file(path, bytes_of_text("precious"), 0640);
    RUN(&result, "softsign", "keygen", path);
    assert_int_equal(result.exit_code, 1);
    assert_contains(result.err, "error: ");
    assert_contains(result.err, "exists already and is left as it is");
    assert_contains(result.err, "--force");
    read_file(path, text, sizeof text);
    assert_string_equal(text, "precious");
    assert_int_equal(folder_count(folder), 1);

    RUN(&result, "softsign", "keygen", "--force", path);
    assert_int_equal(result.exit_code, 0);
    check_key_file(path, KEY_ED25519);
    assert_int_equal(folder_count(folder), 1);
}

static void a_missing_folder_is_an_error(void **state)
{
    (void)state;
    folder_empty(folder);
    RUN(&result, "softsign", "keygen", in_folder("no/such/k"));
    assert_int_equal(result.exit_code, 1);
    assert_contains(result.err, "there is no folder ");
    assert_contains(result.err, "`mkdir -p ");
    assert_null(strstr(result.err, "--force"));
}

static void wrong_usage(void **state)
{
    (void)state;
    const char *path = in_folder("k");
    folder_empty(folder);
    RUN(&result, "softsign");
    assert_int_equal(result.exit_code, 2);
    RUN(&result, "softsign", "keygen");
    assert_int_equal(result.exit_code, 2);
    RUN(&result, "softsign", "keygen", path, path);
    assert_int_equal(result.exit_code, 2);
    RUN(&result, "softsign", "keygen", "--overwrite", path);
    assert_int_equal(result.exit_code, 2);
    RUN(&result, "softsign", "keygen", "-t");
    assert_int_equal(result.exit_code, 2);
    RUN(&result, "softsign", "keygen", "-t", "validator", path);
    assert_int_equal(result.exit_code, 1);
    assert_string_equal(
        result.err, "error: unknown key type: validator (must be 'account' or 'consensus')\n");
    RUN(&result, "softsign", "import", path);
    assert_int_equal(result.exit_code, 2);
    assert_contains(result.err, "expected 2 arguments, got 1");
    RUN(&result, "softsign", "import", "-f", "pem", path, path);
    assert_int_equal(result.exit_code, 1);
    assert_contains(result.err, "unknown key format: pem");
    assert_int_equal(folder_count(folder), 0);
}

static void import_one(const char *format, struct bytes content, const char *type, const char *want)
{
    char text[128];
    const char *in = in_folder("in"), *out = in_folder("out");
    folder_empty(folder);
    write_file(in, content, 0600);
    if (type != NULL)
        RUN(&result, "softsign", "import", "-f", format, "-t", type, in, out);
    else
        RUN(&result, "softsign", "import", "-f", format, in, out);
    if (result.exit_code != 0)
        fail_msg("%s: %s", format, result.err);
    read_file(out, text, sizeof text);
    assert_string_equal(text, want);
    assert_null(strstr(result.err, want));
    assert_int_equal(folder_count(folder), 2);
}

static void import_keeps_the_key(void **state)
{
    (void)state;
    json_t *root = vectors_load("keys.json"), *entry;
    size_t i, seen = 0;
    json_array_foreach(json_object_get(root, "keys"), i, entry)
    {
        uint8_t private[64];
        char seed64[64], all64[128];
        bool is_ed25519 = strcmp(vectors_text(entry, "type"), "ed25519") == 0;
        const char *type = is_ed25519 ? NULL : "account";
        const char *name = is_ed25519 ? "    Imported Ed25519 private key to /tmp/"
                                      : "    Imported Secp256k1 private key to /tmp/";
        struct bytes all = vectors_hex(entry, "private", private, sizeof private);
        assert_true(base64_encode(bytes_of(private, 32), seed64, sizeof seed64));
        assert_true(base64_encode(all, all64, sizeof all64));
        import_one(
            "json", bytes_of_text(vectors_text(entry, "priv_validator_key_json")), NULL, seed64);
        assert_contains(result.err, name);
        assert_string_equal(result.out, "");
        check_key_file(in_folder("out"), is_ed25519 ? KEY_ED25519 : KEY_SECP256K1);
        import_one("base64", bytes_of_text(all64), type, seed64);
        assert_contains(result.err, name);
        import_one("raw", bytes_of(private, 32), type, seed64);
        seen++;
    }
    assert_int_equal(seen, 7);
    json_decref(root);
}

static void import_refuses(void **state)
{
    (void)state;
    char text[128];
    const char *in = in_folder("in"), *out = in_folder("out");
    folder_empty(folder);
    RUN(&result, "softsign", "import", in, out);
    assert_int_equal(result.exit_code, 1);
    assert_contains(result.err, "cannot open key file");

    write_file(in, bytes_of_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), 0660);
    RUN(&result, "softsign", "import", "-f", "base64", in, out);
    assert_int_equal(result.exit_code, 1);
    assert_contains(result.err, "`chmod 600 ");
    assert_int_equal(folder_count(folder), 1);

    assert_int_equal(chmod(in, 0644), 0);
    write_file(out, bytes_of_text("precious"), 0600);
    RUN(&result, "softsign", "import", "-f", "base64", in, out);
    assert_int_equal(result.exit_code, 1);
    assert_contains(result.err, "--force");
    read_file(out, text, sizeof text);
    assert_string_equal(text, "precious");
    RUN(&result, "softsign", "import", "--force", "-f", "base64", in, out);
    assert_int_equal(result.exit_code, 0);
    assert_contains(result.err, "warning: ");
    check_key_file(out, KEY_ED25519);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keygen_makes_a_key),
        cmocka_unit_test(keygen_makes_account_keys),
        cmocka_unit_test(mode_does_not_depend_on_the_umask),
        cmocka_unit_test(an_existing_file_is_kept),
        cmocka_unit_test(a_missing_folder_is_an_error),
        cmocka_unit_test(wrong_usage),
        cmocka_unit_test(import_keeps_the_key),
        cmocka_unit_test(import_refuses),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
