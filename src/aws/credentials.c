#include "aws/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aws/imds.h"
#include "base/fd.h"
#include "crypto/secret.h"

enum { FILE_MAX = 65536, SOURCE_MAX = 128 };

/* Where credentials may come from; NOTHING_HERE lets the next place be asked. */
enum found { FOUND, NOTHING_HERE, WRONG };

static const char *env(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static bool copy_text(char *out, size_t cap, const char *text, size_t n)
{
    if (n >= cap)
        return false;
    memcpy(out, text, n);
    out[n] = '\0';
    return true;
}

/* ---- environment ------------------------------------------------------------------ */

static enum found from_environment(struct aws_credentials *ret, char *source, struct err *err)
{
    const char *id = env("AWS_ACCESS_KEY_ID"), *secret = env("AWS_SECRET_ACCESS_KEY");
    const char *token = env("AWS_SESSION_TOKEN");
    if (id == NULL && secret == NULL)
        return NOTHING_HERE;
    if (id == NULL || secret == NULL) {
        err_set(err, "the environment has %s but not %s: set both or neither",
            id != NULL ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
            id != NULL ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID");
        return WRONG;
    }
    if (!copy_text(ret->key_id, sizeof ret->key_id, id, strlen(id)) ||
        !copy_text(ret->secret_key, sizeof ret->secret_key, secret, strlen(secret)) ||
        !copy_text(ret->session_token, sizeof ret->session_token, token != NULL ? token : "",
            token != NULL ? strlen(token) : 0)) {
        err_set(err, "the AWS credentials in the environment are too long");
        return WRONG;
    }
    snprintf(source, SOURCE_MAX, "environment");
    return FOUND;
}

/* ---- the shared credentials file ----------------------------------------------------- */

struct slice {
    const char *p;
    size_t n;
};

static struct slice trim(struct slice s)
{
    while (s.n > 0 && strchr(" \t\r", s.p[0]) != NULL)
        s = (struct slice){s.p + 1, s.n - 1};
    while (s.n > 0 && strchr(" \t\r", s.p[s.n - 1]) != NULL)
        s.n--;
    return s;
}

static bool slice_is(struct slice s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

/* Reads one "name = value" of the profile. false: a value that cannot be taken, or a way of getting credentials that
 * we do not know. */
static bool take_setting(
    struct aws_credentials *c, struct slice name, struct slice value, struct err *err)
{
    const struct {
        const char *name;
        char *out;
        size_t cap;
    } known[] = {
        {"aws_access_key_id", c->key_id, sizeof c->key_id},
        {"aws_secret_access_key", c->secret_key, sizeof c->secret_key},
        {"aws_session_token", c->session_token, sizeof c->session_token},
    };
    static const char *const foreign[] = {"credential_process", "role_arn", "sso_session",
        "sso_start_url", "web_identity_token_file"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (slice_is(name, known[i].name))
            return copy_text(known[i].out, known[i].cap, value.p, value.n) ||
                   err_set(err, "%s is too long", known[i].name);
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        if (slice_is(name, foreign[i]))
            return err_set(err,
                "%s is not supported here; `aws configure export-credentials --format env` prints "
                "the credentials "
                "it leads to for the environment",
                foreign[i]);
    return true;
}

/* A line of the file: "[profile]", "name = value", a comment, or nothing. */
static bool take_line(struct aws_credentials *c, struct slice line, const char *profile,
    bool *is_ours, bool *ret_seen, struct err *err)
{
    line = trim(line);
    if (line.n == 0 || line.p[0] == '#' || line.p[0] == ';')
        return true;
    if (line.p[0] == '[') {
        const char *end = memchr(line.p, ']', line.n);
        struct slice name = {line.p + 1, end != NULL ? (size_t)(end - line.p) - 1 : 0};
        *is_ours = end != NULL && slice_is(trim(name), profile);
        *ret_seen = *ret_seen || *is_ours;
        return true;
    }
    const char *equals = memchr(line.p, '=', line.n);
    if (!*is_ours || equals == NULL)
        return true;
    size_t name_n = (size_t)(equals - line.p);
    return take_setting(c, trim((struct slice){line.p, name_n}),
        trim((struct slice){equals + 1, line.n - name_n - 1}), err);
}

/* NOTHING_HERE: there is no such profile. */
static enum found read_profile(
    struct aws_credentials *c, const char *text, size_t n, const char *profile, struct err *err)
{
    bool is_ours = false, seen = false;
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t line_n = end != NULL ? (size_t)(end - text) - at : n - at;
        if (!take_line(c, (struct slice){text + at, line_n}, profile, &is_ours, &seen, err))
            return WRONG;
        at += line_n + 1;
    }
    if (!seen)
        return NOTHING_HERE;
    if (c->key_id[0] != '\0' && c->secret_key[0] != '\0')
        return FOUND;
    err_set(err, "aws_access_key_id or aws_secret_access_key is missing");
    return WRONG;
}

static bool credentials_path(char *out, size_t cap)
{
    const char *path = env("AWS_SHARED_CREDENTIALS_FILE"), *home = env("HOME");
    if (path == NULL && home == NULL)
        return false;
    int n = path != NULL ? snprintf(out, cap, "%s", path)
                         : snprintf(out, cap, "%s/.aws/credentials", home);
    return n > 0 && (size_t)n < cap;
}

static enum found from_file(struct aws_credentials *ret, char *source, struct err *err)
{
    const char *asked = env("AWS_PROFILE"), *profile = asked != NULL ? asked : "default";
    char path[4096];
    bool is_named = asked != NULL || env("AWS_SHARED_CREDENTIALS_FILE") != NULL;
    if (!credentials_path(path, sizeof path))
        return NOTHING_HERE;
    int fd ATTR_CLEANUP(fd_close) = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && !is_named)
        return NOTHING_HERE;
    char *text = malloc(FILE_MAX);
    size_t n = 0;
    enum found found = WRONG;
    if (fd < 0)
        err_errno(err, "cannot read the AWS credentials file %s", path);
    else if (text == NULL)
        err_set(err, "out of memory");
    else if (!fd_read_all(fd, text, FILE_MAX, &n, err))
        err_prefix(err, "cannot read the AWS credentials file %s", path);
    else if ((found = read_profile(ret, text, n, profile, err)) == WRONG)
        err_prefix(err, "profile %s in %s", profile, path);
    if (text != NULL)
        secret_wipe(text, FILE_MAX);
    free(text);
    if (found == NOTHING_HERE && asked != NULL) {
        err_set(err, "there is no profile %s in %s (AWS_PROFILE names it)", profile, path);
        return WRONG;
    }
    snprintf(source, SOURCE_MAX, "profile %.100s", profile);
    return found;
}

/* ---- in order ---------------------------------------------------------------------- */

static enum found from_instance(struct aws_credentials *ret, char *source, struct err *err)
{
    char role[IMDS_ROLE_MAX];
    if (!imds_credentials(ret, role, err)) {
        err_prefix(
            err, "there is neither AWS_ACCESS_KEY_ID nor a credentials file, and");
        return WRONG;
    }
    snprintf(source, SOURCE_MAX, "instance role %.100s", role);
    return FOUND;
}

bool credentials_find(struct aws_credentials *ret, char source[128], struct err *err)
{
    enum found (*const places[])(struct aws_credentials *, char *, struct err *) = {
        from_environment, from_file, from_instance};
    struct aws_credentials c = {0};
    char from[SOURCE_MAX] = "";
    enum found found = NOTHING_HERE;
    for (size_t i = 0; i < sizeof places / sizeof places[0] && found == NOTHING_HERE; i++)
        found = places[i](&c, from, err);
    if (found == FOUND) {
        *ret = c;
        memcpy(source, from, SOURCE_MAX);
    }
    secret_wipe(&c, sizeof c);
    return found == FOUND;
}
