/* tmkms init: a folder with a configuration that works once the keys are there. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "cli/command.h"
#include "crypto/aead.h"
#include "crypto/key.h"
#include "crypto/secret.h"
#include "keyring/key_file.h"

/* The chains that people run with the Rust program, with their present chain ids. */
struct network {
    const char *name;
    const char *title;
    const char *chain_id;
    const char *account_prefix;
    const char *consensus_prefix;
};

static const struct network networks[] = {
    {"cosmoshub", "Cosmos Hub", "cosmoshub-4", "cosmospub", "cosmosvalconspub"},
    {"irishub", "IRISnet", "irishub-1", "iap", "icp"},
    {"sentinelhub", "Sentinel", "sentinelhub-2", "sentpub", "sentvalconspub"},
    {"osmosis", "Osmosis", "osmosis-1", "osmopub", "osmovalconspub"},
    {"core", "Persistence", "core-1", "persistencepub", "persistencevalconspub"},
};

enum {
    NETWORKS_MAX = sizeof networks / sizeof *networks,
    FIRST_PORT = 26658,
    PORT_STEP = 10,
    /* Of the parent, seen from an enclave: */
    NITRO_STATE_PORT = 6666,
    NITRO_FIRST_PORT = 5555,
};

/* What the command line asks for. */
struct plan {
    const struct network *chosen[NETWORKS_MAX];
    size_t chosen_n;
    char dir[PATH_MAX]; /* absolute */
    char config[PATH_MAX];
    char identity[PATH_MAX];
    bool force;
    bool for_enclave;
};

static const struct network *find_network(const char *name)
{
    for (size_t i = 0; i < NETWORKS_MAX; i++)
        if (strcmp(networks[i].name, name) == 0)
            return &networks[i];
    return NULL;
}

static int unknown_network(const char *name)
{
    command_failed("unknown CometBFT network: `%s`", name);
    fputs("\nKnown networks (another chain: edit the file afterwards):\n", stderr);
    for (size_t i = 0; i < NETWORKS_MAX; i++)
        fprintf(stderr, "- %s\n", networks[i].name);
    return EXIT_FAILED;
}

static int choose_networks(struct plan *plan, const char *list)
{
    char names[256];
    if (snprintf(names, sizeof names, "%s", list) >= (int)sizeof names)
        return command_failed("the list of networks is too long");
    char *rest = NULL;
    for (char *name = strtok_r(names, ",", &rest); name != NULL;
         name = strtok_r(NULL, ",", &rest)) {
        const struct network *network = find_network(name);
        if (network == NULL)
            return unknown_network(name);
        for (size_t i = 0; i < plan->chosen_n; i++)
            if (plan->chosen[i] == network)
                return command_failed("the network `%s` is named twice", name);
        plan->chosen[plan->chosen_n++] = network;
    }
    return plan->chosen_n > 0 ? EXIT_DONE : command_failed("no network is named");
}

/* ---- the configuration ---- */

static void print_chain(FILE *out, const struct plan *plan, const struct network *n)
{
    fprintf(out,
        "### %s Network\n"
        "\n"
        "[[chain]]\n"
        "id = \"%s\"\n"
        "# How public keys are printed; nothing else depends on it.\n"
        "key_format = { type = \"bech32\", account_key_prefix = \"%s\", consensus_key_prefix = "
        "\"%s\" }\n"
        "# What was signed last. `tmkms state init` makes it. Never copy it back from a backup.\n"
        "state_file = \"%s/state/%s-consensus.json\"\n"
        "\n",
        n->title, n->chain_id, n->account_prefix, n->consensus_prefix, plan->dir, n->chain_id);
}

static void print_key(FILE *out, const struct plan *plan, const struct network *n)
{
    fprintf(out,
        "[[providers.softsign]]\n"
        "chain_ids = [\"%s\"]\n"
        "key_type = \"consensus\"\n"
        "path = \"%s/secrets/%s-consensus.key\"\n"
        "\n",
        n->chain_id, plan->dir, n->chain_id);
}

