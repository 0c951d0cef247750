/* kept: what runs on this machine, in files. The run folder (run_folder.h) holds a folder for each enclave with its
 * sockets, its console file, a record of what runs (JSON, replaced at once) and a lock, which the keeper of the enclave
 * has for as long as it lives: so nobody needs to believe the record of a keeper that died. */
#ifndef TMKMS_PARENT_KEPT_H
#define TMKMS_PARENT_KEPT_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/err.h"
#include "parent/machine.h"

struct kept {
    char folder[MACHINE_PATH_MAX]; /* of the enclave */
    int run, dir;                  /* the run folder, and this one in it */
    int lock;                      /* -1: not ours */
};

extern const struct kept KEPT_NONE;

/* The run folder, which is made if it is not there. */
bool kept_run_folder(char ret[MACHINE_PATH_MAX], struct err *err) ATTR_MUST_USE;

/* kept_take makes the enclave's folder, empty, and takes its lock. false: another keeper has it, with its number in the
 * words; or the name, or the folder, cannot be used. */
bool kept_take(struct kept *ret, const char *name, struct err *err) ATTR_MUST_USE;
/* Removes the folder with all in it, and gives the lock back. */
void kept_remove(struct kept *k);
/* Gives the lock back and leaves the folder. */
void kept_leave(struct kept *k);

/* A path below the folder, in words if it is too long for cap. */
bool kept_path(
    const struct kept *k, const char *name, char *ret, size_t cap, struct err *err) ATTR_MUST_USE;

/* kept_write replaces the record. state: "STARTING", "RUNNING", "ENDED". reason: why it ended; NULL: none. */
bool kept_write(const struct kept *k, const struct machine_options *o,
    const struct machine_place *place, const char *state, const char *reason,
    struct err *err) ATTR_MUST_USE;

/* ---- for who only looks ---- */

struct kept_seen {
    char name[MACHINE_NAME_MAX];
    pid_t keeper; /* 0: dead */
    /* NULL: none yet; keys of nitro-cli, and State, Kind, EifPath, VsockUds, ConsoleFile, Reason; SupervisorProcessID
     * where `nitro run` has it. */
    json_t *record;
};

/* kept_list: each enclave in the run folder; no folder is an empty list. The records are the caller's (json_decref). */
enum { KEPT_MAX = 64 };
bool kept_list(struct kept_seen ret[KEPT_MAX], size_t *ret_n, struct err *err) ATTR_MUST_USE;
/* kept_clean removes what a dead keeper of this name left; a living one's is not touched. */
void kept_clean(const char *name);
/* kept_keeper: the number of the keeper that has the lock of this name, 0: none. */
pid_t kept_keeper(const char *name);

#endif
