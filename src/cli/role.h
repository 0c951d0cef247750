/* role: the child processes of this program, started as `tmkms @ROLE` (monitor/child.h). */
#ifndef TMKMS_CLI_ROLE_H
#define TMKMS_CLI_ROLE_H

/* role_run runs the child that argv[1] names ("@config", "@signer", ...); its exit code, or -1 when it names none. */
int role_run(int argc, char **argv);

#endif
