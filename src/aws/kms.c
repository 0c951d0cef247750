#include "aws/kms.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aws/http.h"
#include "aws/kms_body.h"
#include "aws/sigv4.h"
#include "base/clock.h"
#include "base/fd.h"
#include "crypto/aead.h"
#include "crypto/secret.h"

enum {
    TLS_PORT = 443,
    ATTEMPT_US = 10 * 1000000, /* one connection, from dialling to the answer */
    BACK_OFF_FIRST_US = 100000,
    BACK_OFF_MAX_US = 5 * 1000000,
};

/* ---- names ----------------------------------------------------------------------- */

static bool is_made_of(const char *text, const char *allowed)
{
    return text[0] != '\0' && text[strspn(text, allowed)] == '\0';
}

#define LOWER_AND_DIGITS "abcdefghijklmnopqrstuvwxyz0123456789"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

bool kms_host(const struct kms_place *place, char out[KMS_HOST_MAX], struct err *err)
{
    static const struct {
        const char *prefix, *suffix;
    } partitions[] = {
        {"cn-", "amazonaws.com.cn"},
        {"eusc-", "amazonaws.eu"},
        {"us-iso-", "c2s.ic.gov"},
        {"us-isob-", "sc2s.sgov.gov"},
        {"eu-isoe-", "cloud.adc-e.uk"},
        {"us-isof-", "csp.hci.ic.gov"},
        {"", "amazonaws.com"},
    };
    if (!is_made_of(place->region, LOWER_AND_DIGITS "-"))
        return err_set(
            err, "aws_region '%s' is not the name of a region, such as eu-west-1", place->region);
    if (place->host[0] != '\0') {
        if (!is_made_of(place->host, LOWER_AND_DIGITS UPPER "-._:"))
            return err_set(err, "the KMS endpoint '%s' is not a host name", place->host);
        snprintf(out, KMS_HOST_MAX, "%s", place->host);
        return true;
    }
    size_t i = 0;
    while (strncmp(place->region, partitions[i].prefix, strlen(partitions[i].prefix)) != 0)
        i++;
    snprintf(out, KMS_HOST_MAX, "kms.%s.%s", place->region, partitions[i].suffix);
    return true;
}

/* What goes into headers must not be able to end one. */
static bool credentials_are_plain(const struct aws_credentials *c, struct err *err)
{
    static const char base64[] = LOWER_AND_DIGITS UPPER "+/=-_.";
    if (!is_made_of(c->key_id, LOWER_AND_DIGITS UPPER "_-"))
        return err_set(err, "the AWS access key id is missing or malformed");
    if (c->secret_key[0] == '\0')
        return err_set(err, "the AWS secret access key is missing");
    if (c->session_token[0] != '\0' && !is_made_of(c->session_token, base64))
        return err_set(err, "the AWS session token is malformed");
    return true;
}

/* ---- one attempt ------------------------------------------------------------------ */

/* Everything of a call that is large or secret, in one block on the heap that is wiped. */
struct call {
    const struct kms_request *req;
    const struct aws_credentials *creds;
    char host[KMS_HOST_MAX]; /* for TLS */
    char host_header[KMS_HOST_MAX + 8];
    int64_t now_s; /* when started_us was */
    uint64_t started_us;
    uint8_t body[KMS_BODY_MAX];
    struct bytes body_written;
    char headers[HTTP_HEADERS_MAX];
    struct http_answer answer;
};

static int64_t trusted_now_s(const struct call *c)
{
    return c->now_s + (int64_t)((clock_monotonic_us() - c->started_us) / 1000000U);
}

static bool write_headers(struct call *c, int64_t now_s, struct err *err)
{
    static const char type[] = "application/x-amz-json-1.1";
    char date[SIGV4_DATE_LEN + 1], authorization[SIGV4_AUTHORIZATION_MAX];
    const char *target = kms_target((enum kms_op)c->req->op), *token = c->creds->session_token;
    struct sigv4_header signed_headers[5] = {
        {"content-type", type}, {"host", c->host_header}, {"x-amz-date", date}};
    size_t n = 3;
    if (token[0] != '\0')
        signed_headers[n++] = (struct sigv4_header){"x-amz-security-token", token};
    signed_headers[n++] = (struct sigv4_header){"x-amz-target", target};
    const struct sigv4_request to_sign = {.method = "POST",
        .path = "/",
        .query = "",
        .headers = signed_headers,
        .headers_n = n,
        .body = c->body_written,
        .region = c->req->place.region,
        .service = "kms"};
    if (!sigv4_date(now_s, date) || !sigv4_sign(&to_sign, c->creds, date, authorization))
        return err_set(err,
            "the request to KMS cannot be signed: a credential is too long, or the time is wrong");
    int put = snprintf(c->headers, sizeof c->headers,
        "Content-Type: %s\r\nX-Amz-Target: %s\r\nX-Amz-Date: %s\r\n%s%s%sAuthorization: %s\r\n",
        type, target, date, token[0] != '\0' ? "X-Amz-Security-Token: " : "", token,
        token[0] != '\0' ? "\r\n" : "", authorization);
    return (put > 0 && (size_t)put < sizeof c->headers) ||
           err_set(err, "the credentials are too long");
}

static enum kms_verdict fail(
    struct kms_answer *ret, enum kms_verdict verdict, const char *host, const struct err *err)
{
    memset(ret, 0, sizeof *ret);
    snprintf(ret->error, sizeof ret->error, "no answer from KMS (%s): %.700s", host, err->text);
    return verdict;
}

