/* value: one value of the file against its line of the schema. */
#ifndef TMKMS_CONFIG_VALUE_H
#define TMKMS_CONFIG_VALUE_H

#include "config/walk.h"

/* One key of one table, while it is read. */
struct cell {
    struct raw *raw;
    const struct schema_key *key;
    const struct place *place;
    void *record; /* NULL when nothing is kept */
};

#define REFUSE(cell, ...) complain((cell)->raw, (cell)->place, (cell)->key->name, __VA_ARGS__)

/* value_read checks a value of any type but tables and stores it, or complains. */
void value_read(const struct cell *c, const json_t *value);
/* The same with what an absent key means; presets stand in the schema as they would in the file. */
void value_read_preset(const struct cell *c);

const char *value_type_words(enum schema_type type); /* "a string" */
const char *value_found_words(const json_t *value);
void value_refuse_type(const struct cell *c, const json_t *value);

#endif
