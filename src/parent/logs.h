/* logs: `tmkms nitro logs`. The log of enclaves arrives as lines and is printed: control characters
 * replaced, long lines cut, and no more than LOGS_LINES_A_SECOND of all connections together (the rest is counted
 * and said). When all places are taken, the connection that has been silent for longest makes room. */
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
/* The only enclave that may connect over vsock from now on, 0: any. */
void logs_set_cid(struct logs *l, uint32_t cid);
bool logs_listen(struct logs *l, int listener, struct err *err) ATTR_MUST_USE; /* takes it over */
void logs_free(struct logs *l);

#endif
