/* tmkms pubkey: the public key in every form that people need. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "config/config.h"
#include "keyring/keyring.h"
#include "keyring/public_text.h"

static const struct {
    const char *name;
    enum public_form form;
} forms[] = {
    {"hex", PUBLIC_HEX},
    {"base64", PUBLIC_BASE64},
    {"bech32", PUBLIC_BECH32},
    {"cosmos-json", PUBLIC_COSMOS_JSON},
    {"comet-json", PUBLIC_COMET_JSON},
    {"address", PUBLIC_ADDRESS},
    {"valcons", PUBLIC_VALCONS},
};
enum { FORMS_N = sizeof forms / sizeof forms[0], ALL = -1 };

struct pubkey_args {
    int form; /* index in forms, or ALL */
    bool is_account;
    const char *config, *chain, *prefix, *type;
};

/* ---- printing ---- */

/* A single form is printed alone, so that a script can use it. chain: NULL for a key file. */
static int print_one(
    int form, const struct public_key *key, const struct public_prefix *prefix, const char *chain)
{
    char text[PUBLIC_TEXT_MAX];
    struct err err;
    if (public_text(text, key, forms[form].form, prefix, &err)) {
        puts(text);
        return EXIT_DONE;
    }
    if (chain != NULL)
        return command_failed("chain %s: %s; give it with --prefix", chain, err.text);
    return command_failed("%s; give it with --prefix, for example --prefix cosmos", err.text);
}

static void print_all(const struct public_key *key, const struct public_prefix *prefix)
{
    printf("%-12s %s\n", "type:", key_type_name((enum key_type)key->type));
    for (int i = 0; i < FORMS_N; i++) {
        char text[PUBLIC_TEXT_MAX], label[16];
        snprintf(label, sizeof label, "%s:", forms[i].name);
        if (public_text(text, key, forms[i].form, prefix, NULL))
            printf("%-12s %s\n", label, text);
    }
}

static int print_key(const struct pubkey_args *r, const struct public_key *key,
    const struct public_prefix *prefix, const char *chain)
{
    if (r->form != ALL)
        return print_one(r->form, key, prefix, chain);
    if (chain != NULL)
        printf("%-12s %s\n", "chain:", chain);
    print_all(key, prefix);
    return EXIT_DONE;
}

/* ---- where the key comes from ---- */

/* Copies the public key; the private one is wiped at once. */
static bool load_public(struct public_key *ret, const char *path, enum key_type type,
    enum key_file_format format, struct err *err)
{
    struct signing_key *key = NULL;
    struct err warning;
    if (!keyring_load(&key, path, type, format, &warning, err))
        return false;
    if (warning.text[0] != '\0')
        command_warn("%s", warning.text);
    *ret = *signing_key_public(key);
    signing_key_free(key);
    return true;
}

static int of_file(const struct pubkey_args *r, const char *path)
{
    struct err err;
    struct public_key key;
    struct public_prefix prefix = {0};
    enum key_type type = r->type == NULL ? 0 : r->is_account ? KEY_SECP256K1 : KEY_ED25519;
    if ((r->prefix != NULL && !public_prefix_from(&prefix, r->prefix, r->is_account, &err)) ||
        !load_public(&key, path, type, 0, &err))
        return command_failed("%s", err.text);
    int exit_code = print_key(r, &key, &prefix, NULL);
    if (r->form == ALL && r->prefix == NULL)
        command_status(
            "Next", "give --prefix to see the bech32 forms, for example --prefix cosmos");
    return exit_code;
}

static int of_chain(const struct pubkey_args *r, const struct config_chain *chain)
{
    struct err err;
    struct public_key key;
    struct public_prefix prefix;
    public_prefix_of_config(&prefix, chain->consensus_prefix);
    if (chain->sealed_n > 0 && chain->expected_key.type == 0)
        return command_failed("chain %s: its key is sealed, and the configuration does not say "
                              "which it is (public_key)",
            chain->id);
    key = chain->expected_key;
    if ((r->prefix != NULL && !public_prefix_from(&prefix, r->prefix, false, &err)) ||
        (chain->sealed_n == 0 && !load_public(&key, chain->key_file, (enum key_type)chain->key_type,
                                     (enum key_file_format)chain->key_format, &err)))
        return command_failed("chain %s: %s", chain->id, err.text);
    return print_key(r, &key, &prefix, chain->id);
}

