/* vector: reads the JSON of tests/vectors/privval_*.json. Whatever is missing or of another type
 * fails the test. */
#ifndef TMKMS_TEST_PRIVVAL_VECTOR_H
#define TMKMS_TEST_PRIVVAL_VECTOR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/bytes.h"
#include "privval/message.h"

json_t *vector_load(const char *file); /* json_decref it */
const char *vector_text(const json_t *object, const char *key);
int64_t vector_int(const json_t *object, const char *key); /* a number, or one as text */
bool vector_has(const json_t *object, const char *key);

/* Hex, or {"repeat": byte, "n": count}. vector_free the result. */
struct bytes vector_bytes(const json_t *object, const char *key);
void vector_free(struct bytes b);

/* Height, round, pol_round, block id and timestamp of a decoded vote or proposal or a sign_bytes
 * input; the step stays STEP_NONE. Fields that are not there stay zero. Hashes of the wrong length
 * keep their length and their first 32 bytes. */
struct signable vector_signable(const json_t *in);
struct timestamp vector_timestamp(const json_t *in);

void assert_bytes_equal(struct bytes got, struct bytes want);
void assert_sha256(struct bytes got, const char *want_hex);

#endif
