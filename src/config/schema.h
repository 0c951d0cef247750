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
    SCHEMA_ADDRESS, /* of a validator */
    SCHEMA_BOOL,
    SCHEMA_INTEGER,
    SCHEMA_INTEGER_OR_TEXT, /* an integer, or a string of its decimal digits */
    SCHEMA_CHOICE,
    SCHEMA_TEXTS,  /* a list of strings, at least one */
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
enum schema_record { RECORD_NONE = 0, RECORD_CHAIN, RECORD_VALIDATOR, RECORD_SOFTSIGN };

struct schema_key {
    const char *table; /* "" or a path such as "chain.key_format" */
    const char *name;
    enum schema_type type;
    bool required;
    bool is_secret;         /* never printed; a file that holds it must not be readable by others */
    const char *preset;     /* what an absent key means, as it would be written in the file */
    const char *preset_doc; /* the same in words, where the reader cannot simply fill it in */
    int64_t min, max;       /* of an integer; max of SCHEMA_TABLES: how many */
    const struct schema_choice *choices;
    /* Where the value goes in the record of the nearest enclosing table that has one. A list goes
     * in as a borrowed `const json_t *`. Size 0: checked and then forgotten. */
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

const struct schema_key *schema_find(const char *table, const char *name);

/* The records as they stand in the file, before keys and chains are brought together. `place` says
 * where a table stands, for messages. */
struct place {
    char section[192]; /* [[chain]] "cosmoshub-4" */
    char inner[96];    /* "key_format." inside an inline table */
    char path[192];    /* chain[0].key_format: finds the line */
};

struct raw_chain {
    struct config_chain out;
    struct place place;
    const json_t *hook_cmd;
};

struct raw_validator {
    struct config_validator out;
    struct place place;
};

struct raw_softsign {
    struct place place;
    const json_t *chain_ids;
    uint32_t key_type;
    uint32_t key_format;
    char path[CONFIG_PATH_MAX];
};

#endif
