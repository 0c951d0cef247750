/* state: the durable watermark of one chain and key. One type with two stores: the journal (a file,
 * journal.h) and the host link (the parent of an enclave, host_link.h).
 *
 * Order, enforced by types: settle -> guard -> state_commit -> struct durable -> sign. Only this
 * room makes a `struct durable`, and only from a record that is on stable storage; the function that
 * signs takes one. */
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

enum state_outcome {
    STATE_DURABLE = 1,
    /* It cannot be told yet whether the record is on stable storage (host link only): nothing may be
     * signed or sent for it, and no other record may be made, until state_settle or the same commit
     * again says DURABLE. */
    STATE_PENDING,
    /* Nothing is known about the store any more: the process must end, and every later call fails. */
    STATE_FAILED,
};

/* state_commit makes next durable and *ret its token. Blocks for one flush; with a host link for
 * HOST_LINK_COMMIT_US at most. err is set unless DURABLE. */
enum state_outcome state_commit(struct state *s, const struct watermark *next,
    const struct durable **ret, struct err *err) ATTR_MUST_USE;

/* state_settle finishes a record that is pending, if there is one; then the current record is a newer
 * one. To be called before the guard, so that its verdict is about what the store holds. */
enum state_outcome state_settle(struct state *s, struct err *err) ATTR_MUST_USE;

/* A descriptor (-1: none) that the owner watches for reading while it waits for requests, and what
 * it calls then: questions of the parent are answered, a lost link is noticed. */
int state_attention_fd(const struct state *s);
void state_attend(struct state *s);

/* state_burns_first: the file had an invalid slot, so the first height that passes the guard must
 * not be signed: commit it as the floor instead and refuse. Cleared by the next state_commit. */
bool state_burns_first(const struct state *s);

/* state_raise_floor makes a higher floor durable; a lower one changes nothing. A height that is owed to a damaged
 * slot stays owed: a configured floor says nothing about the record that was lost. */
enum state_outcome state_raise_floor(
    struct state *s, int64_t height, struct err *err) ATTR_MUST_USE;

void state_close(struct state *s); /* NULL is fine */

#endif
