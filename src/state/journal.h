/* journal: the state file. Two slots, each one line of JSON on its own 4 KiB block; an update
 * overwrites the older slot in place with one aligned write and flushes once. See
 * doc/state-file.md. */
#ifndef TMKMS_STATE_JOURNAL_H
#define TMKMS_STATE_JOURNAL_H

#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "state/state.h"

enum { SLOT_SIZE = 4096, JOURNAL_SIZE = 2 * SLOT_SIZE };

/* Every I/O call the journal makes, so that tests can put a simulated disk under it. */
struct state_io {
    ssize_t (*pread)(void *ctx, int fd, void *buf, size_t n, off_t at);
    ssize_t (*pwrite)(void *ctx, int fd, const void *buf, size_t n, off_t at);
    int (*fdatasync)(void *ctx, int fd);
    int (*fstat)(void *ctx, int fd, struct stat *st);
    void *ctx;
};
extern const struct state_io state_io_system;

/* journal_open takes over fd (open for reading and writing, exclusive: it takes the flock and fails
 * if another process holds it), checks that the record belongs to this chain and key, writes the
 * newest valid slot again in place and flushes it before it returns. path is for messages only. io:
 * NULL for the system's. */
bool journal_open(struct state **ret, int fd, const char *path, const char *chain_id,
    const struct public_key *key, const struct state_io *io, struct err *err) ATTR_MUST_USE;

#endif
