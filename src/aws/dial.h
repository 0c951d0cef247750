/* dial: a TCP connection by name, on the host. */
#ifndef TMKMS_AWS_DIAL_H
#define TMKMS_AWS_DIAL_H

#include <stdint.h>

#include "base/err.h"

/* dial_tcp resolves the name (which may take as long as the system's resolver does) and tries its addresses in turn
 * until deadline_us. The descriptor is blocking and close-on-exec; -1 and err on failure. */
int dial_tcp(const char *host, uint16_t port, uint64_t deadline_us, struct err *err);

#endif
