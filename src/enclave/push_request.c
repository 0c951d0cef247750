#include "enclave/push_request.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "crypto/secret.h"
#include "enclave/push_frames.h"
#include "nitro/keygen.h"

static const char log_name[] = "tmkms::nitro";

/* A request on its way to the monitor, with the frame that is in work. */
struct push_request {
    int control;
    uint64_t deadline_us;
    struct push_frame frame;
};

/* A monitor at work for another client takes frames later. */
static bool may_send(const struct push_request *r, struct err *err)
{
    return fd_wait(r->control, POLLOUT, r->deadline_us) ||
           err_set(err, "the enclave is busy with other requests; try again");
}

static bool forward(struct push_request *r, struct err *err)
{
    if (!may_send(r, err))
        return false;
    bool ok = push_frame_send(r->control, &r->frame);
    secret_wipe(&r->frame, sizeof r->frame);
    return ok || err_errno(err, "the enclave's monitor does not listen");
}

/* ---- parts of a request --------------------------------------------------------- */

static bool copy_text(char *out, size_t cap, const char *text, const char *name, struct err *err)
{
    size_t n = strlen(text);
    if (n >= cap)
        return err_set(err, "%s: longer than %zu characters", name, cap - 1);
    memcpy(out, text, n + 1);
    return true;
}
#define COPY_TEXT(field, text, name, err) copy_text((field), sizeof(field), (text), (name), (err))

/* Hexadecimal digits. NULL: none. */
static bool copy_hex(
    uint8_t *out, size_t cap, uint32_t *ret_n, const char *text, const char *name, struct err *err)
{
    size_t n = text != NULL ? strlen(text) : 0;
    if (n / 2 > cap || n % 2 != 0 || (n > 0 && !hex_decode(text, n, out, n / 2)))
        return err_set(
            err, "%s: not an even number of hexadecimal digits, at most %zu", name, cap * 2);
    *ret_n = (uint32_t)(n / 2);
    return true;
}

static bool read_credentials(struct aws_credentials *ret, json_t *tree, struct err *err)
{
    const char *id = NULL, *secret = NULL, *token = "";
    json_int_t expires = 0;
    json_error_t why;
    if (json_unpack_ex(tree, &why, 0, "{s:s, s:s, s?s, s?I !}", "aws_key_id", &id, "aws_secret_key",
            &secret, "aws_session_token", &token, "expires", &expires) != 0)
        return err_set(err, "credentials: %s", why.text);
    ret->expires_s = expires;
    if (!COPY_TEXT(ret->key_id, id, "credentials: aws_key_id", err) ||
        !COPY_TEXT(ret->secret_key, secret, "credentials: aws_secret_key", err) ||
        !COPY_TEXT(ret->session_token, token, "credentials: aws_session_token", err))
        return false;
    return push_credentials_are_sound(ret) ||
           err_set(err, "credentials: a character that no credential has, or a negative time");
}

static bool forward_credentials(
    struct push_request *r, struct aws_credentials *credentials, struct err *err)
{
    r->frame = (struct push_frame){.kind = PUSH_CREDENTIALS, .u.credentials = *credentials};
    secret_wipe(credentials, sizeof *credentials);
    return forward(r, err);
}

/* ---- op config ------------------------------------------------------------------ */

static bool send_control(struct push_request *r, struct control *msg, struct err *err)
{
    return may_send(r, err) && (control_send(r->control, msg, NULL, 0) ||
                                   err_errno(err, "the enclave's monitor does not listen"));
}

static bool forward_lists(struct push_request *r, const struct config *config, struct err *err)
{
    static struct control msg;
    for (size_t i = 0; i < config->chains_n; i++) {
        msg.kind = CONTROL_CHAIN_ADD;
        msg.u.chain = config->chains[i];
        if (!send_control(r, &msg, err))
            return false;
    }
    for (size_t i = 0; i < config->validators_n; i++) {
        msg.kind = CONTROL_VALIDATOR_ADD;
        msg.u.validator = config->validators[i];
        if (!send_control(r, &msg, err))
            return false;
    }
    memset(&msg, 0, sizeof msg);
    msg.kind = CONTROL_END;
    return send_control(r, &msg, err);
}

