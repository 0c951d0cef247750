#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "config/config.h"
#include "crypto/secret.h"
#include "enclave/guest_impl.h"
#include "keyring/public_text.h"
#include "monitor/chains.h"
#include "monitor/health.h"
#include "monitor/reload.h"
#include "nitro/attestation.h"
#include "nitro/measure.h"

static const char log_name[] = "tmkms::nitro";

enum { REQUEST_US = 5000000 }; /* all frames of one request: they follow each other at once */

/* ---- a config ---- */

/* One config as its frames tell it. */
struct pushed {
    struct push_config head;
    struct aws_credentials credentials;
    struct config config;
    enum push_code refusal; /* why it is not taken, where a program has to know */
};

static bool has_frame(struct guest *g, const struct guest_push *push)
{
    struct pollfd p = {.fd = push->child.control, .events = POLLIN};
    while (p.revents == 0 && !g->m.stopping && clock_monotonic_us() < push->deadline_us)
        core_turn(&g->m, &p, 1, 500);
    return p.revents != 0;
}

static bool next_frame(struct guest *g, struct guest_push *push, uint32_t kind,
    struct push_frame *ret, struct err *err)
{
    if (!has_frame(g, push) || push_frame_recv(push->child.control, ret) != 1)
        return err_set(err, "the process that reads the config failed");
    return ret->kind == kind ||
           err_set(err, "the process that reads the config sent frame %u for %u", ret->kind, kind);
}

static bool collect_chains(struct guest *g, struct guest_push *push, struct pushed *p,
    struct push_frame *frame, struct err *err)
{
    p->config.chains = calloc(p->head.chains_n + 1U, sizeof *p->config.chains);
    p->config.validators = calloc(p->head.validators_n + 1U, sizeof *p->config.validators);
    if (p->config.chains == NULL || p->config.validators == NULL)
        return err_set(err, "out of memory");
    for (uint32_t i = 0; i < p->head.chains_n; i++) {
        if (!next_frame(g, push, CONTROL_CHAIN_ADD, frame, err))
            return false;
        p->config.chains[p->config.chains_n++] = frame->u.control.u.chain;
    }
    for (uint32_t i = 0; i < p->head.validators_n; i++) {
        if (!next_frame(g, push, CONTROL_VALIDATOR_ADD, frame, err))
            return false;
        p->config.validators[p->config.validators_n++] = frame->u.control.u.validator;
    }
    return true;
}

/* frame: the first one, PUSH_CONFIG. */
static bool collect(struct guest *g, struct guest_push *push, struct pushed *p,
    struct push_frame *frame, struct err *err)
{
    p->head = frame->u.config;
    if (!next_frame(g, push, PUSH_CREDENTIALS, frame, err))
        return false;
    p->credentials = frame->u.credentials;
    secret_wipe(&frame->u.credentials, sizeof frame->u.credentials);
    if (!collect_chains(g, push, p, frame, err) || !next_frame(g, push, CONTROL_END, frame, err))
        return false;
    p->config.enclave.log_port = p->head.log_vsock_port;
    return true;
}

/* PCR16 can be extended once: it is locked before KMS is asked for the first time, and from then on the enclave is
 * bound to this config, whether or not the rest succeeds. */
static bool measure(struct guest *g, struct pushed *p, struct err *err)
{
    uint8_t hash[MEASURED_LEN];
    if (!measure_config(&p->config, hash, NULL, err))
        return false;
    bool differs = g->is_measured && memcmp(hash, g->measured, sizeof hash) != 0;
    p->refusal = differs ? PUSH_CODE_MEASURED : PUSH_CODE_NONE;
    if (g->is_measured)
        return !differs ||
               err_set(err, "the measured part of the config differs from the one this enclave "
                            "started with; "
                            "restart the enclave, then push again");
    if (!nsm_extend_pcr(g->nsm, MEASURED_PCR, bytes_of(hash, sizeof hash), g->pcr16, err) ||
        !nsm_lock_pcr(g->nsm, MEASURED_PCR, err))
        return err_prefix(err, "the config cannot be measured into PCR%d", MEASURED_PCR);
    memcpy(g->measured, hash, sizeof hash);
    g->is_measured = true;
    return true;
}

static void take_settings(struct guest *g, struct pushed *p)
{
    g->credentials = p->credentials;
    g->log_port = p->head.log_vsock_port;
    if (g->told_log_port != NULL)
        *g->told_log_port = g->log_port;
    log_set_level(p->head.is_verbose ? LOG_DEBUG : LOG_INFO);
}

