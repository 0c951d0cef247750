/* record: what the state file keeps of a chain and key, and its two text forms: a slot of the state
 * file and a line for another machine (`tmkms state export`). Both are one line of JSON with fixed
 * field order and a SHA-256 checksum over every byte before it; see doc/state-file.md. Pure: no
 * I/O. */
#ifndef TMKMS_STATE_RECORD_H
#define TMKMS_STATE_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "crypto/hash.h"
#include "crypto/key.h"
#include "guard/guard.h"

enum { SLOT_SIZE = 4096, RECORD_LINE_MAX = 1024 };

/* Far from the end of 64 bits, so that nothing here can wrap. */
#define RECORD_SEQUENCE_MAX ((uint64_t)INT64_MAX / 2)

struct record {
    uint64_t sequence; /* 0 in an export */
    /* What an enclave adds to the records that it sends to its parent (host_link.h): a number of its
     * own, 0: no enclave wrote this record; and its MAC. Not in an export. */
    uint64_t link_sequence;
    uint8_t link_mac[SHA256_LEN];
    char chain_id[CHAIN_ID_MAX + 1];
    struct public_key key;
    struct watermark mark;
    bool burn_next; /* a lost record may hold a higher height: the next one asked for is not signed
                     */
};

enum slot_form {
    SLOT_VALID = 1,
    SLOT_DAMAGED,       /* torn, rotten, empty or never ours: they cannot be told apart */
    SLOT_OTHER_VERSION, /* the checksum is right, the version is not ours */
};

/* record_problem: NULL when the record can be written down, else why not: a chain id that is
 * not 1..50 printable characters without quote and backslash, no key, a watermark that no signer
 * can have. */
const char *record_problem(const struct record *r);

/* The record is no longer the one that an enclave wrote. */
void record_unlink(struct record *r);

/* Renders a record that passes record_problem; no allocation. */
void slot_render(const struct record *r, uint8_t out[SLOT_SIZE]);
/* Strict: only what slot_render writes is valid, byte for byte. *ret is set when valid. */
enum slot_form slot_parse(struct record *ret, const uint8_t in[SLOT_SIZE]);

/* The line for another machine, with its newline and without the sequence. The result is borrowed
 * from out. */
struct bytes export_render(const struct record *r, uint8_t out[RECORD_LINE_MAX]);
/* As strict as slot_parse; one newline at the end may be missing. */
bool export_parse(struct record *ret, struct bytes text) ATTR_MUST_USE;

#endif
