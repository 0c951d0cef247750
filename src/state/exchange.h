/* exchange: state files of other programs, and ours on the way to another machine.
 *
 * Foreign forms number steps differently, leave out the block or the timestamp, and say nothing
 * about chain and key: only their height is used, and it is burned (floor = height, both ways). Our
 * own form keeps the whole record. Sources: tmkms 0.15 src/chain/state.rs; CometBFT
 * privval/file.go, FilePVLastSignState. */
#ifndef TMKMS_STATE_EXCHANGE_H
#define TMKMS_STATE_EXCHANGE_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"
#include "state/record.h"

enum { EXCHANGE_FILE_MAX = 65536 };

enum exchange_format {
    EXCHANGE_DETECT = 0,
    EXCHANGE_OWN,      /* "interchange": tmkms state export */
    EXCHANGE_RUST,     /* "tmkms": state file of the Rust program */
    EXCHANGE_COMETBFT, /* "cometbft": priv_validator_state.json of any version */
};
const char *exchange_format_name(enum exchange_format format);
bool exchange_format_parse(enum exchange_format *ret, const char *name) ATTR_MUST_USE;

/* exchange_read: the record for this chain and key that the text stands for. A form of our own, or
 * sign-bytes in a CometBFT file, must be of this chain (and key). Strict: unknown, missing,
 * repeated and misspelled keys are errors, and so is every number in another form than the programs
 * write. */
bool exchange_read(struct record *ret, enum exchange_format format, struct bytes text,
    const char *chain_id, const struct public_key *key, struct err *err) ATTR_MUST_USE;

/* exchange_write renders rec into out (borrowed from it). Foreign forms refuse everything at or
 * below the highest height of the record. */
struct bytes exchange_write(
    enum exchange_format format, const struct record *rec, uint8_t out[RECORD_LINE_MAX]);

#endif
