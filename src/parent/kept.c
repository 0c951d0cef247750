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

static const char lock_name[] = "lock", record_name[] = "record.json";
static const char supervisor_name[] = "SupervisorProcessID";

enum { RECORD_MAX = 16384, TRIES = 16 };

const struct kept KEPT_NONE = {.lock = -1};

/* ---- folders ---- */

static bool run_folder(char ret[MACHINE_PATH_MAX], struct err *err)
{
    const char *given = getenv("TMKMS_RUN_DIR"), *xdg = getenv("XDG_RUNTIME_DIR");
    int n;
    if (given != NULL && given[0] != '\0')
        n = snprintf(ret, MACHINE_PATH_MAX, "%s", given);
    else if (geteuid() == 0)
        n = snprintf(ret, MACHINE_PATH_MAX, "/run/tmkms");
    else if (xdg != NULL && xdg[0] != '\0')
        n = snprintf(ret, MACHINE_PATH_MAX, "%s/tmkms", xdg);
    else
        return err_set(
            err, "no folder for what runs: set TMKMS_RUN_DIR to one that this user may write to");
    if (n >= MACHINE_PATH_MAX)
        return err_set(err, "the run folder %.80s... is too long", ret);
    return ret[0] == '/' || err_set(err, "the run folder %s is not an absolute path", ret);
}

static bool make_folder(const char *path, mode_t mode, struct err *err)
{
    struct stat st;
    if (mkdir(path, mode) == 0)
        return true;
    if (errno != EEXIST)
        return err_errno(
            err, "cannot make the folder %s ($TMKMS_RUN_DIR can name another place)", path);
    return (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) || err_set(err, "%s is no folder", path);
}

static bool folder_of(const char *name, char ret[MACHINE_PATH_MAX], struct err *err)
{
    char run[MACHINE_PATH_MAX];
    if (!run_folder(run, err))
        return false;
    int n = snprintf(ret, MACHINE_PATH_MAX, "%s/%s", run, name);
    return n < MACHINE_PATH_MAX || err_set(err, "the run folder %s is too long", run);
}

bool kept_path(const struct kept *k, const char *name, char *ret, size_t cap, struct err *err)
{
    int n = snprintf(ret, cap, "%s/%s", k->folder, name);
    return (n > 0 && (size_t)n < cap) || err_set(err,
                                             "the path %s/%s is longer than %zu characters, too "
                                             "long for a socket: set TMKMS_RUN_DIR to "
                                             "a shorter one",
                                             k->folder, name, cap - 1);
}

/* All files but the lock. */
static void empty(const char *folder)
{
    DIR *d = opendir(folder);
    if (d == NULL)
        return;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            strcmp(e->d_name, lock_name) != 0)
            unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
}

/* ---- the lock ---- */

static pid_t owner_of(int fd)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_GETLK, &l) == 0 && l.l_type != F_UNLCK ? l.l_pid : 0;
}

pid_t kept_keeper(const char *name)
{
    char folder[MACHINE_PATH_MAX], path[MACHINE_PATH_MAX + 8];
    if (!folder_of(name, folder, NULL))
        return 0;
    snprintf(path, sizeof path, "%s/%s", folder, lock_name);
    int fd ATTR_CLEANUP(fd_close) = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 ? owner_of(fd) : 0;
}

static json_t *read_record(const char *folder)
{
    char path[MACHINE_PATH_MAX + 16], text[RECORD_MAX];
    size_t n;
    snprintf(path, sizeof path, "%s/%s", folder, record_name);
    int fd ATTR_CLEANUP(fd_close) = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
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
static void name_owner(const char *folder, const char *name, pid_t owner, struct err *err)
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
static enum lock_try try_lock(struct kept *k, const char *name, struct err *err)
{
    char path[MACHINE_PATH_MAX + 8];
    struct stat ours, there;
    snprintf(path, sizeof path, "%s/%s", k->folder, lock_name);
    if (!make_folder(k->folder, 0700, err))
        return LOCK_FAILED;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        err_errno(err, "cannot create %s", path);
        return errno == ENOENT ? LOCK_AGAIN : LOCK_FAILED;
    }
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_SETLK, &whole) != 0) {
        pid_t owner = owner_of(fd);
        close(fd);
        name_owner(k->folder, name, owner, err);
        return owner == 0 ? LOCK_AGAIN : LOCK_FAILED;
    }
    if (fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_ino == there.st_ino &&
        ours.st_dev == there.st_dev) {
        k->lock = fd;
        return LOCK_TAKEN;
    }
    close(fd);
    err_set(err, "the lock %s changes all the time", path);
    return LOCK_AGAIN;
}

bool kept_run_folder(char ret[MACHINE_PATH_MAX], struct err *err)
{
    return run_folder(ret, err) && make_folder(ret, 0755, err);
}

bool kept_take(struct kept *ret, const char *name, struct err *err)
{
    char run[MACHINE_PATH_MAX];
    struct kept k = KEPT_NONE;
    enum lock_try got = LOCK_AGAIN;
    if (!kept_run_folder(run, err) || !folder_of(name, k.folder, err))
        return false;
    for (int i = 0; i < TRIES && got == LOCK_AGAIN; i++)
        got = try_lock(&k, name, err);
    if (got != LOCK_TAKEN)
        return false;
    empty(k.folder);
    *ret = k;
    return true;
}

void kept_remove(struct kept *k)
{
    char path[MACHINE_PATH_MAX + 8];
    if (k->lock < 0)
        return;
    empty(k->folder);
    snprintf(path, sizeof path, "%s/%s", k->folder, lock_name);
    unlink(path);
    rmdir(k->folder);
    kept_leave(k);
}

void kept_leave(struct kept *k)
{
    fd_close(&k->lock);
}

void kept_clean(const char *name)
{
    struct kept k;
    if (kept_take(&k, name, NULL))
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

bool kept_list(struct kept_seen ret[KEPT_MAX], size_t *ret_n, struct err *err)
{
    char run[MACHINE_PATH_MAX], folder[MACHINE_PATH_MAX];
    if (!run_folder(run, err))
        return false;
    size_t n = 0;
    DIR *d = opendir(run);
    if (d == NULL && errno != ENOENT)
        return err_errno(err, "cannot read the run folder %s", run);
    for (struct dirent *e; d != NULL && n < KEPT_MAX && (e = readdir(d)) != NULL;) {
        struct kept_seen *seen = &ret[n];
        struct stat st;
        if (e->d_name[0] == '.' || strlen(e->d_name) >= sizeof seen->name ||
            !folder_of(e->d_name, folder, NULL) || lstat(folder, &st) != 0 || !S_ISDIR(st.st_mode))
            continue;
        snprintf(seen->name, sizeof seen->name, "%s", e->d_name);
        seen->keeper = kept_keeper(seen->name);
        seen->record = read_record(folder);
        if (seen->keeper != 0 || seen->record != NULL)
            n++;
    }
    if (d != NULL)
        closedir(d);
    *ret_n = n;
    return true;
}
