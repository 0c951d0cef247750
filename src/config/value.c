#include "config/value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "config/public_key.h"
#include "crypto/encode.h"

static void *target(const struct cell *c)
{
    return c->record != NULL && c->key->size > 0 ? (char *)c->record + c->key->at : NULL;
}

const char *value_type_words(enum schema_type type)
{
    switch (type) {
    case SCHEMA_TEXT:
    case SCHEMA_PATH:
    case SCHEMA_CHAIN_ID:
    case SCHEMA_PREFIX:
    case SCHEMA_CHOICE:
    case SCHEMA_PUBLIC_KEY:
    case SCHEMA_BASE64:
    case SCHEMA_PEM:
        return "a string";
    case SCHEMA_ADDRESS:
        return "a string, or { port = NUMBER } in an enclave";
    case SCHEMA_BOOL:
        return "true or false";
    case SCHEMA_INTEGER:
        return "an integer";
    case SCHEMA_INTEGER_OR_TEXT:
        return "an integer or a string of digits";
    case SCHEMA_TEXTS:
        return "a list of strings";
    case SCHEMA_PAIRS:
        return "a table of strings";
    case SCHEMA_TABLE:
        return "a table";
    case SCHEMA_TABLES:
        return "a list of tables";
    }
    return "";
}

const char *value_found_words(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "a table";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a decimal fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "a date or time, or null";
    }
    return "";
}

void value_refuse_type(const struct cell *c, const json_t *value)
{
    REFUSE(c, "is %s; write %s", value_found_words(value), value_type_words(c->key->type));
}

static bool is_plain(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return true;
}

/* With the final zero; 0: no limit. */
static size_t text_max(const struct schema_key *k)
{
    if (k->type == SCHEMA_ADDRESS || k->type == SCHEMA_CHOICE || k->type == SCHEMA_PUBLIC_KEY)
        return LINK_TEXT_MAX;
    return k->type == SCHEMA_BASE64 ? 0 : k->size;
}

/* A string without control characters that fits its place; NULL after a complaint. */
static const char *plain_text(const struct cell *c, const json_t *value)
{
    if (!json_is_string(value)) {
        value_refuse_type(c, value);
        return NULL;
    }
    size_t n = json_string_length(value);
    size_t max = text_max(c->key);
    if (n == 0)
        REFUSE(c, "is empty");
    else if (!is_plain(json_string_value(value), n))
        REFUSE(c, "holds a control character; remove it");
    else if (max > 0 && n >= max)
        REFUSE(c, "has %zu characters; at most %zu are allowed", n, max - 1);
    else
        return json_string_value(value);
    return NULL;
}

const char *config_chain_id_problem(const char *id)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
    if (id[0] == '\0')
        return "is empty";
    if (strlen(id) > CHAIN_ID_MAX)
        return "is longer than 50 characters";
    return id[strspn(id, allowed)] != '\0' ? "may hold only A-Z a-z 0-9 - _ and ." : NULL;
}

/* BIP 173: 1 to 83 characters from 33 to 126; upper case exists, but nobody prints it. */
static const char *prefix_problem(const char *prefix)
{
    for (const char *p = prefix; *p != '\0'; p++)
        if (*p < 33 || *p > 126 || (*p >= 'A' && *p <= 'Z'))
            return "is no bech32 prefix; write lower-case letters and digits, such as "
                   "cosmosvalconspub";
    return NULL;
}

static const char *path_problem(const char *path)
{
    if (path[0] == '~')
        return "begins with ~, which is not expanded; write the whole path";
    return path[strlen(path) - 1] == '/' ? "is a folder; write the path of a file" : NULL;
}

static void read_text(const struct cell *c, const json_t *value)
{
    const char *text = plain_text(c, value);
    if (text == NULL)
        return;
    const char *problem = NULL;
    if (c->key->type == SCHEMA_CHAIN_ID)
        problem = config_chain_id_problem(text);
    else if (c->key->type == SCHEMA_PREFIX)
        problem = prefix_problem(text);
    else if (c->key->type == SCHEMA_PATH)
        problem = path_problem(text);
    if (problem != NULL)
        REFUSE(c, "\"%.80s\" %s", text, problem);
    else if (target(c) != NULL)
        snprintf(target(c), c->key->size, "%s", text);
}

