/* push_child: the throw-away process that serves one client of the enclave's config port. It holds the
 * client's socket and the bytes that came through it; the monitor sees the frames of push_frames.h. */
#ifndef TMKMS_ENCLAVE_PUSH_CHILD_H
#define TMKMS_ENCLAVE_PUSH_CHILD_H

/* The client has PUSH_READ_SECONDS for its request and the monitor PUSH_VERDICT_SECONDS for what it
 * asks for (KMS may be slow); then the client is told so. */
enum { PUSH_READ_SECONDS = 5, PUSH_VERDICT_SECONDS = 120 };

/* push_child_main is the role "@push": standard input is the accepted socket, not yet greeted; port
 * is what the enclave listens on, in decimal. The exit code. */
int push_child_main(const char *port);

#endif
