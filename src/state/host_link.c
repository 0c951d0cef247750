#include "state/host_link.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "crypto/aead.h"
#include "crypto/secret.h"
#include "state/journal_words.h"
#include "state/link_frame.h"
#include "state/store.h"

enum { REDIAL_MS = 20 };

struct host_link {
    struct state state;
    struct record pending; /* sent, perhaps stored, not acknowledged */
    bool has_pending;
    host_link_dial *dial;
    void *ctx;
    uint8_t *mac_key; /* in secret memory */
    uint8_t boot[LINK_BOOT_LEN];
    int fd; /* -1: no connection */
    uint8_t in[LINK_FRAME_MAX];
    size_t in_n;
};

/* What one try came to. */
enum outcome {
    STORED = 1,
    LOST,    /* the connection: worth another try at once */
    REFUSED, /* by the parent, or because of what it shows: it will not be otherwise in a moment */
};

static struct host_link *link_of(struct state *s)
{
    return (struct host_link *)s; /* its first member */
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- frames ---- */

static bool send_frame(
    struct host_link *h, const struct link_frame *f, uint64_t deadline_us, struct err *err)
{
    uint8_t out[LINK_FRAME_MAX];
    struct bytes frame = link_frame_write(f, out);
    return fd_write_before(h->fd, frame.p, frame.n, deadline_us) ||
           err_errno(err, "%s: cannot send", h->state.name);
}

/* Takes the frame at the start of the buffer, if it is complete; its slices stay valid until more is
 * read. */
static bool take_frame(struct host_link *h, struct link_frame *ret, bool *is_complete)
{
    *is_complete = false;
    if (h->in_n < LINK_HEAD)
        return true;
    size_t n = link_frame_length(h->in);
    if (n == 0)
        return false;
    if (h->in_n - LINK_HEAD < n)
        return true;
    *is_complete = true;
    return link_frame_read(ret, bytes_of(h->in + LINK_HEAD, n));
}

static void drop_frame(struct host_link *h)
{
    size_t n = LINK_HEAD + link_frame_length(h->in);
    h->in_n -= n;
    memmove(h->in, h->in + n, h->in_n);
}

static bool read_more(struct host_link *h)
{
    ssize_t got = recv(h->fd, h->in + h->in_n, sizeof h->in - h->in_n, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (got == 0)
        errno = ECONNRESET;
    if (got <= 0)
        return false;
    h->in_n += (size_t)got;
    return true;
}

/* The parent's words go to the log and to the validator: printable ones only. */
static void take_words(const struct host_link *h, struct bytes text, struct err *err)
{
    char words[LINK_WORDS_MAX + 1] = {0};
    for (size_t i = 0; i < text.n; i++)
        words[i] = text.p[i] >= ' ' && text.p[i] <= '~' ? (char)text.p[i] : '?';
    err_set(err, "%s: the parent refuses: %s", h->state.name, words);
}

/* The next frame of this kind. Probes are answered on the way; anything else ends the connection.
 * The frame is borrowed until the next call. */
static enum outcome expect_frame(struct host_link *h, enum link_frame_kind kind,
    struct link_frame *ret, uint64_t deadline_us, struct err *err)
{
    for (;;) {
        bool is_complete;
        if (!take_frame(h, ret, &is_complete)) {
            err_set(err, "%s: the parent sent something that is no frame", h->state.name);
            return REFUSED;
        }
        if (!is_complete) {
            if (fd_wait(h->fd, POLLIN, deadline_us) && read_more(h))
                continue;
            err_errno(err, "%s: no answer from the parent", h->state.name);
            return LOST;
        }
        if (ret->kind == kind)
            return STORED;
        if (ret->kind == LINK_PROBE) {
            drop_frame(h);
            struct link_frame alive = {.kind = LINK_ALIVE};
            if (!send_frame(h, &alive, deadline_us, err))
                return LOST;
            continue;
        }
        if (ret->kind == LINK_REFUSE)
            take_words(h, ret->text, err);
        else
            err_set(err, "%s: the parent sent a frame out of turn", h->state.name);
        return REFUSED;
    }
}

/* ---- what the parent holds ---- */

static bool is_authentic(const struct host_link *h, const struct link_frame *f)
{
    uint8_t mac[SHA256_LEN];
    link_mac(h->mac_key, f->sequence, f->text, mac);
    return sha256_equal(mac, f->mac);
}

static bool is_same(const struct link_frame *f, const struct record *rec)
{
    uint8_t line[RECORD_LINE_MAX];
    struct link_frame own = link_frame_of_record(rec, line);
    return f->sequence == own.sequence && memcmp(f->mac, own.mac, sizeof own.mac) == 0 &&
           bytes_equal(f->text, own.text);
}

/* After a reconnect the parent must hold what it held, or the record that is pending. */
static enum outcome judge(const struct host_link *h, const struct link_frame *f, struct err *err)
{
    const struct record *now = &h->state.now.record;
    if (is_same(f, now))
        return LOST; /* nothing is settled, and nothing is wrong */
    if (h->has_pending && is_same(f, &h->pending))
        return STORED;
    if (f->sequence > 0 && !is_authentic(h, f))
        err_set(err,
            "%s: nothing is signed: the parent shows record %" PRIu64 ", whose MAC is wrong",
            h->state.name, f->sequence);
    else if (f->sequence < now->link_sequence)
        err_set(err,
            "%s: nothing is signed: the parent shows record %" PRIu64 ", older than %" PRIu64
            ", which it acknowledged; put the newest state file back, or "
            "restart the enclave above the chain's height",
            h->state.name, f->sequence, now->link_sequence);
    else
        err_set(err,
            "%s: nothing is signed: the parent shows record %" PRIu64
            ", which another enclave with this key wrote; stop one of the two",
            h->state.name, f->sequence);
    return REFUSED;
}

static bool say_hello(struct host_link *h, uint64_t deadline_us, struct err *err)
{
    const struct record *now = &h->state.now.record;
    struct link_frame hello = {.kind = LINK_HELLO, .sequence = now->link_sequence, .key = now->key};
    memcpy(hello.chain_id, now->chain_id, sizeof hello.chain_id);
    memcpy(hello.boot, h->boot, sizeof hello.boot);
    return send_frame(h, &hello, deadline_us, err);
}

/* Connects and asks what the parent holds; STORED: *shown is its RECORD, borrowed. */
static enum outcome connect_parent(
    struct host_link *h, struct link_frame *shown, uint64_t deadline_us, struct err *err)
{
    h->in_n = 0;
    h->fd = h->dial(h->ctx, deadline_us, err);
    if (h->fd < 0 || !say_hello(h, deadline_us, err))
        return LOST;
    return expect_frame(h, LINK_RECORD, shown, deadline_us, err);
}

/* ---- a record on its way ---- */

static enum outcome reconnect(struct host_link *h, uint64_t end_us, struct err *err)
{
    struct link_frame shown;
    uint64_t deadline_us = earlier(clock_monotonic_us() + HOST_LINK_CONNECT_US, end_us);
    enum outcome outcome = connect_parent(h, &shown, deadline_us, err);
    if (outcome == STORED) {
        outcome = judge(h, &shown, err);
        drop_frame(h);
        if (outcome == LOST)
            return LOST;
    } else {
        fd_close(&h->fd);
    }
    return outcome;
}

static enum outcome deliver(struct host_link *h, uint64_t end_us, struct err *err)
{
    uint8_t line[RECORD_LINE_MAX];
    struct link_frame ack, record = link_frame_of_record(&h->pending, line);
    uint64_t deadline_us = earlier(clock_monotonic_us() + HOST_LINK_ACK_US, end_us);
    if (!send_frame(h, &record, deadline_us, err))
        return LOST;
    enum outcome outcome = expect_frame(h, LINK_ACK, &ack, deadline_us, err);
    if (outcome != STORED)
        return outcome;
    drop_frame(h);
    if (ack.sequence == record.sequence)
        return STORED;
    err_set(err,
        "%s: nothing is signed: the parent acknowledged record %" PRIu64 " instead of %" PRIu64,
        h->state.name, ack.sequence, record.sequence);
    return REFUSED;
}

static enum outcome try_once(struct host_link *h, uint64_t end_us, struct err *err)
{
    if (h->fd < 0) {
        enum outcome outcome = reconnect(h, end_us, err);
        if (outcome != LOST || h->fd < 0)
            return outcome;
    }
    return deliver(h, end_us, err);
}

static enum state_outcome settle(struct state *s, struct err *err)
{
    struct host_link *h = link_of(s);
    uint64_t end_us = clock_monotonic_us() + HOST_LINK_COMMIT_US;
    enum outcome outcome = h->has_pending ? LOST : STORED;
    while (outcome == LOST) {
        outcome = try_once(h, end_us, err);
        if (outcome != STORED)
            fd_close(&h->fd);
        if (outcome == LOST && clock_monotonic_us() + REDIAL_MS * 1000 >= end_us)
            return STATE_PENDING;
        if (outcome == LOST)
            poll(NULL, 0, REDIAL_MS);
    }
    if (outcome == REFUSED)
        return STATE_PENDING;
    if (h->has_pending)
        state_advance(s, &h->pending);
    h->has_pending = false;
    return STATE_DURABLE;
}

static bool is_same_mark(const struct watermark *a, const struct watermark *b)
{
    return a->floor == b->floor && signable_same_but_time(&a->last, &b->last) &&
           timestamp_equal(&a->last.timestamp, &b->last.timestamp);
}

static void make_pending(struct host_link *h, const struct record *next)
{
    uint8_t line[RECORD_LINE_MAX];
    h->pending = *next;
    h->pending.link_sequence = h->state.now.record.link_sequence + 1;
    struct link_frame f = link_frame_of_record(&h->pending, line);
    link_mac(h->mac_key, f.sequence, f.text, h->pending.link_mac);
    h->has_pending = true;
}

static enum state_outcome put(struct state *s, const struct record *next, struct err *err)
{
    struct host_link *h = link_of(s);
    if (h->has_pending && !is_same_mark(&h->pending.mark, &next->mark)) {
        err_set(err, "%s: another record still waits for its acknowledgement", s->name);
        return STATE_PENDING;
    }
    if (!h->has_pending)
        make_pending(h, next);
    return settle(s, err);
}

/* ---- between requests ---- */

static int attention_fd(const struct state *s)
{
    return ((const struct host_link *)s)->fd;
}

/* Between requests the parent has nothing to say but PROBE; a lost link is made anew when the next
 * record is due. */
static void attend(struct state *s)
{
    struct host_link *h = link_of(s);
    struct link_frame f = {.kind = LINK_ALIVE};
    bool is_complete = false;
    bool ok = h->fd >= 0 && read_more(h) && take_frame(h, &f, &is_complete);
    while (ok && is_complete) {
        const struct link_frame alive = {.kind = LINK_ALIVE};
        ok = f.kind == LINK_PROBE && send_frame(h, &alive, 0, NULL);
        drop_frame(h);
        ok = ok && take_frame(h, &f, &is_complete);
    }
    if (!ok)
        fd_close(&h->fd);
}

static void close_link(struct state *s)
{
    struct host_link *h = link_of(s);
    fd_close(&h->fd);
    secret_free(h->mac_key);
    free(h);
}

static const struct store host_link_as_store = {
    .put = put,
    .settle = settle,
    .attention_fd = attention_fd,
    .attend = attend,
    .close = close_link,
};

/* ---- opening ---- */

/* Only here a record without a MAC is taken, and one of any sequence: this process remembers nothing
 * yet. */
static enum outcome accept_first(struct host_link *h, const struct link_frame *f, struct err *err)
{
    static const uint8_t no_mac[SHA256_LEN];
    const struct record *self = &h->state.now.record;
    struct record rec;
    bool is_from_init = f->sequence == 0 && memcmp(f->mac, no_mac, sizeof no_mac) == 0;
    if (!is_from_init && !is_authentic(h, f)) {
        char named[JOURNAL_NAMED_MAX];
        journal_named(named, "FILE", self->chain_id, &self->key);
        err_set(err,
            "%s: the MAC of the parent's record is wrong: the file was changed, or is of another "
            "key; put the newest state file back, or make one with `tmkms state init %s --height "
            "H`, " JOURNAL_SAFE_HEIGHT,
            h->state.name, named);
        return REFUSED;
    }
    if (!link_frame_record(&rec, f) || strcmp(rec.chain_id, self->chain_id) != 0 ||
        !public_key_equal(&rec.key, &self->key)) {
        err_set(
            err, "%s: the parent's record is damaged, or of another chain or key", h->state.name);
        return REFUSED;
    }
    rec.burn_next = rec.burn_next || f->burns_first;
    state_advance(&h->state, &rec);
    return STORED;
}

static enum outcome load(struct host_link *h, uint64_t deadline_us, struct err *err)
{
    struct link_frame shown;
    enum outcome outcome = connect_parent(h, &shown, deadline_us, err);
    if (outcome == STORED) {
        outcome = accept_first(h, &shown, err);
        drop_frame(h);
    }
    if (outcome != STORED)
        fd_close(&h->fd);
    return outcome;
}

/* What the parent shows may be in its memory only, and a copy of this enclave may still run: the
 * record is written again, under a sequence that is ours, before anything is answered from it. */
static bool open_record(struct host_link *h, struct err *err)
{
    uint64_t deadline_us = clock_monotonic_us() + HOST_LINK_CONNECT_US;
    enum outcome outcome;
    while ((outcome = load(h, deadline_us, err)) == LOST &&
           clock_monotonic_us() + REDIAL_MS * 1000 < deadline_us)
        poll(NULL, 0, REDIAL_MS);
    if (outcome != STORED)
        return false;
    make_pending(h, &h->state.now.record);
    if (settle(&h->state, err) != STATE_DURABLE)
        return false;
    if (h->state.burns_first)
        log_line(LOG_WARN, "tmkms::state",
            "%s: the parent's file had a damaged slot: the first height asked for will not be "
            "signed",
            h->state.name);
    return true;
}

bool host_link_open(struct state **ret, const char *chain_id, const struct public_key *key,
    const uint8_t mac_key[32], host_link_dial *dial, void *ctx, struct err *err)
{
    struct host_link *h = calloc(1, sizeof *h);
    if (h == NULL)
        return err_set(err, "out of memory");
    h->state.store = &host_link_as_store;
    h->fd = -1;
    h->dial = dial;
    h->ctx = ctx;
    snprintf(h->state.name, sizeof h->state.name, "state link of %s", chain_id);
    snprintf(h->state.now.record.chain_id, CHAIN_ID_MAX + 1, "%s", chain_id);
    h->state.now.record.key = *key;
    random_bytes(h->boot, sizeof h->boot);
    h->mac_key = secret_alloc(SHA256_LEN, err);
    if (h->mac_key != NULL)
        memcpy(h->mac_key, mac_key, SHA256_LEN);
    if (h->mac_key == NULL || !open_record(h, err)) {
        close_link(&h->state);
        return false;
    }
    *ret = &h->state;
    return true;
}
