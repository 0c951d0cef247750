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
/* What stands before each line from now on (borrowed; at most LOGS_PREFIX_MAX characters). */
enum { LOGS_PREFIX_MAX = 16 };
void logs_set_prefix(struct logs *l, const char *prefix);
bool logs_listen(struct logs *l, int listener, struct err *err) ATTR_MUST_USE; /* takes it over */
void logs_free(struct logs *l);

#endif
