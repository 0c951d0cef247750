/* What the document of a keygen binds: a change of anything the operator asked for shows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "nitro/keygen.h"

static const char arn[] =
    "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

static struct kms_place sample(void)
{
    struct kms_place place = {.region = "eu-west-1",
        .host = "kms.test",
        .port = 4443,
        .vsock_port = 8000,
        .context = "chain\0hub\0",
        .context_n = 1,
        .root_pem = "-----BEGIN"};
    memcpy(place.key_id, arn, sizeof arn);
    return place;
}

static const struct public_key key = {.type = KEY_ED25519, .len = 32, .bytes = {1, 2, 3}};

static void bind(const struct kms_place *place, uint8_t out[KEYGEN_USER_DATA_LEN])
{
    keygen_user_data(bytes_of_text("ciphertext"), &key, place, out);
}

/* The text that doc/keygen.md describes, hashed by its words. */
static void layout(void **state)
{
    (void)state;
    static const char text[] = "eu-west-1\0kms.test\0"
                               "4443\0"
                               "arn:aws:kms:eu-west-1:111122223333:key/"
                               "1234abcd-12ab-34cd-56ef-1234567890ab\0-----BEGIN\0chain\0hub";
    struct kms_place place = sample();
    uint8_t out[KEYGEN_USER_DATA_LEN], want[SHA256_LEN];
    bind(&place, out);
    assert_memory_equal(out, "tmkms keygen v1\n", 16);
    sha256(bytes_of_text("ciphertext"), want);
    assert_memory_equal(out + 16, want, sizeof want);
    sha256(bytes_of(key.bytes, 32), want);
    assert_memory_equal(out + 48, want, sizeof want);
    sha256(bytes_of(text, sizeof text), want); /* with the final zero */
    assert_memory_equal(out + 80, want, sizeof want);
}

#define DIFFERS(change)                                                                            \
    do {                                                                                           \
        struct kms_place place = sample();                                                         \
        uint8_t a[KEYGEN_USER_DATA_LEN], b[KEYGEN_USER_DATA_LEN];                                  \
        bind(&place, a);                                                                           \
        change;                                                                                    \
        bind(&place, b);                                                                           \
        assert_memory_not_equal(a, b, sizeof a);                                                   \
    } while (0)

static void every_part_counts(void **state)
{
    (void)state;
    DIFFERS(place.region[0] = 'u');
    DIFFERS(place.host[0] = 'x');
    DIFFERS(place.port = 0);
    DIFFERS(place.key_id[24] = '9');
    DIFFERS(place.root_pem[0] = '\0');
    DIFFERS(place.context[0] = 'x');
    DIFFERS(place.context[7] = 'x');
    DIFFERS(place.context_n = 0);
    struct kms_place place = sample();
    struct public_key other = key;
    other.bytes[31] = 1;
    uint8_t a[KEYGEN_USER_DATA_LEN], b[KEYGEN_USER_DATA_LEN];
    bind(&place, a);
    keygen_user_data(bytes_of_text("ciphertext"), &other, &place, b);
    assert_memory_not_equal(a, b, sizeof a);
    keygen_user_data(bytes_of_text("ciphertexT"), &key, &place, b);
    assert_memory_not_equal(a, b, sizeof a);
}

static void only_an_arn_names_a_key(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "alias/validator", "1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws:kms", "arn:aws:kms:eu-west-1::key/1", "arn:aws:kms:eu-west-1:111122223333:key/",
        "arn:aws:s3:eu-west-1:111122223333:key/1", "xrn:aws:kms:eu-west-1:111122223333:key/1",
        "arn:aws:kms:eu-west-1:111122223333:grant/1"};
    struct err err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(keygen_check_key_id(bad[i], &err));
        assert_non_null(strstr(err.text, "ARN"));
    }
    assert_true(keygen_check_key_id(arn, &err));
    assert_true(keygen_check_key_id("arn:aws-cn:kms:cn-north-1:111122223333:alias/v", &err));
    char long_one[KMS_KEY_ID_MAX + 1];
    memset(long_one, 'a', KMS_KEY_ID_MAX);
    long_one[KMS_KEY_ID_MAX] = '\0';
    memcpy(long_one, arn, sizeof arn - 1);
    assert_false(keygen_check_key_id(long_one, &err));
}

/* A document of an ordinary attest request cannot be passed off as one of a keygen. */
static void user_data_of_others(void **state)
{
    (void)state;
    struct kms_place place = sample();
    uint8_t ours[KEYGEN_USER_DATA_LEN];
    bind(&place, ours);
    assert_false(keygen_allows_user_data(bytes_of(ours, sizeof ours)));
    assert_false(keygen_allows_user_data(bytes_of_text("tmkms")));
    assert_true(keygen_allows_user_data(bytes_of_text("tmkm")));
    assert_true(keygen_allows_user_data(bytes_of(NULL, 0)));
}

static void places(void **state)
{
    (void)state;
    struct kms_place place = sample();
    assert_true(kms_place_is_sound(&place));
    place.root_pem[2] = '\n';
    assert_true(kms_place_is_sound(&place));
    place.host[2] = '\n';
    assert_false(kms_place_is_sound(&place));
    place = sample();
    place.context_n = 2000;
    assert_false(kms_place_is_sound(&place));
    place = sample();
    memset(place.context, 'a', sizeof place.context);
    assert_false(kms_place_is_sound(&place));
    place = sample();
    memset(place.region, 'a', sizeof place.region);
    assert_false(kms_place_is_sound(&place));
    place = sample();
    place.context[1] = 1;
    assert_false(kms_place_is_sound(&place));
    place = (struct kms_place){0};
    assert_true(kms_place_is_sound(&place));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout),
        cmocka_unit_test(every_part_counts),
        cmocka_unit_test(only_an_arn_names_a_key),
        cmocka_unit_test(user_data_of_others),
        cmocka_unit_test(places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
