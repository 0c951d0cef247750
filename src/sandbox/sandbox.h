/* sandbox: what each process gives up before it touches input from outside.
 *
 * sandbox_harden is for every process that may hold a secret or parse hostile bytes: no core files,
 * not dumpable or traceable by others, no new privileges, killed when its parent dies.
 * sandbox_enter drops the capabilities the role does not need and installs its seccomp filter: a
 * system call outside the list ends the process (the monitor's: fails). None of the filters of the
 * children allows opening files, starting programs, making memory executable or signals to other
 * processes. */
#ifndef TMKMS_SANDBOX_SANDBOX_H
#define TMKMS_SANDBOX_SANDBOX_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"

enum sandbox_role {
    SANDBOX_MONITOR, /* starts programs, so only what nobody needs is denied, with EPERM, to it and to
                        all that it starts; keeps the capabilities for files of others, for ending the
                        session, and those that children need to drop theirs */
    SANDBOX_CONFIG,  /* reads one descriptor, parses, answers */
    SANDBOX_FETCH,   /* speaks over connections it was given; makes none */
    SANDBOX_SESSION, /* sockets of the network, and those it was given; root becomes nobody */
    SANDBOX_SIGNER,  /* threads, state file descriptors; no sockets but those it was given; keeps
                        CAP_DAC_READ_SEARCH, which with this filter only lets it stat(2) */
};

/* is_child: the process ends when the one that started it ends. */
bool sandbox_harden(bool is_child, struct err *err) ATTR_MUST_USE;
bool sandbox_enter(enum sandbox_role role, struct err *err) ATTR_MUST_USE;

#endif
