/* leash: what ties a keeper to who started it: the control socket and SIGTERM. Every wait of the keeper goes through
 * here, so that it can be told to end at any moment. */
#ifndef TMKMS_PARENT_LEASH_H
#define TMKMS_PARENT_LEASH_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

struct leash {
    int control; /* borrowed; -1: nobody's, only signals end the keeper */
    int signals; /* signalfd */
    bool is_cut; /* told to end */
    bool by_signal;
};

/* leash_open blocks SIGTERM and SIGINT and takes them from a descriptor. leash_close undoes neither. */
bool leash_open(struct leash *ret, int control, struct err *err) ATTR_MUST_USE;
void leash_close(struct leash *l);

enum leash_event {
    LEASH_READY, /* one of the descriptors: see their revents */
    LEASH_LATE,  /* the deadline */
    LEASH_CUT,   /* told to end; so is every later wait */
};
enum { LEASH_FDS_MAX = 4 };

/* deadline_us on the monotonic clock, UINT64_MAX: none. */
enum leash_event leash_wait(struct leash *l, struct pollfd *p, size_t n, uint64_t deadline_us);

/* The failure of a wait in words: "what did not ... within N s", or that it was told to end. */
bool leash_failed(const struct leash *l, const char *what, struct err *err);

#endif