static void print_validator(FILE *out, const struct plan *plan, const struct network *n, int port)
{
    fprintf(out,
        "[[validator]]\n"
        "chain_id = \"%s\"\n"
        "addr = \"tcp://127.0.0.1:%d\"\n"
        "secret_key = \"%s\"\n"
        "protocol_version = \"v0.38\"\n"
        "\n",
        n->chain_id, port, plan->identity);
}

/* ---- the configuration for an enclave ---- */

static void print_nitro_chain(FILE *out, const struct plan *plan, const struct network *n)
{
    fprintf(out,
        "### %s Network\n"
        "\n"
        "[[chain]]\n"
        "id = \"%s\"\n"
        "# How public keys are printed; nothing else depends on it.\n"
        "key_format = { type = \"bech32\", account_key_prefix = \"%s\", consensus_key_prefix = "
        "\"%s\" }\n"
        "# The port on which the parent keeps what was signed last, and the file in which it does. "
        "Chains\n"
        "# may share the port, never the file.\n"
        "state_vsock_port = %d\n"
        "state_file = \"%s/state/%s-consensus.json\"\n"
        "# The key that must come out of KMS, as `tmkms pubkey` prints it. Without it the parent "
        "can\n"
        "# put another key in the place of yours.\n"
        "# public_key = \"%s1zcjduepq...\"\n"
        "# Nothing below this height is signed, whatever the parent says.\n"
        "# min_height = 1\n"
        "\n",
        n->title, n->chain_id, n->account_prefix, n->consensus_prefix, NITRO_STATE_PORT, plan->dir,
        n->chain_id, n->consensus_prefix);
}

/* The template is read as it stands, so that `tmkms check` can say what is missing in it. */
static void print_nitro_key(FILE *out, const struct network *n)
{
    fprintf(out,
        "[[providers.softsign]]\n"
        "chain_ids = [\"%s\"]\n"
        "key_type = \"consensus\"\n"
        "# What `tmkms nitro keygen`, `tmkms nitro seal` or `aws kms encrypt` printed.\n"
        "encrypted_key_b64 = \"REPLACE+THIS\"\n"
        "# The region of the KMS key.\n"
        "aws_region = \"us-east-1\"\n"
        "# kms_key_id = \"arn:aws:kms:...\"\n"
        "# The key opens under this very configuration only (seal it with the same pair):\n"
        "# encryption_context = { config = \"@measured_config\" }\n"
        "# Left out, the credentials of the instance's role are used:\n"
        "# credentials = { aws_key_id = \"...\", aws_secret_key = \"...\", aws_session_token = "
        "\"...\" }\n"
        "\n",
        n->chain_id);
}

static void print_nitro_validator(FILE *out, const struct network *n, int port)
{
    fprintf(out,
        "[[validator]]\n"
        "chain_id = \"%s\"\n"
        "addr = { port = %d }\n"
        "node = \"unix:///run/%s/signer.sock\"\n"
        "protocol_version = \"v0.38\"\n"
        "\n",
        n->chain_id, port, n->chain_id);
}

static void print_nitro_config(FILE *out, const struct plan *plan)
{
    fprintf(out,
        "# Tendermint KMS configuration file, for a Nitro Enclave\n"
        "#\n"
        "# doc/config.md describes every key. After each change:\n"
        "#   tmkms check -c %s\n"
        "# The enclave sees no file of this machine: `tmkms nitro run` brings it what it needs of "
        "this one.\n"
        "\n"
        "[enclave]\n"
        "# The image: `tmkms nitro build-enclave` makes it.\n"
        "eif = \"%s/tmkms.eif\"\n"
        "log_vsock_port = 6050\n"
        "\n"
        "## Chain Configuration\n"
        "\n",
        plan->config, plan->dir);
    for (size_t i = 0; i < plan->chosen_n; i++)
        print_nitro_chain(out, plan, plan->chosen[i]);
    fputs("## Signing Provider Configuration\n\n", out);
    for (size_t i = 0; i < plan->chosen_n; i++)
        print_nitro_key(out, plan->chosen[i]);
    fputs("## Validator Configuration\n"
          "#\n"
          "# node is the priv_validator_laddr of the node's config.toml: the node listens. The "
          "enclave sees it\n"
          "# as a port of this machine. A node on tcp:// needs addr = { port = ..., "
          "secret_connection = true }\n"
          "# and a key: encrypted_secret_key_b64.\n"
          "\n",
        out);
    for (size_t i = 0; i < plan->chosen_n; i++)
        print_nitro_validator(out, plan->chosen[i], NITRO_FIRST_PORT + (int)i);
}

