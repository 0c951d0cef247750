/* fd: descriptors, whole-file reads and writes, and descriptors sent between our processes.
 * Every descriptor made here is close-on-exec. */
#ifndef TMKMS_BASE_FD_H
#define TMKMS_BASE_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* fd_close closes *fd if it is open and sets it to -1; usable with ATTR_CLEANUP. */
void fd_close(int *fd);
/* The same for the two of a pair: `int pair[2] ATTR_CLEANUP(fd_close_pair)`. */
void fd_close_pair(int (*pair)[2]);

/* Reads from the current position to the end of the file, at most cap bytes. A longer file is an
 * error (not a cut). *ret_n is the number of bytes. */
bool fd_read_all(int fd, void *buf, size_t cap, size_t *ret_n, struct err *err) ATTR_MUST_USE;

/* Reads or writes exactly n bytes on a blocking stream. read: false also at end of file (errno 0).
 */
bool fd_read_exact(int fd, void *buf, size_t n) ATTR_MUST_USE;
bool fd_write_exact(int fd, const void *buf, size_t n) ATTR_MUST_USE;

/* The same on a stream socket, blocking or not, but no longer than until deadline_us (monotonic): then
 * false with errno ETIMEDOUT. fd_wait waits for poll(2) events. */
bool fd_read_before(int fd, void *buf, size_t n, uint64_t deadline_us) ATTR_MUST_USE;
bool fd_write_before(int fd, const void *buf, size_t n, uint64_t deadline_us) ATTR_MUST_USE;
bool fd_wait(int fd, short events, uint64_t deadline_us) ATTR_MUST_USE;

/* fd_create_durable creates path with mode 0600 and the given content so that after a power loss
 * the file is either complete or absent: temporary file, fsync, link or rename, fsync of the
 * folder. replace: an existing file is replaced; otherwise an existing file is an error and stays
 * as it is. */
bool fd_create_durable(
    const char *path, const void *content, size_t n, bool replace, struct err *err) ATTR_MUST_USE;

/* One message of at most cap bytes with up to fds_max descriptors over a SEQPACKET socket. A
 * message that does not fit is an error. recv returns the length, 0 at end of file, -1 on error;
 * descriptors received are the caller's. fd_send_msg waits for room as long as it takes, the other until
 * deadline_us (monotonic, 0: not at all): then false with errno EAGAIN. */
enum { FD_PASS_MAX = 4 };
bool fd_send_msg(int sock, const void *msg, size_t n, const int *fds, size_t fds_n) ATTR_MUST_USE;
bool fd_send_msg_before(int sock, const void *msg, size_t n, const int *fds, size_t fds_n,
    uint64_t deadline_us) ATTR_MUST_USE;
ssize_t fd_recv_msg(
    int sock, void *msg, size_t cap, int *fds, size_t fds_max, size_t *ret_fds_n) ATTR_MUST_USE;

#endif
