/* AWS's published Signature Version 4 test suite (credentials, date, signatures), and one request to KMS that botocore
 * 1.43 signed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "aws/sigv4.h"

#define SUITE_DATE "20150830T123600Z"
#define SUITE_TOKEN                                                                                \
    "AQoDYXdzEPT//////////"                                                                        \
    "wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPf"                     \
    "IeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/"                                                         \
    "kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcH" \
    "N"                                                                                            \
    "VXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+"                                              \
    "scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="

#define HOST                                                                                       \
    {                                                                                              \
        "host", "example.amazonaws.com"                                                            \
    }
#define DATE                                                                                       \
    {                                                                                              \
        "x-amz-date", SUITE_DATE                                                                   \
    }

static const struct {
    const char *name, *method, *query, *body;
    struct sigv4_header headers[6];
    size_t headers_n;
    const char *region, *service;
    const char *signed_names, *signature;
} suite[] = {
    {"get-vanilla", "GET", "", "", {HOST, DATE}, 2, "us-east-1", "service", "host;x-amz-date",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
    {"post-vanilla", "POST", "", "", {HOST, DATE}, 2, "us-east-1", "service", "host;x-amz-date",
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
    {"get-vanilla-query-order-key-case", "GET", "Param1=value1&Param2=value2", "", {HOST, DATE}, 2,
        "us-east-1", "service", "host;x-amz-date",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
    {"post-header-key-sort", "POST", "", "", {HOST, {"my-header1", "value1"}, DATE}, 3, "us-east-1",
        "service", "host;my-header1;x-amz-date",
        "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
    {"post-x-www-form-urlencoded", "POST", "", "Param1=value1",
        {{"content-type", "application/x-www-form-urlencoded"}, HOST, DATE}, 3, "us-east-1",
        "service", "content-type;host;x-amz-date",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
    {"post-sts-header-before", "POST", "", "", {HOST, DATE, {"x-amz-security-token", SUITE_TOKEN}},
        3, "us-east-1", "service", "host;x-amz-date;x-amz-security-token",
        "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"},
    {"botocore: TrentService.Decrypt", "POST", "", "{\"CiphertextBlob\":\"AQID\"}",
        {{"content-type", "application/x-amz-json-1.1"}, {"host", "kms.eu-west-1.amazonaws.com"},
            DATE, {"x-amz-security-token", "TOKEN/+="}, {"x-amz-target", "TrentService.Decrypt"}},
        5, "eu-west-1", "kms", "content-type;host;x-amz-date;x-amz-security-token;x-amz-target",
        "1006ac864c9784ccc9bfa696d78621974e23d14d978e2bcf4e540551d306ad33"},
};

static const struct aws_credentials suite_credentials = {
    .key_id = "AKIDEXAMPLE", .secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"};

static void test_signatures_are_those_of_the_suite(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof suite / sizeof suite[0]; i++) {
        const struct sigv4_request req = {.method = suite[i].method,
            .path = "/",
            .query = suite[i].query,
            .headers = suite[i].headers,
            .headers_n = suite[i].headers_n,
            .body = bytes_of_text(suite[i].body),
            .region = suite[i].region,
            .service = suite[i].service};
        char got[SIGV4_AUTHORIZATION_MAX], want[SIGV4_AUTHORIZATION_MAX];
        assert_true(sigv4_sign(&req, &suite_credentials, SUITE_DATE, got));
        snprintf(want, sizeof want,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/%s/%s/aws4_request, "
            "SignedHeaders=%s, Signature=%s",
            suite[i].region, suite[i].service, suite[i].signed_names, suite[i].signature);
        if (strcmp(got, want) != 0)
            fail_msg("%s:\n%s\n%s", suite[i].name, got, want);
    }
}

static void test_dates(void **state)
{
    (void)state;
    char date[SIGV4_DATE_LEN + 1];
    assert_true(sigv4_date(1440938160, date));
    assert_string_equal(date, SUITE_DATE);
    assert_true(sigv4_date(0, date));
    assert_string_equal(date, "19700101T000000Z");
    assert_false(sigv4_date(-1, date));
    assert_false(sigv4_date(INT64_MAX, date));
    assert_true(sigv4_date(253402300799, date));
    assert_string_equal(date, "99991231T235959Z");
    assert_false(sigv4_date(253402300800, date));
}

static void test_what_does_not_fit_is_refused(void **state)
{
    (void)state;
    static char huge[SIGV4_CANONICAL_MAX + 1];
    memset(huge, 'a', sizeof huge - 1);
    const struct sigv4_header headers[] = {{"host", huge}};
    struct sigv4_request req = {.method = "GET",
        .path = "/",
        .query = "",
        .headers = headers,
        .headers_n = 1,
        .region = "r",
        .service = "s"};
    char out[SIGV4_AUTHORIZATION_MAX];
    assert_false(sigv4_sign(&req, &suite_credentials, SUITE_DATE, out));
    req.headers_n = 0;
    assert_true(sigv4_sign(&req, &suite_credentials, SUITE_DATE, out));
    req.region = huge;
    assert_false(sigv4_sign(&req, &suite_credentials, SUITE_DATE, out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signatures_are_those_of_the_suite),
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
