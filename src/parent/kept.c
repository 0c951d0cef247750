#include "parent/kept.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "parent/run_folder.h"

static const char lock_name[] = "lock", record_name[] = "record.json";
static const char supervisor_name[] = "SupervisorProcessID";

enum { RECORD_MAX = 16384, TRIES = 16 };

const struct kept KEPT_NONE = {.run = -1, .dir = -1, .lock = -1};

/* ---- folders ---- */

bool kept_path(const struct kept *k, const char *name, char *ret, size_t cap, struct err *err)
{
    int n = snprintf(ret, cap, "%s/%s", k->folder, name);
    return (n > 0 && (size_t)n < cap) || err_set(err,
                                             "the path %s/%s is longer than %zu characters, too "
                                             "long for a socket: set TMKMS_RUN_DIR to "
                                             "a shorter one",
                                             k->folder, name, cap - 1);
}

/* To walk through it; the descriptor stays the caller's. */
static DIR *walk(int folder)
{
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL)
        fd_close(&fd);
    return d;
}

/* All files but the lock. */
static void empty(int folder)
{
    DIR *d = walk(folder);
    if (d == NULL)
        return;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            strcmp(e->d_name, lock_name) != 0)
            unlinkat(folder, e->d_name, 0);
    closedir(d);
}

/* ---- the lock ---- */

static pid_t owner_of(int lock)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(lock, F_GETLK, &l) == 0 && l.l_type != F_UNLCK ? l.l_pid : 0;
}

static pid_t keeper_of(int folder)
{
    int fd ATTR_CLEANUP(fd_close) =
        openat(folder, lock_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    return fd >= 0 ? owner_of(fd) : 0;
}

pid_t kept_keeper(const char *name)
{
    char path[MACHINE_PATH_MAX];
    int run ATTR_CLEANUP(fd_close) = run_folder_open(RUN_FOLDER_LOOK, path, NULL);
    int folder ATTR_CLEANUP(fd_close) =
        run >= 0 ? run_folder_enter(run, name, RUN_FOLDER_LOOK, NULL) : -1;
    return folder >= 0 ? keeper_of(folder) : 0;
}

static json_t *read_record(int folder)
{
    char text[RECORD_MAX];
    size_t n;
    int fd ATTR_CLEANUP(fd_close) =
        openat(folder, record_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    json_t *record = fd >= 0 && fd_read_all(fd, text, sizeof text, &n, NULL)
                         ? json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL)
                         : NULL;
    if (record != NULL && !json_is_object(record)) {
        json_decref(record);
        record = NULL;
    }
    return record;
}

/* An enclave of a supervisor would be started again by it. */
static void name_owner(int folder, const char *name, pid_t owner, struct err *err)
{
    json_t *record = read_record(folder);
    bool is_his = json_integer_value(json_object_get(record, "ProcessID")) == owner;
    long supervisor =
        is_his ? (long)json_integer_value(json_object_get(record, supervisor_name)) : 0;
    json_decref(record);
    if (supervisor > 0)
        err_set(err,
            "the enclave %s runs already, kept by `tmkms nitro run` (process %ld); stop that one "
            "(`systemctl stop tmkms-nitro` or `kill %ld`), or give this one another name in "
            "[enclave]",
            name, supervisor, supervisor);
    else
        err_set(err,
            "the enclave %s runs already, kept by process %ld; `tmkms nitro terminate-enclave "
            "--enclave-name %s` ends it",
            name, (long)owner, name);
}

enum lock_try { LOCK_TAKEN, LOCK_AGAIN, LOCK_FAILED };

/* Who had the lock removes the file before giving it back: then what was locked is no longer there, and the next try
 * finds a new one. */
static enum lock_try try_lock(
    struct kept *k, const char *name, enum run_folder_use use, struct err *err)
{
    struct stat ours, there;
    fd_close(&k->dir);
    k->dir = run_folder_enter(k->run, name, use, err);
    if (k->dir < 0)
        return errno == ENOENT ? LOCK_AGAIN : LOCK_FAILED;
    int fd =
        openat(k->dir, lock_name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0) {
        bool is_gone = errno == ENOENT;
        err_errno(err, "cannot create %s/%s", k->folder, lock_name);
        return is_gone ? LOCK_AGAIN : LOCK_FAILED;
    }
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_SETLK, &whole) != 0) {
        pid_t owner = owner_of(fd);
        close(fd);
        name_owner(k->dir, name, owner, err);
        return owner == 0 ? LOCK_AGAIN : LOCK_FAILED;
    }
    if (fstat(fd, &ours) == 0 && fstatat(k->dir, lock_name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
        ours.st_ino == there.st_ino && ours.st_dev == there.st_dev) {
        k->lock = fd;
        return LOCK_TAKEN;
    }
    close(fd);
    err_set(err, "the lock %s/%s changes all the time", k->folder, lock_name);
    return LOCK_AGAIN;
}

bool kept_run_folder(char ret[MACHINE_PATH_MAX], struct err *err)
{
    int run ATTR_CLEANUP(fd_close) = run_folder_open(RUN_FOLDER_USE, ret, err);
    return run >= 0;
}

