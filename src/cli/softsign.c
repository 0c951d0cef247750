/* tmkms softsign: private keys in files. */
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/command.h"
#include "crypto/aead.h"
#include "crypto/secret.h"
#include "keyring/key_file.h"

enum { PRIVATE_LEN = 32 };

/* The Rust program's names of the two uses; each stands for one type of key there. */
static bool type_of(const char *name, enum key_type *ret)
{
    bool is_account = strcmp(name, "account") == 0;
    *ret = is_account ? KEY_SECP256K1 : KEY_ED25519;
    if (is_account || strcmp(name, "consensus") == 0)
        return true;
    command_failed("unknown key type: %s (must be 'account' or 'consensus')", name);
    return false;
}

static int not_written(const char *path, bool replace, const struct err *err)
{
    if (!replace && access(path, F_OK) == 0)
        return command_failed("%s; `--force` replaces it, and the key in it is lost", err->text);
    return command_failed("%s", err->text);
}

/* ---- keygen ---- */

/* A random scalar outside the group of secp256k1 will not be seen in our time; it would be an error
 * here. */
static bool make_private(uint8_t *private, enum key_type type, struct err *err)
{
    struct signing_key *key = NULL;
    random_bytes(private, PRIVATE_LEN);
    if (!signing_key_create(&key, type, PRIVATE_SEED, bytes_of(private, PRIVATE_LEN), err))
        return false;
    signing_key_free(key);
    return true;
}

static int generate(const char *path, enum key_type type, bool replace)
{
    struct err err;
    uint8_t *private = NULL;
    if (!crypto_start(&err) || (private = secret_alloc(PRIVATE_LEN, &err)) == NULL ||
        !make_private(private, type, &err)) {
        secret_free(private);
        return command_failed("%s", err.text);
    }
    bool ok = key_file_write(path, private, replace, &err);
    secret_free(private);
    if (!ok)
        return not_written(path, replace, &err);
    bool is_account = type == KEY_SECP256K1;
    command_status("Generated", "%s private key at: %s",
        is_account ? "account (secp256k1)" : "consensus (Ed25519)", path);
    command_status(
        "Next", "`tmkms pubkey %s%s` prints its public key", is_account ? "-t account " : "", path);
    return EXIT_DONE;
}

static int run_keygen(const struct command *self, int argc, char **argv)
{
    const char *type_name = "consensus";
    bool force = false;
    enum key_type type;
    const struct command_flag flags[] = {
        {'t', "type", &type_name, NULL},
        {0, "force", NULL, &force},
        {0},
    };
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (argc != 1)
        return command_usage(self, "expected 1 argument, got %d", argc);
    if (!type_of(type_name, &type))
        return EXIT_FAILED;
    return generate(argv[0], type, force);
}

/* ---- import ---- */

static bool format_of(const char *name, enum key_file_format *ret)
{
    static const struct {
        const char *name;
        enum key_file_format format;
    } known[] = {{"json", KEY_FILE_JSON}, {"base64", KEY_FILE_BASE64}, {"raw", KEY_FILE_RAW}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(name, known[i].name) == 0) {
            *ret = known[i].format;
            return true;
        }
    }
    command_failed("unknown key format: %s (must be 'json', 'base64' or 'raw')", name);
    return false;
}

static int import(
    const char *in, const char *out, enum key_type type, enum key_file_format format, bool replace)
{
    struct err err, warning;
    struct key_file *file = NULL;
    struct signing_key *key = NULL;
    int fd = -1;
    if (!crypto_start(&err) || (fd = key_file_open(in, &err)) < 0)
        return command_failed("%s", err.text);
    bool ok = key_file_read(&file, &key, fd, in, type, format, &warning, &err);
    fd_close(&fd);
    if (!ok)
        return command_failed("%s%s", err.text,
            format == KEY_FILE_JSON ? "; if it is another form, say so: `-f base64` or `-f raw`"
                                    : "");
    if (warning.text[0] != '\0')
        command_warn("%s", warning.text);
    signing_key_free(key);
    bool is_secp256k1 = file->type == KEY_SECP256K1;
    ok = key_file_write(out, file->private, replace, &err);
    secret_free(file);
    if (!ok)
        return not_written(out, replace, &err);
    command_status("Imported", "%s private key to %s", is_secp256k1 ? "Secp256k1" : "Ed25519", out);
    return EXIT_DONE;
}

static int run_import(const struct command *self, int argc, char **argv)
{
    const char *type_name = NULL, *format_name = "json";
    bool force = false;
    enum key_type type = 0;
    enum key_file_format format;
    const struct command_flag flags[] = {
        {'f', "format", &format_name, NULL},
        {'t', "type", &type_name, NULL},
        {0, "force", NULL, &force},
        {0},
    };
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (argc != 2)
        return command_usage(self, "expected 2 arguments, got %d", argc);
    if (!format_of(format_name, &format) || (type_name != NULL && !type_of(type_name, &type)))
        return EXIT_FAILED;
    return import(argv[0], argv[1], type, format, force);
}

/* ---- the table ---- */

static const struct command sub[] = {
    {
        .name = "keygen",
        .summary = "Make a private key",
        .help =
            "Make a private key: 32 random bytes as base64, in a file that only its owner can "
            "read\n"
            "\n"
            "Usage: tmkms softsign keygen [OPTIONS] PATH\n"
            "\n"
            "Options:\n"
            "  -t, --type TYPE  consensus (Ed25519) or account (secp256k1) [default: consensus]\n"
            "      --force      Replace PATH if it exists: the key in it is lost\n"
            "  -h, --help       Print help\n",
        .run = run_keygen,
    },
    {
        .name = "import",
        .summary = "Turn a private key of another form into a key file",
        .help =
            "Turn a private key of another form into a key file (base64 of 32 bytes)\n"
            "\n"
            "Usage: tmkms softsign import [OPTIONS] IN OUT\n"
            "\n"
            "Options:\n"
            "  -f, --format FORMAT  What IN is [default: json]:\n"
            "                         json    CometBFT's priv_validator_key.json\n"
            "                         base64  base64 of 32 bytes, or of 64 with the public key\n"
            "                         raw     32 bytes\n"
            "  -t, --type TYPE      consensus (Ed25519) or account (secp256k1) [default: what a "
            "json\n"
            "                       file says, otherwise consensus]\n"
            "      --force          Replace OUT if it exists: the key in it is lost\n"
            "  -h, --help           Print help\n",
        .run = run_import,
    },
    {0},
};

const struct command command_softsign = {
    .name = "softsign",
    .summary = "Make and import private keys in files",
    .sub = sub,
};
