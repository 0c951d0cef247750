/* health: whether the signer and the session still turn their loops. Each is asked every HEALTH_ASK_US; a process that
 * runs and does not answer (stopped, caught in a loop) is seen here and nowhere else. What follows is the service
 * manager's: its watchdog is fed only while all answer. */
#ifndef TMKMS_MONITOR_HEALTH_H
#define TMKMS_MONITOR_HEALTH_H

#include "monitor/core.h"

enum { HEALTH_ASK_US = 2000000, HEALTH_PATIENCE_US = 5000000 };

/* Parts of core_turn. health_turn asks those whose turn it is and feeds the watchdog; health_timeout_ms shortens a wait
 * so that it comes in time. */
void health_turn(struct monitor *m);
int health_timeout_ms(const struct monitor *m, int timeout_ms);
void health_heard(struct child *c);

/* false: this child has not been heard for HEALTH_PATIENCE_US. One that was never started is not missed. */
bool health_answers(const struct child *c);

/* false: one that runs, or is to be started again, has not been heard for HEALTH_PATIENCE_US. */
bool health_is_good(const struct monitor *m);

#endif
