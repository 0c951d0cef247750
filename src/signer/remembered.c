#include "signer/remembered.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/request.h"
#include "state/journal_words.h"

struct remembered {
    struct remembered *next;
    char chain_id[CHAIN_ID_MAX + 1];
    struct public_key key;
    bool is_set;
    struct watermark mark;
};

static struct remembered *all;

struct remembered *remembered_find(const char *chain_id, const struct public_key *key)
{
    for (struct remembered *r = all; r != NULL; r = r->next)
        if (strcmp(r->chain_id, chain_id) == 0 && public_key_equal(&r->key, key))
            return r;
    struct remembered *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    memcpy(r->chain_id, chain_id, strnlen(chain_id, CHAIN_ID_MAX));
    r->key = *key;
    r->next = all;
    all = r;
    return r;
}

void remembered_note(struct remembered *r, const struct state *s)
{
    const struct watermark *now = durable_watermark(state_current(s));
    if (!r->is_set || watermark_covers(now, &r->mark))
        r->mark = *now;
    r->is_set = true;
}

bool remembered_accepts(const struct remembered *r, const struct state *s, struct err *err)
{
    const struct watermark *now = durable_watermark(state_current(s));
    if (!r->is_set || watermark_covers(now, &r->mark))
        return true;
    const struct signable *known = &r->mark.last, *found = &now->last;
    int64_t highest = known->height > r->mark.floor ? known->height : r->mark.floor;
    char named[JOURNAL_NAMED_MAX];
    journal_named(named, "FILE", r->chain_id, &r->key);
    return err_set(err,
        "the state is older than what this process has signed: it knows %" PRId64 "/%" PRId32
        " (%s) and nothing up to height %" PRId64 ", the state says %" PRId64 "/%" PRId32
        " (%s) and %" PRId64 "; put the newest state back, or stop tmkms and raise this one "
        "with `tmkms state repair %s --height %" PRId64 "`",
        known->height, known->round, step_name(known->step), r->mark.floor, found->height,
        found->round, step_name(found->step), now->floor, named, highest);
}
