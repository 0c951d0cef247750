#include "signer/signer.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "crypto/secret.h"
#include "ipc/child.h"
#include "ipc/control.h"
#include "keyring/keyring.h"
#include "keyring/public_text.h"
#include "sandbox/sandbox.h"
#include "signer/answer.h"
#include "signer/remembered.h"
#include "signer/sealed.h"
#include "state/host_link.h"
#include "state/journal.h"

static const char log_name[] = "tmkms::signer";

/* One chain and the thread that serves it. */
struct worker {
    struct signer_chain chain;
    struct config_chain config;
    struct signing_key *key;
    int state_fd;        /* until the journal takes it over */
    int64_t hook_height; /* what the state hook said, -1: nothing */
    struct remembered *remembered;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;       /* guards everything below */
    struct guard_policy policy; /* as the configuration has it now */
    bool sign_raw_bytes;
    int64_t min_height;
    pthread_cond_t wake;
    int next_channel; /* handed over by the monitor, -1: none */
    int channel;      /* being served, -1: none */
    int next_link;    /* to the parent's store, handed over by the monitor, -1: none */
    bool link_came;   /* the monitor has answered, with a link or without */
    bool stop;
    uint8_t *blob; /* SIGN_BLOB_MAX bytes, touched only as far as requests need */
};

static struct worker *workers[CONFIG_CHAINS_MAX];

/* Nothing is known about the disk any more, or an invariant is broken: end the program, sign
 * nothing. */
ATTR_NORETURN static void signer_die(const char *chain_id, const char *text, int code)
{
    log_line(LOG_ERROR, log_name, "[%s] %s", chain_id, text);
    control_fail(CHILD_FD_CONTROL, "[%s] %s", chain_id, text);
    _exit(code);
}

/* ---- one thread a chain ---- */

/* The blob of a large extension is rare: give its pages back. */
static void shrink(uint8_t *p, size_t used, size_t cap)
{
    enum { KEEP = 65536 };
    if (used > KEEP)
        madvise(p, cap, MADV_DONTNEED);
}

/* A store on the parent may take its time: then the floor is raised at the next request, and the guard refuses nothing
 * less meanwhile than it did before. */
static bool raise_floor(struct worker *w, int64_t height, struct err *err)
{
    if (height <= durable_watermark(state_current(w->chain.state))->floor)
        return true;
    log_line(
        LOG_INFO, log_name, "[%s] nothing is signed up to height %" PRId64, w->chain.id, height);
    return state_raise_floor(w->chain.state, height, err) != STATE_FAILED;
}

/* A reload changes the policy between two answers, never during one: an answer may take as long as the state takes. */
static bool take_policy(struct worker *w, struct err *err)
{
    pthread_mutex_lock(&w->lock);
    w->chain.policy = w->policy;
    w->chain.sign_raw_bytes = w->sign_raw_bytes;
    int64_t min_height = w->min_height;
    pthread_mutex_unlock(&w->lock);
    return raise_floor(w, min_height - 1, err);
}

/* Meanwhile the state's own link is looked after; a journal has none and costs nothing here. */
static void wait_for_request(struct worker *w, int fd)
{
    for (;;) {
        int link = state_attention_fd(w->chain.state);
        if (link < 0)
            return;
        struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = link, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return;
        if (fds[0].revents != 0)
            return;
        if (fds[1].revents != 0)
            state_attend(w->chain.state);
    }
}

static bool serve_one(struct worker *w, int fd)
{
    struct sign_request req;
    wait_for_request(w, fd);
    if (!fd_read_exact(fd, &req, sizeof req))
        return false;
    uint64_t began = clock_monotonic_us();
    if (req.blob_n > SIGN_BLOB_MAX) {
        log_line(LOG_ERROR, log_name, "[%s] the session sent a malformed request", w->chain.id);
        return false;
    }
    if (!fd_read_exact(fd, w->blob, req.blob_n))
        return false;
    struct sign_reply reply;
    struct err err;
    bool ok = take_policy(w, &err) &&
              signer_answer(&w->chain, &req, bytes_of(w->blob, req.blob_n), &reply, &err);
    if (!ok)
        signer_die(w->chain.id, err.text, CHILD_EXIT_STATE);
    reply.micros = (uint32_t)(clock_monotonic_us() - began);
    bool sent = fd_write_exact(fd, &reply, sizeof reply);
    shrink(w->blob, req.blob_n, SIGN_BLOB_MAX);
    shrink(w->chain.scratch, req.blob_n, SIGNER_SCRATCH);
    return sent;
}

