/* log: one line an event, in the form that operators of the Rust tmkms scrape:
 *
 *   2026-03-27T12:42:13.234560Z  INFO tmkms::session: [chain@addr] message
 *
 * A process either writes its lines to standard output itself (the monitor, and single-process
 * commands) or hands each line as one datagram to the monitor (session, signer), which writes them.
 * Neither ever blocks: a reader that does not drain the log loses lines (counted and reported
 * later), it never delays a signature. No secret may be passed in. Text of a peer may: whatever is
 * not printable ASCII is replaced. */
#ifndef TMKMS_BASE_LOG_H
#define TMKMS_BASE_LOG_H

#include <stdbool.h>

#include "base/attr.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

enum {
    LOG_LINE_MAX = 2048,  /* bytes of one line with its newline; longer ones are cut */
    LOG_WRITE_MAX = 4096, /* of several lines written at once: PIPE_BUF, which a pipe takes whole */
};

/* Lines above this level are dropped; INFO until set. */
void log_set_level(enum log_level level);
enum log_level log_level(void);

/* Lines go to fd from now on (borrowed). is_monitor_link: fd is the datagram socket to the monitor.
 */
void log_set_output(int fd, bool is_monitor_link);

/* A second reader, besides the first: a non-blocking stream socket, taken over. When it does not take a line whole or
 * at once, it is closed and the line is lost to it. For the enclave, whose standard output nobody sees. */
void log_set_second(int fd);
bool log_has_second(void);

/* module is the Rust-style target, for example "tmkms::session". */
void log_line(enum log_level level, const char *module, const char *fmt, ...) ATTR_PRINTF(3, 4);

/* log_forward takes a line that another process formatted, after replacing what is not printable;
 * log_flush writes those that came, several at once. For processes with one thread. */
void log_forward(char *line, unsigned long n);
void log_flush(void);

#endif
