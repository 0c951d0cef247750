/* run_ping: the question {"op":"ping"} to an enclave's config port (nitro/push.h), asked in the event loop.
 *
 * One connection a question. Behind the stand-in it is never closed before its "OK" has come: vhost-device-vsock ends,
 * or turns in circles, when a client leaves that early. So a question is not taken back: it is answered, or its
 * connection ends, or the enclave is ended. */
#ifndef TMKMS_PARENT_RUN_PING_H
#define TMKMS_PARENT_RUN_PING_H

#include <event2/event.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"
#include "link/vsock.h"
#include "nitro/push.h"

/* ---- what is said, without a connection ---- */

enum ping_answer {
    PING_MORE = 0, /* to be read */
    PING_WAITING,  /* it lives, and has no config */
    PING_READY,
    PING_SILENT, /* it has one, but its signer or its session does not answer it */
    PING_FAILED, /* err says how */
};

enum { PING_ANSWER_MAX = 1024, PING_HELLO_MAX = 32 };

struct ping_talk {
    uint32_t port;    /* 0: no stand-in, or it has said OK */
    struct bytes say; /* to be written; borrowed from the talk */
    char hello[PING_HELLO_MAX];
    uint8_t request[PUSH_HEADER_LEN + 32];
    uint8_t in[PUSH_HEADER_LEN + PING_ANSWER_MAX];
    size_t in_n;
};

void ping_talk_start(struct ping_talk *t, const struct vsock *v, uint32_t port);
/* ping_talk_hear takes bytes that came, one by one; after it t->say may hold more to write. */
enum ping_answer ping_talk_hear(struct ping_talk *t, struct bytes in, struct err *err);

/* ---- a question ---- */

/* answer: PING_WAITING, PING_READY, PING_SILENT, or PING_FAILED with why. */
typedef void ping_done(void *ctx, enum ping_answer answer, const struct err *why);

struct ping {
    int fd; /* -1: none is under way */
    struct event *readable, *writable;
    struct ping_talk talk;
    ping_done *done;
    void *ctx;
};

/* ping_ask: done is called later, at most once. false: not even asked (err), and done is not called. */
bool ping_ask(struct ping *p, struct event_base *base, const struct vsock *v, uint32_t cid,
    uint32_t port, struct err *err) ATTR_MUST_USE;
/* Forgets the question: for when the enclave is ended. */
void ping_stop(struct ping *p);

#endif
