/* signer: the process that owns the consensus keys, the guard and the state. One thread a chain,
 * each with its own socket pair to the session; a control socket to the monitor. No files are
 * opened here: descriptors come from the monitor. A state that cannot be made durable ends the
 * process, and with it the program. */
#ifndef TMKMS_SIGNER_SIGNER_H
#define TMKMS_SIGNER_SIGNER_H

/* signer_main runs until the control socket ends; the exit code of the process. */
int signer_main(void);

#endif
