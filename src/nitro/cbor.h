/* cbor: as much of CBOR (RFC 8949) as the Nitro Secure Module and its documents use, over a borrowed slice and a
 * caller's buffer. No allocation, no recursion.
 *
 * Like the reader of base/bytes.h it is sticky: after the first item that is not what was asked for, every further
 * call yields zero and `bad` stays set; ask once at the end. Integers may be longer than they need to be (QEMU writes
 * such); maps and arrays may be of indefinite length (AWS writes such maps), strings may not. */
#ifndef TMKMS_NITRO_CBOR_H
#define TMKMS_NITRO_CBOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"

enum { CBOR_DEPTH_MAX = 8 }; /* of an item that is skipped */

enum cbor_kind {
    CBOR_BAD, /* nothing left, reserved forms, or an earlier failure */
    CBOR_UINT,
    CBOR_NEGATIVE,
    CBOR_BYTES,
    CBOR_TEXT,
    CBOR_ARRAY,
    CBOR_MAP,
    CBOR_TAG,
    CBOR_BOOL,
    CBOR_NULL,  /* and undefined */
    CBOR_OTHER, /* floats and other simple values */
    CBOR_BREAK,
};

/* The items still to come of an open array or map (pairs of it). */
struct cbor_list {
    uint64_t left;
    bool is_indefinite;
};

/* ---- reading: a struct reader, items one after the other ---------------------- */

/* What comes next; nothing is consumed and a failure does not stick. */
enum cbor_kind cbor_peek(const struct reader *r);

uint64_t cbor_read_uint(struct reader *r);
uint64_t cbor_read_tag(struct reader *r);
bool cbor_read_bool(struct reader *r);
void cbor_read_null(struct reader *r);
struct bytes cbor_read_bytes(struct reader *r); /* borrowed */
struct bytes cbor_read_text(struct reader *r);  /* borrowed; not checked to be UTF-8 */
struct cbor_list cbor_read_array(struct reader *r);
struct cbor_list cbor_read_map(struct reader *r);
/* Is there another item (pair) in the list? Counts it, or consumes the end of an indefinite list. */
bool cbor_more(struct reader *r, struct cbor_list *list);
/* Passes over one item with everything inside it. */
void cbor_skip(struct reader *r);

/* A byte string that may also come as an array of small integers (serde writes Vec<u8> so). Copied to out, which may
 * be the start of the buffer that is read. Returns its length; longer than cap is a failure. */
size_t cbor_read_octets(struct reader *r, uint8_t *out, size_t cap);

/* ---- writing: a struct writer, shortest forms ---------------------------------- */

void cbor_write_uint(struct writer *w, uint64_t v);
void cbor_write_bytes(struct writer *w, struct bytes b);
void cbor_write_bytes_head(struct writer *w, uint64_t n); /* n bytes must follow */
void cbor_write_text(struct writer *w, const char *text);
void cbor_write_array(struct writer *w, uint64_t items);
void cbor_write_map(struct writer *w, uint64_t pairs);
void cbor_write_open_map(struct writer *w); /* of indefinite length, until cbor_write_break */
void cbor_write_break(struct writer *w);
void cbor_write_bool(struct writer *w, bool v);
void cbor_write_null(struct writer *w);

#endif