/* Errors end up in the answer as far as they fit, warnings in the log. Returns false. */
static bool tell_problems(const struct problems *problems, struct err *err)
{
    size_t used = 0;
    for (size_t i = 0; i < problems->n; i++) {
        const struct problem *p = &problems->list[i];
        if (p->is_warning) {
            log_line(LOG_WARN, log_name, "%s", p->text);
        } else if (used < sizeof err->text) {
            int n = snprintf(
                err->text + used, sizeof err->text - used, "%s%s", used > 0 ? "; " : "", p->text);
            used += n > 0 ? (size_t)n : 0;
        }
    }
    return false;
}

static bool read_config(struct config *ret, const json_t *tree, struct err *err)
{
    struct problems problems = {0};
    bool ok = config_from_tree(ret, tree, "config", &problems) &&
              config_check_for(CONFIG_ENCLAVE, ret, "config", &problems);
    tell_problems(&problems, err);
    problems_free(&problems);
    return ok;
}

/* Nothing is sent before all of it is sound. */
static bool ask_config(struct push_request *r, json_t *push, struct err *err)
{
    json_t *tree = NULL, *credentials_tree = NULL;
    int is_verbose = 0;
    json_error_t why;
    struct config config = {0};
    struct aws_credentials credentials = {0};
    if (json_unpack_ex(push, &why, 0, "{s:s, s:o, s:o, s?b !}", "op", &(const char *){0}, "config",
            &tree, "credentials", &credentials_tree, "verbose", &is_verbose) != 0)
        return err_set(err, "%s", why.text);
    bool ok =
        read_config(&config, tree, err) && read_credentials(&credentials, credentials_tree, err);
    if (ok) {
        r->frame = (struct push_frame){.kind = PUSH_CONFIG,
            .u.config = {.chains_n = (uint32_t)config.chains_n,
                .validators_n = (uint32_t)config.validators_n,
                .log_vsock_port = config.enclave.log_port,
                .is_verbose = is_verbose != 0}};
        ok = forward(r, err) && forward_credentials(r, &credentials, err) &&
             forward_lists(r, &config, err);
    }
    config_free(&config);
    return ok;
}

/* ---- op keygen ------------------------------------------------------------------ */

static bool read_context(struct kms_place *ret, json_t *context, struct err *err)
{
    const char *name;
    json_t *value;
    size_t used = 0;
    json_object_foreach(context, name, value)
    {
        const char *text = json_string_value(value);
        size_t name_n = strlen(name) + 1, text_n = text != NULL ? strlen(text) + 1 : 0;
        if (text == NULL || name_n + text_n > sizeof ret->context - used)
            return err_set(err, "kms: context: its values are texts, %zu characters in all",
                sizeof ret->context);
        memcpy(ret->context + used, name, name_n);
        memcpy(ret->context + used + name_n, text, text_n);
        used += name_n + text_n;
        ret->context_n++;
    }
    return true;
}

static bool read_place(struct kms_place *ret, json_t *tree, struct err *err)
{
    const char *region = NULL, *key_id = NULL, *host = "", *root_pem = "";
    json_int_t port = 0, vsock_port = 0;
    json_t *context = NULL;
    json_error_t why;
    if (json_unpack_ex(tree, &why, 0, "{s:s, s:s, s?s, s?I, s?I, s?s, s?o !}", "region", &region,
            "key_id", &key_id, "host", &host, "port", &port, "vsock_port", &vsock_port, "root_pem",
            &root_pem, "context", &context) != 0)
        return err_set(err, "kms: %s", why.text);
    if (port < 0 || port > UINT16_MAX || vsock_port < 0 || vsock_port >= UINT32_MAX)
        return err_set(err, "kms: no such port");
    ret->port = (uint16_t)port;
    ret->vsock_port = (uint32_t)vsock_port;
    if (!COPY_TEXT(ret->region, region, "kms: region", err) ||
        !COPY_TEXT(ret->key_id, key_id, "kms: key_id", err) ||
        !COPY_TEXT(ret->host, host, "kms: host", err) ||
        !COPY_TEXT(ret->root_pem, root_pem, "kms: root_pem", err) ||
        !read_context(ret, context, err) || !keygen_check_key_id(ret->key_id, err))
        return false;
    return kms_place_is_sound(ret) || err_set(err, "kms: control characters in a text");
}