static void read_address(const struct cell *c, const json_t *value)
{
    struct link_address *out = target(c);
    struct err err;
    const char *text = plain_text(c, value);
    if (text != NULL && !link_address_parse(out, text, &err))
        REFUSE(c, "%.700s", err.text);
}

static void read_public_key(const struct cell *c, const json_t *value)
{
    struct err err;
    const char *text = plain_text(c, value);
    if (text != NULL && !public_key_parse(target(c), text, &err))
        REFUSE(c, "%s", err.text);
}

/* White space at the ends is no mistake: the text is often the output of a command, pasted. */
static void read_base64(const struct cell *c, const json_t *value)
{
    struct raw_blob blob = {0};
    size_t n = 0;
    if (!json_is_string(value))
        value_refuse_type(c, value);
    else if (json_string_length(value) == 0)
        REFUSE(c, "is empty");
    else if (!base64_decode(bytes_of(json_string_value(value), json_string_length(value)),
                 blob.bytes, sizeof blob.bytes, &n) ||
             n == 0)
        REFUSE(c,
            "is no base64 of at most %zu bytes; write the CiphertextBlob that KMS gave, in one "
            "line",
            sizeof blob.bytes);
    else {
        blob.n = (uint32_t)n;
        memcpy(target(c), &blob, sizeof blob);
    }
}

static bool is_pem(const char *text, size_t n)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----";
    for (size_t i = 0; i < n; i++)
        if (text[i] != '\n' && text[i] != '\r' && !is_plain(text + i, 1))
            return false;
    return strstr(text, begin) != NULL;
}

static void read_pem(const struct cell *c, const json_t *value)
{
    if (!json_is_string(value))
        value_refuse_type(c, value);
    else if (json_string_length(value) >= c->key->size)
        REFUSE(c, "has %zu characters; at most %zu are allowed", json_string_length(value),
            c->key->size - 1);
    else if (!is_pem(json_string_value(value), json_string_length(value)))
        REFUSE(c, "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)");
    else
        snprintf(target(c), c->key->size, "%s", json_string_value(value));
}

static void read_pairs(const struct cell *c, const json_t *value)
{
    const char *name;
    json_t *item;
    if (!json_is_object(value)) {
        value_refuse_type(c, value);
        return;
    }
    if (json_object_size(value) == 0)
        REFUSE(c, "is empty; write at least one pair, or remove it");
    json_object_foreach((json_t *)(uintptr_t)value, name, item)
    {
        size_t n = json_string_length(item);
        if (name[0] == '\0' || !is_plain(name, strlen(name)) || n == 0 ||
            !is_plain(json_string_value(item), n)) {
            REFUSE(c, "\"%.40s\" is not a name with a string of printable characters",
                is_plain(name, strlen(name)) ? name : "");
            return;
        }
    }
    memcpy(target(c), &value, sizeof value);
}

static void store_integer(const struct cell *c, int64_t v)
{
    if (target(c) == NULL)
        return;
    if (c->key->size == sizeof(int64_t)) {
        memcpy(target(c), &v, sizeof v);
        return;
    }
    uint32_t small = (uint32_t)v;
    memcpy(target(c), &small, sizeof small);
}

static void read_integer(const struct cell *c, int64_t v)
{
    const struct schema_key *k = c->key;
    if (v >= k->min && v <= k->max)
        store_integer(c, v);
    else if (k->max == INT64_MAX)
        REFUSE(c, "is %" PRId64 "; the least is %" PRId64, v, k->min);
    else
        REFUSE(c, "is %" PRId64 "; it must be from %" PRId64 " to %" PRId64, v, k->min, k->max);
}

