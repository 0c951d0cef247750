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

#include <jansson.h>

#include "aws/kms.h"
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
    CONFIG_NAME_MAX = 51,
    CONFIG_CPUS_MAX = 64,
    CONFIG_MEMORY_MIN_MIB = 64,
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
    /* What the key must turn out to be; no key: not said. */
    struct public_key expected_key;
    int64_t min_height; /* heights below it are refused; 0: none */

    /* In an enclave: */
    uint32_t
        state_port; /* vsock port of `tmkms nitro persist`, which keeps it in state_file; 0: here */
    /* The key as KMS sealed it, instead of key_file; 0 bytes: key_file holds the key. */
    uint32_t sealed_n;
    uint8_t sealed[KMS_BLOB_MAX];
    /* Zero without a sealed key. A pair of the context whose value is CONFIG_CONTEXT_MEASURED gets
     * the measured configuration's hash in its place: config_chain_kms. */
    struct kms_place kms;
    bool context_has_measured;
    bool
        kms_root_is_file; /* kms_root_file is named, and kms.root_pem not filled: see config_tree_read */
};

struct config_validator {
    char chain_id[CHAIN_ID_MAX + 1];
    struct link_address address;
    char secret_key[CONFIG_PATH_MAX]; /* identity key of this end; "": sealed, or none is needed */
    uint32_t sealed_n; /* the identity key as KMS sealed it, opened with the chain's kms */
    uint8_t sealed[KMS_BLOB_MAX];
    uint32_t timeout_secs; /* silence after which the connection is dialled again */
    uint32_t line;         /* enum wire_line */
    int64_t max_height;    /* -1: none */
    bool reconnect;
};

struct config_enclave {
    uint32_t log_port; /* vsock port of the parent that takes log lines; 0: none */
    /* For `tmkms nitro run` alone: not in what is pushed. */
    char eif[CONFIG_PATH_MAX]; /* the image; "": not said */
    uint32_t cpus;             /* 0: not said */
    uint32_t memory_mib;       /* 0: what the image needs */
    uint32_t cid;              /* 0: chosen when it starts */
    char name[CONFIG_NAME_MAX];
};

struct config {
    struct config_chain *chains;
    size_t chains_n;
    struct config_validator *validators;
    size_t validators_n;
    /* [validators_n]: where `tmkms nitro run` leads the port of each; kind 0: not said. Not in what is pushed. */
    struct link_address *nodes;
    struct config_enclave enclave;
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

/* ---- from text and files (config_file.c: the only part that needs the TOML parser) ---- */

/* config_parse reads the TOML text. false when problems has errors; ret is then empty. file is for
 * messages. */
bool config_parse(struct config *ret, struct bytes toml, const char *file,
    struct problems *problems) ATTR_MUST_USE;
/* config_open opens a configuration for reading: a regular file, of which CONFIG_FILE_MAX bytes are
 * read at most. -1 and err, which names the file. */
enum { CONFIG_FILE_MAX = 4 << 20 };
int config_open(const char *file, struct err *err) ATTR_MUST_USE;
/* config_read opens and reads the file (at most 4 MiB), then config_parse. */
bool config_read(struct config *ret, const char *file, struct problems *problems) ATTR_MUST_USE;
/* The same for one who only looks: on false *ret, to be freed, is what can be told of the sections all the same; a key
 * that is missing or wrong is zero. */
bool config_read_as_far(
    struct config *ret, const char *file, struct problems *problems) ATTR_MUST_USE;

/* config_tree_read reads the file into the tree that is pushed to an enclave: kms_root_file is read
 * and replaced by kms_root_pem, and what is for the parent alone (schema.h: is_for_parent) is taken
 * out. *ret is the caller's (json_decref). What stands in the tree is not checked here:
 * config_from_tree. */
bool config_tree_read(json_t **ret, const char *file, struct problems *problems) ATTR_MUST_USE;

/* ---- from a tree ---- */

/* config_from_tree is config_parse for a tree that came as JSON: the same checks and words, without
 * lines; kms_root_file, which config_tree_read would have replaced, is refused. name is for messages.
 * The tree stays the caller's. */
bool config_from_tree(struct config *ret, const json_t *tree, const char *name,
    struct problems *problems) ATTR_MUST_USE;

/* config_tree_take_credentials takes every `credentials` table out of the tree, which can then be
 * measured and kept. ret->key_id is "" when there was none. false: not what the schema wants, or two
 * sections that differ. */
bool config_tree_take_credentials(
    struct aws_credentials *ret, json_t *tree, struct err *err) ATTR_MUST_USE;

/* config_check_for adds what only matters where the config is used: a host refuses keys that are for
 * the enclave, the enclave refuses files. The enclave is also warned of a missing public_key. */
enum config_use { CONFIG_HOST = 1, CONFIG_ENCLAVE };
bool config_check_for(enum config_use use, const struct config *c, const char *name,
    struct problems *problems) ATTR_MUST_USE;

/* What is wrong with a chain id, to be put behind it; NULL: nothing. */
const char *config_chain_id_problem(const char *id);

/* What the config is written for: a sealed key, a state or a validator behind vsock mean the
 * enclave. */
enum config_use config_use(const struct config *c);

#define CONFIG_CONTEXT_MEASURED "@measured_config"
enum { CONFIG_MEASURED_HEX = 96 };

/* config_chain_kms: the chain's kms with the hash (lower hex) put into its encryption context where
 * the configuration asks for it. */
void config_chain_kms(struct kms_place *ret, const struct config_chain *c,
    const char measured_hex[CONFIG_MEASURED_HEX + 1]);

void config_free(struct config *c);

/* -c PATH, else $TMKMS_CONFIG_FILE, else ./tmkms.toml. */
const char *config_path(const char *from_command_line);

const struct config_chain *config_find_chain(const struct config *c, const char *id);

#endif
