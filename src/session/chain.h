/* chain: the channel to the signer of one chain, and the queue in front of it. One request is in
 * flight at a time; the others wait in the order in which they came, so that no validator of a
 * chain starves another. */
#ifndef TMKMS_SESSION_CHAIN_H
#define TMKMS_SESSION_CHAIN_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>

#include "base/bytes.h"
#include "ipc/control.h"
#include "ipc/request.h"

/* One request on its way, owned by the one who asks, untouched by him until done is called (once).
 */
struct chain_job {
    struct sign_request request;
    struct bytes blob[2]; /* request.blob_n bytes in two pieces, borrowed until done */
    /* reply is borrowed for the call; NULL: the channel ended, it is unknown whether a signature
     * was made. */
    void (*done)(struct chain_job *job, const struct sign_reply *reply);
    void *owner;
    struct chain_job *next;
};

struct chain {
    struct control_chain facts;
    struct event_base *base;
    int fd; /* -1: no channel */
    struct event readable, writable;
    struct chain_job *first, *last; /* first is the one in flight */
    size_t sent;                    /* bytes of the first request that are written */
    struct sign_reply reply;
    size_t reply_n;
    bool leaving; /* dropped by the monitor; freed when the queue is empty */
    /* The channel ended by itself; called after the done of every job. */
    void (*lost)(struct chain *chain);
    void *owner;
    struct chain *next;
};

/* chain_attach gives the chain a channel (owned from now on). A request in flight on an older
 * channel is done with NULL; those that wait go to the new one. */
void chain_attach(struct chain *chain, const struct control_chain *facts, int fd);
/* chain_detach closes the channel; every job is done with NULL. */
void chain_detach(struct chain *chain);
void chain_submit(struct chain *chain, struct chain_job *job);

#endif