static void undo(struct guest *g)
{
    child_stop(&g->m.session, clock_monotonic_us() + 1000000U);
    while (g->m.chains_n > 0)
        chains_drop(&g->m, &g->m.chains[g->m.chains_n - 1]);
    guest_forget_identities(g);
    config_free(&g->m.config);
    g->m.config = (struct config){0};
}

/* Without it a parent, or whoever may encrypt under the KMS key, can put another key in the place of this one. */
static void warn_unnamed_keys(const struct config *config)
{
    for (size_t i = 0; i < config->chains_n; i++)
        if (config->chains[i].expected_key.len == 0)
            log_line(LOG_WARN, log_name,
                "[%s] the config does not say which public key it expects: whoever can encrypt "
                "under the KMS key can "
                "swap the key. Put public_key into its [[chain]] section",
                config->chains[i].id);
}

static bool start_all(struct guest *g, struct pushed *p, struct err *err)
{
    warn_unnamed_keys(&p->config);
    g->m.config = p->config;
    p->config = (struct config){0};
    for (size_t i = 0; i < g->m.config.chains_n; i++)
        if (!chains_open(&g->m, &g->m.config.chains[i], err))
            return false;
    return core_start_session(&g->m, err);
}

/* A running config takes no changes: the session and the signer were started with it. */
static bool is_running_config(const struct guest *g, const struct config *next)
{
    const struct config *now = &g->m.config;
    if (next->chains_n != now->chains_n || next->validators_n != now->validators_n)
        return false;
    for (size_t i = 0; i < next->chains_n; i++) {
        const struct config_chain *c = config_find_chain(now, next->chains[i].id);
        if (c == NULL || memcmp(c, &next->chains[i], sizeof *c) != 0)
            return false;
    }
    for (size_t i = 0; i < next->validators_n; i++)
        if (!reload_has_validator(now, &next->validators[i]))
            return false;
    return true;
}

static bool apply(struct guest *g, struct pushed *p, struct err *err)
{
    if (!measure(g, p, err))
        return false;
    bool differs = g->is_ready && !is_running_config(g, &p->config);
    p->refusal = differs ? PUSH_CODE_CONFIG : PUSH_CODE_NONE;
    if (differs)
        return err_set(err, "the config differs from the running one in what is not measured (its "
                            "validators, ports, time limits or ciphertexts), and nothing of it has "
                            "taken effect; restart the enclave, then push again");
    take_settings(g, p);
    if (g->is_ready) {
        log_line(
            LOG_INFO, log_name, "config pushed again: new credentials and log level are in effect");
        return true;
    }
    if (!start_all(g, p, err)) {
        undo(g);
        return false;
    }
    g->is_ready = true;
    log_line(LOG_INFO, log_name, "ready: %zu chains, %zu validators", g->m.chains_n,
        g->m.config.validators_n);
    return true;
}

static bool answer_ready(struct guest *g, int sock)
{
    for (size_t i = 0; i < g->m.chains_n; i++) {
        const struct chain *c = &g->m.chains[i];
        struct push_frame key = {.kind = PUSH_ANSWER_KEY, .u.key.key = c->key};
        memcpy(key.u.key.chain_id, c->config.id, sizeof key.u.key.chain_id);
        struct err err;
        if (!public_text_for_chain(key.u.key.text, &c->key, &c->config, &err))
            hex_upper(bytes_of(c->key.bytes, c->key.len), key.u.key.text);
        if (!push_frame_send(sock, &key))
            return false;
    }
    struct push_frame ready = {
        .kind = PUSH_ANSWER_READY, .u.ready.keys_n = (uint32_t)g->m.chains_n};
    memcpy(ready.u.ready.measured_config, g->measured, sizeof g->measured);
    memcpy(ready.u.ready.pcr16, g->pcr16, sizeof g->pcr16);
    return push_frame_send(sock, &ready);
}

/* Who pushes the same until it is taken is told each time; the log has it once. */
static void log_refusal(struct guest *g, const struct err *why)
{
    bool is_news = strcmp(g->refused.text, why->text) != 0;
    g->refused = *why;
    log_line(is_news ? LOG_ERROR : LOG_DEBUG, log_name, "config refused: %s", why->text);
}