static bool take(struct kept *ret, const char *name, enum run_folder_use use, struct err *err)
{
    char run[MACHINE_PATH_MAX];
    struct kept k = KEPT_NONE;
    k.run = run_folder_open(use, run, err);
    if (k.run < 0)
        return false;
    enum lock_try got = LOCK_AGAIN;
    int n = snprintf(k.folder, sizeof k.folder, "%s/%s", run, name);
    if (n >= (int)sizeof k.folder) {
        err_set(err, "the run folder %s is too long", run);
        got = LOCK_FAILED;
    }
    for (int i = 0; i < TRIES && got == LOCK_AGAIN; i++)
        got = try_lock(&k, name, use, err);
    if (got != LOCK_TAKEN) {
        kept_leave(&k);
        return false;
    }
    empty(k.dir);
    *ret = k;
    return true;
}

bool kept_take(struct kept *ret, const char *name, struct err *err)
{
    return take(ret, name, RUN_FOLDER_USE, err);
}

void kept_remove(struct kept *k)
{
    if (k->lock < 0)
        return;
    empty(k->dir);
    unlinkat(k->dir, lock_name, 0);
    unlinkat(k->run, strrchr(k->folder, '/') + 1, AT_REMOVEDIR);
    kept_leave(k);
}

void kept_leave(struct kept *k)
{
    fd_close(&k->lock);
    fd_close(&k->dir);
    fd_close(&k->run);
}

void kept_clean(const char *name)
{
    struct kept k;
    if (take(&k, name, RUN_FOLDER_LOOK, NULL))
        kept_remove(&k);
}

/* ---- the record ---- */

static json_t *to_json(const struct machine_options *o, const struct machine_place *place,
    const char *state, const char *reason)
{
    json_t *ids = json_array();
    for (uint32_t i = 0; ids != NULL && i < place->cpu_ids_n; i++)
        json_array_append_new(ids, json_integer(place->cpu_ids[i]));
    json_t *record = json_pack("{s:s, s:s, s:i, s:I, s:I, s:o, s:I, s:s, s:s, s:s}", "EnclaveName",
        o->name, "EnclaveID", place->id, "ProcessID", (int)getpid(), "EnclaveCID",
        (json_int_t)place->cid, "NumberOfCPUs", (json_int_t)place->cpus, "CPUIDs", ids, "MemoryMiB",
        (json_int_t)place->memory_mib, "State", state, "Flags", o->is_debug ? "DEBUG_MODE" : "NONE",
        "Kind", machine_kind_name(o->kind));
    const struct {
        const char *name, *text;
    } more[] = {{"EifPath", o->eif}, {"VsockUds", place->uds}, {"ConsoleFile", place->console},
        {"Reason", reason}};
    if (record != NULL && o->is_detached == 0)
        json_object_set_new(record, supervisor_name, json_integer((json_int_t)getppid()));
    for (size_t i = 0; record != NULL && i < sizeof more / sizeof more[0]; i++)
        if (more[i].text != NULL && more[i].text[0] != '\0')
            json_object_set_new(record, more[i].name, json_string(more[i].text));
    return record;
}

bool kept_write(const struct kept *k, const struct machine_options *o,
    const struct machine_place *place, const char *state, const char *reason, struct err *err)
{
    char path[MACHINE_PATH_MAX + 16];
    json_t *record = to_json(o, place, state, reason);
    char *text = record != NULL ? json_dumps(record, JSON_INDENT(2)) : NULL;
    json_decref(record);
    if (text == NULL)
        return err_set(err, "cannot write down what runs: a path is not UTF-8, or out of memory");
    snprintf(path, sizeof path, "%s/%s", k->folder, record_name);
    bool ok = fd_create_durable(path, text, strlen(text), true, err);
    free(text);
    return ok;
}

/* ---- for who only looks ---- */

static bool look_at(int run, const char *name, struct kept_seen *ret)
{
    if (name[0] == '.' || strlen(name) >= sizeof ret->name)
        return false;
    int folder ATTR_CLEANUP(fd_close) = run_folder_enter(run, name, RUN_FOLDER_LOOK, NULL);
    if (folder < 0)
        return false;
    snprintf(ret->name, sizeof ret->name, "%s", name);
    ret->keeper = keeper_of(folder);
    ret->record = read_record(folder);
    return ret->keeper != 0 || ret->record != NULL;
}

bool kept_list(struct kept_seen ret[KEPT_MAX], size_t *ret_n, struct err *err)
{
    char path[MACHINE_PATH_MAX];
    int run ATTR_CLEANUP(fd_close) = run_folder_open(RUN_FOLDER_LOOK, path, err);
    if (run < 0 && errno != ENOENT)
        return false;
    size_t n = 0;
    DIR *d = run >= 0 ? walk(run) : NULL;
    if (run >= 0 && d == NULL)
        return err_errno(err, "cannot read the run folder %s", path);
    for (struct dirent *e; d != NULL && n < KEPT_MAX && (e = readdir(d)) != NULL;)
        n += look_at(run, e->d_name, &ret[n]);
    if (d != NULL)
        closedir(d);
    *ret_n = n;
    return true;
}
