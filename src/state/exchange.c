#include "state/exchange.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/encode.h"

static const char *const format_names[] = {
    [EXCHANGE_DETECT] = "detect",
    [EXCHANGE_OWN] = "interchange",
    [EXCHANGE_RUST] = "tmkms",
    [EXCHANGE_COMETBFT] = "cometbft",
};

const char *exchange_format_name(enum exchange_format format)
{
    return format_names[format];
}

bool exchange_format_parse(enum exchange_format *ret, const char *name)
{
    for (enum exchange_format f = EXCHANGE_OWN; f <= EXCHANGE_COMETBFT; f++) {
        if (strcmp(name, format_names[f]) == 0) {
            *ret = f;
            return true;
        }
    }
    return false;
}

/* ---- fields ---- */

/* As the programs write it: digits, no sign, no leading zero. */
static bool parse_digits(const char *text, int64_t max, int64_t *ret)
{
    size_t n = strlen(text);
    if (n == 0 || n > 19 || strspn(text, "0123456789") != n || (text[0] == '0' && n > 1))
        return false;
    unsigned long long v = strtoull(text, NULL, 10);
    if (v > (unsigned long long)max)
        return false;
    *ret = (int64_t)v;
    return true;
}

enum { AS_TEXT = 1, AS_NUMBER = 2 };

static bool get_number(
    const json_t *object, const char *name, int forms, int64_t max, int64_t *ret, struct err *err)
{
    const json_t *v = json_object_get(object, name);
    if (v == NULL)
        return err_set(err, "\"%s\" is missing", name);
    if (json_is_string(v) && (forms & AS_TEXT) != 0)
        return parse_digits(json_string_value(v), max, ret) ||
               err_set(err, "\"%s\" is not a number from 0 to %" PRId64, name, max);
    if (!json_is_integer(v) || (forms & AS_NUMBER) == 0)
        return err_set(err, "\"%s\" is not %s", name,
            forms == AS_TEXT ? "a number in quotes" : "a whole number");
    if (json_integer_value(v) < 0 || json_integer_value(v) > max)
        return err_set(err, "\"%s\" is not from 0 to %" PRId64, name, max);
    *ret = json_integer_value(v);
    return true;
}

static bool knows_keys(json_t *object, const char *const *names, struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        size_t i = 0;
        while (names[i] != NULL && strcmp(names[i], key) != 0)
            i++;
        if (names[i] == NULL)
            return err_set(err, "unknown key \"%.40s\"", key);
    }
    return true;
}

/* Bytes as text in an optional field: NULL and an empty result when it is absent or null. */
static bool get_optional_text(
    const json_t *object, const char *name, const char **ret, struct err *err)
{
    const json_t *v = json_object_get(object, name);
    *ret = json_string_value(v);
    return v == NULL || json_is_null(v) || *ret != NULL ||
           err_set(err, "\"%s\" is not a text", name);
}

static bool check_hash(const json_t *object, const char *name, struct err *err)
{
    const char *text = json_string_value(json_object_get(object, name));
    uint8_t hash[HASH_LEN];
    if (text != NULL && (text[0] == '\0' || hex_decode(text, strlen(text), hash, sizeof hash)))
        return true;
    return err_set(err, "\"%s\" is not a hash in hex", name);
}

/* ---- the Rust program's state file ---- */

/* The block is not used, as its height is burned; a file with a broken one is not trusted at all.
 */
static bool check_block_id(json_t *id, struct err *err)
{
    static const char *const names[] = {"hash", "parts", "part_set_header", NULL};
    static const char *const parts_names[] = {"total", "hash", NULL};
    if (json_is_null(id))
        return true;
    json_t *parts = json_object_get(id, "parts");
    json_t *older = json_object_get(id, "part_set_header");
    if ((parts == NULL) == (older == NULL))
        return err_set(err, "\"block_id\" needs \"parts\" or \"part_set_header\"");
    if (parts == NULL)
        parts = older;
    int64_t total;
    return knows_keys(id, names, err) && check_hash(id, "hash", err) &&
           knows_keys(parts, parts_names, err) && check_hash(parts, "hash", err) &&
           get_number(parts, "total", AS_TEXT | AS_NUMBER, UINT32_MAX, &total, err);
}

static bool read_rust(json_t *object, int64_t *height, struct err *err)
{
    static const char *const names[] = {"height", "round", "step", "block_id", NULL};
    int64_t round, step;
    json_t *id = json_object_get(object, "block_id");
    return knows_keys(object, names, err) &&
           get_number(object, "height", AS_TEXT, INT64_MAX, height, err) &&
           get_number(object, "round", AS_TEXT, INT32_MAX, &round, err) &&
           get_number(object, "step", AS_NUMBER, 2, &step, err) &&
           (id != NULL || err_set(err, "\"block_id\" is missing")) && check_block_id(id, err);
}

/* ---- CometBFT's priv_validator_state.json ---- */

static bool check_signature(const json_t *object, struct err *err)
{
    enum { LONGEST = 3309 }; /* ML-DSA-65 */
    const char *text;
    if (!get_optional_text(object, "signature", &text, err))
        return false;
    uint8_t raw[LONGEST];
    size_t n;
    if (text == NULL || (strlen(text) % 4 == 0 && strpbrk(text, " \t\r\n") == NULL &&
                            base64_decode(bytes_of_text(text), raw, sizeof raw, &n)))
        return true;
    return err_set(err, "\"signature\" is not base64");
}

