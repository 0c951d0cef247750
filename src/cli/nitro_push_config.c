/* tmkms nitro push-config: the configuration and credentials, checked and brought into the enclave. */
#include <stdio.h>
#include <string.h>

#include "aws/credentials.h"
#include "cli/nitro.h"
#include "cli/nitro_enclave.h"
#include "config/config.h"
#include "crypto/secret.h"
#include "nitro/push.h"
#include "sandbox/sandbox.h"

/* ---- what is sent ----------------------------------------------------------------- */

static void print_problems(const struct problems *problems)
{
    for (size_t i = 0; i < problems->n; i++)
        if (problems->list[i].is_warning)
            command_warn("%s", problems->list[i].text);
        else
            command_failed("%s", problems->list[i].text);
    if (problems->errors_n > 0)
        fprintf(stderr, "%zu problem%s; nothing was sent\n", problems->errors_n,
            problems->errors_n == 1 ? "" : "s");
}

/* The file's tree as it is sent. NULL: it has problems, and they were printed. */
static json_t *read_tree(const char *file)
{
    struct config config = {0};
    struct problems problems = {0};
    json_t *tree = NULL;
    bool ok = config_read(&config, file, &problems) &&
              config_check_for(CONFIG_ENCLAVE, &config, file, &problems) &&
              config_tree_read(&tree, file, &problems);
    print_problems(&problems);
    if (!ok) {
        json_decref(tree);
        tree = NULL;
    }
    problems_free(&problems);
    config_free(&config);
    return tree;
}

/* From the file, where they are taken out, or from where AWS's own tools find them. */
static bool find_credentials(
    struct aws_credentials *ret, json_t *tree, const char *file, struct err *err)
{
    char source[128];
    if (!config_tree_take_credentials(ret, tree, err))
        return err_prefix(err, "%s", file);
    if (ret->key_id[0] != '\0')
        snprintf(source, sizeof source, "%.100s", file);
    else if (!credentials_find(ret, source, err))
        return err_prefix(err, "no AWS credentials");
    command_status("Credentials", "from %s", source);
    return true;
}

/* ---- what is printed ------------------------------------------------------------ */

/* The line of the log that operators copy the public key from, behind its chain. */
static void print_key(const json_t *key)
{
    bool is_ed25519 = strlen(enclave_text(key, "hex")) == 64;
    printf("[%s] [keyring:softsign] added consensus %s key: %s\n", enclave_text(key, "chain_id"),
        is_ed25519 ? "Ed25519" : "Secp256k1", enclave_text(key, "public_key"));
}

static void print_answer(const json_t *answer)
{
    size_t i;
    const json_t *key;
    puts(enclave_text(answer, "state"));
    json_array_foreach(json_object_get(answer, "keys"), i, key) print_key(key);
    printf("measured config: %s\n", enclave_text(answer, "measured_config"));
    printf("PCR16: %s\n", enclave_text(answer, "pcr16"));
}

/* ---- the command ---------------------------------------------------------------- */

static json_t *make_request(const char *file, bool verbose, struct err *err)
{
    struct aws_credentials credentials = {0};
    json_t *request = NULL, *tree = read_tree(file);
    if (tree != NULL && find_credentials(&credentials, tree, file, err))
        request = json_pack("{s:s, s:O, s:o, s:b}", "op", "config", "config", tree, "credentials",
            enclave_credentials(&credentials), "verbose", (int)verbose);
    secret_wipe(&credentials, sizeof credentials);
    json_decref(tree);
    return request;
}

static int push_config(const struct enclave *enclave, const char *file, bool verbose)
{
    struct err err = {0};
    if (!crypto_start(&err) || !sandbox_harden(false, &err))
        return command_failed("%s", err.text);
    json_t *request = make_request(file, verbose, &err);
    if (request == NULL)
        return err.text[0] != '\0' ? command_failed("%s", err.text) : EXIT_FAILED;
    json_t *answer = enclave_ask(enclave, request, &err);
    json_decref(request);
    if (answer == NULL)
        return command_failed("%s", err.text);
    print_answer(answer);
    json_decref(answer);
    return EXIT_DONE;
}

int nitro_push_config(const struct command *self, int argc, char **argv)
{
    struct enclave_options options = {0};
    struct enclave enclave;
    const char *config = NULL;
    bool verbose = false;
    const struct command_flag flags[] = {
        {'c', "config", &config, NULL},
        {'v', "verbose", NULL, &verbose},
        ENCLAVE_OPTION_FLAGS(options),
        {0},
    };
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (argc > 0)
        return command_usage(self, "unexpected argument '%s'", argv[0]);
    exit_code = enclave_from(self, &options, &enclave);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    return push_config(&enclave, config_path(config), verbose);
}

const char nitro_push_config_help[] =
    "Check the configuration, bring it and AWS credentials into the enclave, and wait until it is\n"
    "ready: keys unsealed, states loaded. Prints `ready`, the public key of each chain, and the\n"
    "hash of the measured part of the configuration\n"
    "\n"
    "A configuration may be pushed again while the enclave signs, with new credentials or another\n"
    "log level; for a change of its measured part the enclave must be restarted.\n"
    "\n"
    "Credentials come from the configuration, else from the environment (AWS_ACCESS_KEY_ID ...),\n"
    "the shared credentials file, or the role of this instance (IMDSv2).\n"
    "\n"
    "Usage: tmkms nitro push-config [OPTIONS]\n"
    "\n"
    "Options:\n"
    "  -c, --config FILE     Configuration [default: $TMKMS_CONFIG_FILE, or tmkms.toml]\n"
    "  -v, --verbose         Make the enclave log more\n" ENCLAVE_OPTIONS_HELP
    "  -h, --help            Print help\n";
