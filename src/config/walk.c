#include "config/walk.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "config/value.h"

static json_int_t line_of(const struct raw *raw, const struct place *place, const char *key)
{
    char path[sizeof place->path + 96];
    const char *dot = place->path[0] != '\0' && key != NULL ? "." : "";
    snprintf(path, sizeof path, "%s%s%s", place->path, dot, key != NULL ? key : "");
    const json_t *line = json_object_get(raw->lines, path);
    if (line == NULL) /* a key that is missing: where its table begins */
        line = json_object_get(raw->lines, place->path);
    return json_integer_value(line);
}

ATTR_PRINTF(5, 0)
static void complain_with(const struct raw *raw, bool is_warning, const struct place *place,
    const char *key, const char *fmt, va_list args)
{
    char text[768];
    vsnprintf(text, sizeof text, fmt, args);
    char where[32] = "";
    json_int_t line = line_of(raw, place, key);
    if (line > 0)
        snprintf(where, sizeof where, ":%" JSON_INTEGER_FORMAT, line);
    const char *colon = place->section[0] != '\0' ? ": " : "";
    if (key == NULL)
        problems_add(raw->problems, is_warning, "%s%s: %s%s%s", raw->file, where, place->section,
            colon, text);
    else
        problems_add(raw->problems, is_warning, "%s%s: %s%s%s%.64s: %s", raw->file, where,
            place->section, colon, place->inner, key, text);
}

void complain(
    const struct raw *raw, const struct place *place, const char *key, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    complain_with(raw, false, place, key, fmt, args);
    va_end(args);
}

void complain_mildly(
    const struct raw *raw, const struct place *place, const char *key, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    complain_with(raw, true, place, key, fmt, args);
    va_end(args);
}

static void *grow(void *list, size_t *n, size_t size)
{
    char *bigger = reallocarray(list, *n + 1, size);
    if (bigger == NULL)
        abort();
    memset(bigger + *n * size, 0, size);
    (*n)++;
    return bigger;
}

static void *new_record(
    struct raw *raw, enum schema_record kind, const struct place *place, const json_t *value)
{
    switch (kind) {
    case RECORD_NONE:
        return NULL;
    case RECORD_CHAIN: {
        raw->chains = grow(raw->chains, &raw->chains_n, sizeof *raw->chains);
        struct raw_chain *chain = &raw->chains[raw->chains_n - 1];
        chain->place = *place;
        return chain;
    }
    case RECORD_VALIDATOR: {
        raw->validators = grow(raw->validators, &raw->validators_n, sizeof *raw->validators);
        struct raw_validator *validator = &raw->validators[raw->validators_n - 1];
        validator->place = *place;
        validator->out.max_height = -1;
        return validator;
    }
    case RECORD_ENCLAVE:
        return &raw->enclave;
    case RECORD_SOFTSIGN: {
        raw->softsigns = grow(raw->softsigns, &raw->softsigns_n, sizeof *raw->softsigns);
        struct raw_softsign *softsign = &raw->softsigns[raw->softsigns_n - 1];
        softsign->place = *place;
        softsign->table = value;
        return softsign;
    }
    }
    return NULL;
}

static void unknown_key(
    const struct raw *raw, const struct place *place, const char *table, const char *name)
{
    struct nearest near = {.asked = name};
    for (const struct schema_key *k = schema_keys; k->name != NULL; k++)
        if (strcmp(k->table, table) == 0)
            nearest_consider(&near, k->name);
    const char *meant = nearest_result(&near);
    if (meant != NULL)
        complain(raw, place, name, "unknown key; did you mean %s?", meant);
    else
        complain(raw, place, name, "unknown key; remove it, or see doc/config.md for the keys");
}

