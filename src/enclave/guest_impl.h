/* guest_impl: what the files of the enclave's monitor share. */
#ifndef TMKMS_ENCLAVE_GUEST_IMPL_H
#define TMKMS_ENCLAVE_GUEST_IMPL_H

#include "enclave/guest.h"
#include "enclave/push_frames.h"
#include "monitor/core.h"
#include "nitro/nsm.h"

enum { GUEST_PUSHES_MAX = 8, MEASURED_LEN = 48, MEASURED_PCR = 16 };

/* A client of the config port, in the hands of its own child. */
struct guest_push {
    struct child child;   /* pid 0: free */
    bool is_asking;       /* its request waits for its turn, or is in work */
    uint64_t deadline_us; /* of the request in work */
};

struct guest {
    struct monitor m; /* first: a monitor_source gets it as struct monitor */
    struct vsock vsock;
    uint32_t port;
    int nsm;
    int listener;
    int *identities; /* one a validator, -1: not unsealed; NULL: none was needed yet */
    struct guest_push pushes[GUEST_PUSHES_MAX];
    const struct guest_push *served; /* whose request is in work, NULL: nobody's */
    struct aws_credentials credentials;
    /* PCR16 is extended once in the life of an enclave: from then on only this config is accepted. */
    bool is_measured;
    uint8_t measured[MEASURED_LEN], pcr16[MEASURED_LEN];
    struct err refused; /* the last config was, with these words; "": it was not */
    bool is_ready;      /* keys unsealed, states open, session runs */
    uint32_t log_port;
    _Atomic uint32_t *told_log_port; /* NULL: nobody wants to know */
    uint64_t log_due_us;
};

/* ---- guest.c ---- */

/* hear_aside of monitor_source: the config port, and those who came through it. */
void guest_hear_clients(struct monitor *m);

/* ---- guest_keys.c: what needs KMS ---- */

extern const struct monitor_source guest_source;
/* Before the config goes. */
void guest_forget_identities(struct guest *g);
/* creds are for this question alone. */
bool guest_keygen(struct guest *g, const struct push_keygen *ask,
    const struct aws_credentials *creds, struct push_answer_document *ret,
    struct err *err) ATTR_MUST_USE;

/* ---- guest_push.c: what clients of the config port ask for ---- */

/* guest_push_hear takes what the child of a client has said if that can be answered at once (a ping). A request stays
 * where it is until its turn comes: then guest_push_serve works on it, and waits in core_turn meanwhile. */
void guest_push_hear(struct guest *g, struct guest_push *push);
void guest_push_serve(struct guest *g, struct guest_push *push);

#endif
