#include "parent/run_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OTHERS_WRITE = S_IWGRP | S_IWOTH };

static int fail(int error, int fd)
{
    if (fd >= 0)
        close(fd);
    errno = error;
    return -1;
}

/* ---- where it is ---- */

static bool path_given(char ret[MACHINE_PATH_MAX], struct err *err)
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
    if (ret[0] != '/')
        return err_set(err, "the run folder %s is not an absolute path", ret);
    while (n > 1 && ret[n - 1] == '/')
        ret[--n] = '\0';
    return true;
}

/* ---- the way to it ---- */

static bool step_is_safe(const char *path, struct err *err)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return err_errno(
            err, "cannot make the run folder in %s ($TMKMS_RUN_DIR can name another place)", path);
    errno = EPERM;
    if (st.st_uid != 0 && st.st_uid != geteuid())
        return err_set(err,
            "%s belongs to user %ld, who could put something else in place of the run folder: "
            "TMKMS_RUN_DIR can name another place",
            path, (long)st.st_uid);
    if (S_ISDIR(st.st_mode) && (st.st_mode & OTHERS_WRITE) != 0 && (st.st_mode & S_ISVTX) == 0)
        return err_set(err,
            "others may write to %s and put something else in place of the run folder: `chmod go-w "
            "%s`, or let TMKMS_RUN_DIR name another place",
            path, path);
    return true;
}

/* Each step of an absolute path, links as they are. */
static bool way_is_safe(const char *path, struct err *err)
{
    char step[PATH_MAX];
    size_t n = strlen(path);
    if (n >= sizeof step)
        return err_set(err, "the path %.80s... is too long", path);
    if (!step_is_safe("/", err))
        return false;
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(step, path, i);
        step[i] = '\0';
        if (!step_is_safe(step, err))
            return false;
    }
    return true;
}

/* The folder that it is in: as it is named, and where that leads to. */
static bool resolve(char path[MACHINE_PATH_MAX], struct err *err)
{
    char real[PATH_MAX], given[MACHINE_PATH_MAX];
    memcpy(given, path, sizeof given);
    char *name = strrchr(given, '/');
    *name++ = '\0';
    if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return err_set(err, "%s cannot be the run folder", path);
    if (!way_is_safe(given, err))
        return false;
    if (realpath(given[0] != '\0' ? given : "/", real) == NULL)
        return err_errno(err, "cannot find %s", given);
    if (!way_is_safe(real, err))
        return false;
    int n = snprintf(path, MACHINE_PATH_MAX, "%s/%s", real[1] != '\0' ? real : "", name);
    return n < MACHINE_PATH_MAX || err_set(err, "the run folder %.80s... is too long", path);
}

/* ---- the folder itself ---- */

/* owner: whose it has to be; -1: anybody's. */
static int checked(int fd, const char *path, long owner, struct err *err)
{
    struct stat st;
    if (fd < 0 && (errno == ENOTDIR || errno == ELOOP)) {
        err_set(err, "%s is no folder but a file or a link", path);
        return fail(ENOTDIR, -1);
    }
    if (fd < 0 || fstat(fd, &st) != 0) {
        int error = errno;
        err_errno(err, "cannot open the folder %s", path);
        return fail(error, fd);
    }
    if (owner >= 0 && (long)st.st_uid != owner) {
        err_set(err,
            "the folder %s belongs to user %ld and not to user %ld: TMKMS_RUN_DIR can name another "
            "place",
            path, (long)st.st_uid, owner);
        return fail(EPERM, fd);
    }
    if ((st.st_mode & OTHERS_WRITE) != 0) {
        err_set(err, "others may write to the folder %s: `chmod go-w %s`", path, path);
        return fail(EPERM, fd);
    }
    return fd;
}

int run_folder_open(enum run_folder_use use, char ret[MACHINE_PATH_MAX], struct err *err)
{
    char path[MACHINE_PATH_MAX];
    errno = EINVAL;
    if (!path_given(path, err) || !resolve(path, err))
        return -1;
    if (use == RUN_FOLDER_USE && mkdir(path, 0755) != 0 && errno != EEXIST) {
        int error = errno;
        err_errno(err, "cannot make the folder %s ($TMKMS_RUN_DIR can name another place)", path);
        return fail(error, -1);
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    fd = checked(fd, path, use == RUN_FOLDER_USE ? (long)geteuid() : -1, err);
    if (fd >= 0)
        memcpy(ret, path, sizeof path);
    return fd;
}

int run_folder_enter(int run, const char *name, enum run_folder_use use, struct err *err)
{
    struct stat st;
    if (fstat(run, &st) != 0)
        return -1;
    if (use == RUN_FOLDER_USE && mkdirat(run, name, 0700) != 0 && errno != EEXIST) {
        int error = errno;
        err_errno(err, "cannot make the folder %s in the run folder", name);
        return fail(error, -1);
    }
    int fd = openat(run, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return checked(fd, name, (long)st.st_uid, err);
}
