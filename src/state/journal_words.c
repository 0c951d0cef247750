#include "state/journal_words.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

void journal_named(char out[JOURNAL_NAMED_MAX], const char *path, const char *chain_id,
    const struct public_key *key)
{
    char hex[2 * PUBLIC_KEY_MAX + 1];
    if (key != NULL)
        hex_upper(bytes_of(key->bytes, key->len), hex);
    snprintf(out, JOURNAL_NAMED_MAX, "--state-file %.400s --chain %s %s %s", path,
        chain_id != NULL ? chain_id : "ID", key != NULL ? "--pubkey" : "--key",
        key != NULL ? hex : "KEYFILE");
}

bool journal_cannot_open(const char *path, const char *named, struct err *err)
{
    char by_hand[JOURNAL_NAMED_MAX];
    int why = errno;
    if (named == NULL) {
        journal_named(by_hand, path, NULL, NULL);
        named = by_hand;
    }
    switch (why) {
    case ENOENT:
        return err_set(err,
            "there is no state file %.300s; for a key that never signed on this chain "
            "`tmkms state init %s` makes it; the history of one that did comes with "
            "`tmkms state import %s FILE`, or is passed over with `--height H` behind "
            "init, " JOURNAL_SAFE_HEIGHT,
            path, named, named);
    case ELOOP:
        return err_set(err,
            "the state file %s is a symbolic link, which could be pointed at an older state; give "
            "the path of the file itself",
            path);
    case EACCES:
        return err_set(err,
            "user %ld may not read and write the state file %s; tmkms must run as the owner of the "
            "file and of its folder (`chown %ld %s`)",
            (long)geteuid(), path, (long)geteuid(), path);
    case EROFS:
        return err_set(err,
            "the state file %s is on a disk that cannot be written here; a record is written "
            "before "
            "each signature, so state_file must be writable (in a systemd unit: StateDirectory= or "
            "ReadWritePaths= with its folder)",
            path);
    default:
        errno = why;
        return err_errno(err, "cannot open the state file %s", path);
    }
}

/* ---- who holds it ---- */

static size_t read_proc(char *out, size_t cap, long pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/%s", pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, out, cap - 1) : 0;
    fd_close(&fd);
    out[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

/* "PID (name) S PARENT ...": the name may hold anything. */
static long parent_of(long pid)
{
    char text[512];
    read_proc(text, sizeof text, pid, "stat");
    const char *behind = strrchr(text, ')');
    return behind != NULL && strlen(behind) > 4 ? strtol(behind + 4, NULL, 10) : 0;
}

static bool is_signer(long pid)
{
    char line[64];
    size_t n = read_proc(line, sizeof line, pid, "cmdline");
    size_t first = strlen(line) + 1;
    return n > first && strcmp(line + first, "@signer") == 0;
}

bool journal_holder_words(char out[JOURNAL_HOLDER_MAX], int fd)
{
    long holder = journal_lock_holder(fd);
    long parent = holder > 0 && is_signer(holder) ? parent_of(holder) : 0;
    if (holder <= 0)
        return false;
    if (parent > 0)
        snprintf(out, JOURNAL_HOLDER_MAX,
            "process %ld, the signer of the tmkms that runs as process %ld (`systemctl stop tmkms` "
            "or "
            "`kill %ld` stops it)",
            holder, parent, parent);
    else
        snprintf(out, JOURNAL_HOLDER_MAX, "process %ld (`kill %ld` stops it)", holder, holder);
    return true;
}
