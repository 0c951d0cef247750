/* state_target: which state file a `tmkms state` command is about, and for which chain and key. */
#ifndef TMKMS_CLI_STATE_TARGET_H
#define TMKMS_CLI_STATE_TARGET_H

#include <stdbool.h>

#include "cli/command.h"
#include "config/config.h"
#include "state/journal_words.h"

struct state_target {
    char named
        [JOURNAL_NAMED_MAX]; /* how it was named, for the commands in messages: "-c FILE --chain ID" */
    char path[CONFIG_PATH_MAX];
    char chain_id[CHAIN_ID_MAX + 1]; /* "": not given */
    struct public_key key;           /* type 0: not given */
};

/* The flags that all these commands share; borrowed from argv. */
struct state_options {
    const char *config, *chain, *state_file, *key_file, *pubkey;
};
#define STATE_OPTION_FLAGS(o)                                                                      \
    {'c', "config", &(o).config, NULL}, {0, "chain", &(o).chain, NULL},                            \
        {0, "state-file", &(o).state_file, NULL}, {0, "key", &(o).key_file, NULL},                 \
    {                                                                                              \
        0, "pubkey", &(o).pubkey, NULL                                                             \
    }
#define STATE_OPTIONS_HELP                                                                         \
    "  -c, --config FILE      Configuration [default: $TMKMS_CONFIG_FILE, or tmkms.toml]\n"        \
    "      --chain ID         The chain, where there are several; may also stand as an argument\n" \
    "      --state-file FILE  Without a configuration: the state file, with --chain and\n"         \
    "      --key KEYFILE      the key whose state it is, or\n"                                     \
    "      --pubkey HEX       its public key\n"                                                    \
    "  -h, --help             Print help\n"

/* What a command needs to know besides the path. */
enum state_need {
    STATE_NEED_FILE = 1, /* the file says whose it is; what the flags say is checked against it */
    STATE_NEED_IDENTITY, /* chain and key must be given */
};

/* state_for_each runs the command for the file that the flags name, or for the chain of the
 * configuration, or for all of its chains (one: only if there is a single one). Returns the exit
 * code; a failure of one chain does not keep the others from their turn. */
typedef int state_run(const struct state_target *target, void *ctx);
int state_for_each(const struct command *self, const struct state_options *o, enum state_need need,
    bool one, state_run *run, void *ctx);

#endif