/* ---- the files ---- */

static void print_config(FILE *out, const struct plan *plan)
{
    fprintf(out,
        "# Tendermint KMS configuration file\n"
        "#\n"
        "# doc/config.md describes every key. After each change:\n"
        "#   tmkms check -c %s\n"
        "# A running tmkms reads the file again on SIGHUP. Paths without a leading / are relative "
        "to\n"
        "# the folder in which tmkms is started.\n"
        "\n"
        "## Chain Configuration\n"
        "\n",
        plan->config);
    for (size_t i = 0; i < plan->chosen_n; i++)
        print_chain(out, plan, plan->chosen[i]);
    fputs("## Signing Provider Configuration\n"
          "#\n"
          "# One key a chain. A node's own priv_validator_key.json can be used as it is, with\n"
          "# key_format = \"json\", or brought into this form with `tmkms softsign import`.\n"
          "\n",
        out);
    for (size_t i = 0; i < plan->chosen_n; i++)
        print_key(out, plan, plan->chosen[i]);
    fputs("## Validator Configuration\n"
          "#\n"
          "# addr is the priv_validator_laddr of the node's config.toml: the node listens, tmkms "
          "dials.\n"
          "# tcp://PEERID@host:port demands that very node; unix:///path needs no secret_key.\n"
          "# protocol_version is v0.34, v0.37, v0.38, v0.39, v0.40 or v1.0. Several validators may "
          "share a\n"
          "# chain: they never get two different signatures.\n"
          "\n",
        out);
    for (size_t i = 0; i < plan->chosen_n; i++)
        print_validator(out, plan, plan->chosen[i], FIRST_PORT + PORT_STEP * (int)i);
}

static bool write_config(const struct plan *plan, struct err *err)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (out == NULL)
        return err_errno(err, "no memory for the configuration");
    if (plan->for_enclave)
        print_nitro_config(out, plan);
    else
        print_config(out, plan);
    bool ok = fclose(out) == 0 || err_errno(err, "no memory for the configuration");
    ok = ok && fd_create_durable(plan->config, text, n, plan->force, err);
    free(text);
    return ok;
}

/* ---- the folder ---- */

