/* link_frame: what an enclave and the store on its parent say to each other (doc/state-link.md). Pure.
 *
 * u32le length of the rest, then one byte that says what it is, then a body of fixed form:
 *
 *   HELLO   version, chain id, public key, the sequence the enclave remembers (0: none), its boot id
 *   RECORD  sequence, MAC, flags, the record as the line of `tmkms state export`
 *   ACK     sequence: the record with this number is on stable storage
 *   REFUSE  a sentence for people
 *   PROBE   is the enclave still there?   ALIVE  it is */
#ifndef TMKMS_STATE_LINK_FRAME_H
#define TMKMS_STATE_LINK_FRAME_H

#include "state/record.h"

enum {
    LINK_VERSION = 1,
    LINK_BOOT_LEN = 16,
    LINK_HEAD = 4, /* bytes of the length */
    LINK_FRAME_MAX = 2048,
    LINK_WORDS_MAX = 400, /* longer refusals are cut */
};

enum link_frame_kind {
    LINK_HELLO = 1,
    LINK_RECORD,
    LINK_ACK,
    LINK_REFUSE,
    LINK_PROBE,
    LINK_ALIVE,
};

/* Fields that do not belong to the kind are zero. */
struct link_frame {
    enum link_frame_kind kind;
    uint64_t sequence;
    char chain_id[CHAIN_ID_MAX + 1];
    struct public_key key;
    uint8_t boot[LINK_BOOT_LEN];
    uint8_t mac[SHA256_LEN];
    bool
        burns_first; /* RECORD of the parent: its file had an invalid slot, see state_burns_first */
    struct bytes text; /* RECORD: the line; REFUSE: the sentence; borrowed */
};

/* link_frame_write: the whole frame, borrowed from out. f must be one that can be read back. */
struct bytes link_frame_write(const struct link_frame *f, uint8_t out[LINK_FRAME_MAX]);
/* link_frame_length: of the rest, from the first LINK_HEAD bytes; 0: no such frame. */
size_t link_frame_length(const uint8_t head[LINK_HEAD]);
/* Strict: what link_frame_write does not write is refused. rest: without the length. The line of a
 * RECORD is not looked at. */
bool link_frame_read(struct link_frame *ret, struct bytes rest) ATTR_MUST_USE;

/* The RECORD frame of r, and back; line is the space that the frame borrows. */
struct link_frame link_frame_of_record(const struct record *r, uint8_t line[RECORD_LINE_MAX]);
bool link_frame_record(struct record *ret, const struct link_frame *f) ATTR_MUST_USE;

/* HMAC-SHA-256 over sequence and line; the line names chain and public key. */
void link_mac(
    const uint8_t key[SHA256_LEN], uint64_t sequence, struct bytes line, uint8_t out[SHA256_LEN]);

#endif
