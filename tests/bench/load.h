/* load: many chains asking one signer, from one thread, as their nodes would: proposal, prevote and
 * precommit for a block, height after height. */
#ifndef TMKMS_TESTS_BENCH_LOAD_H
#define TMKMS_TESTS_BENCH_LOAD_H

#include <stdint.h>

#include "bench/samples.h"
#include "node/node.h"

/* One chain's node and where its chain stands. */
struct target {
    char chain_id[CHAIN_ID_MAX + 1];
    char address[512]; /* for node_listen; a port that is not 0, so that it can be opened again */
    enum wire_line line;
    const struct signing_key *identity;
    struct node_listener *listener;
    struct node_conn *conn;
    struct public_key key;
    int64_t height;
    enum step step;
    uint64_t due; /* when the request in flight was to be sent; 0: none is in flight */
};

/* All of these end the program with a message when something fails: a figure with an error in it is
 * none. */

void target_listen(struct target *t);
/* Accepts, and asks for the public key: when it returns, the signer is ready for this chain. */
void target_accept(struct target *t);
void target_hang_up(struct target *t);
/* One request with its signature checked. */
void target_check(struct target *t);

/* Every chain sends its next request as soon as the last is answered. */
void load_closed(
    struct target *targets, unsigned targets_n, uint64_t duration_us, struct samples *ret);

/* Every chain sends rate requests a second, whatever the answers do: a request that is due while
 * the last one is unanswered waits, and its latency counts from when it was due. */
void load_open(struct target *targets, unsigned targets_n, unsigned rate, uint64_t duration_us,
    struct samples *ret);

#endif
