/* parts: the two sub-messages that replies and sign-bytes have in common. Not for other rooms. */
#ifndef TMKMS_PRIVVAL_PARTS_H
#define TMKMS_PRIVVAL_PARTS_H

#include "base/bytes.h"
#include "privval/signable.h"

/* BlockID{hash=1, part_set_header=2{total=1, hash=2}}: itself and its header always written
 * (gogoproto's "non-nullable"). A length over HASH_LEN sets w->bad. */
void parts_write_block_id(struct writer *w, uint32_t field, const struct block_id *id);

/* Timestamp{seconds=1, nanos=2}: always written, also when both are zero. */
void parts_write_timestamp(struct writer *w, uint32_t field, const struct timestamp *time);

#endif
