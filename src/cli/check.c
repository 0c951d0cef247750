/* tmkms check: everything that start would refuse, all at once. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "keyring/public_text.h"
#include "monitor/preflight.h"

static void print_problems(const struct problems *problems)
{
    for (size_t i = 0; i < problems->n; i++)
        if (problems->list[i].is_warning)
            command_warn("%s", problems->list[i].text);
        else
            command_failed("%s", problems->list[i].text);
}

static const char *plural(size_t n)
{
    return n == 1 ? "" : "s";
}

static size_t nodes_of(const struct config *config, const struct config_chain *c)
{
    size_t n = 0;
    for (size_t i = 0; i < config->validators_n; i++)
        n += strcmp(config->validators[i].chain_id, c->id) == 0;
    return n;
}

static void print_sealed_chain(const struct config *config, const struct config_chain *c)
{
    char text[PUBLIC_TEXT_MAX] = "not said";
    struct err err;
    size_t nodes = nodes_of(config, c);
    if (c->expected_key.type != 0 && !public_text_for_chain(text, &c->expected_key, c, &err))
        snprintf(text, sizeof text, "%.200s", err.text);
    printf("  %s: %zu validator%s, for an enclave: state on vsock port %" PRIu32
           ", expected key %s\n",
        c->id, nodes, plural(nodes), c->state_port, text);
}

static void print_chain(
    const struct config *config, const struct config_chain *c, const struct preflight_chain *found)
{
    char text[PUBLIC_TEXT_MAX];
    struct err err;
    if (!public_text_for_chain(text, &found->key, c, &err))
        snprintf(text, sizeof text, "%.200s", err.text);
    size_t nodes = nodes_of(config, c);
    printf("  %s: %zu validator%s, nothing signed above height %" PRId64 ", %s key %s\n", c->id,
        nodes, plural(nodes), found->height, key_type_name((enum key_type)found->key.type), text);
}

/* found: NULL for an enclave, whose keys and states are elsewhere. */
static void print_summary(const char *file, const struct config *config,
    const struct preflight_chain *found, size_t warnings)
{
    printf("ok: %s: %zu chain%s, %zu validator%s, %zu warning%s\n", file, config->chains_n,
        plural(config->chains_n), config->validators_n, plural(config->validators_n), warnings,
        plural(warnings));
    for (size_t i = 0; i < config->chains_n; i++)
        if (found != NULL)
            print_chain(config, &config->chains[i], &found[i]);
        else
            print_sealed_chain(config, &config->chains[i]);
}

static int check(const char *file)
{
    struct config config;
    struct problems problems = {0};
    struct preflight_chain *found = NULL;
    struct err err;
    if (!crypto_start(&err))
        return command_failed("%s", err.text);
    bool is_read = config_read_as_far(&config, file, &problems);
    bool is_for_host = config_use(&config) == CONFIG_HOST;
    if (is_read && !config_check_for(config_use(&config), &config, file, &problems))
        is_for_host = false;
    if (is_for_host) { /* even with errors: the files that are named are looked at */
        found = calloc(config.chains_n + 1, sizeof *found);
        if (found == NULL)
            return command_failed("no memory");
        preflight(found, &config, file, &problems);
    } else if (is_read && config_use(&config) == CONFIG_ENCLAVE) {
        preflight_parent(&config, file, &problems);
    }
    bool ok = problems.errors_n == 0;
    print_problems(&problems);
    if (ok)
        print_summary(file, &config, found, problems.n);
    else
        fprintf(stderr, "%zu problem%s\n", problems.errors_n, plural(problems.errors_n));
    free(found);
    problems_free(&problems);
    config_free(&config);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

static int run(const struct command *self, int argc, char **argv)
{
    const char *config = NULL;
    const struct command_flag flags[] = {
        {.letter = 'c', .name = "config", .value = &config},
        {0},
    };
    int exit_code = command_flags_only(self, flags, argc, argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    return check(config_path(config));
}

const struct command command_check = {
    .name = "check",
    .summary = "Say everything that `tmkms start` would refuse",
    .help =
        "Say everything that `tmkms start` would refuse, all at once, and what looks odd.\n"
        "Reads the configuration and the files it names; changes nothing, so it may run beside a\n"
        "signer at work. Exit code 0: start would begin to sign (once a signer that runs with "
        "this\n"
        "configuration is stopped); 1: it would not.\n"
        "\n"
        "Usage: tmkms check [OPTIONS]\n"
        "\n"
        "Options:\n"
        "  -c, --config PATH  the configuration (else $TMKMS_CONFIG_FILE, else ./tmkms.toml)\n"
        "  -h, --help         Print help\n",
    .run = run,
};
