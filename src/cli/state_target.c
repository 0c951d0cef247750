#include "cli/state_target.h"

#include <stdio.h>
#include <string.h>

#include "config/public_key.h"
#include "keyring/keyring.h"

/* The private key is wiped at once. */
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

/* ---- by flags ------------------------------------------------------------------- */

static int run_for_file(const struct command *self, const struct state_options *o,
    enum state_need need, state_run *run, void *ctx)
{
    struct state_target target = {0};
    struct err err;
    if (o->config != NULL)
        return command_usage(self, "--state-file and --config exclude each other");
    if (need == STATE_NEED_IDENTITY &&
        (o->chain == NULL || (o->key_file == NULL) == (o->pubkey == NULL)))
        return command_usage(self, "--state-file needs --chain, and --key or --pubkey");
    const char *problem = o->chain != NULL ? config_chain_id_problem(o->chain) : NULL;
    if (problem != NULL)
        return command_usage(self, "--chain: \"%.80s\" %s", o->chain, problem);
    if (strlen(o->state_file) >= sizeof target.path)
        return command_usage(self, "the path of the state file is too long");
    snprintf(target.path, sizeof target.path, "%s", o->state_file);
    snprintf(target.chain_id, sizeof target.chain_id, "%s", o->chain != NULL ? o->chain : "");
    snprintf(target.named, sizeof target.named, "--state-file %.200s --chain %s %s %.200s",
        o->state_file, o->chain != NULL ? o->chain : "ID", o->pubkey != NULL ? "--pubkey" : "--key",
        o->pubkey != NULL     ? o->pubkey
        : o->key_file != NULL ? o->key_file
                              : "KEYFILE");
    if (o->key_file != NULL && !load_public(&target.key, o->key_file, 0, 0, &err))
        return command_failed("%s", err.text);
    if (o->pubkey != NULL && !public_key_parse(&target.key, o->pubkey, &err))
        return command_failed("--pubkey %s", err.text);
    return run(&target, ctx);
}

/* ---- by configuration ------------------------------------------------------------ */

/* The file that the parent of an enclave keeps. The key is sealed: public_key says which it is. */
static int run_for_enclave(const struct config_chain *chain, const char *config,
    enum state_need need, state_run *run, void *ctx)
{
    struct state_target target = {.key = chain->expected_key};
    if (chain->state_file[0] == '\0')
        return command_failed(
            "chain %s: the configuration does not say where the parent of the enclave keeps its "
            "state; write state_file beside state_vsock_port, or name the file with `--state-file "
            "FILE --chain %s` and --key or --pubkey",
            chain->id, chain->id);
    if (need == STATE_NEED_IDENTITY && target.key.type == 0)
        return command_failed("chain %s: its key is sealed, and the configuration does not say "
                              "which it is; write public_key into [[chain]]",
            chain->id);
    snprintf(target.path, sizeof target.path, "%s", chain->state_file);
    snprintf(target.named, sizeof target.named, "-c %.400s --chain %s", config, chain->id);
    snprintf(target.chain_id, sizeof target.chain_id, "%s", chain->id);
    return run(&target, ctx);
}

static int run_for_chain(const struct config_chain *chain, const char *config, enum state_need need,
    state_run *run, void *ctx)
{
    struct state_target target = {0};
    struct err err;
    if (chain->state_port != 0)
        return run_for_enclave(chain, config, need, run, ctx);
    snprintf(target.path, sizeof target.path, "%s", chain->state_file);
    snprintf(target.named, sizeof target.named, "-c %.400s --chain %s", config, chain->id);
    snprintf(target.chain_id, sizeof target.chain_id, "%s", chain->id);
    if (need == STATE_NEED_IDENTITY &&
        !load_public(&target.key, chain->key_file, (enum key_type)chain->key_type,
            (enum key_file_format)chain->key_format, &err))
        return command_failed("chain %s: %s", chain->id, err.text);
    return run(&target, ctx);
}

static int run_for_chains(const struct config *config, const struct state_options *o,
    enum state_need need, bool one, state_run *run, void *ctx)
{
    int exit_code = EXIT_DONE;
    size_t n = 0;
    if (one && o->chain == NULL && config->chains_n > 1)
        return command_failed(
            "the configuration has %zu chains: say which with --chain", config->chains_n);
    for (size_t i = 0; i < config->chains_n; i++) {
        if (o->chain != NULL && strcmp(o->chain, config->chains[i].id) != 0)
            continue;
        n++;
        int code = run_for_chain(&config->chains[i], config_path(o->config), need, run, ctx);
        exit_code = code != EXIT_DONE ? code : exit_code;
    }
    if (n == 0 && o->chain != NULL)
        return command_failed("there is no chain %s in the configuration", o->chain);
    return n > 0 ? exit_code : command_failed("there is no chain in the configuration");
}

static int run_for_config(
    const struct state_options *o, enum state_need need, bool one, state_run *run, void *ctx)
{
    struct config config = {0};
    struct problems problems = {0};
    bool ok = config_read(&config, config_path(o->config), &problems);
    for (size_t i = 0; i < problems.n; i++)
        if (!problems.list[i].is_warning)
            command_failed("%s", problems.list[i].text);
    problems_free(&problems);
    int exit_code = ok ? run_for_chains(&config, o, need, one, run, ctx) : EXIT_FAILED;
    config_free(&config);
    return exit_code;
}

int state_for_each(const struct command *self, const struct state_options *o, enum state_need need,
    bool one, state_run *run, void *ctx)
{
    struct err err;
    if (!crypto_start(&err))
        return command_failed("%s", err.text);
    if (o->state_file != NULL)
        return run_for_file(self, o, need, run, ctx);
    if (o->key_file != NULL || o->pubkey != NULL)
        return command_usage(self, "--key and --pubkey go with --state-file");
    return run_for_config(o, need, one, run, ctx);
}
