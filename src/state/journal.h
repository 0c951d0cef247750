/* journal: the state file. Two slots, each one line of JSON on its own 4 KiB block; an update
 * overwrites the older slot in place with one aligned write and flushes once. See
 * doc/state-file.md. */
#ifndef TMKMS_STATE_JOURNAL_H
#define TMKMS_STATE_JOURNAL_H

#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "state/record.h"
#include "state/state.h"

enum { JOURNAL_SIZE = 2 * SLOT_SIZE };

/* Every I/O call the journal makes, so that tests can put a simulated disk under it. */
struct state_io {
    ssize_t (*pread)(void *ctx, int fd, void *buf, size_t n, off_t at);
    ssize_t (*pwrite)(void *ctx, int fd, const void *buf, size_t n, off_t at);
    int (*fdatasync)(void *ctx, int fd);
    int (*fstat)(void *ctx, int fd, struct stat *st);
    int (*lstat)(void *ctx, const char *path, struct stat *st);
    void *ctx;
};
extern const struct state_io state_io_system;

/* ---- for the signer ---------------------------------------------------------------------------
 */

/* journal_open_file opens the path of an existing state file, for journal_open or read-only to look
 * at; a missing one is an error that names `tmkms state init`. named: the arguments that command takes to
 * find the file (as "-c FILE --chain ID"), NULL: by hand. A symbolic link as the last part is
 * refused: it could be pointed at an older state between two starts. The caller closes *ret_fd. */
bool journal_open_file(
    int *ret_fd, const char *path, const char *named, struct err *err) ATTR_MUST_USE;
bool journal_open_file_readonly(
    int *ret_fd, const char *path, const char *named, struct err *err) ATTR_MUST_USE;

/* journal_open takes over fd (open for reading and writing; closed in any case): it takes the flock
 * and fails if another process holds it, checks that the record belongs to this chain and key,
 * writes the newest valid slot again in place and flushes it before it returns. path must lead to
 * this very file, then and at every commit. io: NULL for the system's. */
bool journal_open(struct state **ret, int fd, const char *path, const char *chain_id,
    const struct public_key *key, const struct state_io *io, struct err *err) ATTR_MUST_USE;

/* ---- for `tmkms nitro persist` ---- */

/* The record that is durable now, with its link; borrowed until the next one. */
const struct record *journal_record(const struct state *s);

/* journal_store makes the record of an enclave durable as it came; only its sequence is the file's
 * own. It must be of the same chain and key and cover the present record. false: as STATE_FAILED. */
bool journal_store(struct state *s, const struct record *rec, struct err *err) ATTR_MUST_USE;

/* ---- for the `tmkms state` commands -----------------------------------------------------------
 */

/* What a state file holds. */
struct journal_view {
    long long size;
    struct record slot[2];  /* set where valid */
    enum slot_form form[2]; /* a slot at the other's place counts as damaged */
    int newest;             /* the slot that counts, -1: none */
    bool is_intact;         /* right size, both slots valid, sequence numbers one apart */
    bool looks_foreign;     /* JSON, but not ours: perhaps another program's state */
};

/* journal_view reads without a lock; only I/O can fail. Repeats the reading while a slot is
 * damaged, a few times: a signer may be writing it. */
bool journal_view(struct journal_view *ret, int fd, const char *path, const struct state_io *io,
    struct err *err) ATTR_MUST_USE;

/* false, with the command that repairs it, when there is no record that counts, or it is not this
 * chain's and key's. named: as for journal_open_file. chain_id and key may be NULL: any. */
bool journal_view_check(const struct journal_view *view, const char *path, const char *named,
    const char *chain_id, const struct public_key *key, struct err *err) ATTR_MUST_USE;

/* journal_lock takes the lock that a signer holds as long as it runs; closing fd gives it back. */
bool journal_lock(int fd, const char *path, struct err *err) ATTR_MUST_USE;
/* The same without looking up who holds it, which takes files; for journal_open. */
bool journal_lock_signer(int fd, const char *path, struct err *err) ATTR_MUST_USE;
/* The process that holds the lock, 0: none, or not known. */
long journal_lock_holder(int fd);

/* journal_create writes a new file so that after a power loss it is complete or absent; an existing
 * file is left alone and an error. The sequence of rec is ignored. */
bool journal_create(const char *path, const struct record *rec, struct err *err) ATTR_MUST_USE;

/* journal_replace puts rec into both slots of a locked file in place, one after the other, each
 * flushed, so that at any moment either the old record or rec counts. view: what the file holds
 * now. */
bool journal_replace(int fd, const char *path, const struct journal_view *view,
    const struct record *rec, const struct state_io *io, struct err *err) ATTR_MUST_USE;

#endif
