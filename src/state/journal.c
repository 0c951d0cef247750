#include "state/journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"

enum { PATH_SHOWN = 512 };

/* Defined in this file only: nobody else can make one. */
struct durable {
    struct record record;
};

struct state {
    _Alignas(SLOT_SIZE) uint8_t page[SLOT_SIZE];
    struct durable now;
    const struct state_io *io;
    int fd;
    bool burns_first;
    bool is_poisoned;
    char path[PATH_SHOWN];
};

/* ---- the record that is durable ----------------------------------------------------------------
 */

const struct watermark *durable_watermark(const struct durable *d)
{
    return &d->record.mark;
}

const char *durable_chain_id(const struct durable *d)
{
    return d->record.chain_id;
}

const struct durable *state_current(const struct state *s)
{
    return &s->now;
}

bool state_burns_first(const struct state *s)
{
    return s->burns_first;
}

/* One write, one flush, no second try: after a failed flush the kernel may count the pages as
 * clean, and a flush that then succeeds says nothing. */
static bool write_slot(struct state *s, const struct record *rec, struct err *err)
{
    slot_render(rec, s->page);
    off_t at = (off_t)(rec->sequence & 1) * SLOT_SIZE;
    errno = 0;
    ssize_t put = s->io->pwrite(s->io->ctx, s->fd, s->page, SLOT_SIZE, at);
    if (put < 0)
        return err_errno(err, "cannot write the state file %s", s->path);
    if (put != SLOT_SIZE)
        return err_set(err,
            "cannot write the state file %s: only %zd of %d bytes were written (is the disk full?)",
            s->path, put, SLOT_SIZE);
    if (s->io->fdatasync(s->io->ctx, s->fd) != 0)
        return err_errno(err, "cannot flush the state file %s to the disk", s->path);
    return true;
}

/* Without a name the record would be gone after a restart. More than one name is harmless: the lock
 * is on the file, not on the name, and backup programs make hard links. */
static bool has_name(struct state *s, struct err *err)
{
    struct stat st;
    if (s->io->fstat(s->io->ctx, s->fd, &st) != 0)
        return err_errno(err, "cannot look at the state file %s", s->path);
    return st.st_nlink > 0 ||
           err_set(err,
               "the state file %s was deleted or replaced while in use; put the newest state back "
               "with "
               "`tmkms state import`, or start a new one above the chain's present height with "
               "`tmkms state init --height H`",
               s->path);
}

static bool commit(struct state *s, const struct watermark *next, struct err *err)
{
    if (!watermark_covers(next, &s->now.record.mark))
        return err_set(err, "the state file %s would be lowered: this must not happen", s->path);
    struct record rec = s->now.record;
    rec.sequence++;
    rec.mark = *next;
    rec.burn_next = false;
    if (record_problem(&rec) != NULL)
        return err_set(
            err, "not a record for the state file %s: %s", s->path, record_problem(&rec));
    if (!write_slot(s, &rec, err) || !has_name(s, err))
        return false;
    s->now.record = rec;
    s->burns_first = false;
    return true;
}

bool state_commit(
    struct state *s, const struct watermark *next, const struct durable **ret, struct err *err)
{
    if (s->is_poisoned)
        return err_set(err, "the state file %s failed before; nothing is signed any more", s->path);
    if (!commit(s, next, err)) {
        s->is_poisoned = true;
        return false;
    }
    *ret = &s->now;
    return true;
}

void state_close(struct state *s)
{
    if (s == NULL)
        return;
    fd_close(&s->fd);
    free(s);
}

/* ---- opening -----------------------------------------------------------------------------------
 */

static void log_damage(const struct state *s, const struct journal_view *view)
{
    if (!s->burns_first)
        return;
    log_line(LOG_WARN, "tmkms::state",
        "[%s] %s in state file %s: the record of %" PRId64 "/%" PRId32
        " (%s) counts, and the first height "
        "asked for will not be signed; `tmkms state repair` shows and mends it",
        s->now.record.chain_id,
        view->is_intact ? "a height is still to be given up" : "one of the two slots is damaged",
        s->path, s->now.record.mark.last.height, s->now.record.mark.last.round,
        step_name(s->now.record.mark.last.step));
}

/* What a restart reads from the page cache may never have reached the disk (the process was killed
 * before the flush, or a failed flush marked the pages clean): write it again before anything is
 * answered from it. */
static bool open_record(
    struct state *s, const char *chain_id, const struct public_key *key, struct err *err)
{
    struct journal_view view;
    if (!journal_lock(s->fd, s->path, err) || !journal_view(&view, s->fd, s->path, s->io, err) ||
        !journal_view_check(&view, s->path, chain_id, key, err))
        return false;
    s->now.record = view.slot[view.newest];
    s->burns_first = !view.is_intact || s->now.record.burn_next;
    if (!write_slot(s, &s->now.record, err) || !has_name(s, err))
        return false;
    log_damage(s, &view);
    return true;
}

bool journal_open(struct state **ret, int fd, const char *path, const char *chain_id,
    const struct public_key *key, const struct state_io *io, struct err *err)
{
    struct state *s = aligned_alloc(SLOT_SIZE, sizeof *s);
    if (s == NULL) {
        fd_close(&fd);
        return err_set(err, "out of memory");
    }
    memset(s, 0, sizeof *s);
    s->fd = fd;
    s->io = io != NULL ? io : &state_io_system;
    snprintf(s->path, sizeof s->path, "%s", path);
    if (!open_record(s, chain_id, key, err)) {
        state_close(s);
        return false;
    }
    *ret = s;
    return true;
}
