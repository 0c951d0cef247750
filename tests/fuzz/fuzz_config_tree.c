/* A config as JSON, from whoever reaches the config port: an answer always comes, and a refusal always
 * has a reason. */
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

static void check_accepted(const struct config *c)
{
    for (size_t i = 0; i < c->validators_n; i++)
        if (config_find_chain(c, c->validators[i].chain_id) == NULL ||
            c->validators[i].sealed_n > KMS_BLOB_MAX)
            abort();
    for (size_t i = 0; i < c->chains_n; i++) {
        const struct config_chain *chain = &c->chains[i];
        struct kms_place place;
        char hash[CONFIG_MEASURED_HEX + 1];
        memset(hash, 'a', sizeof hash - 1);
        hash[sizeof hash - 1] = '\0';
        if ((chain->key_file[0] == '\0') != (chain->sealed_n > 0) ||
            (chain->state_file[0] == '\0') != (chain->state_port > 0) ||
            chain->sealed_n > KMS_BLOB_MAX)
            abort();
        config_chain_kms(&place, chain, hash);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct config config;
    struct problems problems = {0};
    struct aws_credentials credentials;
    struct err err;
    json_t *tree = json_loadb((const char *)data, n, 0, NULL);
    if (tree == NULL)
        return 0;
    bool ok = config_from_tree(&config, tree, "pushed", &problems);
    if (ok != (problems.errors_n == 0) || ok != (config.chains_n > 0))
        abort();
    check_accepted(&config);
    if (ok && !config_check_for(CONFIG_ENCLAVE, &config, "pushed", &problems) &&
        problems.errors_n == 0)
        abort();
    (void)!config_tree_take_credentials(&credentials, tree, &err);
    config_free(&config);
    problems_free(&problems);
    json_decref(tree);
    return 0;
}