/* Canonical sign-bytes end with the chain id behind its length: the only thing in the file that
 * tells whose it is. */
static bool check_sign_bytes(const json_t *object, const char *chain_id, struct err *err)
{
    enum { LONGEST = 512 };
    const char *text;
    if (!get_optional_text(object, "signbytes", &text, err))
        return false;
    uint8_t raw[LONGEST];
    size_t n = text == NULL ? 0 : strlen(text) / 2;
    if (n > LONGEST || (text != NULL && !hex_decode(text, strlen(text), raw, n)))
        return err_set(err, "\"signbytes\" is not hex");
    if (n == 0)
        return true;
    size_t tail = strlen(chain_id);
    if (n > tail && raw[n - tail - 1] == tail && memcmp(raw + n - tail, chain_id, tail) == 0)
        return true;
    return err_set(err, "\"signbytes\" are of another chain than %s", chain_id);
}

static bool read_cometbft(json_t *object, const char *chain_id, int64_t *height, struct err *err)
{
    static const char *const names[] = {"height", "round", "step", "signature", "signbytes", NULL};
    int64_t round, step;
    return knows_keys(object, names, err) &&
           get_number(object, "height", AS_TEXT, INT64_MAX, height, err) &&
           get_number(object, "round", AS_TEXT | AS_NUMBER, INT32_MAX, &round, err) &&
           get_number(object, "step", AS_NUMBER, 3, &step, err) && check_signature(object, err) &&
           check_sign_bytes(object, chain_id, err);
}

/* ---- ours ---- */

static bool read_own(struct record *ret, struct bytes text, const char *chain_id,
    const struct public_key *key, struct err *err)
{
    struct record rec;
    if (!export_parse(&rec, text))
        return err_set(err, "the line was changed or cut off (its checksum is wrong), or another "
                            "version of tmkms wrote it");
    if (strcmp(rec.chain_id, chain_id) != 0)
        return err_set(err, "it belongs to the chain %s, not to %s", rec.chain_id, chain_id);
    if (!public_key_equal(&rec.key, key))
        return err_set(err, "it belongs to another public key");
    *ret = rec;
    return true;
}

static bool starts_with(struct bytes text, const char *head)
{
    size_t n = strlen(head);
    return text.n >= n && memcmp(text.p, head, n) == 0;
}

static bool read_foreign(enum exchange_format format, struct bytes text, const char *chain_id,
    int64_t *height, struct err *err)
{
    json_error_t where;
    json_t *object =
        json_loadb(text.n > 0 ? (const char *)text.p : "", text.n, JSON_REJECT_DUPLICATES, &where);
    if (object == NULL)
        return err_set(err, "not JSON: %s (line %d)", where.text, where.line);
    if (format == EXCHANGE_DETECT)
        format = json_object_get(object, "block_id") != NULL ? EXCHANGE_RUST : EXCHANGE_COMETBFT;
    bool ok = json_is_object(object) || err_set(err, "not a JSON object");
    if (ok)
        ok = format == EXCHANGE_RUST ? read_rust(object, height, err)
                                     : read_cometbft(object, chain_id, height, err);
    json_decref(object);
    return ok;
}

bool exchange_read(struct record *ret, enum exchange_format format, struct bytes text,
    const char *chain_id, const struct public_key *key, struct err *err)
{
    if (starts_with(text, "{\"tmkms_state\":"))
        return err_set(
            err, "this is a state file itself: write its record with `tmkms state export` first");
    if (format == EXCHANGE_OWN ||
        (format == EXCHANGE_DETECT && starts_with(text, "{\"tmkms_export\":")))
        return read_own(ret, text, chain_id, key, err);
    struct record rec = {.key = *key};
    if (!read_foreign(format, text, chain_id, &rec.mark.floor, err))
        return false;
    snprintf(rec.chain_id, sizeof rec.chain_id, "%s", chain_id);
    const char *problem = record_problem(&rec);
    if (problem != NULL)
        return err_set(err, "%s", problem);
    *ret = rec;
    return true;
}

/* The last round and step there are: no request at this height comes behind them. */
struct bytes exchange_write(
    enum exchange_format format, const struct record *rec, uint8_t out[RECORD_LINE_MAX])
{
    const struct watermark *mark = &rec->mark;
    int64_t height = mark->floor > mark->last.height ? mark->floor : mark->last.height;
    int n = 0;
    switch (format) {
    case EXCHANGE_DETECT:
    case EXCHANGE_OWN:
        return export_render(rec, out);
    case EXCHANGE_RUST:
        n = snprintf((char *)out, RECORD_LINE_MAX,
            "{\"height\":\"%" PRId64 "\",\"round\":\"%d\",\"step\":2,\"block_id\":null}\n", height,
            INT32_MAX);
        break;
    case EXCHANGE_COMETBFT:
        n = snprintf((char *)out, RECORD_LINE_MAX,
            "{\n  \"height\": \"%" PRId64 "\",\n  \"round\": %d,\n  \"step\": 3\n}\n", height,
            INT32_MAX);
        break;
    }
    return bytes_of(out, (size_t)n);
}
