/* tmkms.toml, from any hand: an answer always comes, and a refusal always has a reason. */
#include <stdlib.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct config config;
    struct problems problems = {0};
    bool ok = config_parse(&config, bytes_of(data, n), "tmkms.toml", &problems);
    if (ok != (problems.errors_n == 0) || ok != (config.chains_n > 0))
        abort();
    for (size_t i = 0; i < config.validators_n; i++)
        if (config_find_chain(&config, config.validators[i].chain_id) == NULL)
            abort();
    for (size_t i = 0; i < config.chains_n; i++)
        if (config.chains[i].key_file[0] == '\0' || config.chains[i].state_file[0] == '\0')
            abort();
    config_free(&config);
    problems_free(&problems);
    return 0;
}
