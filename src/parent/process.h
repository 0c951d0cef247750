/* process: a program that a keeper runs beside it. The kernel kills it when the keeper dies in any way. */
#ifndef TMKMS_PARENT_PROCESS_H
#define TMKMS_PARENT_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/err.h"
#include "parent/leash.h"

struct process {
    pid_t pid; /* 0: not running */
    int fd;    /* pidfd: readable when the process has ended; -1: not running */
    char name[32];
};

extern const struct process PROCESS_NONE;

enum { PROCESS_PATH_MAX = 512 };

/* process_find looks for a program: the path in the environment variable, else name on the PATH, else in the folder
 * beside. folder: NULL for none. The words on failure name the variable. */
bool process_find(char ret[PROCESS_PATH_MAX], const char *variable, const char *name,
    const char *folder, struct err *err) ATTR_MUST_USE;
/* The folder of the running program. */
bool process_own_folder(char ret[PROCESS_PATH_MAX], struct err *err) ATTR_MUST_USE;

/* process_start: argv[0] is the path of the program. Standard output and error go to the descriptors (-1:
 * /dev/null), standard input is /dev/null, every other descriptor is closed. */
bool process_start(struct process *ret, const char *const *argv, int out, int errors,
    struct err *err) ATTR_MUST_USE;
/* Has it ended? Then why ("exit code 1") and *p is PROCESS_NONE again. */
bool process_has_ended(struct process *p, char *why, size_t why_cap);
/* SIGTERM, and SIGKILL at the deadline (monotonic). */
void process_stop(struct process *p, uint64_t deadline_us);

/* A program that runs to its end. Texts are cut to their room. */
struct process_result {
    bool is_success; /* exit code 0 */
    char end[64];    /* "exit code 1"; "": it did not come to its end, but was killed */
    char out[32768];
    char errors[4096];
};
/* grace_us: for so long it may go on to its end (and then succeeds) once the leash is cut. */
bool process_run(struct leash *l, const char *const *argv, uint64_t deadline_us, uint64_t grace_us,
    struct process_result *ret, struct err *err) ATTR_MUST_USE;

#endif
