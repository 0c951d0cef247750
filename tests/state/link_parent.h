/* link_parent: the parent of an enclave in a thread, honest or not. Once it is wrong, in one way and so many
 * times as told, it is honest again. */
#ifndef TMKMS_TESTS_LINK_PARENT_H
#define TMKMS_TESTS_LINK_PARENT_H

#include <pthread.h>

#include "crypto/key.h"
#include "state/host_link.h"
#include "state/link_frame.h"

static const char link_chain_id[] = "link-1";

enum show {
    SHOW_STORED,
    SHOW_OLD, /* the record before the last */
    SHOW_INIT,
    SHOW_BAD_MAC,
    SHOW_CHANGED,       /* the last one's MAC and number, another height */
    SHOW_OTHER_ENCLAVE, /* a newer one with a right MAC */
    SHOW_FOREIGN,       /* of another chain, with a right MAC */
    SHOW_BURN,
    SHOW_GARBAGE,
    SHOW_EMPTY,
    SHOW_LONG,
    SHOW_CUT, /* half a frame, then the end */
    SHOW_ACK,
    SHOW_REFUSE,
    SHOW_HANGUP,
    SHOW_N,
};

enum answer {
    ANSWER_HONEST,
    ANSWER_STORE_HANGUP, /* stored, not acknowledged */
    ANSWER_STORE_REFUSE,
    ANSWER_DROP_HANGUP, /* not stored, not acknowledged */
    ANSWER_DROP_REFUSE,
    ANSWER_UNSTORED, /* acknowledged, not stored: the lie that only a restart would show */
    ANSWER_NEXT,     /* wrong numbers */
    ANSWER_BEFORE,
    ANSWER_GARBAGE,
    ANSWER_CUT,
    ANSWER_RECORD,
    ANSWER_PROBED, /* honest, after a probe */
    ANSWER_TWICE,  /* honest, and the same once more */
    ANSWER_N,
};

enum { HISTORY = 64 };

struct link_parent {
    struct record history[HISTORY];
    size_t n;
    enum show show;
    enum answer answer;
    int times; /* so many times; then honest */
    bool is_deaf;
    int connections, alive_answers;
    pthread_t thread;
    bool has_thread;
    int fd;
};
extern struct link_parent parent;

/* The key of the chain, and the one of its MACs. */
extern struct signing_key *link_key;
extern uint8_t link_mac_key[32];

/* Only the record that `tmkms state init` makes. */
void link_parent_reset(void);
struct record *link_parent_stored(void);
/* The enclave has given the last connection up: its thread ends. */
void link_parent_wait(void);
/* A host_link_dial. */
int link_parent_dial(void *ctx, uint64_t deadline_us, struct err *err);
/* Bytes on the present connection. */
bool link_parent_say(const void *p, size_t n);
/* Gives a record the MAC that an enclave with this key would give it. */
void link_parent_put_mac(struct record *rec);

#endif
