/* vectors: the JSON files of tests/vectors, for tests. A value that is missing or of the wrong kind
 * fails the test. */
#ifndef TMKMS_TESTS_VECTORS_H
#define TMKMS_TESTS_VECTORS_H

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"

static inline json_t *vectors_load(const char *file)
{
    char path[4096];
    json_error_t why;
    snprintf(path, sizeof path, VECTORS_DIR "/%s", file);
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &why);
    if (root == NULL)
        fail_msg("%s: %s", path, why.text);
    return root;
}

static inline const char *vectors_text(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    if (text == NULL)
        fail_msg("no text %s in the vector", name);
    return text;
}

/* Decodes hex into out (cap bytes) and returns the slice. */
static inline struct bytes hex_into(const char *hex, uint8_t *out, size_t cap)
{
    size_t n = strlen(hex) / 2;
    assert_true(n <= cap);
    assert_true(hex_decode(hex, strlen(hex), out, n));
    return bytes_of(out, n);
}

static inline struct bytes vectors_hex(
    const json_t *object, const char *name, uint8_t *out, size_t cap)
{
    return hex_into(vectors_text(object, name), out, cap);
}

static inline void assert_hex(struct bytes got, const char *want)
{
    char text[8192];
    assert_true(got.n * 2 < sizeof text);
    hex_lower(got, text);
    assert_string_equal(text, want);
}

#endif
