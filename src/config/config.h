/* config: tmkms.toml, read, checked and flattened.
 *
 * One table (config/schema.c) describes every key: type, default, range, doc. The structs below are
 * plain data without pointers, so that the `config` child can hand them to the monitor as frames.
 */
#ifndef TMKMS_CONFIG_CONFIG_H
#define TMKMS_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "config/address.h"
#include "config/key_format.h"
#include "crypto/key.h"
#include "privval/message.h"

enum {
    CONFIG_PATH_MAX = 1024,
    CONFIG_CHAINS_MAX = 256,
    CONFIG_VALIDATORS_MAX = 1024,
    CONFIG_HOOK_MAX = 1024,
    CONFIG_PREFIX_MAX = 64,
};

/* How public keys are printed for this chain. */
enum key_display { DISPLAY_BECH32 = 1, DISPLAY_COSMOS_JSON, DISPLAY_HEX };

struct config_chain {
    char id[CHAIN_ID_MAX + 1];
    uint32_t display; /* enum key_display */
    char account_prefix[CONFIG_PREFIX_MAX];
    char consensus_prefix[CONFIG_PREFIX_MAX];
    char state_file[CONFIG_PATH_MAX];
    char key_file[CONFIG_PATH_MAX];
    uint32_t key_format; /* enum key_file_format */
    uint32_t key_type;   /* enum key_type */
    bool sign_raw_bytes;
    bool one_block_per_round;
    int64_t max_height_jump; /* 0: off */
    /* state_hook; no arguments: none. The arguments, each zero-terminated, one behind the other. */
    char hook_args[CONFIG_HOOK_MAX];
    uint32_t hook_args_n;
    uint32_t hook_timeout_secs;
    bool hook_fail_closed;
};

struct config_validator {
    char chain_id[CHAIN_ID_MAX + 1];
    struct link_address address;
    char secret_key[CONFIG_PATH_MAX]; /* identity key of this end; "" for unix */
    uint32_t timeout_secs;            /* silence after which the connection is dialled again */
    uint32_t line;                    /* enum wire_line */
    int64_t max_height;               /* -1: none */
    bool reconnect;
};

struct config {
    struct config_chain *chains;
    size_t chains_n;
    struct config_validator *validators;
    size_t validators_n;
};

/* Everything that is wrong or odd, all at once. */
struct problem {
    bool is_warning;
    char text[1024]; /* file, key, reason, remedy */
};
struct problems {
    struct problem *list;
    size_t n;
    size_t errors_n;
};
void problems_add(struct problems *p, bool is_warning, const char *fmt, ...) ATTR_PRINTF(3, 4);
void problems_free(struct problems *p);

/* config_parse reads the TOML text. false when problems has errors; ret is then empty. file is for
 * messages. */
bool config_parse(struct config *ret, struct bytes toml, const char *file,
    struct problems *problems) ATTR_MUST_USE;
/* config_read opens and reads the file (at most 4 MiB), then config_parse. */
bool config_read(struct config *ret, const char *file, struct problems *problems) ATTR_MUST_USE;
void config_free(struct config *c);

/* -c PATH, else $TMKMS_CONFIG_FILE, else ./tmkms.toml. */
const char *config_path(const char *from_command_line);

const struct config_chain *config_find_chain(const struct config *c, const char *id);

#endif