/* The next channel to serve, -1: stop. A new session brings a new channel; the old one is never
 * read again. */
static int next_channel(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    fd_close(&w->channel);
    while (w->next_channel < 0 && !w->stop)
        pthread_cond_wait(&w->wake, &w->lock);
    if (!w->stop) {
        w->channel = w->next_channel;
        w->next_channel = -1;
    }
    int fd = w->stop ? -1 : w->channel;
    pthread_mutex_unlock(&w->lock);
    return fd;
}

/* ---- the state ---- */

/* Called from the chain's thread: the monitor dials, as this process has no sockets of its own to dial with. */
static int dial_link(void *arg, uint64_t deadline_us, struct err *err)
{
    struct worker *w = arg;
    struct control ask = {.kind = CONTROL_LINK_ASK};
    snprintf(ask.u.chain_id, sizeof ask.u.chain_id, "%s", w->chain.id);
    pthread_mutex_lock(&w->lock);
    w->link_came = false;
    pthread_mutex_unlock(&w->lock);
    bool asked = control_send(CHILD_FD_CONTROL, &ask, NULL, 0); /* may block: not under the lock */
    pthread_mutex_lock(&w->lock);
    struct timespec until = {.tv_sec = (time_t)(deadline_us / 1000000U),
        .tv_nsec = (long)(deadline_us % 1000000U) * 1000};
    while (asked && !w->link_came && !w->stop)
        if (pthread_cond_timedwait(&w->wake, &w->lock, &until) != 0)
            break;
    int fd = w->next_link;
    w->next_link = -1;
    pthread_mutex_unlock(&w->lock);
    if (fd < 0)
        err_set(err,
            "the parent's store for chain %s cannot be reached (is `tmkms nitro persist` running?)",
            w->chain.id);
    return fd;
}

static bool open_store(struct worker *w, struct err *err)
{
    const struct public_key *key = signing_key_public(w->key);
    if (w->config.state_port == 0) {
        int fd = w->state_fd;
        w->state_fd = -1;
        return journal_open(&w->chain.state, fd, w->config.state_file, w->chain.id, key, NULL, err);
    }
    static const char info[] = "tmkms state link";
    uint8_t mac_key[32];
    signing_key_derive(w->key, bytes_of_text(info), mac_key);
    bool ok = host_link_open(&w->chain.state, w->chain.id, key, mac_key, dial_link, w, err);
    secret_wipe(mac_key, sizeof mac_key);
    return ok;
}

/* The state hook's height counts when it is ahead by less than this, as in the Rust tmkms. */
enum { HOOK_AHEAD_MAX = 9000 };

static bool apply_hook(struct worker *w, struct err *err)
{
    const struct watermark *mark = durable_watermark(state_current(w->chain.state));
    int64_t known = mark->last.height > mark->floor ? mark->last.height : mark->floor;
    int64_t ahead = w->hook_height - known;
    return ahead <= 0 || ahead >= HOOK_AHEAD_MAX || raise_floor(w, w->hook_height, err);
}

static void tell_open(const struct worker *w)
{
    struct control open = {.kind = CONTROL_CHAIN_OPEN};
    snprintf(open.u.chain_id, sizeof open.u.chain_id, "%s", w->chain.id);
    (void)!control_send(CHILD_FD_CONTROL, &open, NULL, 0);
}