static bool make_folder(const char *path, mode_t mode, bool tell, struct err *err)
{
    if (mkdir(path, mode) == 0) {
        if (tell)
            command_status("Creating", "%s", path);
        return true;
    }
    struct stat st;
    if (errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return true;
    return err_errno(err, "cannot make the folder %s", path);
}

static bool join(char *out, const char *dir, const char *name, struct err *err)
{
    int n = snprintf(out, PATH_MAX, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, name);
    return n < PATH_MAX || err_set(err, "the path %.200s/%s is too long", dir, name);
}

/* The paths are written into TOML strings as they are. */
static bool path_is_plain(const char *path, struct err *err)
{
    for (const char *p = path; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '"' || *p == '\\')
            return err_set(err, "the path of the folder holds a quote, a backslash or a control "
                                "character; choose another folder");
    return true;
}

static bool make_folders(struct plan *plan, const char *dir, struct err *err)
{
    char secrets[PATH_MAX], state[PATH_MAX];
    if (!path_is_plain(dir, err) || !make_folder(dir, 0777, true, err))
        return false;
    if (realpath(dir, plan->dir) == NULL)
        return err_errno(err, "cannot use the folder %s", dir);
    return path_is_plain(plan->dir, err) && join(plan->config, plan->dir, "tmkms.toml", err) &&
           join(plan->identity, plan->dir, "secrets/kms-identity.key", err) &&
           join(secrets, plan->dir, "secrets", err) && join(state, plan->dir, "state", err) &&
           make_folder(secrets, 0700, false, err) && make_folder(state, 0700, false, err);
}

static bool write_identity(const struct plan *plan, struct err *err)
{
    uint8_t seed[ED25519_SEED_LEN];
    if (!crypto_start(err))
        return false;
    random_bytes(seed, sizeof seed);
    bool ok = key_file_write(plan->identity, seed, plan->force, err);
    secret_wipe(seed, sizeof seed);
    return ok;
}

static bool is_there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static int write_files(const struct plan *plan)
{
    struct err err;
    if (!plan->force && is_there(plan->config))
        return command_failed(
            "%s exists already and is left as it is; `--force` replaces it and the "
            "identity key",
            plan->config);
    if (plan->for_enclave)
        ; /* the enclave sees no file of ours */
    else if (!plan->force && is_there(plan->identity))
        command_status("Keeping", "Secret Connection key: %s", plan->identity);
    else if (!write_identity(plan, &err))
        return command_failed("%s", err.text);
    else
        command_status("Generated", "Secret Connection key: %s", plan->identity);
    if (!write_config(plan, &err))
        return command_failed("%s", err.text);
    command_status("Generated", "KMS configuration: %s", plan->config);
    return EXIT_DONE;
}

static void print_next_nitro(const struct plan *plan)
{
    printf("Next:\n"
           "  put the sealed key, its region and its public_key into %s\n"
           "      (tmkms nitro keygen makes one in the enclave; tmkms nitro seal takes one that "
           "exists)\n"
           "  set the socket of each node there\n"
           "  tmkms state init -c %s\n"
           "      (a validator that has signed before: tmkms state import)\n"
           "  tmkms check -c %s\n"
           "  tmkms nitro run -c %s\n",
        plan->config, plan->config, plan->config, plan->config);
}

static void print_next(const struct plan *plan)
{
    if (plan->for_enclave) {
        print_next_nitro(plan);
        return;
    }
    puts("Next:");
    for (size_t i = 0; i < plan->chosen_n; i++)
        printf("  tmkms softsign keygen -t consensus %s/secrets/%s-consensus.key\n", plan->dir,
            plan->chosen[i]->chain_id);
    printf("      (a key that exists: tmkms softsign import priv_validator_key.json PATH)\n"
           "  set the address of each node in %s\n"
           "  tmkms state init -c %s\n"
           "      (a validator that has signed before: tmkms state import)\n"
           "  tmkms check -c %s\n"
           "  tmkms start -c %s\n",
        plan->config, plan->config, plan->config, plan->config);
}

static int run(const struct command *self, int argc, char **argv)
{
    struct plan plan = {0};
    struct err err;
    const char *list = "cosmoshub";
    const struct command_flag flags[] = {
        {.letter = 'n', .name = "networks", .value = &list},
        {.name = "nitro", .is_set = &plan.for_enclave},
        {.name = "force", .is_set = &plan.force},
        {0},
    };
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (argc != 1)
        /* The Rust program ends with 1 here, and scripts may know it. */
        return command_failed("expected 1 argument, the folder to make, got %d", argc);
    exit_code = choose_networks(&plan, list);
    if (exit_code != EXIT_DONE)
        return exit_code;
    if (!make_folders(&plan, argv[0], &err))
        return command_failed("%s", err.text);
    exit_code = write_files(&plan);
    if (exit_code == EXIT_DONE)
        print_next(&plan);
    return exit_code;
}

const struct command command_init = {
    .name = "init",
    .summary = "Make a folder with a configuration and an identity key",
    .help =
        "Make a folder with a configuration and an identity key\n"
        "\n"
        "Usage: tmkms init [OPTIONS] DIR\n"
        "\n"
        "DIR/tmkms.toml               the configuration, to be edited\n"
        "DIR/secrets/kms-identity.key who this signer is on tcp and noise links; no consensus key\n"
        "DIR/secrets, DIR/state       empty: where the configuration expects keys and states\n"
        "\n"
        "Options:\n"
        "  -n, --networks NAMES  comma-separated, of cosmoshub, irishub, sentinelhub, osmosis, "
        "core\n"
        "                        [default: cosmoshub]\n"
        "      --nitro           for a Nitro Enclave: a sealed key, state and nodes behind vsock; "
        "no\n"
        "                        identity key is made\n"
        "      --force           replace an existing tmkms.toml and identity key\n"
        "  -h, --help            Print help\n",
    .run = run,
};
