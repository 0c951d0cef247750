#include "enclave/push_child.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "crypto/encode.h"
#include "enclave/push_frames.h"
#include "enclave/push_request.h"
#include "ipc/child.h"
#include "link/vsock.h"
#include "nitro/push.h"
#include "sandbox/sandbox.h"

enum { CLIENT = STDIN_FILENO };

static uint64_t in_seconds(unsigned seconds)
{
    return clock_monotonic_us() + seconds * 1000000ULL;
}

/* One frame at a time is in work; it is too large for the stack. */
static struct push_frame frame;

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

static json_t *refusal_json(const struct push_answer_error *e)
{
    json_t *answer = error_json(e->text);
    const char *code = push_code_name((enum push_code)e->code);
    if (answer != NULL && code != NULL)
        json_object_set_new(answer, "code", json_string(code));
    return answer;
}

static json_t *state_json(const struct push_answer_state *s)
{
    static const char *const words[] = {
        [PUSH_NONE] = "none", [PUSH_ALIVE] = "alive", [PUSH_SILENT] = "silent"};
    return json_pack("{s:b, s:s, s:s, s:s, s:I}", "ok", 1, "state",
        s->is_ready ? "ready" : "waiting", "signer", words[s->signer], "session", words[s->session],
        "log_vsock_port", (json_int_t)s->log_vsock_port);
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
        return state_json(&frame.u.state);
    if (frame.kind == PUSH_ANSWER_ERROR)
        return refusal_json(&frame.u.error);
    return error_json("the enclave answered with something else than was asked for");
}

static json_t *await_verdict(uint64_t deadline)
{
    json_t *keys = json_array(), *answer = NULL;
    while (answer == NULL) {
        if (!fd_wait(CHILD_FD_CONTROL, POLLIN, deadline))
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
    uint64_t deadline = in_seconds(PUSH_VERDICT_SECONDS);
    bool is_asked = push != NULL && push_request_forward(push, CHILD_FD_CONTROL, deadline, err);
    json_decref(push);
    json_t *answer = is_asked ? await_verdict(deadline) : error_json(err->text);
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
    if (vsock_greet(&vsock, CLIENT, (uint32_t)strtoul(port, NULL, 10), &err) && serve(&err))
        return EXIT_SUCCESS;
    control_fail(CHILD_FD_CONTROL, "%s", err.text);
    return EXIT_FAILURE;
}
