#include "enclave/push_child.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "crypto/encode.h"
#include "crypto/secret.h"
#include "enclave/push_frames.h"
#include "ipc/child.h"
#include "link/vsock.h"
#include "nitro/keygen.h"
#include "nitro/push.h"
#include "sandbox/sandbox.h"

static const char log_name[] = "tmkms::nitro";

enum { CLIENT = STDIN_FILENO, CONTEXT_PAIRS_MAX = 16 };

static uint64_t in_seconds(unsigned seconds)
{
    return clock_monotonic_us() + seconds * 1000000ULL;
}

/* One frame at a time is in work; it is too large for the stack. */
static struct push_frame frame;
static uint64_t verdict_deadline;

/* A monitor at work for another client takes frames later. */
static bool may_send(struct err *err)
{
    return fd_wait(CHILD_FD_CONTROL, POLLOUT, verdict_deadline) ||
           err_set(err, "the enclave is busy with other requests; try again");
}

static bool forward(struct err *err)
{
    if (!may_send(err))
        return false;
    bool ok = push_frame_send(CHILD_FD_CONTROL, &frame);
    secret_wipe(&frame, sizeof frame);
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

static bool forward_credentials(struct aws_credentials *credentials, struct err *err)
{
    frame = (struct push_frame){.kind = PUSH_CREDENTIALS, .u.credentials = *credentials};
    secret_wipe(credentials, sizeof *credentials);
    return forward(err);
}

/* ---- op config ------------------------------------------------------------------ */

static bool send_control(struct control *msg, struct err *err)
{
    return may_send(err) && (control_send(CHILD_FD_CONTROL, msg, NULL, 0) ||
                                err_errno(err, "the enclave's monitor does not listen"));
}

static bool forward_lists(const struct config *config, struct err *err)
{
    static struct control msg;
    for (size_t i = 0; i < config->chains_n; i++) {
        msg.kind = CONTROL_CHAIN_ADD;
        msg.u.chain = config->chains[i];
        if (!send_control(&msg, err))
            return false;
    }
    for (size_t i = 0; i < config->validators_n; i++) {
        msg.kind = CONTROL_VALIDATOR_ADD;
        msg.u.validator = config->validators[i];
        if (!send_control(&msg, err))
            return false;
    }
    memset(&msg, 0, sizeof msg);
    msg.kind = CONTROL_END;
    return send_control(&msg, err);
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
static bool ask_config(json_t *push, struct err *err)
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
        frame = (struct push_frame){.kind = PUSH_CONFIG,
            .u.config = {.chains_n = (uint32_t)config.chains_n,
                .validators_n = (uint32_t)config.validators_n,
                .log_vsock_port = config.enclave.log_port,
                .is_verbose = is_verbose != 0}};
        ok = forward(err) && forward_credentials(&credentials, err) && forward_lists(&config, err);
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

static bool ask_keygen(json_t *push, struct err *err)
{
    json_t *kms = NULL, *credentials_tree = NULL;
    const char *nonce = NULL;
    json_error_t why;
    struct aws_credentials credentials = {0};
    if (json_unpack_ex(push, &why, 0, "{s:s, s:o, s:o, s:s !}", "op", &(const char *){0}, "kms",
            &kms, "credentials", &credentials_tree, "nonce", &nonce) != 0)
        return err_set(err, "%s", why.text);
    frame = (struct push_frame){.kind = PUSH_KEYGEN};
    struct push_keygen *k = &frame.u.keygen;
    if (!read_place(&k->place, kms, err) ||
        !copy_hex(k->nonce, sizeof k->nonce, &k->nonce_n, nonce, "nonce", err))
        return false;
    if (k->nonce_n < PUSH_NONCE_MIN)
        return err_set(err, "nonce: shorter than %d bytes", PUSH_NONCE_MIN);
    return read_credentials(&credentials, credentials_tree, err) && forward(err) &&
           forward_credentials(&credentials, err);
}

/* ---- op attest, op ping --------------------------------------------------------- */

static bool ask_attest(json_t *push, struct err *err)
{
    const char *nonce = NULL, *user_data = NULL;
    json_error_t why;
    if (json_unpack_ex(push, &why, 0, "{s:s, s?s, s?s !}", "op", &(const char *){0}, "nonce",
            &nonce, "user_data", &user_data) != 0)
        return err_set(err, "%s", why.text);
    frame = (struct push_frame){.kind = PUSH_ATTEST};
    struct push_attest *a = &frame.u.attest;
    if (!copy_hex(a->nonce, sizeof a->nonce, &a->nonce_n, nonce, "nonce", err) ||
        !copy_hex(a->user_data, sizeof a->user_data, &a->user_data_n, user_data, "user_data", err))
        return false;
    if (!keygen_allows_user_data(bytes_of(a->user_data, a->user_data_n)))
        return err_set(
            err, "user_data: what begins with `%s` is for the enclave itself", KEYGEN_WORD);
    return forward(err);
}

static bool ask_ping(json_t *push, struct err *err)
{
    json_error_t why;
    if (json_unpack_ex(push, &why, 0, "{s:s !}", "op", &(const char *){0}) != 0)
        return err_set(err, "%s", why.text);
    frame = (struct push_frame){.kind = PUSH_PING};
    return forward(err);
}

static bool ask_monitor(json_t *push, struct err *err)
{
    static const struct {
        const char *op;
        bool (*ask)(json_t *push, struct err *err);
    } ops[] = {
        {"config", ask_config}, {"keygen", ask_keygen}, {"attest", ask_attest}, {"ping", ask_ping}};
    const char *op = json_string_value(json_object_get(push, "op"));
    for (size_t i = 0; op != NULL && i < sizeof ops / sizeof ops[0]; i++)
        if (strcmp(op, ops[i].op) == 0)
            return ops[i].ask(push, err);
    return err_set(err, "op: one of config, keygen, attest, ping is expected");
}

/* ---- the answer ----------------------------------------------------------------- */

static json_t *key_json(const struct push_answer_key *k)
{
    char hex[2 * PUBLIC_KEY_MAX + 1];
    hex_upper(bytes_of(k->key.bytes, k->key.len), hex);
    return json_pack("{s:s, s:s, s:s}", "chain_id", k->chain_id, "public_key", k->text, "hex", hex);
}

static json_t *ready_json(const struct push_answer_ready *r, json_t *keys)
{
    char measured[2 * PCR_LEN + 1], pcr16[2 * PCR_LEN + 1];
    hex_lower(bytes_of(r->measured_config, PCR_LEN), measured);
    hex_lower(bytes_of(r->pcr16, PCR_LEN), pcr16);
    return json_pack("{s:b, s:s, s:O, s:s, s:s}", "ok", 1, "state", "ready", "keys", keys,
        "measured_config", measured, "pcr16", pcr16);
}

static json_t *document_json(const struct push_answer_document *d)
{
    static char document[NSM_DOCUMENT_MAX / 3 * 4 + 8], ciphertext[KMS_BLOB_MAX / 3 * 4 + 8];
    char hex[2 * PUBLIC_KEY_MAX + 1];
    if (!base64_encode(bytes_of(d->document, d->document_n), document, sizeof document) ||
        !base64_encode(bytes_of(d->ciphertext, d->ciphertext_n), ciphertext, sizeof ciphertext))
        return NULL;
    if (d->ciphertext_n == 0)
        return json_pack("{s:b, s:s}", "ok", 1, "document", document);
    hex_lower(bytes_of(d->key.bytes, d->key.len), hex);
    return json_pack("{s:b, s:s, s:s, s:s}", "ok", 1, "ciphertext", ciphertext, "public_key", hex,
        "document", document);
}

static json_t *error_json(const char *text)
{
    json_t *answer = json_pack("{s:b, s:s}", "ok", 0, "error", text);
    if (answer == NULL) /* bytes of the push that are no UTF-8 stand in the text */
        answer = json_pack("{s:b, s:s}", "ok", 0, "error", "refused; the enclave's log says why");
    return answer;
}

/* The frame of a verdict in JSON; NULL: more frames are to come, or memory is out. */
static json_t *verdict_json(json_t *keys)
{
    if (frame.kind == PUSH_ANSWER_KEY && json_array_append_new(keys, key_json(&frame.u.key)) == 0)
        return NULL;
    if (frame.kind == PUSH_ANSWER_READY && frame.u.ready.keys_n == json_array_size(keys))
        return ready_json(&frame.u.ready, keys);
    if (frame.kind == PUSH_ANSWER_DOCUMENT)
        return document_json(&frame.u.document);
    if (frame.kind == PUSH_ANSWER_STATE)
        return json_pack(
            "{s:b, s:s}", "ok", 1, "state", frame.u.state.is_ready ? "ready" : "waiting");
    if (frame.kind == PUSH_ANSWER_ERROR)
        return error_json(frame.u.error);
    return error_json("the enclave answered with something else than was asked for");
}

static json_t *await_verdict(void)
{
    json_t *keys = json_array(), *answer = NULL;
    while (answer == NULL) {
        if (!fd_wait(CHILD_FD_CONTROL, POLLIN, verdict_deadline))
            answer =
                error_json("the enclave has not finished in time; its log says where it waits");
        else if (push_frame_recv(CHILD_FD_CONTROL, &frame) != 1)
            answer = error_json("the enclave ended before it was done; its log says why");
        else
            answer = verdict_json(keys);
    }
    json_decref(keys);
    return answer;
}

/* Closing a socket with bytes unread would throw away the answer that is on its way. */
static void drain(void)
{
    char buf[4096];
    uint64_t deadline = in_seconds(1);
    while (fd_wait(CLIENT, POLLIN, deadline) && recv(CLIENT, buf, sizeof buf, MSG_DONTWAIT) > 0)
        ;
}

static bool serve(struct err *err)
{
    json_t *push = push_read(CLIENT, in_seconds(PUSH_READ_SECONDS), err);
    verdict_deadline = in_seconds(PUSH_VERDICT_SECONDS);
    bool is_asked = push != NULL && ask_monitor(push, err);
    json_decref(push);
    json_t *answer = is_asked ? await_verdict() : error_json(err->text);
    struct err unheard; /* a client that has left needs no answer */
    bool is_told =
        answer != NULL && push_write(CLIENT, answer, in_seconds(PUSH_READ_SECONDS), &unheard);
    json_decref(answer);
    if (is_told && !is_asked)
        drain();
    return is_asked;
}

int push_child_main(const char *port)
{
    struct err err = {0};
    struct vsock vsock;
    if (!child_start(&err) || !crypto_start(&err) || !vsock_from(&vsock, NULL, &err) ||
        !sandbox_enter(SANDBOX_CONFIG, &err)) {
        control_fail(CHILD_FD_CONTROL, "%s", err.text);
        return EXIT_FAILURE;
    }
    config_seed_tables();
    if (vsock_greet(&vsock, CLIENT, (uint32_t)strtoul(port, NULL, 10), &err) && serve(&err))
        return EXIT_SUCCESS;
    control_fail(CHILD_FD_CONTROL, "%s", err.text);
    return EXIT_FAILURE;
}
