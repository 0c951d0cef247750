/* remembered: what each chain and key has signed in the life of this process, also after the chain was dropped: a state
 * that comes back older is not taken. */
#ifndef TMKMS_SIGNER_REMEMBERED_H
#define TMKMS_SIGNER_REMEMBERED_H

#include "state/state.h"

struct remembered;

/* remembered_find: the entry of a chain and key, made empty when there is none; it lives as long as the process.
 * NULL: out of memory. Called by one thread only. */
struct remembered *remembered_find(const char *chain_id, const struct public_key *key);

/* remembered_note: s is closed next. Not to be called while anything commits to s. */
void remembered_note(struct remembered *r, const struct state *s);

/* false, with the command that repairs it, when s would sign what was refused before. */
bool remembered_accepts(
    const struct remembered *r, const struct state *s, struct err *err) ATTR_MUST_USE;

#endif
