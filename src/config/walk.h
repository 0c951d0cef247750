/* walk: a tree against the schema: unknown keys, types, ranges; good values land in records. */
#ifndef TMKMS_CONFIG_WALK_H
#define TMKMS_CONFIG_WALK_H

#include "base/attr.h"
#include "config/schema.h"

struct raw {
    /* for messages */
    const char *file;
    const json_t *lines; /* from toml_parse; NULL: none */
    struct problems *problems;
    bool is_pushed; /* the files that it names are on another machine */
    /* the records, in the order of the file */
    struct raw_chain *chains;
    size_t chains_n;
    struct raw_validator *validators;
    size_t validators_n;
    struct raw_softsign *softsigns;
    size_t softsigns_n;
    struct config_enclave enclave;
    bool has_unsupported; /* a provider that this program cannot serve */
    bool has_secret;      /* a password or credentials stand in the file */
};

/* Follows the tree, which must outlive the records, and adds what is wrong to raw->problems. */
void walk_tree(struct raw *raw, const json_t *tree);
void raw_free(struct raw *raw);

/* complain adds `FILE:LINE: SECTION: KEY: text`. key may be NULL: the section as a whole. */
void complain(const struct raw *raw, const struct place *place, const char *key, const char *fmt,
    ...) ATTR_PRINTF(4, 5);
void complain_mildly(const struct raw *raw, const struct place *place, const char *key,
    const char *fmt, ...) ATTR_PRINTF(4, 5); /* a warning */

#endif