static bool ask_keygen(struct push_request *r, json_t *push, struct err *err)
{
    json_t *kms = NULL, *credentials_tree = NULL;
    const char *nonce = NULL;
    json_error_t why;
    struct aws_credentials credentials = {0};
    if (json_unpack_ex(push, &why, 0, "{s:s, s:o, s:o, s:s !}", "op", &(const char *){0}, "kms",
            &kms, "credentials", &credentials_tree, "nonce", &nonce) != 0)
        return err_set(err, "%s", why.text);
    r->frame = (struct push_frame){.kind = PUSH_KEYGEN};
    struct push_keygen *k = &r->frame.u.keygen;
    if (!read_place(&k->place, kms, err) ||
        !copy_hex(k->nonce, sizeof k->nonce, &k->nonce_n, nonce, "nonce", err))
        return false;
    if (k->nonce_n < PUSH_NONCE_MIN)
        return err_set(err, "nonce: shorter than %d bytes", PUSH_NONCE_MIN);
    return read_credentials(&credentials, credentials_tree, err) && forward(r, err) &&
           forward_credentials(r, &credentials, err);
}

/* ---- op attest, op ping --------------------------------------------------------- */

static bool ask_attest(struct push_request *r, json_t *push, struct err *err)
{
    const char *nonce = NULL, *user_data = NULL;
    json_error_t why;
    if (json_unpack_ex(push, &why, 0, "{s:s, s?s, s?s !}", "op", &(const char *){0}, "nonce",
            &nonce, "user_data", &user_data) != 0)
        return err_set(err, "%s", why.text);
    r->frame = (struct push_frame){.kind = PUSH_ATTEST};
    struct push_attest *a = &r->frame.u.attest;
    if (!copy_hex(a->nonce, sizeof a->nonce, &a->nonce_n, nonce, "nonce", err) ||
        !copy_hex(a->user_data, sizeof a->user_data, &a->user_data_n, user_data, "user_data", err))
        return false;
    if (!keygen_allows_user_data(bytes_of(a->user_data, a->user_data_n)))
        return err_set(
            err, "user_data: what begins with `%s` is for the enclave itself", KEYGEN_WORD);
    return forward(r, err);
}

static bool ask_ping(struct push_request *r, json_t *push, struct err *err)
{
    json_error_t why;
    if (json_unpack_ex(push, &why, 0, "{s:s !}", "op", &(const char *){0}) != 0)
        return err_set(err, "%s", why.text);
    r->frame = (struct push_frame){.kind = PUSH_PING};
    return forward(r, err);
}

bool push_request_forward(json_t *push, int control, uint64_t deadline_us, struct err *err)
{
    static struct push_request r; /* too large for the stack */
    static const struct {
        const char *op;
        bool (*ask)(struct push_request *r, json_t *push, struct err *err);
    } ops[] = {
        {"config", ask_config}, {"keygen", ask_keygen}, {"attest", ask_attest}, {"ping", ask_ping}};
    r = (struct push_request){.control = control, .deadline_us = deadline_us};
    const char *op = json_string_value(json_object_get(push, "op"));
    for (size_t i = 0; op != NULL && i < sizeof ops / sizeof ops[0]; i++)
        if (strcmp(op, ops[i].op) == 0)
            return ops[i].ask(&r, push, err);
    return err_set(err, "op: one of config, keygen, attest, ping is expected");
}
