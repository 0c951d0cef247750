/* run_folder: the folder for what runs on this machine: $TMKMS_RUN_DIR; else /run/tmkms for root, or
 * $XDG_RUNTIME_DIR/tmkms. Files are made and removed in it, maybe by root: so it, and each folder in it, belongs to
 * this user alone, nobody else can write to it, and nobody else can put another in its place. Then its paths can be
 * used as well as its descriptors. */
#ifndef TMKMS_PARENT_RUN_FOLDER_H
#define TMKMS_PARENT_RUN_FOLDER_H

#include "base/attr.h"
#include "base/err.h"
#include "parent/machine.h"

enum run_folder_use {
    RUN_FOLDER_USE, /* it is made if it is not there, and has to be ours */
    RUN_FOLDER_LOOK, /* it may be another user's: only what this user put there can be seen or removed */
};

/* run_folder_open returns a descriptor of the folder, and its path without symbolic links. -1 and err: it cannot be
 * made, or trusted; RUN_FOLDER_LOOK with errno ENOENT: there is none. */
int run_folder_open(
    enum run_folder_use use, char ret[MACHINE_PATH_MAX], struct err *err) ATTR_MUST_USE;

/* run_folder_enter: the same for a folder in it; errno ENOENT also where somebody removed it just now. */
int run_folder_enter(
    int run, const char *name, enum run_folder_use use, struct err *err) ATTR_MUST_USE;

#endif
