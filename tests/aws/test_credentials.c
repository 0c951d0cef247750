/* Where credentials come from: environment, file, metadata service; each with what goes wrong. The real metadata mock
 * is exercised by tests/kms/test_front.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../folder.h"

#include "aws/credentials.h"
#include "aws/imds.h"
#include "base/clock.h"
#include "base/fd.h"
#include "crypto/key.h"
#include "server.h"

static char folder[] = "/tmp/tmkms-credentials-XXXXXX";
static char file[sizeof folder + 16];
static struct aws_credentials found;
static char source[128];

static void write_file(const char *text)
{
    struct err err;
    assert_true(fd_create_durable(file, text, strlen(text), true, &err));
    setenv("AWS_SHARED_CREDENTIALS_FILE", file, 1);
}

static int clear(void **state)
{
    (void)state;
    static const char *const names[] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
    setenv("HOME", folder, 1);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    memset(&found, 0, sizeof found);
    return 0;
}

static void assert_found(const char *id, const char *secret, const char *token, const char *from)
{
    struct err err;
    if (!credentials_find(&found, source, &err))
        fail_msg("%s", err.text);
    assert_string_equal(found.key_id, id);
    assert_string_equal(found.secret_key, secret);
    assert_string_equal(found.session_token, token);
    assert_string_equal(source, from);
}

static void assert_not_found(const char *why)
{
    struct err err = {0};
    struct aws_credentials before = found;
    assert_false(credentials_find(&found, source, &err));
    assert_memory_equal(&before, &found, sizeof found);
    if (strstr(err.text, why) == NULL)
        fail_msg("'%s' does not say '%s'", err.text, why);
}

static void test_environment(void **state)
{
    (void)state;
    write_file("[default]\naws_access_key_id = F\naws_secret_access_key = G\n");
    setenv("AWS_ACCESS_KEY_ID", "A", 1);
    assert_not_found("AWS_ACCESS_KEY_ID but not AWS_SECRET_ACCESS_KEY");
    setenv("AWS_SECRET_ACCESS_KEY", "B", 1);
    assert_found("A", "B", "", "environment");
    setenv("AWS_SESSION_TOKEN", "C", 1);
    assert_found("A", "B", "C", "environment");
    unsetenv("AWS_ACCESS_KEY_ID");
    assert_not_found("AWS_SECRET_ACCESS_KEY but not AWS_ACCESS_KEY_ID");
}

static void test_profiles(void **state)
{
    (void)state;
    write_file("# comment\n[ default ]\r\naws_access_key_id=A\r\n  aws_secret_access_key =  B/+=  "
               "\r\nregion = x\r\n"
               "; another\n[two]\naws_access_key_id = C\naws_secret_access_key = "
               "D\naws_session_token = E=\n"
               "[half]\naws_access_key_id = C\n[process]\ncredential_process = /bin/true\nbroken "
               "line\n[unclosed\n"
               "aws_access_key_id = Z");
    assert_found("A", "B/+=", "", "profile default");
    setenv("AWS_PROFILE", "two", 1);
    assert_found("C", "D", "E=", "profile two");
    setenv("AWS_PROFILE", "half", 1);
    assert_not_found("profile half in");
    setenv("AWS_PROFILE", "process", 1);
    assert_not_found("export-credentials");
    setenv("AWS_PROFILE", "three", 1);
    assert_not_found("no profile three");
    unsetenv("AWS_PROFILE");
    write_file("");
    assert_not_found("AWS_EC2_METADATA_DISABLED");
    setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials", 1);
    assert_not_found("/nonexistent/credentials");
    unsetenv("AWS_SHARED_CREDENTIALS_FILE");
    assert_not_found("AWS_EC2_METADATA_DISABLED");
    write_file("[default]\naws_access_key_id = "
               "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
               "AAAAAAAAAAAAAAAAAA"
               "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n");
    assert_not_found("too long");
}

/* ---- the metadata service -------------------------------------------------------------- */

#define HTTP(status, text) "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n" text
#define ROLE                                                                                       \
    "{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"ASIAX\",\"SecretAccessKey\":"   \
    "\"S\",\"Token\":\"T\","

static void serve(struct server *s, const char *const *texts, size_t n)
{
    char url[64];
    *s = (struct server){.answers_n = n};
    for (size_t i = 0; i < n; i++)
        s->answers[i].text = texts[i];
    server_start(s);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", (unsigned)s->port);
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url, 1);
    unsetenv("AWS_EC2_METADATA_DISABLED");
}

static void assert_asked(struct server *s, const char *head, const char *header)
{
    char text[4096];
    server_request(s, text, sizeof text);
    assert_memory_equal(text, head, strlen(head));
    if (strstr(text, header) == NULL)
        fail_msg("'%s' is not in:\n%s", header, text);
}

