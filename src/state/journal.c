#include "state/journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "state/journal_words.h"
#include "state/store.h"

struct journal {
    struct state state;
    const struct state_io *io;
    int fd;
    char *path;
    _Alignas(SLOT_SIZE) uint8_t page[SLOT_SIZE];
};

static struct journal *journal_of(struct state *s)
{
    return (struct journal *)s; /* its first member */
}

/* One write, one flush, no second try: after a failed flush the kernel may count the pages as
 * clean, and a flush that then succeeds says nothing. */
static bool write_slot(struct journal *j, const struct record *rec, struct err *err)
{
    slot_render(rec, j->page);
    off_t at = (off_t)(rec->sequence & 1) * SLOT_SIZE;
    errno = 0;
    ssize_t n = j->io->pwrite(j->io->ctx, j->fd, j->page, SLOT_SIZE, at);
    if (n < 0)
        return err_errno(err, "cannot write %s", j->state.name);
    if (n != SLOT_SIZE)
        return err_set(err,
            "cannot write %s: only %zd of %d bytes were written (is the disk full?)", j->state.name,
            n, SLOT_SIZE);
    if (j->io->fdatasync(j->io->ctx, j->fd) != 0)
        return err_errno(err, "cannot flush %s to the disk", j->state.name);
    return true;
}

/* A restart reads what the path leads to. If that is another file, or none, the record would be
 * forgotten then. More than one name of the file is harmless, and backup programs make hard links. */
static bool is_in_place(struct journal *j, struct err *err)
{
    struct stat held, found;
    if (j->io->fstat(j->io->ctx, j->fd, &held) != 0)
        return err_errno(err, "cannot look at %s", j->state.name);
    bool is_there = j->io->lstat(j->io->ctx, j->path, &found) == 0;
    if (!is_there && errno != ENOENT && errno != ENOTDIR)
        return err_errno(err, "cannot look at %s", j->state.name);
    if (is_there && found.st_dev == held.st_dev && found.st_ino == held.st_ino)
        return true;
    char named[JOURNAL_NAMED_MAX];
    const struct record *rec = &j->state.now.record;
    journal_named(named, j->path, rec->key.type != 0 ? rec->chain_id : NULL,
        rec->key.type != 0 ? &rec->key : NULL);
    return err_set(err,
        "%s was deleted, moved or replaced while in use; move it back (no older copy), or start "
        "above "
        "all that was signed with `tmkms state init %s --height H`, " JOURNAL_SAFE_HEIGHT,
        j->state.name, named);
}

static enum state_outcome put(struct state *s, const struct record *next, struct err *err)
{
    struct record rec = *next;
    rec.sequence++;
    if (record_problem(&rec) != NULL) {
        err_set(err, "not a record for %s: %s", s->name, record_problem(&rec));
        return STATE_FAILED;
    }
    if (!write_slot(journal_of(s), &rec, err) || !is_in_place(journal_of(s), err))
        return STATE_FAILED;
    state_advance(s, &rec);
    return STATE_DURABLE;
}

const struct record *journal_record(const struct state *s)
{
    return &s->now.record;
}

bool journal_store(struct state *s, const struct record *rec, struct err *err)
{
    struct record next = *rec;
    next.sequence = s->now.record.sequence;
    return state_put(s, &next, err) == STATE_DURABLE;
}

static void close_journal(struct state *s)
{
    struct journal *j = journal_of(s);
    fd_close(&j->fd);
    free(j->path);
    free(j);
}

static const struct store journal_as_store = {.put = put, .close = close_journal};

/* ---- opening -----------------------------------------------------------------------------------
 */

static void log_damage(const struct journal *j, const struct journal_view *view)
{
    if (!j->state.burns_first)
        return;
    char named[JOURNAL_NAMED_MAX];
    journal_named(named, j->path, j->state.now.record.chain_id, &j->state.now.record.key);
    log_line(LOG_WARN, "tmkms::state",
        "[%s] %s in %s: the record of %" PRId64 "/%" PRId32 " (%s) counts, and the first height "
        "asked for will not be signed; `tmkms state repair %s` shows and mends it, once tmkms is "
        "stopped",
        j->state.now.record.chain_id,
        view->is_intact ? "a height is still to be given up" : "one of the two slots is damaged",
        j->state.name, j->state.now.record.mark.last.height, j->state.now.record.mark.last.round,
        step_name(j->state.now.record.mark.last.step), named);
}

/* What a restart reads from the page cache may never have reached the disk (the process was killed
 * before the flush, or a failed flush marked the pages clean): write it again before anything is
 * answered from it. */
static bool open_record(struct journal *j, const char *path, const char *chain_id,
    const struct public_key *key, struct err *err)
{
    struct journal_view view;
    if (!journal_lock_signer(j->fd, path, err) || !journal_view(&view, j->fd, path, j->io, err) ||
        !journal_view_check(&view, path, NULL, chain_id, key, err))
        return false;
    const struct record *newest = &view.slot[view.newest];
    if (!write_slot(j, newest, err) || !is_in_place(j, err))
        return false;
    state_advance(&j->state, newest);
    if (!view.is_intact)
        j->state.burns_first = true;
    log_damage(j, &view);
    return true;
}

bool journal_open(struct state **ret, int fd, const char *path, const char *chain_id,
    const struct public_key *key, const struct state_io *io, struct err *err)
{
    struct journal *j = aligned_alloc(SLOT_SIZE, sizeof *j);
    if (j == NULL) {
        fd_close(&fd);
        return err_set(err, "out of memory");
    }
    memset(j, 0, sizeof *j);
    j->state.store = &journal_as_store;
    j->fd = fd;
    j->io = io != NULL ? io : &state_io_system;
    snprintf(j->state.name, sizeof j->state.name, "the state file %s", path);
    j->path = strdup(path);
    if (j->path == NULL)
        err_set(err, "out of memory");
    if (j->path == NULL || !open_record(j, path, chain_id, key, err)) {
        state_close(&j->state);
        return false;
    }
    *ret = &j->state;
    return true;
}
