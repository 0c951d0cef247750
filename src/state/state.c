#include "state/state.h"

#include "state/store.h"

const struct watermark *durable_watermark(const struct durable *d)
{
    return &d->record.mark;
}

const char *durable_chain_id(const struct durable *d)
{
    return d->record.chain_id;
}

const struct durable *state_current(const struct state *s)
{
    return &s->now;
}

bool state_burns_first(const struct state *s)
{
    return s->burns_first;
}

void state_advance(struct state *s, const struct record *rec)
{
    s->now.record = *rec;
    s->burns_first = rec->burn_next;
}

static bool is_usable(const struct state *s, struct err *err)
{
    return !s->is_poisoned || err_set(err, "%s failed before; nothing is signed any more", s->name);
}

static enum state_outcome put(struct state *s, const struct record *next, struct err *err)
{
    if (!watermark_covers(&next->mark, &s->now.record.mark)) {
        err_set(err, "%s would be lowered: this must not happen", s->name);
        return STATE_FAILED;
    }
    const char *problem = record_problem(next);
    if (problem != NULL) {
        err_set(err, "not a record for %s: %s", s->name, problem);
        return STATE_FAILED;
    }
    return s->store->put(s, next, err);
}

enum state_outcome state_put(struct state *s, const struct record *next, struct err *err)
{
    if (!is_usable(s, err))
        return STATE_FAILED;
    enum state_outcome outcome = put(s, next, err);
    if (outcome == STATE_FAILED)
        s->is_poisoned = true;
    return outcome;
}

static enum state_outcome commit(struct state *s, const struct watermark *next, bool burn_next,
    const struct durable **ret, struct err *err)
{
    struct record rec = s->now.record;
    rec.mark = *next;
    rec.burn_next = burn_next;
    record_unlink(&rec);
    enum state_outcome outcome = state_put(s, &rec, err);
    if (outcome == STATE_DURABLE)
        *ret = &s->now;
    return outcome;
}

enum state_outcome state_commit(
    struct state *s, const struct watermark *next, const struct durable **ret, struct err *err)
{
    return commit(s, next, false, ret, err);
}

enum state_outcome state_raise_floor(struct state *s, int64_t height, struct err *err)
{
    struct watermark mark = s->now.record.mark;
    const struct durable *token;
    if (height <= mark.floor)
        return STATE_DURABLE;
    mark.floor = height;
    return commit(s, &mark, s->burns_first, &token, err);
}

enum state_outcome state_settle(struct state *s, struct err *err)
{
    if (!is_usable(s, err))
        return STATE_FAILED;
    return s->store->settle == NULL ? STATE_DURABLE : s->store->settle(s, err);
}

int state_attention_fd(const struct state *s)
{
    return s->store->attention_fd == NULL ? -1 : s->store->attention_fd(s);
}

void state_attend(struct state *s)
{
    if (s->store->attend != NULL)
        s->store->attend(s);
}

void state_close(struct state *s)
{
    if (s != NULL)
        s->store->close(s);
}