static void test_the_role_of_the_instance(void **state)
{
    (void)state;
    struct server s;
    serve(&s,
        (const char *const[]){HTTP("200 OK", "TOKEN=="), HTTP("200 OK", "signer-role\n"),
            HTTP("200 OK", ROLE "\"Expiration\":\"2099-01-02T03:04:05Z\"}")},
        3);
    assert_found("ASIAX", "S", "T", "instance role signer-role");
    assert_int_equal(found.expires_s, 4071006245);
    assert_asked(
        &s, "PUT /latest/api/token HTTP/1.1\r\n", "\r\nX-aws-ec2-metadata-token-ttl-seconds: ");
    assert_asked(&s, "GET /latest/meta-data/iam/security-credentials/ HTTP/1.1\r\n",
        "\r\nX-aws-ec2-metadata-token: TOKEN==\r\n");
    assert_asked(&s, "GET /latest/meta-data/iam/security-credentials/signer-role HTTP/1.1\r\n",
        "\r\nX-aws-ec2-metadata-token: TOKEN==\r\n");
    server_stop(&s);
}

static void test_a_value_of_the_instance(void **state)
{
    (void)state;
    struct server s;
    struct err err;
    char id[32], tiny[5];
    serve(&s,
        (const char *const[]){HTTP("200 OK", "T"), HTTP("200 OK", "i-0123"), HTTP("200 OK", "T"),
            HTTP("200 OK", "i-0123")},
        4);
    assert_true(imds_get("instance-id", id, sizeof id, &err));
    assert_string_equal(id, "i-0123");
    assert_false(imds_get("instance-id", tiny, sizeof tiny, &err));
    server_stop(&s);
}

static void test_what_the_metadata_service_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *answers[3];
        const char *why;
    } cases[] = {
        {{HTTP("403 Forbidden", "<html>")}, "--http-endpoint enabled"},
        {{NULL}, "hop limit"},
        {{HTTP("200 OK", "two words")}, "something else"},
        {{HTTP("200 OK", "T\r\nX-Evil: 1")}, "something else"},
        {{HTTP("200 OK", "")}, "something else"},
        {{HTTP("200 OK", "T"), HTTP("401 x", "")}, "401"},
        {{HTTP("200 OK", "T"), HTTP("404 x", "")}, "no role"},
        {{HTTP("200 OK", "T"), HTTP("200 OK", "r"), HTTP("404 x", "")}, "HTTP 404"},
        {{HTTP("200 OK", "T"), HTTP("200 OK", "r"), HTTP("500 x", "")}, "HTTP status 500"},
        {{HTTP("200 OK", "T"), HTTP("200 OK", "r"), HTTP("200 OK", "<html>")}, "no credentials"},
        {{HTTP("200 OK", "T"), HTTP("200 OK", "r"),
             HTTP("200 OK", "{\"Code\":\"AssumeRoleUnauthorizedAccess\"}")},
            "AssumeRoleUnauthorizedAccess"},
        {{HTTP("200 OK", "T"), HTTP("200 OK", "r"),
             HTTP("200 OK", ROLE "\"Expiration\":\"2020-01-02T03:04:05Z\"}")},
            "expired at 2020"},
        {{HTTP("200 OK", "T"), HTTP("200 OK", "r"),
             HTTP("200 OK", ROLE "\"Expiration\":\"soon\"}")},
            "no credentials"},
        {{HTTP("200 OK", "T"), HTTP("200 OK", "r"), HTTP("200 OK", ROLE "\"Expiration\":7}")},
            "no credentials"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct server s;
        serve(&s, cases[i].answers, 3);
        assert_not_found(cases[i].why);
        server_stop(&s);
    }
    assert_not_found("cannot be reached"); /* the last server is gone */
}

/* A response hop limit of 1 looks like this in a container: the token's answer never comes. */
static void test_a_silent_metadata_service(void **state)
{
    (void)state;
    struct server s;
    serve(&s, (const char *const[]){NULL}, 1);
    server_stop(&s);
    s = (struct server){.answers = {{.stays_silent = true}}, .answers_n = 1};
    server_start(&s);
    char url[64];
    snprintf(url, sizeof url, "127.0.0.1:%u", (unsigned)s.port);
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url, 1);
    uint64_t start = clock_monotonic_us();
    assert_not_found("--http-put-response-hop-limit 2");
    assert_true(clock_monotonic_us() - start < 5000000);
    server_stop(&s);
}

static void test_malformed_endpoints(void **state)
{
    (void)state;
    static const char *const urls[] = {"http://", "http://a:0", "http://a:99999", "http://a:x",
        "http://a/path", "https://a", "http://[::1"};
    unsetenv("AWS_EC2_METADATA_DISABLED");
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", urls[i], 1);
        assert_not_found("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    }
}

static int setup(void **state)
{
    (void)state;
    struct err err;
    if (mkdtemp(folder) == NULL)
        return 1;
    snprintf(file, sizeof file, "%s/credentials", folder);
    return !crypto_start(&err);
}

static int teardown(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_environment, clear),
        cmocka_unit_test_setup(test_profiles, clear),
        cmocka_unit_test_setup(test_the_role_of_the_instance, clear),
        cmocka_unit_test_setup(test_a_value_of_the_instance, clear),
        cmocka_unit_test_setup(test_what_the_metadata_service_refuses, clear),
        cmocka_unit_test_setup(test_a_silent_metadata_service, clear),
        cmocka_unit_test_setup(test_malformed_endpoints, clear),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
