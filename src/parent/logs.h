/* logs: `tmkms nitro logs`. The log of enclaves arrives as lines and is printed: control characters
 * replaced, long lines cut, and no more than LOGS_LINES_A_SECOND of one connection (the rest is counted
 * and said). */
#ifndef TMKMS_PARENT_LOGS_H
#define TMKMS_PARENT_LOGS_H

#include "base/attr.h"
#include "base/err.h"
#include "parent/server.h"

enum { LOGS_LINES_A_SECOND = 500, LOGS_PEERS_MAX = 64 };

struct logs;

struct logs *logs_new(struct server *s, struct err *err);
bool logs_listen(struct logs *l, int listener, struct err *err) ATTR_MUST_USE; /* takes it over */
void logs_free(struct logs *l);

#endif
