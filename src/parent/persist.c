#include "parent/persist.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "link/vsock.h"
#include "state/journal.h"
#include "state/journal_words.h"
#include "state/link_frame.h"

static const char log_name[] = "tmkms::persist";

enum { PEERS_MAX = 4 * PERSIST_CHAINS_MAX, WORDS_MAX = LINK_WORDS_MAX };

/* An enclave answers a probe at once unless it is dead; its successor's handshake waits meanwhile. */
static const struct timeval probe_time = {.tv_sec = 1};
enum { HELLO_US = 2000000 };
static const struct timeval hello_time = {.tv_sec = HELLO_US / 1000000};

struct chain {
    struct persist *persist;
    struct state *journal;
    struct peer *owner;   /* the enclave that may write */
    struct peer *waiting; /* another one, until it is known whether the owner is alive */
    struct event *probe_over;
};

struct peer {
    struct persist *persist;
    struct chain *chain; /* NULL before HELLO */
    int fd;
    struct event *readable;
    uint64_t hello_by_us;
    bool is_gone;
    uint8_t boot[LINK_BOOT_LEN];
    uint8_t in[LINK_FRAME_MAX];
    size_t in_n;
    struct peer *next;
};

struct persist {
    struct server *server;
    uint32_t cid;
    uint64_t alive_us;
    bool was_asked;
    struct peer *peers;
    size_t peers_n, chains_n;
    struct chain chains[PERSIST_CHAINS_MAX];
};

static const struct record *held(const struct chain *c)
{
    return journal_record(c->journal);
}

/* ---- peers ---- */

static void adopt(struct chain *c, struct peer *peer);

/* Ends the connection; the memory is given back when nobody can hold a pointer to it any more. */
static void peer_drop(struct peer *peer)
{
    struct chain *c = peer->chain;
    if (peer->is_gone)
        return;
    peer->is_gone = true;
    event_del(peer->readable);
    fd_close(&peer->fd);
    if (c == NULL)
        return;
    if (c->waiting == peer) {
        c->waiting = NULL;
        event_del(c->probe_over);
    }
    if (c->owner == peer) {
        c->owner = NULL;
        if (c->waiting != NULL)
            adopt(c, c->waiting);
    }
}

/* Called at the end of every event. */
static void bury(struct persist *p, bool all)
{
    for (struct peer **link = &p->peers; *link != NULL;) {
        struct peer *peer = *link;
        if (!peer->is_gone && !all) {
            link = &peer->next;
            continue;
        }
        *link = peer->next;
        event_free(peer->readable);
        fd_close(&peer->fd);
        free(peer);
        p->peers_n--;
    }
}

/* A peer that does not read the few bytes that it gets is not worth a buffer. */
static bool peer_send(struct peer *peer, const struct link_frame *f)
{
    uint8_t out[LINK_FRAME_MAX];
    struct bytes frame = link_frame_write(f, out);
    return send(peer->fd, frame.p, frame.n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)frame.n;
}

