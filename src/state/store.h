/* store: what the two stores of a watermark, journal and host link, have in common. Private to this
 * room: whoever includes it could make a token. */
#ifndef TMKMS_STATE_STORE_H
#define TMKMS_STATE_STORE_H

#include "state/record.h"
#include "state/state.h"

enum { STORE_NAME_MAX = 544 };

struct durable {
    struct record record;
};

struct store {
    /* Makes *next, which follows the current record, durable and calls state_advance; settle does
     * the same for a record that is pending (NULL: this store has none). PENDING and FAILED with
     * words. */
    enum state_outcome (*put)(struct state *s, const struct record *next, struct err *err);
    enum state_outcome (*settle)(struct state *s, struct err *err);
    /* See state_attention_fd and state_attend; NULL: never. */
    int (*attention_fd)(const struct state *s);
    void (*attend)(struct state *s);
    void (*close)(struct state *s);
};

/* The first member of each store's own struct. */
struct state {
    const struct store *store;
    struct durable now;
    bool burns_first;
    bool is_poisoned;
    char name[STORE_NAME_MAX]; /* "the state file /path": for messages */
};

/* state_put: what state_commit does, for a record that is complete but for its sequence numbers. */
enum state_outcome state_put(
    struct state *s, const struct record *next, struct err *err) ATTR_MUST_USE;

/* state_advance: rec is on stable storage and counts from now on. */
void state_advance(struct state *s, const struct record *rec);

#endif
