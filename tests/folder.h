/* folder: a temporary folder without sub-folders, for tests. */
#ifndef TMKMS_TESTS_FOLDER_H
#define TMKMS_TESTS_FOLDER_H

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Counts what is in the folder, and deletes it if asked to. */
static inline size_t folder_walk(const char *path, bool delete)
{
    size_t n = 0;
    DIR *folder = opendir(path);
    assert_non_null(folder);
    for (struct dirent *e; (e = readdir(folder)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        n++;
        if (delete)
            assert_int_equal(unlinkat(dirfd(folder), e->d_name, 0), 0);
    }
    closedir(folder);
    return n;
}

static inline void folder_empty(const char *path)
{
    folder_walk(path, true);
}

static inline size_t folder_count(const char *path)
{
    return folder_walk(path, false);
}

static inline void folder_remove(const char *path)
{
    folder_empty(path);
    assert_int_equal(rmdir(path), 0);
}

#endif