static enum kms_verdict attempt(
    struct call *c, kms_dial *dial, void *ctx, uint64_t deadline_us, struct kms_answer *ret)
{
    struct err err = {0};
    int64_t now_s = trusted_now_s(c);
    if (!write_headers(c, now_s, &err))
        return fail(ret, KMS_NO, c->host, &err);
    int fd ATTR_CLEANUP(fd_close) = dial(ctx, deadline_us, &err);
    if (fd < 0)
        return fail(ret, KMS_AGAIN, c->host, &err);
    const struct http_tls tls = {
        .host = c->host, .root_pem = c->req->place.root_pem, .now_s = now_s};
    const struct http_request request = {.method = "POST",
        .path = "/",
        .host = c->host_header,
        .headers = c->headers,
        .body = c->body_written};
    switch (http_call(fd, &tls, &request, deadline_us, &c->answer, &err)) {
    case HTTP_ANSWERED:
        return kms_answer_read(
            c->req, c->answer.status, bytes_of(c->answer.body, c->answer.body_n), ret);
    case HTTP_BROKEN:
        return fail(ret, KMS_AGAIN, c->host, &err);
    case HTTP_REFUSED:
        return fail(ret, KMS_NO, c->host, &err);
    }
    return KMS_NO;
}

/* ---- the call --------------------------------------------------------------------- */

static bool prepare(struct call *c, struct err *err)
{
    const struct kms_place *place = &c->req->place;
    if (!kms_host(place, c->host, err) || !credentials_are_plain(c->creds, err))
        return false;
    if (place->port != 0 && place->port != TLS_PORT)
        snprintf(c->host_header, sizeof c->host_header, "%s:%u", c->host, (unsigned)place->port);
    else
        snprintf(c->host_header, sizeof c->host_header, "%s", c->host);
    struct writer w = writer_of(c->body, sizeof c->body);
    if (!kms_body_write(c->req, &w))
        return err_set(err, "the request to KMS is malformed");
    c->body_written = written(&w);
    return true;
}

/* Full jitter: many enclaves that were refused together do not come back together. */
static uint64_t back_off_us(unsigned attempts_n)
{
    uint64_t most = BACK_OFF_FIRST_US;
    for (unsigned i = 0; i < attempts_n && most < BACK_OFF_MAX_US; i++)
        most *= 2;
    if (most > BACK_OFF_MAX_US)
        most = BACK_OFF_MAX_US;
    uint32_t random;
    random_bytes(&random, sizeof random);
    return most / 2 + random % (most / 2);
}

bool kms_call(const struct kms_request *req, const struct aws_credentials *creds, int64_t now_s,
    kms_dial *dial, void *ctx, uint64_t deadline_us, struct kms_answer *ret)
{
    struct err err = {0};
    memset(ret, 0, sizeof *ret);
    struct call *c = calloc(1, sizeof *c);
    if (c == NULL) {
        snprintf(ret->error, sizeof ret->error, "out of memory");
        return false;
    }
    c->req = req;
    c->creds = creds;
    c->now_s = now_s;
    c->started_us = clock_monotonic_us();
    enum kms_verdict verdict = KMS_NO;
    if (!prepare(c, &err)) {
        snprintf(ret->error, sizeof ret->error, "%.1000s", err.text);
    } else {
        uint64_t now_us = c->started_us;
        for (unsigned i = 0;; i++) {
            uint64_t until = deadline_us - now_us > ATTEMPT_US ? now_us + ATTEMPT_US : deadline_us;
            verdict = attempt(c, dial, ctx, until, ret);
            uint64_t pause_us = back_off_us(i);
            now_us = clock_monotonic_us();
            if (verdict != KMS_AGAIN || now_us >= deadline_us || deadline_us - now_us <= pause_us)
                break;
            poll(NULL, 0, (int)(pause_us / 1000U)); /* nanosleep is not among a sandbox's calls */
            now_us = clock_monotonic_us();
        }
    }
    secret_wipe(c, sizeof *c);
    free(c);
    return verdict == KMS_OK;
}

/* ---- a place from another process ---- */

size_t kms_context_length(const struct kms_place *place)
{
    size_t at = 0;
    for (uint32_t i = 0; i < place->context_n; i++)
        for (int half = 0; half < 2; half++) {
            const char *end = memchr(place->context + at, '\0', sizeof place->context - at);
            if (end == NULL)
                return 0;
            at = (size_t)(end - place->context) + 1;
        }
    return at;
}

#define TERMINATED(array) (memchr((array), '\0', sizeof(array)) != NULL)

static bool is_plain(const char *text, bool may_have_lines)
{
    for (const char *p = text; *p != '\0'; p++) {
        bool is_line = *p == '\n' || *p == '\r';
        if (((unsigned char)*p < 0x20 || *p == 0x7f) && !(is_line && may_have_lines))
            return false;
    }
    return true;
}

static bool context_is_plain(const struct kms_place *place)
{
    size_t n = kms_context_length(place);
    if ((n == 0) != (place->context_n == 0))
        return false;
    for (size_t at = 0; at < n; at += strlen(place->context + at) + 1)
        if (!is_plain(place->context + at, false))
            return false;
    return true;
}

bool kms_place_is_sound(const struct kms_place *p)
{
    return TERMINATED(p->region) && is_plain(p->region, false) && TERMINATED(p->host) &&
           is_plain(p->host, false) && TERMINATED(p->key_id) && is_plain(p->key_id, false) &&
           TERMINATED(p->root_pem) && is_plain(p->root_pem, true) &&
           p->context_n <= KMS_CONTEXT_MAX / 2 && context_is_plain(p);
}
