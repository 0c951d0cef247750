/* schema: the one table that describes every key of tmkms.toml. The reader (walk.c) follows it, and
 * doc/config.md is printed from it. */
#ifndef TMKMS_CONFIG_SCHEMA_H
#define TMKMS_CONFIG_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

enum schema_type {
    SCHEMA_TEXT = 1, /* a string without control characters */
    SCHEMA_PATH,
    SCHEMA_CHAIN_ID,
    SCHEMA_PREFIX,  /* the human-readable part of a bech32 text */
    SCHEMA_ADDRESS, /* of a validator: a string, or a table of the keys below it */
    SCHEMA_PUBLIC_KEY,
    SCHEMA_BASE64, /* into a struct raw_blob */
    SCHEMA_PEM,    /* certificates: text of several lines */
    SCHEMA_BOOL,
    SCHEMA_INTEGER,
    SCHEMA_INTEGER_OR_TEXT, /* an integer, or a string of its decimal digits */
    SCHEMA_CHOICE,
    SCHEMA_TEXTS,  /* a list of strings, at least one */
    SCHEMA_PAIRS,  /* a table of strings under names of the user's own */
    SCHEMA_TABLE,  /* [x] or x = {...} */
    SCHEMA_TABLES, /* [[x]] or x = [{...}] */
};

/* One allowed value of a choice; or, with refusal, one that we know and cannot serve. */
struct schema_choice {
    const char *name; /* NULL ends the list */
    uint32_t value;
    const char *refusal;
};

/* What a table of the file becomes: a record of its own, filled through the offsets of its keys. */
enum schema_record {
    RECORD_NONE = 0,
    RECORD_CHAIN,
    RECORD_VALIDATOR,
    RECORD_SOFTSIGN,
    RECORD_ENCLAVE
};

struct schema_key {
    const char *table; /* "" or a path such as "chain.key_format" */
    const char *name;
    enum schema_type type;
    bool required;
    bool is_secret;         /* never printed; a file that holds it must not be readable by others */
    bool is_for_parent;     /* of `tmkms nitro run`: never pushed, and refused when it was */
    const char *preset;     /* what an absent key means, as it would be written in the file */
    const char *preset_doc; /* the same in words, where the reader cannot simply fill it in */
    int64_t min, max;       /* of an integer; max of SCHEMA_TABLES: how many */
    const struct schema_choice *choices;
    /* Where the value goes in the record of the nearest enclosing table that has one. A list
     * and pairs go in as a borrowed `const json_t *`. Size 0: checked and then forgotten. */
    size_t at, size;
    /* For tables: */
    enum schema_record record;
    const char *label;       /* the key whose value names one of several tables in messages */
    const char *unsupported; /* why this program cannot use it, and what to do */
    const char *doc;         /* sentences for the reference page */
    const char *note;        /* a key that is accepted and changes nothing: why */
};

/* Ended by a NULL name. The keys of one table stand together, tables before their keys. */
extern const struct schema_key schema_keys[];

bool schema_has_keys(const char *table);

const struct schema_key *schema_find(const char *table, const char *name);

/* The records as they stand in the file, before keys and chains are brought together. `place` says
 * where a table stands, for messages. */
struct place {
    char section[192]; /* [[chain]] "cosmoshub-4" */
    char inner[96];    /* "key_format." inside an inline table */
    char path[192];    /* chain[0].key_format: finds the line */
};

struct raw_blob {
    uint32_t n;
    uint8_t bytes[KMS_BLOB_MAX];
};

struct raw_chain {
    struct config_chain out;
    struct place place;
    const json_t *hook_cmd;
};

struct raw_validator {
    struct config_validator out;
    struct place place;
    char peer_id[2 * PEER_ID_LEN + 1]; /* of addr = {...} */
    char node_text[LINK_TEXT_MAX];
    struct link_address node;
    struct raw_blob sealed;
};

struct raw_softsign {
    struct place place;
    const json_t *table; /* as it stands, with the values that were refused */
    const json_t *chain_ids;
    uint32_t key_type;
    uint32_t key_format;
    char path[CONFIG_PATH_MAX];
    struct raw_blob sealed;
    struct kms_place kms;            /* but for endpoint and context */
    char endpoint[KMS_HOST_MAX + 8]; /* host[:port] */
    const json_t *context;
};

#endif