static void read_digits(const struct cell *c, const json_t *value)
{
    const char *text = json_string_value(value);
    size_t n = json_string_length(value);
    errno = 0;
    if (n == 0 || strspn(text, "0123456789") != n)
        REFUSE(
            c, "\"%.40s\" is no number; write decimal digits only", is_plain(text, n) ? text : "");
    else {
        long long v = strtoll(text, NULL, 10);
        if (errno == ERANGE)
            REFUSE(c, "\"%.40s\" is larger than any height (%" PRId64 ")", text, INT64_MAX);
        else
            read_integer(c, v);
    }
}

static void unknown_choice(const struct cell *c, const char *text)
{
    char all[256] = "";
    struct nearest near = {.asked = text};
    for (const struct schema_choice *x = c->key->choices; x->name != NULL; x++) {
        if (x->refusal != NULL)
            continue;
        nearest_consider(&near, x->name);
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s\"%s\"", used > 0 ? ", " : "", x->name);
    }
    const char *meant = nearest_result(&near);
    if (meant != NULL)
        REFUSE(c, "\"%.40s\" is unknown; did you mean \"%s\"? (one of %s)", text, meant, all);
    else
        REFUSE(c, "\"%.40s\" is unknown; write one of %s", text, all);
}

static void read_choice(const struct cell *c, const json_t *value)
{
    const char *text = plain_text(c, value);
    if (text == NULL)
        return;
    for (const struct schema_choice *x = c->key->choices; x->name != NULL; x++) {
        if (strcmp(x->name, text) != 0)
            continue;
        if (x->refusal != NULL)
            REFUSE(c, "\"%s\" cannot be served: %s", text, x->refusal);
        else
            store_integer(c, x->value);
        return;
    }
    unknown_choice(c, text);
}

static void read_texts(const struct cell *c, const json_t *value)
{
    if (!json_is_array(value)) {
        value_refuse_type(c, value);
        return;
    }
    size_t n = json_array_size(value);
    if (n == 0)
        REFUSE(c, "is an empty list; name at least one");
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(value, i);
        size_t item_n = json_string_length(item);
        if (item_n == 0 || !is_plain(json_string_value(item), item_n)) {
            REFUSE(c, "item %zu is not a string with printable characters", i + 1);
            return;
        }
    }
    if (target(c) != NULL)
        memcpy(target(c), &value, sizeof value);
}

static void read_bool(const struct cell *c, const json_t *value)
{
    if (!json_is_boolean(value)) {
        value_refuse_type(c, value);
        return;
    }
    bool v = json_is_true(value);
    if (target(c) != NULL)
        memcpy(target(c), &v, sizeof v);
}

void value_read(const struct cell *c, const json_t *value)
{
    switch (c->key->type) {
    case SCHEMA_TEXT:
    case SCHEMA_PATH:
    case SCHEMA_CHAIN_ID:
    case SCHEMA_PREFIX:
        read_text(c, value);
        return;
    case SCHEMA_ADDRESS:
        read_address(c, value);
        return;
    case SCHEMA_PUBLIC_KEY:
        read_public_key(c, value);
        return;
    case SCHEMA_BASE64:
        read_base64(c, value);
        return;
    case SCHEMA_PEM:
        read_pem(c, value);
        return;
    case SCHEMA_PAIRS:
        read_pairs(c, value);
        return;
    case SCHEMA_BOOL:
        read_bool(c, value);
        return;
    case SCHEMA_INTEGER:
    case SCHEMA_INTEGER_OR_TEXT:
        if (json_is_integer(value))
            read_integer(c, json_integer_value(value));
        else if (json_is_string(value) && c->key->type == SCHEMA_INTEGER_OR_TEXT)
            read_digits(c, value);
        else
            value_refuse_type(c, value);
        return;
    case SCHEMA_CHOICE:
        read_choice(c, value);
        return;
    case SCHEMA_TEXTS:
        read_texts(c, value);
        return;
    case SCHEMA_TABLE:
    case SCHEMA_TABLES:
        return; /* the walk itself goes into these */
    }
}

void value_read_preset(const struct cell *c)
{
    json_t *value = json_loads(c->key->preset, JSON_DECODE_ANY, NULL);
    if (value == NULL)
        abort(); /* the table is wrong, or there is no memory */
    value_read(c, value);
    json_decref(value);
}
