#include "aws/sigv4.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

enum { HEX_LEN = 2 * SHA256_LEN, DAY_LEN = 8 };

bool sigv4_date(int64_t now_s, char ret[SIGV4_DATE_LEN + 1])
{
    const int64_t year_10000 = 253402300800;
    struct tm tm;
    time_t t = (time_t)now_s;
    return now_s >= 0 && now_s < year_10000 && gmtime_r(&t, &tm) != NULL &&
           strftime(ret, SIGV4_DATE_LEN + 1, "%Y%m%dT%H%M%SZ", &tm) == SIGV4_DATE_LEN;
}

static void write_hash(struct writer *w, struct bytes of)
{
    uint8_t hash[SHA256_LEN];
    char hex[HEX_LEN + 1];
    sha256(of, hash);
    hex_lower(bytes_of(hash, sizeof hash), hex);
    write_text(w, hex);
}

static void write_signed_names(struct writer *w, const struct sigv4_request *req)
{
    for (size_t i = 0; i < req->headers_n; i++) {
        write_text(w, i > 0 ? ";" : "");
        write_text(w, req->headers[i].name);
    }
}

static void write_canonical(struct writer *w, const struct sigv4_request *req)
{
    write_text(w, req->method);
    write_text(w, "\n");
    write_text(w, req->path);
    write_text(w, "\n");
    write_text(w, req->query);
    write_text(w, "\n");
    for (size_t i = 0; i < req->headers_n; i++) {
        write_text(w, req->headers[i].name);
        write_text(w, ":");
        write_text(w, req->headers[i].value);
        write_text(w, "\n");
    }
    write_text(w, "\n");
    write_signed_names(w, req);
    write_text(w, "\n");
    write_hash(w, req->body);
}

static void write_scope(struct writer *w, const struct sigv4_request *req, const char *date)
{
    write_bytes(w, bytes_of(date, DAY_LEN));
    write_text(w, "/");
    write_text(w, req->region);
    write_text(w, "/");
    write_text(w, req->service);
    write_text(w, "/aws4_request");
}

/* The chain of HMACs from the secret key to the key of this day, region and service. */
static void derive_key(
    const struct sigv4_request *req, const char *secret, const char *date, uint8_t key[SHA256_LEN])
{
    char first[4 + AWS_SECRET_MAX] = "AWS4";
    size_t secret_n = strnlen(secret, AWS_SECRET_MAX);
    memcpy(first + 4, secret, secret_n);
    hmac_sha256(bytes_of(first, 4 + secret_n), bytes_of(date, DAY_LEN), key);
    secret_wipe(first, sizeof first);
    const char *steps[] = {req->region, req->service, "aws4_request"};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        uint8_t next[SHA256_LEN];
        hmac_sha256(bytes_of(key, SHA256_LEN), bytes_of_text(steps[i]), next);
        memcpy(key, next, SHA256_LEN);
        secret_wipe(next, sizeof next);
    }
}

static bool write_authorization(const struct sigv4_request *req, const char *key_id,
    const char *date, const char *signature, char ret[SIGV4_AUTHORIZATION_MAX])
{
    struct writer w = writer_of(ret, SIGV4_AUTHORIZATION_MAX);
    write_text(&w, "AWS4-HMAC-SHA256 Credential=");
    write_text(&w, key_id);
    write_text(&w, "/");
    write_scope(&w, req, date);
    write_text(&w, ", SignedHeaders=");
    write_signed_names(&w, req);
    write_text(&w, ", Signature=");
    write_text(&w, signature);
    write_u8(&w, '\0');
    return !w.bad;
}

bool sigv4_sign(const struct sigv4_request *req, const struct aws_credentials *creds,
    const char *date, char ret[SIGV4_AUTHORIZATION_MAX])
{
    uint8_t canonical[SIGV4_CANONICAL_MAX], to_sign[512];
    struct writer c = writer_of(canonical, sizeof canonical);
    struct writer s = writer_of(to_sign, sizeof to_sign);
    write_canonical(&c, req);
    write_text(&s, "AWS4-HMAC-SHA256\n");
    write_text(&s, date);
    write_text(&s, "\n");
    write_scope(&s, req, date);
    write_text(&s, "\n");
    write_hash(&s, written(&c));
    bool ok = !c.bad && !s.bad;
    secret_wipe(canonical, sizeof canonical); /* the session token */
    if (!ok)
        return false;
    uint8_t key[SHA256_LEN], mac[SHA256_LEN];
    char signature[HEX_LEN + 1];
    derive_key(req, creds->secret_key, date, key);
    hmac_sha256(bytes_of(key, sizeof key), written(&s), mac);
    secret_wipe(key, sizeof key);
    hex_lower(bytes_of(mac, sizeof mac), signature);
    return write_authorization(req, creds->key_id, date, signature, ret);
}
