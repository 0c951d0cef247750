/* notify: what a service tells its manager, in systemd's words (sd_notify(3), "Notes" gives the protocol: one datagram
 * of lines KEY=VALUE to the unix socket that NOTIFY_SOCKET names). Started without a manager, everything here does
 * nothing.
 *
 * A manager that does not read its socket may hold up a message for NOTIFY_WAIT_US, then the message is lost; a
 * watchdog message is never waited for, as the next one does as well. */
#ifndef TMKMS_BASE_NOTIFY_H
#define TMKMS_BASE_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/attr.h"
#include "base/err.h"

enum { NOTIFY_WAIT_US = 100000, NOTIFY_STATUS_MAX = 256 };

struct notify {
    int socket; /* -1: nobody wants to know */
    struct sockaddr_un to;
    socklen_t to_len;
    uint64_t
        ping_us; /* notify_watchdog is wanted at least so often: a third of the manager's patience; 0: never */
    uint64_t pinged_us;
    char status[NOTIFY_STATUS_MAX]; /* the last one sent */
};

extern const struct notify NOTIFY_NONE;

/* notify_open reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID and removes them from the environment, so that no
 * child speaks for this process. Call it before threads start and before a sandbox closes. true without a manager;
 * false, and *ret is NOTIFY_NONE, when the variables cannot be understood. */
bool notify_open(struct notify *ret, struct err *err) ATTR_MUST_USE;
void notify_close(struct notify *n);

/* The service does its work, at the start and after notify_reloading. The text, here and below, is what `systemctl
 * status` shows: one line, cut at NOTIFY_STATUS_MAX. */
void notify_ready(struct notify *n, const char *fmt, ...) ATTR_PRINTF(2, 3);
/* The same text as before is not sent again. */
void notify_status(struct notify *n, const char *fmt, ...) ATTR_PRINTF(2, 3);
void notify_reloading(struct notify *n);
void notify_stopping(struct notify *n);

/* notify_watchdog says that all is well. To be called as often as one likes, and not when all is not well. */
void notify_watchdog(struct notify *n);

#endif
