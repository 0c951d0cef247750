#include "aws/imds.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "aws/credentials.h"
#include "aws/dial.h"
#include "aws/http.h"
#include "base/clock.h"
#include "base/fd.h"
#include "crypto/secret.h"

enum { CALL_US = 3 * 1000000, HTTP_PORT = 80 };

/* ---- where it is ------------------------------------------------------------------ */

struct place {
    char host[128]; /* without the brackets of an IPv6 address */
    char header[136];
    uint16_t port;
};

/* "http://host", "http://host:port", "http://[address]:port", with or without a slash at the end. */
static bool place_parse(struct place *ret, const char *url, struct err *err)
{
    const char *text = url + (strncmp(url, "http://", 7) == 0 ? 7 : 0);
    bool is_v6 = text[0] == '[';
    const char *host = text + is_v6;
    size_t host_n = strcspn(host, is_v6 ? "]" : ":/");
    bool is_closed = !is_v6 || host[host_n] == ']';
    const char *rest = host + host_n + (is_v6 && is_closed);
    size_t header_n = (size_t)(rest - text);
    char *end = NULL;
    unsigned long port = HTTP_PORT;
    if (rest[0] == ':') {
        port = strtoul(rest + 1, &end, 10);
        header_n = (size_t)(end - text);
        rest = end;
    }
    if (!is_closed || host_n == 0 || host_n >= sizeof ret->host || header_n >= sizeof ret->header ||
        port == 0 || port > 65535 || (rest[0] != '\0' && strcmp(rest, "/") != 0))
        return err_set(err,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT is '%s', which is not of the form "
            "http://HOST[:PORT]",
            url);
    snprintf(ret->host, sizeof ret->host, "%.*s", (int)host_n, host);
    snprintf(ret->header, sizeof ret->header, "%.*s", (int)header_n, text);
    ret->port = (uint16_t)port;
    return true;
}

static bool place_find(struct place *ret, struct err *err)
{
    const char *disabled = getenv("AWS_EC2_METADATA_DISABLED");
    const char *url = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    const char *mode = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
    if (disabled != NULL && strcmp(disabled, "true") == 0)
        return err_set(
            err, "the instance metadata service is not asked (AWS_EC2_METADATA_DISABLED is set)");
    if (url != NULL && url[0] != '\0')
        return place_parse(ret, url, err);
    bool is_v6 = mode != NULL && (strcmp(mode, "IPv6") == 0 || strcmp(mode, "ipv6") == 0);
    return place_parse(ret, is_v6 ? "http://[fd00:ec2::254]" : "http://169.254.169.254", err);
}

/* ---- one question ----------------------------------------------------------------- */

static bool ask(const struct place *at, const char *method, const char *path, const char *headers,
    struct http_answer *ret, struct err *err)
{
    uint64_t deadline = clock_monotonic_us() + CALL_US;
    int fd ATTR_CLEANUP(fd_close) = dial_tcp(at->host, at->port, deadline, err);
    const struct http_request req = {
        .method = method, .path = path, .host = at->header, .headers = headers};
    if (fd < 0)
        return err_prefix(
            err, "the instance metadata service cannot be reached (is this an EC2 instance?)");
    if (http_call(fd, NULL, &req, deadline, ret, err) == HTTP_ANSWERED)
        return true;
    return err_prefix(err,
        "the instance metadata service at %s does not answer %s %s (in a container its answers "
        "need a hop limit of 2: "
        "`aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2 --instance-id "
        "...`)",
        at->header, method, path);
}

static bool status_err(int status, const char *path, struct err *err)
{
    switch (status) {
    case 401:
        return err_set(err,
            "the instance metadata service does not accept its own session token for %s (HTTP 401)",
            path);
    case 403:
        return err_set(err, "the instance metadata service is switched off (HTTP 403): `aws ec2 "
                            "modify-instance-metadata-options "
                            "--http-endpoint enabled --instance-id ...` switches it on");
    case 404:
        return err_set(err, "the instance metadata service has no %s (HTTP 404)", path);
    default:
        return err_set(
            err, "the instance metadata service answers %s with HTTP status %d", path, status);
    }
}

/* A token is text without white space; it goes into a header. */
static bool take_text(
    const struct http_answer *a, char *out, size_t cap, const char *what, struct err *err)
{
    size_t n = a->body_n;
    while (n > 0 && (a->body[n - 1] == '\n' || a->body[n - 1] == '\r'))
        n--;
    bool is_plain = n > 0 && n < cap;
    for (size_t i = 0; is_plain && i < n; i++)
        is_plain = a->body[i] > ' ' && a->body[i] <= '~';
    if (!is_plain)
        return err_set(err, "the instance metadata service answers %s with something else", what);
    memcpy(out, a->body, n);
    out[n] = '\0';
    return true;
}

