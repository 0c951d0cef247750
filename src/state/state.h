/* state: the durable watermark of one chain and key.
 *
 * Order, enforced by types: guard -> state_commit -> struct durable -> sign. Only this room makes a
 * `struct durable`, and only from a record that is on stable storage; the function that signs takes
 * one.
 *
 * A commit that fails leaves the store unusable (every later call fails): the process must end, as
 * nothing is known about the disk any more. */
#ifndef TMKMS_STATE_STATE_H
#define TMKMS_STATE_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "crypto/key.h"
#include "guard/guard.h"

struct state;
struct durable; /* a record on stable storage, owned by its state, valid until the next commit */

const struct watermark *durable_watermark(const struct durable *d);
const char *durable_chain_id(const struct durable *d);

/* The record that is durable now. Never NULL once open. */
const struct durable *state_current(const struct state *s);

/* state_commit makes next durable and *ret its token. Blocks for one flush. */
bool state_commit(struct state *s, const struct watermark *next, const struct durable **ret,
    struct err *err) ATTR_MUST_USE;

/* state_burns_first: the file had an invalid slot, so the first height that passes the guard must
 * not be signed: commit it as the floor instead and refuse. Cleared by the next commit. */
bool state_burns_first(const struct state *s);

void state_close(struct state *s); /* NULL is fine */

#endif
