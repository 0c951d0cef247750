/* clock: the only source of time. Time-outs are deadlines on the monotonic clock, in microseconds.
 */
#ifndef TMKMS_BASE_CLOCK_H
#define TMKMS_BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_monotonic_us(void);
uint64_t clock_realtime_us(void); /* since 1970, for log lines and file names only */

#endif
