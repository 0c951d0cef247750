/* tmkms nitro push-config: the configuration and credentials, checked and brought into the enclave. */
#include <stdio.h>
#include <string.h>

#include "aws/credentials.h"
#include "cli/json_print.h"
#include "cli/nitro.h"
#include "cli/nitro_enclave.h"
#include "config/config.h"
#include "crypto/secret.h"
#include "nitro/push.h"
#include "sandbox/sandbox.h"

enum { SOURCE_MAX = 128 };

/* About what was sent. */
struct sent {
    char source[SOURCE_MAX]; /* of the credentials */
    int64_t expires_s;       /* 0: not known */
};

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

struct options {
    const char *file;
    uint32_t log_port; /* where the configuration says none; 0: none */
    bool verbose, as_json;
};

static void add_log_port(json_t *tree, uint32_t port)
{
    json_t *table = json_object_get(tree, "enclave");
    if (tree == NULL || port == 0 || json_object_get(table, "log_vsock_port") != NULL)
        return;
    if (table == NULL)
        json_object_set_new(tree, "enclave", table = json_object());
    json_object_set_new(table, "log_vsock_port", json_integer(port));
}

/* The file's tree as it is sent. NULL: it has problems, and they were printed. */
static json_t *read_tree(const char *file, uint32_t log_port)
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
    add_log_port(tree, log_port);
    problems_free(&problems);
    config_free(&config);
    return tree;
}

/* From the file, where they are taken out, or from where AWS's own tools find them. */
static bool find_credentials(struct aws_credentials *ret, char source[SOURCE_MAX], json_t *tree,
    const char *file, struct err *err)
{
    if (!config_tree_take_credentials(ret, tree, err))
        return err_prefix(err, "%s", file);
    if (ret->key_id[0] != '\0')
        snprintf(source, SOURCE_MAX, "%.100s", file);
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

/* The answer as it came, and until when the credentials last. */
static bool print_json(json_t *answer, const struct sent *sent)
{
    json_object_del(answer, "ok");
    json_t *credentials =
        json_pack("{s:s, s:I}", "source", sent->source, "expires", (json_int_t)sent->expires_s);
    return json_object_set_new(answer, "credentials", credentials) == 0 &&
           json_print(answer, JSON_COMPACT);
}

/* A refusal that a program has to tell from others. */
static int print_refusal(enum push_code code, const struct err *err)
{
    const char *name = push_code_name(code);
    json_t *answer =
        name != NULL ? json_pack("{s:s, s:s}", "code", name, "error", err->text) : NULL;
    if (answer != NULL && json_dumpf(answer, stdout, JSON_COMPACT) == 0)
        puts("");
    json_decref(answer);
    return command_failed("%s", err->text);
}

/* ---- the command ---------------------------------------------------------------- */

static json_t *make_request(const struct options *o, struct sent *ret, struct err *err)
{
    struct aws_credentials credentials = {0};
    json_t *request = NULL, *tree = read_tree(o->file, o->log_port);
    if (tree != NULL && find_credentials(&credentials, ret->source, tree, o->file, err))
        request = json_pack("{s:s, s:O, s:o, s:b}", "op", "config", "config", tree, "credentials",
            enclave_credentials(&credentials), "verbose", (int)o->verbose);
    ret->expires_s = credentials.expires_s;
    secret_wipe(&credentials, sizeof credentials);
    json_decref(tree);
    return request;
}

static int push_config(const struct enclave *enclave, const struct options *o)
{
    struct sent sent = {0};
    struct err err = {0};
    if (!crypto_start(&err) || !sandbox_harden(false, &err))
        return command_failed("%s", err.text);
    json_t *request = make_request(o, &sent, &err);
    if (request == NULL)
        return err.text[0] != '\0' ? command_failed("%s", err.text) : EXIT_FAILED;
    enum push_code code;
    json_t *answer = enclave_ask_coded(enclave, request, &code, &err);
    json_decref(request);
    if (answer == NULL)
        return print_refusal(o->as_json ? code : PUSH_CODE_NONE, &err);
    bool ok = true;
    if (o->as_json)
        ok = print_json(answer, &sent);
    else
        print_answer(answer);
    json_decref(answer);
    return ok ? EXIT_DONE : command_failed("the answer cannot be printed");
}

int nitro_push_config(const struct command *self, int argc, char **argv)
{
    struct enclave_options options = {0};
    struct options o = {0};
    struct enclave enclave;
    const char *config = NULL, *log_port = NULL;
    const struct command_flag flags[] = {
        {'c', "config", &config, NULL},
        {'v', "verbose", NULL, &o.verbose},
        {0, "json", NULL, &o.as_json},
        {0, "log-port", &log_port, NULL},
        ENCLAVE_OPTION_FLAGS(options),
        {0},
    };
    int exit_code = command_flags_only(self, flags, argc, argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (log_port != NULL && !enclave_number(log_port, 1, UINT32_MAX - 1, &o.log_port))
        return command_usage(self, "'%s' is not a vsock port", log_port);
    exit_code = enclave_from(self, &options, &enclave);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    o.file = config_path(config);
    return push_config(&enclave, &o);
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
    "      --json            Print the answer as one line of JSON, with `credentials.expires`\n"
    "                        (seconds since 1970; 0: not known); also a refusal because of\n"
    "                        another configuration, with `code` (measured_config_differs or\n"
    "                        config_differs) and `error`\n"
    "      --log-port PORT   Where the enclave sends log lines, for a configuration without\n"
    "                        log_vsock_port\n"
    "  -v, --verbose         Make the enclave log more\n" ENCLAVE_OPTIONS_HELP
    "  -h, --help            Print help\n";
