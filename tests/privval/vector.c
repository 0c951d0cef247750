#include "privval/vector.h"

#include <errno.h>
#include <stdio.h>

#include <openssl/sha.h>

json_t *vector_load(const char *file)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", VECTORS_DIR, file);
    json_error_t error;
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &error);
    if (root == NULL)
        fail_msg("%s:%d: %s", path, error.line, error.text);
    return root;
}

bool vector_has(const json_t *object, const char *key)
{
    return json_object_get(object, key) != NULL;
}

static json_t *member(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    if (value == NULL)
        fail_msg("the vector has no \"%s\"", key);
    return value;
}

const char *vector_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(member(object, key));
    if (text == NULL)
        fail_msg("\"%s\" is no text", key);
    return text;
}

static int64_t int_of(const json_t *value)
{
    if (json_is_integer(value))
        return json_integer_value(value);
    const char *text = json_string_value(value);
    assert_non_null(text);
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    assert_true(errno == 0 && end != text && *end == '\0');
    return number;
}

int64_t vector_int(const json_t *object, const char *key)
{
    return int_of(member(object, key));
}

struct bytes vector_bytes(const json_t *object, const char *key)
{
    const json_t *value = member(object, key);
    size_t n =
        json_is_object(value) ? (size_t)vector_int(value, "n") : json_string_length(value) / 2;
    uint8_t *p = malloc(n + 1);
    assert_non_null(p);
    if (json_is_object(value))
        memset(p, (int)vector_int(value, "repeat"), n);
    else
        assert_true(hex_decode(json_string_value(value), json_string_length(value), p, n));
    return bytes_of(p, n);
}

void vector_free(struct bytes b)
{
    free((void *)b.p);
}

static uint8_t hash_of(const json_t *in, const char *key, uint8_t out[HASH_LEN])
{
    struct bytes hash = vector_bytes(in, key);
    assert_true(hash.n <= UINT8_MAX);
    memcpy(out, hash.p, hash.n < HASH_LEN ? hash.n : HASH_LEN);
    vector_free(hash);
    return (uint8_t)hash.n;
}

struct timestamp vector_timestamp(const json_t *in)
{
    const json_t *ts = member(in, "ts");
    assert_int_equal(json_array_size(ts), 2);
    return (struct timestamp){
        .seconds = int_of(json_array_get(ts, 0)),
        .nanos = (int32_t)int_of(json_array_get(ts, 1)),
    };
}

struct signable vector_signable(const json_t *in)
{
    struct signable s = {
        .height = vector_int(in, "height"),
        .round = (int32_t)vector_int(in, "round"),
    };
    if (vector_has(in, "pol_round"))
        s.pol_round = (int32_t)vector_int(in, "pol_round");
    if (vector_has(in, "ts"))
        s.timestamp = vector_timestamp(in);
    if (vector_has(in, "hash")) {
        s.block_id.hash_len = hash_of(in, "hash", s.block_id.hash);
        s.block_id.parts_total = (uint32_t)vector_int(in, "psh_total");
        s.block_id.parts_hash_len = hash_of(in, "psh_hash", s.block_id.parts_hash);
    }
    return s;
}

void assert_bytes_equal(struct bytes got, struct bytes want)
{
    assert_int_equal(got.n, want.n);
    if (want.n > 0)
        assert_memory_equal(got.p, want.p, want.n);
}

void assert_sha256(struct bytes got, const char *want_hex)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    char hex[2 * sizeof digest + 1];
    SHA256(got.p, got.n, digest);
    hex_lower(bytes_of(digest, sizeof digest), hex);
    assert_string_equal(hex, want_hex);
}
