#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "enclave/guest_impl.h"
#include "monitor/chains.h"
#include "monitor/fetch_child.h"

enum {
    KMS_US = 45000000,    /* with retries; the host waits longer */
    KEYGEN_US = 20000000, /* nothing waits for a new key, and everybody else waits for its end */
    DIAL_US = 2000000,    /* the parent is on the same machine */
    LINK_US = 300000,     /* the parent answers at once, or is not there */
    KMS_VSOCK_PORT = 8000,
};

static struct guest *guest_of(struct monitor *m)
{
    return (struct guest *)m;
}

static bool tell_signer(struct guest *g, const struct control *msg, struct err *err)
{
    return core_send(&g->m, &g->m.signer, msg, NULL, 0) || core_lost(&g->m.signer, err);
}

struct dialler {
    struct guest *guest;
    uint32_t port;
};

/* Everybody else is heard meanwhile. */
static bool await_connection(struct guest *g, int fd, uint64_t deadline_us, struct err *err)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    while (p.revents == 0) {
        if (g->m.stopping || clock_monotonic_us() >= deadline_us)
            return err_set(err, "nobody answers there");
        core_turn(&g->m, &p, 1, 100);
    }
    return vsock_dial_finish(fd, err);
}

static int dial_kms(void *ctx, uint64_t deadline_us, struct err *err)
{
    const struct dialler *d = ctx;
    uint64_t soon = clock_monotonic_us() + DIAL_US;
    int fd = vsock_dial_parent_start(&d->guest->vsock, d->port, err);
    if (fd >= 0 && !await_connection(d->guest, fd, deadline_us < soon ? deadline_us : soon, err))
        fd_close(&fd);
    if (fd < 0)
        err_prefix(err,
            "cannot reach KMS through port %u of the parent (is `tmkms nitro kms-proxy` or "
            "vsock-proxy running?)",
            d->port);
    return fd;
}

/* A document for the signer's RSA key, and KMS's answer to it. req: op, place and blob are filled in. */
static bool ask_kms(struct guest *g, struct kms_request *req, const struct aws_credentials *creds,
    uint64_t life_us, struct kms_answer *ret, struct err *err)
{
    struct control msg = {.kind = CONTROL_DOCUMENT_ASK};
    uint64_t now_ms;
    if (!tell_signer(g, &msg, err) ||
        !core_await(&g->m, &g->m.signer, CONTROL_DOCUMENT, &msg, err) ||
        !nsm_time_ms(g->nsm, &now_ms, err))
        return false;
    req->document_n = msg.u.document.n;
    memcpy(req->document, msg.u.document.document, msg.u.document.n);
    struct dialler dialler = {
        g, req->place.vsock_port != 0 ? req->place.vsock_port : KMS_VSOCK_PORT};
    return fetch_run(&g->m, req, creds, (int64_t)(now_ms / 1000), dial_kms, &dialler,
        clock_monotonic_us() + life_us, ret, err);
}

/* An identity key is sealed under the chain's context and this pair besides: KMS then refuses the ciphertext of a
 * consensus key in its place, which would bring that key into the session. */
static bool mark_identity(struct kms_place *place, struct err *err)
{
    static const char pair[] = "tmkms\0identity"; /* with the zero behind it */
    const char *end = place->context;
    for (uint32_t i = 0; i < 2 * place->context_n; i++)
        end += strlen(end) + 1;
    size_t used = (size_t)(end - place->context);
    if (sizeof place->context - used < sizeof pair)
        return err_set(err, "encryption_context is too long");
    memcpy(place->context + used, pair, sizeof pair);
    place->context_n++;
    return true;
}

static bool unseal(struct guest *g, const struct config_chain *chain, const uint8_t *blob,
    uint32_t n, bool is_identity, struct control_sealed *ret, struct err *err)
{
    static struct kms_request req;
    static struct kms_answer answer;
    memset(&req, 0, sizeof req);
    char measured[CONFIG_MEASURED_HEX + 1];
    hex_lower(bytes_of(g->measured, sizeof g->measured), measured);
    req.op = KMS_DECRYPT;
    config_chain_kms(&req.place, chain, measured);
    if (is_identity && !mark_identity(&req.place, err))
        return false;
    req.blob_n = n;
    memcpy(req.blob, blob, n);
    if (!ask_kms(g, &req, &g->credentials, KMS_US, &answer, err))
        return false;
    ret->envelope_n = answer.envelope_n;
    memcpy(ret->envelope, answer.envelope, answer.envelope_n);
    return true;
}

static bool hand_over_sealed(struct monitor *m, struct chain *chain, struct err *err)
{
    static struct control add;
    memset(&add, 0, sizeof add);
    add.kind = CONTROL_SEALED_ADD;
    add.u.sealed.chain = chain->config;
    if (!unseal(guest_of(m), &chain->config, chain->config.sealed, chain->config.sealed_n, false,
            &add.u.sealed, err))
        return err_prefix(err, "its key could not be unsealed");
    return tell_signer(guest_of(m), &add, err);
}

