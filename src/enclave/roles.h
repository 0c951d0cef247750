/* roles: the processes of an enclave besides its monitor. Each is this program again (monitor/child.h). */
#ifndef TMKMS_ENCLAVE_ROLES_H
#define TMKMS_ENCLAVE_ROLES_H

/* roles_run: the exit code of the role that argv names, -1: it names none. */
int roles_run(int argc, char **argv);

#endif