static int of_chains(const struct pubkey_args *r, const struct config *config)
{
    int exit_code = EXIT_DONE;
    bool is_first = true;
    for (size_t i = 0; i < config->chains_n; i++) {
        const struct config_chain *chain = &config->chains[i];
        if (r->chain != NULL && strcmp(r->chain, chain->id) != 0)
            continue;
        if (!is_first && r->form == ALL)
            putchar('\n');
        is_first = false;
        if (of_chain(r, chain) != EXIT_DONE)
            exit_code = EXIT_FAILED;
    }
    return is_first ? command_failed("there is no chain %s in the configuration", r->chain)
                    : exit_code;
}

static int of_config(const struct pubkey_args *r)
{
    const char *path = config_path(r->config);
    struct config config = {0};
    struct problems problems = {0};
    bool ok = config_read(&config, path, &problems);
    for (size_t i = 0; i < problems.n; i++) {
        if (!problems.list[i].is_warning)
            command_failed("%s", problems.list[i].text);
    }
    problems_free(&problems);
    int exit_code = ok ? of_chains(r, &config) : EXIT_FAILED;
    config_free(&config);
    return exit_code;
}

/* ---- the command ---- */

static bool form_of(const char *name, int *ret)
{
    *ret = ALL;
    if (strcmp(name, "all") == 0)
        return true;
    for (int i = 0; i < FORMS_N; i++)
        if (strcmp(name, forms[i].name) == 0)
            *ret = i;
    return *ret != ALL;
}

static int check_usage(const struct command *self, const struct pubkey_args *r, int argc)
{
    if (argc > 1)
        return command_usage(self, "expected at most 1 argument, got %d", argc);
    if (argc == 1 && (r->config != NULL || r->chain != NULL))
        return command_usage(self, "a key file goes with neither --config nor --chain");
    if (argc == 0 && r->type != NULL)
        return command_usage(self, "--type goes with a key file; the configuration has its own");
    if (r->type != NULL && !r->is_account && strcmp(r->type, "consensus") != 0)
        return command_usage(
            self, "unknown key type: %s (must be 'account' or 'consensus')", r->type);
    return COMMAND_GO_ON;
}

static int run(const struct command *self, int argc, char **argv)
{
    struct pubkey_args r = {0};
    const char *format = "all";
    struct err err;
    const struct command_flag flags[] = {
        {'c', "config", &r.config, NULL},
        {0, "chain", &r.chain, NULL},
        {'f', "format", &format, NULL},
        {'p', "prefix", &r.prefix, NULL},
        {'t', "type", &r.type, NULL},
        {0},
    };
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (!form_of(format, &r.form))
        return command_usage(self, "unknown format '%s'", format);
    r.is_account = r.type != NULL && strcmp(r.type, "account") == 0;
    exit_code = check_usage(self, &r, argc);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (!crypto_start(&err))
        return command_failed("%s", err.text);
    return argc == 1 ? of_file(&r, argv[0]) : of_config(&r);
}

const struct command command_pubkey = {
    .name = "pubkey",
    .summary = "Print public keys in the forms that chains and people want",
    .help =
        "Print public keys in the forms that chains and people want\n"
        "\n"
        "Usage: tmkms pubkey [OPTIONS] [KEYFILE]\n"
        "\n"
        "KEYFILE is base64 (as keygen writes it), a priv_validator_key.json, or 32 raw bytes. "
        "Without it\n"
        "the keys of every chain in the configuration are printed.\n"
        "\n"
        "Options:\n"
        "  -c, --config FILE    Configuration [default: $TMKMS_CONFIG_FILE, or tmkms.toml]\n"
        "      --chain ID       Only this chain of the configuration\n"
        "  -f, --format FORMAT  One form alone, for scripts [default: all]:\n"
        "                         hex          upper-case hexadecimal\n"
        "                         base64\n"
        "                         bech32       cosmosvalconspub1zcjduepq...\n"
        "                         cosmos-json  as Cosmos SDK 0.43 and later want it\n"
        "                         comet-json   as in a genesis file\n"
        "                         address      40 hexadecimal digits\n"
        "                         valcons      the address in bech32: cosmosvalcons1...\n"
        "  -p, --prefix PREFIX  For bech32 and valcons: the chain's prefix, such as cosmos, from "
        "which\n"
        "                       follow cosmosvalconspub and cosmosvalcons (for cro, tcro and iaa "
        "the\n"
        "                       names these chains use: crocnclconspub ...), or a whole one that\n"
        "                       ends in `pub` or `cons`. A configuration has its own prefix.\n"
        "  -t, --type TYPE      consensus (Ed25519) or account (secp256k1), when KEYFILE does not "
        "say\n"
        "                       it; accounts have the prefixes cosmospub and cosmos\n"
        "  -h, --help           Print help\n",
    .run = run,
};