/* The place of table `key` below `place`; index < 0: not one of a list. */
static struct place place_below(
    const struct place *place, const struct schema_key *key, const json_t *value, int64_t index)
{
    struct place below = {0};
    char item[32] = "";
    if (index >= 0)
        snprintf(item, sizeof item, "[%" PRId64 "]", index);
    const char *dot = place->path[0] != '\0' ? "." : "";
    snprintf(below.path, sizeof below.path, "%.140s%s%s%s", place->path, dot, key->name, item);
    bool is_section = key->table[0] == '\0' || strcmp(key->table, "providers") == 0;
    if (!is_section) {
        memcpy(below.section, place->section, sizeof below.section);
        snprintf(below.inner, sizeof below.inner, "%.40s%s%s.", place->inner, key->name, item);
        return below;
    }
    char name[64];
    snprintf(name, sizeof name, "%s%s%s", key->table, dot, key->name);
    const json_t *label = key->label != NULL ? json_object_get(value, key->label) : NULL;
    if (index < 0)
        snprintf(below.section, sizeof below.section, "[%s]", name);
    else if (json_string_length(label) > 0)
        snprintf(below.section, sizeof below.section, "[[%s]] \"%.100s\"", name,
            json_string_value(label));
    else
        snprintf(below.section, sizeof below.section, "[[%s]] number %" PRId64, name, index + 1);
    return below;
}

static void walk_table(struct raw *raw, const char *table, const json_t *value,
    const struct place *place, void *record, int depth);

static void walk_below(const struct cell *c, const json_t *value, int64_t index, int depth)
{
    const struct schema_key *k = c->key;
    if (!json_is_object(value)) {
        REFUSE(c, "holds %s; write a table", value_found_words(value));
        return;
    }
    char table[96];
    snprintf(table, sizeof table, "%s%s%s", k->table, k->table[0] != '\0' ? "." : "", k->name);
    struct place place = place_below(c->place, k, value, index);
    bool is_inside = k->type != SCHEMA_TABLES && k->record == RECORD_NONE;
    void *record = is_inside ? c->record : new_record(c->raw, k->record, &place, value);
    if (k->unsupported != NULL) {
        c->raw->has_unsupported = true;
        complain(c->raw, &place, NULL, "%s", k->unsupported);
    }
    walk_table(c->raw, table, value, &place, record, depth);
}

static void walk_key(const struct cell *c, const json_t *value, int depth)
{
    if (c->key->is_secret)
        c->raw->has_secret = true;
    if (c->key->note != NULL)
        complain_mildly(c->raw, c->place, c->key->name, "%s", c->key->note);
    if (c->key->type == SCHEMA_TABLE || (c->key->type == SCHEMA_ADDRESS && json_is_object(value)))
        walk_below(c, value, -1, depth);
    else if (c->key->type != SCHEMA_TABLES)
        value_read(c, value);
    else if (!json_is_array(value))
        value_refuse_type(c, value);
    else if (json_array_size(value) > (size_t)c->key->max)
        REFUSE(
            c, "%zu of them; at most %" PRId64 " are allowed", json_array_size(value), c->key->max);
    else
        for (size_t i = 0; i < json_array_size(value); i++)
            walk_below(c, json_array_get(value, i), (int64_t)i, depth);
}

static void unknown_keys(
    const struct raw *raw, const struct place *place, const char *table, const json_t *value)
{
    const char *name;
    json_t *item;
    /* jansson's iterators take no const, but change nothing. */
    json_object_foreach((json_t *)(uintptr_t)value, name, item)
    {
        if (schema_find(table, name) == NULL)
            unknown_key(raw, place, table, name);
    }
}

/* depth only backs up what the schema says anyway: its tables end. */
static void walk_table(struct raw *raw, const char *table, const json_t *value,
    const struct place *place, void *record, int depth)
{
    if (depth == 0)
        return;
    unknown_keys(raw, place, table, value);
    for (const struct schema_key *k = schema_keys; k->name != NULL; k++) {
        if (strcmp(k->table, table) != 0)
            continue;
        struct cell c = {raw, k, place, record};
        const json_t *item = json_object_get(value, k->name);
        bool is_empty =
            k->type == SCHEMA_TABLES && json_is_array(item) && json_array_size(item) == 0;
        if (item != NULL && k->is_for_parent && raw->is_pushed)
            REFUSE(&c,
                "is for the parent alone; push the configuration with `tmkms nitro push-config`, "
                "which leaves it out");
        else if (item != NULL && !is_empty)
            walk_key(&c, item, depth - 1);
        else if (k->required)
            REFUSE(&c, "is missing; add it: %s", value_type_words(k->type));
        else if (k->preset != NULL)
            value_read_preset(&c);
    }
}

void walk_tree(struct raw *raw, const json_t *tree)
{
    walk_table(raw, "", tree, &(struct place){0}, NULL, 8);
}

void raw_free(struct raw *raw)
{
    free(raw->chains);
    free(raw->validators);
    free(raw->softsigns);
}