static void serve_config(struct guest *g, struct guest_push *push, struct push_frame *frame)
{
    struct pushed p = {0};
    struct err err;
    if (collect(g, push, &p, frame, &err) && apply(g, &p, &err)) {
        g->refused.text[0] = '\0';
        (void)!answer_ready(g, push->child.control);
    } else {
        log_refusal(g, &err);
        push_frame_fail(push->child.control, p.refusal, "%s", err.text);
    }
    config_free(&p.config);
    secret_wipe(&p.credentials, sizeof p.credentials);
}

/* ---- everything else ---- */

static void serve_keygen(struct guest *g, struct guest_push *push, const struct push_keygen *ask,
    struct push_frame *frame)
{
    static struct push_frame answer;
    struct push_keygen copy = *ask;
    struct err err;
    memset(&answer, 0, sizeof answer);
    answer.kind = PUSH_ANSWER_DOCUMENT;
    bool ok = next_frame(g, push, PUSH_CREDENTIALS, frame, &err);
    if (ok && g->is_ready) /* KMS may be slow, and the chains would wait with us */
        ok = err_set(&err, "this enclave signs; a new key is made in one that has no config yet");
    else if (ok)
        ok = guest_keygen(g, &copy, &frame->u.credentials, &answer.u.document, &err);
    secret_wipe(&frame->u.credentials, sizeof frame->u.credentials);
    if (ok)
        (void)!push_frame_send(push->child.control, &answer);
    else
        push_frame_fail(push->child.control, PUSH_CODE_NONE, "%s", err.text);
}

static void serve_attest(struct guest *g, struct guest_push *push, const struct push_attest *ask)
{
    static struct push_frame answer;
    static uint8_t buf[NSM_RESPONSE_MAX];
    struct bytes document;
    struct err err;
    memset(&answer, 0, sizeof answer);
    answer.kind = PUSH_ANSWER_DOCUMENT;
    if (!nsm_attest(g->nsm, bytes_of(ask->user_data, ask->user_data_n),
            bytes_of(ask->nonce, ask->nonce_n), bytes_of(NULL, 0), buf, &document, &err)) {
        push_frame_fail(push->child.control, PUSH_CODE_NONE, "%s", err.text);
        return;
    }
    answer.u.document.document_n = (uint32_t)document.n;
    memcpy(answer.u.document.document, document.p, document.n);
    (void)!push_frame_send(push->child.control, &answer);
}

static void serve_frame(struct guest *g, struct guest_push *push, struct push_frame *frame)
{
    if (frame->kind == PUSH_CONFIG) {
        serve_config(g, push, frame);
    } else if (frame->kind == PUSH_KEYGEN) {
        serve_keygen(g, push, &frame->u.keygen, frame);
    } else if (frame->kind == PUSH_ATTEST) {
        serve_attest(g, push, &frame->u.attest);
    }
}

/* ---- what is answered at once ---- */

static uint32_t liveness_of(const struct child *c)
{
    if (c->pid <= 0)
        return PUSH_NONE;
    return health_answers(c) ? PUSH_ALIVE : PUSH_SILENT;
}

static void answer_ping(const struct guest *g, const struct guest_push *push)
{
    struct push_frame state = {.kind = PUSH_ANSWER_STATE,
        .u.state = {.is_ready = g->is_ready,
            .signer = liveness_of(&g->m.signer),
            .session = liveness_of(&g->m.session),
            .log_vsock_port = g->log_port}};
    (void)!push_frame_send(push->child.control, &state);
}

void guest_push_hear(struct guest *g, struct guest_push *push)
{
    static struct push_frame frame;
    uint32_t kind;
    bool is_there = push_frame_peek(push->child.control, &kind) == 1;
    if (is_there && kind != PUSH_PING && kind != CONTROL_FAILED) {
        push->is_asking = true;
        return;
    }
    if (!is_there || push_frame_recv(push->child.control, &frame) != 1)
        fd_close(&push->child.control);
    else if (kind == PUSH_PING)
        answer_ping(g, push);
    else
        log_line(LOG_WARN, log_name, "a push was refused: %s", frame.u.control.u.text);
    child_forward_log(&push->child);
}

void guest_push_serve(struct guest *g, struct guest_push *push)
{
    static struct push_frame frame;
    push->deadline_us = clock_monotonic_us() + REQUEST_US;
    if (push_frame_recv(push->child.control, &frame) == 1)
        serve_frame(g, push, &frame);
    /* The child writes the answer to its client by itself; it is not waited for. */
    child_forward_log(&push->child);
}