/* The identity key of a SecretConnection is sealed like the chain's key, at the same place. */
static int unseal_identity(struct monitor *m, const struct config_validator *v, struct err *err)
{
    static struct control ask;
    const struct chain *chain = chains_find(m, v->chain_id);
    int fd = -1;
    if (chain == NULL) {
        err_set(err, "validator %s: its chain does not run", v->address.text);
        return -1;
    }
    memset(&ask, 0, sizeof ask);
    ask.kind = CONTROL_IDENTITY_OPEN;
    if (!unseal(guest_of(m), &chain->config, v->sealed, v->sealed_n, true, &ask.u.sealed, err)) {
        err_prefix(err, "validator %s: its identity key could not be unsealed", v->address.text);
        return -1;
    }
    if (!tell_signer(guest_of(m), &ask, err))
        return -1;
    return core_await_fd(m, &m->signer, CONTROL_IDENTITY, &ask, &fd, err) ? fd : -1;
}

/* Kept for the life of the config, unread: a session that is started again must not need KMS again. */
static int open_identity_sealed(
    struct monitor *m, const struct config_validator *v, struct err *err)
{
    struct guest *g = guest_of(m);
    size_t i = (size_t)(v - m->config.validators);
    if (g->identities == NULL) {
        g->identities = malloc(m->config.validators_n * sizeof *g->identities);
        if (g->identities == NULL) {
            err_set(err, "out of memory");
            return -1;
        }
        for (size_t k = 0; k < m->config.validators_n; k++)
            g->identities[k] = -1;
    }
    if (g->identities[i] < 0)
        g->identities[i] = unseal_identity(m, v, err);
    if (g->identities[i] < 0)
        return -1;
    int fd = fcntl(g->identities[i], F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        err_errno(err, "cannot hand the identity key over");
    return fd;
}

void guest_forget_identities(struct guest *g)
{
    for (size_t i = 0; g->identities != NULL && i < g->m.config.validators_n; i++)
        fd_close(&g->identities[i]);
    free(g->identities);
    g->identities = NULL;
}

static void give_link(struct monitor *m, const char *chain_id)
{
    struct control link = {.kind = CONTROL_LINK};
    const struct config_chain *chain = config_find_chain(&m->config, chain_id);
    struct err err;
    int fd = chain == NULL ? -1
                           : vsock_dial_parent(&guest_of(m)->vsock, chain->state_port,
                                 clock_monotonic_us() + LINK_US, &err);
    snprintf(link.u.chain_id, sizeof link.u.chain_id, "%s", chain_id);
    /* Heard from within core_turn: it may not wait there. A signer without an answer asks again. */
    (void)!control_send_now(m->signer.control, &link, &fd, fd >= 0 ? 1 : 0);
    fd_close(&fd);
}

const struct monitor_source guest_source = {.hand_over = hand_over_sealed,
    .open_identity = open_identity_sealed,
    .give_link = give_link,
    .hear_aside = guest_hear_clients};

bool guest_keygen(struct guest *g, const struct push_keygen *ask,
    const struct aws_credentials *creds, struct push_answer_document *ret, struct err *err)
{
    static struct kms_request req;
    static struct kms_answer answer;
    static struct control msg;
    memset(&req, 0, sizeof req);
    req.op = KMS_GENERATE_DATA_KEY;
    req.place = ask->place;
    if (!ask_kms(g, &req, creds, KEYGEN_US, &answer, err))
        return false;
    memset(&msg, 0, sizeof msg);
    msg.kind = CONTROL_KEYGEN;
    struct control_keygen *k = &msg.u.keygen;
    k->place = ask->place;
    k->envelope_n = answer.envelope_n;
    memcpy(k->envelope, answer.envelope, answer.envelope_n);
    k->ciphertext_n = answer.ciphertext_n;
    memcpy(k->ciphertext, answer.ciphertext, answer.ciphertext_n);
    k->nonce_n = ask->nonce_n;
    memcpy(k->nonce, ask->nonce, ask->nonce_n);
    if (!tell_signer(g, &msg, err) ||
        !core_await(&g->m, &g->m.signer, CONTROL_KEYGEN_DONE, &msg, err))
        return false;
    ret->key = msg.u.keygen_done.key;
    ret->document_n = msg.u.keygen_done.document.n;
    memcpy(ret->document, msg.u.keygen_done.document.document, ret->document_n);
    ret->ciphertext_n = answer.ciphertext_n;
    memcpy(ret->ciphertext, answer.ciphertext, answer.ciphertext_n);
    return true;
}