/* Says why and ends the connection. */
ATTR_PRINTF(2, 3) static void peer_refuse(struct peer *peer, const char *fmt, ...)
{
    char words[WORDS_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(words, sizeof words, fmt, args);
    va_end(args);
    log_line(LOG_WARN, log_name, "an enclave is refused: %s", words);
    peer_send(peer, &(struct link_frame){.kind = LINK_REFUSE, .text = bytes_of_text(words)});
    peer_drop(peer);
}

/* ---- who may write ---- */

static void show_record(struct chain *c, struct peer *peer)
{
    uint8_t line[RECORD_LINE_MAX];
    struct link_frame f = link_frame_of_record(held(c), line);
    f.burns_first = state_burns_first(c->journal);
    if (!peer_send(peer, &f))
        peer_drop(peer);
}

static void adopt(struct chain *c, struct peer *peer)
{
    struct peer *before = c->owner;
    if (c->waiting == peer) {
        c->waiting = NULL;
        event_del(c->probe_over);
    }
    c->owner = peer;
    peer->chain = c;
    if (before != NULL)
        peer_drop(before);
    log_line(LOG_INFO, log_name, "[%s] an enclave is connected; the record is %" PRIu64,
        held(c)->chain_id, held(c)->link_sequence);
    show_record(c, peer);
}

static void on_probe_over(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct chain *c = arg;
    if (c->waiting == NULL)
        return;
    log_line(LOG_WARN, log_name, "[%s] the enclave before does not answer: another takes its place",
        held(c)->chain_id);
    adopt(c, c->waiting);
    bury(c->persist, false);
}

/* Another enclave asks for a chain that has one: the first may be dead without a word. */
static void ask_owner(struct chain *c, struct peer *peer)
{
    if (c->waiting != NULL) {
        peer_refuse(peer, "two other enclaves hold the state of %s", held(c)->chain_id);
        return;
    }
    c->waiting = peer;
    peer->chain = c;
    event_add(c->probe_over, &probe_time);
    if (!peer_send(c->owner, &(struct link_frame){.kind = LINK_PROBE}))
        peer_drop(c->owner); /* which makes the other one the owner */
}

static void on_alive(struct peer *peer)
{
    struct chain *c = peer->chain;
    bool is_owner = c != NULL && c->owner == peer;
    if (is_owner)
        peer->persist->alive_us = clock_monotonic_us();
    if (!is_owner)
        peer_refuse(peer, "a frame out of turn");
    else if (c->waiting != NULL)
        peer_refuse(c->waiting,
            "another enclave holds the state of %s and is alive; two would sign twice: stop one",
            held(c)->chain_id);
}

static struct chain *find(struct persist *p, const char *chain_id)
{
    for (size_t i = 0; i < p->chains_n; i++)
        if (strcmp(held(&p->chains[i])->chain_id, chain_id) == 0)
            return &p->chains[i];
    return NULL;
}

static void on_hello(struct peer *peer, const struct link_frame *f)
{
    struct chain *c = find(peer->persist, f->chain_id);
    char named[JOURNAL_NAMED_MAX];
    journal_named(named, "FILE", f->chain_id, &f->key);
    if (peer->chain != NULL) {
        peer_refuse(peer, "a frame out of turn");
    } else if (c == NULL) {
        peer_refuse(peer,
            "there is no state of chain %s here; make it with `tmkms state init %s` and give it to "
            "`tmkms nitro persist` with -s FILE",
            f->chain_id, named);
    } else if (!public_key_equal(&held(c)->key, &f->key)) {
        peer_refuse(peer,
            "the state of chain %s here is of another public key; `tmkms state init %s` makes one "
            "of this "
            "key",
            f->chain_id, named);
    } else {
        event_remove_timer(peer->readable);
        memcpy(peer->boot, f->boot, sizeof peer->boot);
        if (c->owner == NULL || memcmp(c->owner->boot, peer->boot, sizeof peer->boot) == 0)
            adopt(c, peer);
        else
            ask_owner(c, peer);
    }
}

/* ---- records ---- */

/* What this end can tell about a record without the key of its MAC. NULL: it follows. */
static const char *problem_of(const struct record *now, const struct record *rec)
{
    if (strcmp(rec->chain_id, now->chain_id) != 0 || !public_key_equal(&rec->key, &now->key))
        return "it is of another chain or key";
    if (rec->link_sequence != now->link_sequence + 1)
        return "its number does not follow";
    if (!watermark_covers(&rec->mark, &now->mark))
        return "it would allow what the record before forbids";
    return NULL;
}

static bool is_held_already(const struct record *now, const struct record *rec)
{
    return rec->link_sequence == now->link_sequence &&
           memcmp(rec->link_mac, now->link_mac, sizeof now->link_mac) == 0;
}

static void acknowledge(struct peer *peer, const struct record *rec)
{
    if (!peer_send(peer, &(struct link_frame){.kind = LINK_ACK, .sequence = rec->link_sequence}))
        peer_drop(peer);
}

static void store(struct peer *peer, const struct record *rec)
{
    struct chain *c = peer->chain;
    struct err err;
    const char *problem = problem_of(held(c), rec);
    if (problem != NULL) {
        peer_refuse(peer, "record %" PRIu64 " of %s does not come after %" PRIu64 ": %s",
            rec->link_sequence, rec->chain_id, held(c)->link_sequence, problem);
    } else if (journal_store(c->journal, rec, &err)) {
        acknowledge(peer, rec);
    } else {
        log_line(LOG_ERROR, log_name, "[%s] %s", rec->chain_id, err.text);
        server_fail(peer->persist->server);
        peer_drop(peer);
    }
}

static void on_record(struct peer *peer, const struct link_frame *f)
{
    struct record rec;
    if (peer->chain == NULL || peer->chain->owner != peer)
        peer_refuse(peer, "a frame out of turn");
    else if (f->sequence == 0 || !link_frame_record(&rec, f))
        peer_refuse(peer, "a record that cannot be read");
    else if (is_held_already(held(peer->chain), &rec))
        acknowledge(peer, &rec);
    else
        store(peer, &rec);
}

/* ---- bytes ---- */

static void on_frame(struct peer *peer, const struct link_frame *f)
{
    switch (f->kind) {
    case LINK_HELLO:
        on_hello(peer, f);
        return;
    case LINK_RECORD:
        on_record(peer, f);
        return;
    case LINK_ALIVE:
        on_alive(peer);
        return;
    case LINK_ACK:
    case LINK_REFUSE:
    case LINK_PROBE:
        peer_refuse(peer, "a frame out of turn");
        return;
    }
}

/* The frame at the start of the buffer; false: it is not complete. */
static bool take_frame(struct peer *peer)
{
    if (peer->in_n < LINK_HEAD)
        return false;
    size_t n = link_frame_length(peer->in);
    if (n > 0 && peer->in_n - LINK_HEAD < n)
        return false;
    struct link_frame f;
    if (n == 0 || !link_frame_read(&f, bytes_of(peer->in + LINK_HEAD, n))) {
        peer_refuse(peer, "something that is no frame");
        return true;
    }
    on_frame(peer, &f);
    peer->in_n -= LINK_HEAD + n;
    memmove(peer->in, peer->in + LINK_HEAD + n, peer->in_n);
    return true;
}

static void read_frames(struct peer *peer)
{
    ssize_t got = recv(peer->fd, peer->in + peer->in_n, sizeof peer->in - peer->in_n, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got > 0) {
        peer->in_n += (size_t)got;
        while (!peer->is_gone && take_frame(peer))
            ;
        return;
    }
    if (peer->chain != NULL && peer->chain->owner == peer)
        log_line(LOG_INFO, log_name, "[%s] the enclave is gone", held(peer->chain)->chain_id);
    peer_drop(peer);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    struct peer *peer = arg;
    struct persist *p = peer->persist;
    bool is_late = peer->chain == NULL && clock_monotonic_us() > peer->hello_by_us;
    if ((what & EV_TIMEOUT) != 0 || is_late)
        peer_refuse(peer, "it did not say which chain it signs for");
    else
        read_frames(peer);
    bury(p, false);
}

static void on_accepted(void *ctx, int fd)
{
    struct persist *p = ctx;
    if (p->cid != 0 && vsock_peer_cid(fd) != p->cid) {
        log_line(
            LOG_WARN, log_name, "a connection from CID %" PRIu32 " is refused", vsock_peer_cid(fd));
        fd_close(&fd);
        return;
    }
    p->was_asked = true;
    struct peer *peer = p->peers_n < PEERS_MAX ? calloc(1, sizeof *peer) : NULL;
    if (peer != NULL)
        peer->readable = event_new(p->server->base, fd, EV_READ | EV_PERSIST, on_readable, peer);
    if (peer == NULL || peer->readable == NULL) {
        free(peer);
        fd_close(&fd);
        return;
    }
    peer->hello_by_us = clock_monotonic_us() + HELLO_US;
    peer->persist = p;
    peer->fd = fd;
    peer->next = p->peers;
    p->peers = peer;
    p->peers_n++;
    event_add(peer->readable, &hello_time);
}

/* ---- life ---- */

struct persist *persist_new(struct server *s, uint32_t cid, struct err *err)
{
    struct persist *p = calloc(1, sizeof *p);
    if (p == NULL) {
        err_set(err, "out of memory");
        return NULL;
    }
    p->server = s;
    p->cid = cid;
    return p;
}

void persist_set_cid(struct persist *p, uint32_t cid)
{
    p->cid = cid;
    p->was_asked = false;
}

bool persist_was_asked(const struct persist *p)
{
    return p->was_asked;
}

/* What a state file must be, and how the `state` commands find it. */
struct wanted {
    const char *path, *chain_id;
    const struct public_key *key; /* NULL: any */
    char named[JOURNAL_NAMED_MAX];
};

/* Whose file it is, stands in the file. */
static bool look(const struct wanted *w, int fd, struct record *ret, struct err *err)
{
    struct journal_view view;
    if (!journal_view(&view, fd, w->path, &state_io_system, err) ||
        !journal_view_check(&view, w->path, w->named, w->chain_id, w->key, err))
        return false;
    *ret = view.slot[view.newest];
    return true;
}

/* fd is taken over. */
static bool add_chain(
    struct persist *p, const char *path, const struct record *rec, int fd, struct err *err)
{
    struct chain *c = &p->chains[p->chains_n];
    *c = (struct chain){.persist = p};
    c->probe_over = event_new(p->server->base, -1, 0, on_probe_over, c);
    if (c->probe_over == NULL) {
        fd_close(&fd);
        return err_set(err, "out of memory");
    }
    if (!journal_open(&c->journal, fd, path, rec->chain_id, &rec->key, NULL, err)) {
        event_free(c->probe_over);
        return false;
    }
    p->chains_n++;
    return true;
}

static enum persist_opened open_wanted(struct persist *p, const struct wanted *w, struct err *err)
{
    struct record rec;
    int fd ATTR_CLEANUP(fd_close) = -1;
    if (p->chains_n == PERSIST_CHAINS_MAX) {
        err_set(err, "more than %d state files", PERSIST_CHAINS_MAX);
        return PERSIST_WRONG;
    }
    if (!journal_open_file(&fd, w->path, w->named, err))
        return PERSIST_WRONG;
    /* Before it is judged: who has it may be writing. */
    if (!journal_lock(fd, w->path, err))
        return PERSIST_HELD;
    if (!look(w, fd, &rec, err))
        return PERSIST_WRONG;
    if (find(p, rec.chain_id) != NULL) {
        err_set(err, "%s is a second state file of chain %s", w->path, rec.chain_id);
        return PERSIST_WRONG;
    }
    int given = fd;
    fd = -1;
    return add_chain(p, w->path, &rec, given, err) ? PERSIST_OPEN : PERSIST_WRONG;
}

/* Only the public key is known here: the other half is sealed. */
static void name_by_hand(struct wanted *w)
{
    char hex[2 * PUBLIC_KEY_MAX + 1] = "PUBLIC_KEY";
    if (w->key != NULL)
        hex_upper(bytes_of(w->key->bytes, w->key->len), hex);
    snprintf(w->named, sizeof w->named, "--state-file %.400s --chain %s --pubkey %s", w->path,
        w->chain_id != NULL ? w->chain_id : "ID", hex);
}

enum persist_opened persist_open(
    struct persist *p, const char *path, const char *chain_id, struct err *err)
{
    struct wanted w = {.path = path, .chain_id = chain_id};
    name_by_hand(&w);
    return open_wanted(p, &w, err);
}

enum persist_opened persist_open_chain(struct persist *p, const char *path, const char *config_file,
    const struct config_chain *chain, struct err *err)
{
    bool has_key = chain->expected_key.type != 0;
    struct wanted w = {
        .path = path, .chain_id = chain->id, .key = has_key ? &chain->expected_key : NULL};
    if (has_key && strcmp(path, chain->state_file) == 0)
        snprintf(w.named, sizeof w.named, "-c %.400s --chain %s", config_file, chain->id);
    else
        name_by_hand(&w);
    return open_wanted(p, &w, err);
}

bool persist_listen(struct persist *p, int listener, struct err *err)
{
    return server_listen(p->server, listener, on_accepted, p, err);
}

void persist_probe(struct persist *p)
{
    for (size_t i = 0; i < p->chains_n; i++) {
        struct peer *owner = p->chains[i].owner;
        if (owner != NULL && !peer_send(owner, &(struct link_frame){.kind = LINK_PROBE}))
            peer_drop(owner);
    }
    bury(p, false);
}

uint64_t persist_alive_us(const struct persist *p)
{
    return p->alive_us;
}

void persist_free(struct persist *p)
{
    bury(p, true);
    for (size_t i = 0; i < p->chains_n; i++) {
        event_free(p->chains[i].probe_over);
        state_close(p->chains[i].journal);
    }
    free(p);
}
