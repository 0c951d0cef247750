/* journal_words: what messages about a state file say, and the commands they name, complete with their arguments. */
#ifndef TMKMS_STATE_JOURNAL_WORDS_H
#define TMKMS_STATE_JOURNAL_WORDS_H

#include "state/journal.h"

/* What the H of `--height H` must be. The node's /status shows the last committed height, while votes for the next one
 * may be signed already, in any round; one more covers a node that is a block behind. */
#define JOURNAL_SAFE_HEIGHT                                                                        \
    "H being at least two above the latest committed height in the node's /status, read after "    \
    "the last signer has "                                                                         \
    "stopped, and not below any height in that signer's log"

/* How the file is named on a command line: "--state-file FILE --chain ID --pubkey HEX". What is NULL stands there as a
 * word to be replaced. */
enum { JOURNAL_NAMED_MAX = 640 };
void journal_named(char out[JOURNAL_NAMED_MAX], const char *path, const char *chain_id,
    const struct public_key *key);

/* err for the present errno of an open of the state file; false. */
bool journal_cannot_open(const char *path, const char *named, struct err *err);

/* Who holds the lock and how to stop it: "process 124, the signer of tmkms process 120; ...". false: nobody, or not
 * known. */
enum { JOURNAL_HOLDER_MAX = 256 };
bool journal_holder_words(char out[JOURNAL_HOLDER_MAX], int fd);

#endif
