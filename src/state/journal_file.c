/* journal_file: what the journal and the `tmkms state` commands share: finding, locking, reading
 * and creating the file. Nothing here makes a token. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "state/journal.h"
#include "state/journal_words.h"

static ssize_t system_pread(void *ctx, int fd, void *buf, size_t n, off_t at)
{
    (void)ctx;
    return pread(fd, buf, n, at);
}

static ssize_t system_pwrite(void *ctx, int fd, const void *buf, size_t n, off_t at)
{
    (void)ctx;
    return pwrite(fd, buf, n, at);
}

static int system_fdatasync(void *ctx, int fd)
{
    (void)ctx;
    return fdatasync(fd);
}

static int system_fstat(void *ctx, int fd, struct stat *st)
{
    (void)ctx;
    return fstat(fd, st);
}

static int system_lstat(void *ctx, const char *path, struct stat *st)
{
    (void)ctx;
    return lstat(path, st);
}

const struct state_io state_io_system = {
    .pread = system_pread,
    .pwrite = system_pwrite,
    .fdatasync = system_fdatasync,
    .fstat = system_fstat,
    .lstat = system_lstat,
};

/* ---- finding and locking ------------------------------------------------------------------------
 */

static bool open_path(int *ret_fd, const char *path, const char *named, int how, struct err *err)
{
    int fd = open(path, how | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return journal_cannot_open(path, named, err);
    *ret_fd = fd;
    return true;
}

bool journal_open_file(int *ret_fd, const char *path, const char *named, struct err *err)
{
    return open_path(ret_fd, path, named, O_RDWR, err);
}

bool journal_open_file_readonly(int *ret_fd, const char *path, const char *named, struct err *err)
{
    return open_path(ret_fd, path, named, O_RDONLY, err);
}

/* Who has the lock is looked up for commands only: in the signer's sandbox nobody may read /proc. */
static bool lock_or_name(int fd, const char *path, bool looks_up, struct err *err)
{
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (errno != EWOULDBLOCK)
        return err_errno(err, "cannot lock the state file %s", path);
    char holder[JOURNAL_HOLDER_MAX] = "another process (`tmkms state show` names it)";
    if (looks_up)
        (void)!journal_holder_words(holder, fd);
    return err_set(err, "the state file %s is in use by %s; stop it first", path, holder);
}

bool journal_lock(int fd, const char *path, struct err *err)
{
    return lock_or_name(fd, path, true, err);
}

bool journal_lock_signer(int fd, const char *path, struct err *err)
{
    return lock_or_name(fd, path, false, err);
}

/* Lines of /proc/locks: "1: FLOCK  ADVISORY  WRITE 1234 fe:01:5678 0 EOF". */
long journal_lock_holder(int fd)
{
    struct stat st;
    FILE *f = fstat(fd, &st) == 0 ? fopen("/proc/locks", "re") : NULL;
    if (f == NULL)
        return 0;
    long holder = 0;
    char line[256];
    while (holder == 0 && fgets(line, sizeof line, f) != NULL) {
        long pid;
        unsigned int maj, min;
        unsigned long inode;
        if (sscanf(line, "%*d: FLOCK ADVISORY WRITE %ld %x:%x:%lu", &pid, &maj, &min, &inode) ==
                4 &&
            inode == st.st_ino && makedev(maj, min) == st.st_dev)
            holder = pid;
    }
    fclose(f);
    return holder;
}

/* ---- reading ---- */

/* Missing bytes are zero: a short file has damaged slots. */
static bool read_slots(uint8_t raw[2][SLOT_SIZE], struct journal_view *view, int fd,
    const char *path, const struct state_io *io, struct err *err)
{
    struct stat st;
    if (io->fstat(io->ctx, fd, &st) != 0)
        return err_errno(err, "cannot look at the state file %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, "the state file %s is not a regular file", path);
    view->size = st.st_size;
    memset(raw, 0, JOURNAL_SIZE);
    for (int i = 0; i < 2; i++)
        if (io->pread(io->ctx, fd, raw[i], SLOT_SIZE, (off_t)i * SLOT_SIZE) < 0)
            return err_errno(err, "cannot read the state file %s", path);
    return true;
}

static void judge_slots(uint8_t raw[2][SLOT_SIZE], struct journal_view *view)
{
    for (unsigned i = 0; i < 2; i++) {
        view->form[i] = slot_parse(&view->slot[i], raw[i]);
        if (view->form[i] == SLOT_VALID && (view->slot[i].sequence & 1) != i)
            view->form[i] = SLOT_DAMAGED;
    }
    bool valid[2] = {view->form[0] == SLOT_VALID, view->form[1] == SLOT_VALID};
    view->newest = valid[0] ? 0 : valid[1] ? 1 : -1;
    if (valid[0] && valid[1] && view->slot[1].sequence > view->slot[0].sequence)
        view->newest = 1;
    view->is_intact = valid[0] && valid[1] && view->size == JOURNAL_SIZE &&
                      view->slot[view->newest].sequence == view->slot[!view->newest].sequence + 1;
    static const char head[] = "{\"tmkms_state\":"; /* as far as a file that was cut short has it */
    size_t n = view->size < (long long)sizeof head - 1 ? (size_t)view->size : sizeof head - 1;
    view->looks_foreign = view->newest < 0 && raw[0][0] == '{' && memcmp(raw[0], head, n) != 0;
}

bool journal_view(
    struct journal_view *ret, int fd, const char *path, const struct state_io *io, struct err *err)
{
    enum { TRIES = 5 };
    uint8_t raw[2][SLOT_SIZE];
    struct journal_view view;
    for (int i = 0; i < TRIES; i++) {
        view = (struct journal_view){0};
        if (!read_slots(raw, &view, fd, path, io, err))
            return false;
        judge_slots(raw, &view);
        if (view.is_intact)
            break;
    }
    *ret = view;
    return true;
}

static bool check_identity(const struct record *rec, const char *path, const char *chain_id,
    const struct public_key *key, struct err *err)
{
    static const char remedy[] =
        "move the file aside or change state_file, then make the right one";
    if (chain_id != NULL && strcmp(rec->chain_id, chain_id) != 0)
        return err_set(err,
            "the state file %s belongs to the chain %s, not to %s; if the chain id is right, %s "
            "(`tmkms state init` or `import` with `--chain %s`)",
            path, rec->chain_id, chain_id, remedy, chain_id);
    if (key == NULL || public_key_equal(key, &rec->key))
        return true;
    char has[2 * PUBLIC_KEY_MAX + 1], wants[2 * PUBLIC_KEY_MAX + 1];
    hex_upper(bytes_of(rec->key.bytes, rec->key.len), has);
    hex_upper(bytes_of(key->bytes, key->len), wants);
    return err_set(err,
        "the state file %s belongs to the public key %s, not to %s; if the key file is right, %s "
        "(`tmkms state init` or `import` with `--pubkey %s`)",
        path, has, wants, remedy, wants);
}

/* There is no slot that counts. */
static bool unreadable(
    const struct journal_view *view, const char *path, const char *named, struct err *err)
{
    char what[96];
    if (view->looks_foreign)
        return err_set(err,
            "%.300s is not a state file of this program; move it aside (`mv %.100s %.100s.old`) "
            "and, if "
            "it is one of the Rust tmkms or of CometBFT, bring it with `tmkms state import %s "
            "%.100s.old`; otherwise start above it with `tmkms state init %s --height H`",
            path, path, path, named, path, named);
    if (view->size == 0)
        snprintf(what, sizeof what, "is empty");
    else if (view->size < JOURNAL_SIZE)
        snprintf(what, sizeof what,
            "is cut short (%lld bytes instead of %d) and holds no whole record", view->size,
            JOURNAL_SIZE);
    else
        snprintf(what, sizeof what, "is damaged in both slots");
    return err_set(err,
        "the state file %s %s: what was signed is not known; `tmkms state repair %s --height H` "
        "makes it sign above H, " JOURNAL_SAFE_HEIGHT,
        path, what, named);
}

bool journal_view_check(const struct journal_view *view, const char *path, const char *named,
    const char *chain_id, const struct public_key *key, struct err *err)
{
    char by_hand[JOURNAL_NAMED_MAX];
    if (named == NULL) {
        journal_named(by_hand, path, chain_id, key);
        named = by_hand;
    }
    for (int i = 0; i < 2; i++) {
        if (view->form[i] == SLOT_OTHER_VERSION)
            return err_set(err,
                "the state file %.300s was written by another version of tmkms; write it out with "
                "that "
                "version's `tmkms state export`, move it aside, and bring the result with `tmkms "
                "state import %s FILE`",
                path, named);
        if (view->form[i] == SLOT_VALID &&
            !check_identity(&view->slot[i], path, chain_id, key, err))
            return false;
    }
    if (view->newest < 0)
        return unreadable(view, path, named, err);
    if (view->size != JOURNAL_SIZE)
        return err_set(err,
            "the state file %s has %lld bytes instead of %d; `tmkms state repair %s` mends it",
            path, view->size, JOURNAL_SIZE, named);
    return true;
}

/* ---- writing, for the commands ---- */

bool journal_create(const char *path, const struct record *rec, struct err *err)
{
    const char *problem = record_problem(rec);
    if (problem != NULL)
        return err_set(err, "cannot make the state file %s: %s", path, problem);
    uint8_t raw[2][SLOT_SIZE];
    struct record copy = *rec;
    record_unlink(&copy);
    for (unsigned i = 0; i < 2; i++) {
        copy.sequence = i;
        slot_render(&copy, raw[i]);
    }
    return fd_create_durable(path, raw, sizeof raw, false, err);
}

bool journal_replace(int fd, const char *path, const struct journal_view *view,
    const struct record *rec, const struct state_io *io, struct err *err)
{
    struct record copy = *rec;
    record_unlink(&copy);
    copy.sequence = view->newest < 0 ? 0 : view->slot[view->newest].sequence;
    const char *problem = record_problem(&copy);
    if (problem != NULL)
        return err_set(err, "cannot write the state file %s: %s", path, problem);
    for (int i = 0; i < 2; i++) {
        copy.sequence++;
        uint8_t raw[SLOT_SIZE];
        slot_render(&copy, raw);
        off_t at = (off_t)(copy.sequence & 1) * SLOT_SIZE;
        if (io->pwrite(io->ctx, fd, raw, SLOT_SIZE, at) != SLOT_SIZE ||
            io->fdatasync(io->ctx, fd) != 0)
            return err_errno(err, "cannot write the state file %s", path);
    }
    return true;
}