/* A session of questions under one token. */
struct session {
    struct place at;
    char header[IMDS_TOKEN_MAX + 40];
    struct http_answer answer;
};

static bool session_start(struct session *s, struct err *err)
{
    static const char path[] = "/latest/api/token";
    char token[IMDS_TOKEN_MAX];
    if (!place_find(&s->at, err) ||
        !ask(&s->at, "PUT", path, "X-aws-ec2-metadata-token-ttl-seconds: 300\r\n", &s->answer, err))
        return false;
    if (s->answer.status != 200)
        return status_err(s->answer.status, path, err);
    if (!take_text(&s->answer, token, sizeof token, "the session token", err))
        return false;
    snprintf(s->header, sizeof s->header, "X-aws-ec2-metadata-token: %s\r\n", token);
    return true;
}

static bool session_get(struct session *s, const char *path, struct err *err)
{
    return ask(&s->at, "GET", path, s->header, &s->answer, err) &&
           (s->answer.status == 200 || status_err(s->answer.status, path, err));
}

static void session_free(struct session **s)
{
    if (*s != NULL)
        secret_wipe(*s, sizeof **s);
    free(*s);
}

bool imds_get(const char *what, char *out, size_t cap, struct err *err)
{
    char path[256];
    struct session *s ATTR_CLEANUP(session_free) = calloc(1, sizeof *s);
    snprintf(path, sizeof path, "/latest/meta-data/%s", what);
    return s != NULL && session_start(s, err) && session_get(s, path, err) &&
           take_text(&s->answer, out, cap, what, err);
}

/* ---- credentials ------------------------------------------------------------------ */

static bool copy_member(const json_t *root, const char *name, char *out, size_t cap)
{
    const json_t *value = json_object_get(root, name);
    size_t n = json_string_length(value);
    if (!json_is_string(value) || n == 0 || n >= cap)
        return false;
    memcpy(out, json_string_value(value), n + 1);
    return true;
}

/* "2026-11-23T18:00:00Z" */
static bool read_time(const char *text, int64_t *ret_s)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (end == NULL || (strcmp(end, "Z") != 0 && end[0] != '.'))
        return false;
    *ret_s = (int64_t)timegm(&tm);
    return true;
}

bool imds_credentials_read(struct aws_credentials *ret, const char *json, size_t n, struct err *err)
{
    struct aws_credentials c = {0};
    char expires[40], code[40];
    json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, NULL);
    bool has_code = copy_member(root, "Code", code, sizeof code);
    bool ok = copy_member(root, "AccessKeyId", c.key_id, sizeof c.key_id) &&
              copy_member(root, "SecretAccessKey", c.secret_key, sizeof c.secret_key) &&
              copy_member(root, "Token", c.session_token, sizeof c.session_token) &&
              copy_member(root, "Expiration", expires, sizeof expires) &&
              read_time(expires, &c.expires_s);
    json_decref(root);
    if (has_code && strcmp(code, "Success") != 0)
        ok = err_set(
            err, "the instance's role gives no credentials (%s): check its trust policy", code);
    else if (!ok)
        err_set(err, "the answer holds no credentials that can be read");
    else if (c.expires_s <= (int64_t)(clock_realtime_us() / 1000000U))
        ok = err_set(err,
            "the credentials expired at %s: if that is wrong, so is this machine's clock", expires);
    if (ok)
        *ret = c;
    secret_wipe(&c, sizeof c);
    return ok;
}

bool imds_credentials(struct aws_credentials *ret, char role[IMDS_ROLE_MAX], struct err *err)
{
    static const char folder[] = "/latest/meta-data/iam/security-credentials/";
    char path[sizeof folder + IMDS_ROLE_MAX];
    struct session *s ATTR_CLEANUP(session_free) = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, "out of memory");
    if (!session_start(s, err))
        return false;
    if (!session_get(s, folder, err)) {
        if (s->answer.status == 404)
            err_set(err,
                "this instance has no role: attach an instance profile with "
                "`aws ec2 associate-iam-instance-profile`, or give credentials in another way");
        return false;
    }
    if (!take_text(&s->answer, role, IMDS_ROLE_MAX, "the role's name", err))
        return false;
    snprintf(path, sizeof path, "%s%s", folder, role);
    return session_get(s, path, err) &&
           imds_credentials_read(ret, s->answer.body, s->answer.body_n, err);
}