static void *worker_run(void *arg)
{
    struct worker *w = arg;
    struct err err;
    if (!open_store(w, &err) || !remembered_accepts(w->remembered, w->chain.state, &err) ||
        !raise_floor(w, w->config.min_height - 1, &err) || !apply_hook(w, &err)) {
        control_fail(CHILD_FD_CONTROL, "%s", err.text); /* the monitor waits, and names the chain */
        return NULL;
    }
    tell_open(w);
    for (int fd = next_channel(w); fd >= 0; fd = next_channel(w))
        while (serve_one(w, fd))
            ;
    return NULL;
}

/* ---- what the monitor asks for ---- */

static struct worker **find(const char *chain_id)
{
    for (size_t i = 0; i < CONFIG_CHAINS_MAX; i++)
        if (workers[i] != NULL && strcmp(workers[i]->config.id, chain_id) == 0)
            return &workers[i];
    return NULL;
}

static void *map_private(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void worker_free(struct worker *w)
{
    if (w->running) {
        pthread_mutex_lock(&w->lock);
        w->stop = true;
        if (w->channel >= 0)
            shutdown(w->channel, SHUT_RDWR);
        pthread_cond_signal(&w->wake);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
    }
    fd_close(&w->channel);
    fd_close(&w->next_channel);
    fd_close(&w->next_link);
    fd_close(&w->state_fd);
    if (w->chain.state != NULL)
        remembered_note(w->remembered, w->chain.state);
    state_close(w->chain.state);
    signing_key_free(w->key);
    if (w->blob != NULL)
        munmap(w->blob, SIGN_BLOB_MAX);
    if (w->chain.scratch != NULL)
        munmap(w->chain.scratch, SIGNER_SCRATCH);
    free(w);
}

static void set_policy(struct worker *w, const struct config_chain *c)
{
    w->sign_raw_bytes = c->sign_raw_bytes;
    w->min_height = c->min_height;
    w->policy = (struct guard_policy){
        .one_block_per_round = c->one_block_per_round, .max_height_jump = c->max_height_jump};
}

static bool load_key(struct worker *w, int key_fd, struct err *err)
{
    struct err warning = {0};
    if (!keyring_load_fd(&w->key, key_fd, w->config.key_file, (enum key_type)w->config.key_type,
            (enum key_file_format)w->config.key_format, &warning, err))
        return false;
    if (warning.text[0] != '\0')
        log_line(LOG_WARN, "tmkms::keyring", "%s", warning.text);
    return true;
}

/* The line that operators copy the public key from. */
static void log_key(const struct worker *w)
{
    const struct public_key *key = signing_key_public(w->key);
    char text[PUBLIC_TEXT_MAX];
    struct err err;
    if (!public_text_for_chain(text, key, &w->config, &err))
        log_line(LOG_WARN, "tmkms::keyring", "[%s] %s", w->config.id, err.text);
    else
        log_line(LOG_INFO, "tmkms::keyring", "[keyring:softsign] added consensus %s key: %s",
            key->type == KEY_ED25519 ? "Ed25519" : "Secp256k1", text);
}

static struct worker *worker_new(const struct config_chain *c, struct err *err)
{
    struct worker *w = calloc(1, sizeof *w);
    if (w == NULL) {
        err_set(err, "out of memory");
        return NULL;
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    w->state_fd = w->channel = w->next_channel = w->next_link = -1;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, &monotonic);
    w->config = *c;
    set_policy(w, c);
    snprintf(w->chain.id, sizeof w->chain.id, "%s", c->id);
    w->blob = map_private(SIGN_BLOB_MAX);
    w->chain.scratch = map_private(SIGNER_SCRATCH);
    if (w->blob != NULL && w->chain.scratch != NULL)
        return w;
    err_set(err, "out of memory");
    worker_free(w);
    return NULL;
}

/* Mistakes on a host, forgery in an enclave: the envelope of KMS has no authenticity of its own. */
static bool is_expected(const struct worker *w, struct err *err)
{
    const struct public_key *expected = &w->config.expected_key, *got = signing_key_public(w->key);
    if (expected->len == 0 || public_key_equal(got, expected))
        return true;
    char is[2 * PUBLIC_KEY_MAX + 1], wanted[2 * PUBLIC_KEY_MAX + 1];
    hex_upper(bytes_of(got->bytes, got->len), is);
    hex_upper(bytes_of(expected->bytes, expected->len), wanted);
    return err_set(err,
        "the key is %s, but public_key in the configuration is %s; correct the one that is wrong, "
        "then start again",
        is, wanted);
}

/* The key comes from a file or, sealed, from an envelope; from here on a chain is a chain. */
static bool chain_add(struct worker *w, struct err *err)
{
    size_t free_slot = 0;
    while (free_slot < CONFIG_CHAINS_MAX && workers[free_slot] != NULL)
        free_slot++;
    if (free_slot == CONFIG_CHAINS_MAX || find(w->config.id) != NULL)
        return err_set(err, "the chain is there already, or there are too many");
    if (!is_expected(w, err))
        return false;
    w->remembered = remembered_find(w->config.id, signing_key_public(w->key));
    if (w->remembered == NULL)
        return err_set(err, "out of memory");
    w->chain.key = w->key;
    log_key(w);
    workers[free_slot] = w;
    struct control ready = {
        .kind = CONTROL_CHAIN_READY, .u.channel.key = *signing_key_public(w->key)};
    snprintf(ready.u.channel.id, sizeof ready.u.channel.id, "%s", w->config.id);
    if (control_send(CHILD_FD_CONTROL, &ready, NULL, 0))
        return true;
    workers[free_slot] = NULL;
    return err_errno(err, "cannot answer the monitor");
}

static bool chain_add_from_files(const struct config_chain *c, int fds[2], struct err *err)
{
    struct worker *w = worker_new(c, err);
    if (w == NULL)
        return false;
    w->state_fd = fds[1];
    fds[1] = -1;
    if (load_key(w, fds[0], err) && chain_add(w, err))
        return true;
    worker_free(w);
    return false;
}

static bool chain_add_sealed(const struct control_sealed *sealed, struct err *err)
{
    struct worker *w = worker_new(&sealed->chain, err);
    if (w == NULL)
        return false;
    if (sealed_open_key(&w->key, sealed, err) && chain_add(w, err))
        return true;
    worker_free(w);
    return false;
}

/* The thread opens the state, as that may take its time, and says CHAIN_OPEN or FAILED. */
static bool chain_go(const struct control_floor *go, struct err *err)
{
    struct worker **slot = find(go->id);
    if (slot == NULL || (*slot)->running)
        return err_set(err, "the signer has no such chain");
    struct worker *w = *slot;
    w->hook_height = go->hook_height;
    int rc = pthread_create(&w->thread, NULL, worker_run, w);
    if (rc != 0)
        return err_set(err, "cannot start a thread: %s", strerror(rc));
    w->running = true;
    return true;
}

static void chain_drop(const char *chain_id)
{
    struct worker **slot = find(chain_id);
    if (slot == NULL)
        return;
    worker_free(*slot);
    *slot = NULL;
}

static void chain_update(const struct config_chain *c)
{
    struct worker **slot = find(c->id);
    if (slot == NULL)
        return;
    pthread_mutex_lock(&(*slot)->lock);
    set_policy(*slot, c);
    pthread_mutex_unlock(&(*slot)->lock);
}

static void chain_channel(const char *chain_id, int *fd)
{
    struct worker **slot = find(chain_id);
    if (slot == NULL)
        return;
    struct worker *w = *slot;
    pthread_mutex_lock(&w->lock);
    fd_close(&w->next_channel);
    w->next_channel = *fd;
    *fd = -1;
    if (w->channel >= 0)
        shutdown(w->channel, SHUT_RDWR);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

static void chain_link(const char *chain_id, int *fd)
{
    struct worker **slot = find(chain_id);
    if (slot == NULL)
        return;
    struct worker *w = *slot;
    pthread_mutex_lock(&w->lock);
    fd_close(&w->next_link);
    w->next_link = *fd;
    *fd = -1;
    w->link_came = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

static bool answer_document(struct err *err)
{
    struct control msg = {.kind = CONTROL_DOCUMENT};
    return sealed_document(&msg.u.document, err) &&
           (control_send(CHILD_FD_CONTROL, &msg, NULL, 0) ||
               err_errno(err, "cannot answer the monitor"));
}

static bool answer_identity(const struct control_sealed *sealed, struct err *err)
{
    struct control msg = {.kind = CONTROL_IDENTITY};
    int fd = sealed_open_identity(sealed, err);
    if (fd < 0)
        return false;
    bool ok = control_send(CHILD_FD_CONTROL, &msg, &fd, 1);
    fd_close(&fd);
    return ok || err_errno(err, "cannot answer the monitor");
}

static bool answer_keygen(const struct control_keygen *keygen, struct err *err)
{
    struct control msg = {.kind = CONTROL_KEYGEN_DONE};
    return sealed_keygen(&msg.u.keygen_done, keygen, err) &&
           (control_send(CHILD_FD_CONTROL, &msg, NULL, 0) ||
               err_errno(err, "cannot answer the monitor"));
}

static bool answer_ping(struct err *err)
{
    struct control msg = {.kind = CONTROL_PONG};
    return control_send(CHILD_FD_CONTROL, &msg, NULL, 0) ||
           err_errno(err, "cannot answer the monitor");
}

/* false: what was asked could not be done. That is reported; whether it ends the program is the monitor's choice. */
static bool handle(const struct control *msg, int fds[FD_PASS_MAX], size_t fds_n, struct err *err)
{
    if (msg->kind == CONTROL_CHAIN_ADD && fds_n == 2)
        return chain_add_from_files(&msg->u.chain, fds, err);
    if (msg->kind == CONTROL_SEALED_ADD)
        return chain_add_sealed(&msg->u.sealed, err);
    if (msg->kind == CONTROL_CHAIN_GO)
        return chain_go(&msg->u.floor, err);
    if (msg->kind == CONTROL_DOCUMENT_ASK)
        return answer_document(err);
    if (msg->kind == CONTROL_IDENTITY_OPEN)
        return answer_identity(&msg->u.sealed, err);
    if (msg->kind == CONTROL_KEYGEN)
        return answer_keygen(&msg->u.keygen, err);
    if (msg->kind == CONTROL_PING)
        return answer_ping(err);
    if (msg->kind == CONTROL_CHAIN_UPDATE)
        chain_update(&msg->u.chain);
    else if (msg->kind == CONTROL_CHANNEL && fds_n == 1)
        chain_channel(msg->u.chain_id, &fds[0]);
    else if (msg->kind == CONTROL_LINK)
        chain_link(msg->u.chain_id, &fds[0]);
    else if (msg->kind == CONTROL_CHAIN_DROP)
        chain_drop(msg->u.chain_id);
    else if (msg->kind == CONTROL_NSM && fds_n == 1) {
        sealed_set_nsm(fds[0]);
        fds[0] = -1;
    }
    return true;
}

int signer_main(void)
{
    struct err err;
    if (!child_start(&err) || !crypto_start(&err) || !sandbox_enter(SANDBOX_SIGNER, &err)) {
        control_fail(CHILD_FD_CONTROL, "the signer process cannot start: %s", err.text);
        return EXIT_FAILURE;
    }
    for (;;) {
        struct control msg;
        int fds[FD_PASS_MAX] = {-1, -1, -1, -1};
        size_t fds_n = 0;
        int got = control_recv(CHILD_FD_CONTROL, &msg, fds, FD_PASS_MAX, &fds_n);
        if (got == 0)
            _exit(EXIT_SUCCESS); /* the threads hold nothing that needs an orderly end */
        if (got < 0)
            signer_die("-", "the control socket is broken", EXIT_FAILURE);
        if (!handle(&msg, fds, fds_n, &err))
            control_fail(CHILD_FD_CONTROL, "%s", err.text);
        for (size_t i = 0; i < FD_PASS_MAX; i++)
            fd_close(&fds[i]);
    }
}
