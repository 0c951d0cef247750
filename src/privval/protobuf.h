/* protobuf: the wire primitives of proto3, over the sticky reader and writer (reference:
 * protobuf.dev "Encoding"). No schema, no allocation, no recursion.
 *
 * Reading follows Go's generated code (gogoproto), which the nodes use, but for four things that no
 * encoder writes; they are refused here because decoders disagree about them:
 * - groups (Go skips them);
 * - field numbers over 2^29-1 (Go cuts them to 32 bits);
 * - a varint whose tenth byte is above 1 (Go drops the bits that do not fit);
 * - a singular sub-message that occurs twice (Go merges some and replaces others): pb_once.
 * As in Go, overlong varints are read, a scalar that occurs twice has its last value, a known field
 * of another wire type is an error, unknown fields are skipped, and 32-bit fields keep the low 32
 * bits. */
#ifndef TMKMS_PRIVVAL_PROTOBUF_H
#define TMKMS_PRIVVAL_PROTOBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum { PB_FIELD_MAX = (1 << 29) - 1, PB_VARINT_MAX = 10 };

enum pb_wire {
    PB_VARINT = 0,
    PB_FIXED64 = 1,
    PB_LEN = 2,
    PB_GROUP_START = 3,
    PB_GROUP_END = 4,
    PB_FIXED32 = 5,
};

struct pb_field {
    uint32_t number;
    enum pb_wire wire;
    uint64_t value;     /* PB_VARINT, PB_FIXED64, PB_FIXED32 */
    struct bytes bytes; /* PB_LEN: borrowed from the input */
};

uint64_t pb_read_varint(struct reader *r);

/* pb_next reads one field, of whatever number. false: the end, or r->bad. */
bool pb_next(struct reader *r, struct pb_field *ret);

/* The value of a field that must have this type; another wire type sets r->bad and yields zero. */
int64_t pb_int64(struct reader *r, const struct pb_field *f);
int32_t pb_int32(struct reader *r, const struct pb_field *f); /* also enums */
uint32_t pb_uint32(struct reader *r, const struct pb_field *f);
bool pb_bool(struct reader *r, const struct pb_field *f);
struct bytes pb_bytes(
    struct reader *r, const struct pb_field *f); /* also strings and sub-messages */

/* pb_once is pb_bytes for a sub-message that may occur once: *seen remembers field numbers
 * below 32. */
struct bytes pb_once(struct reader *r, const struct pb_field *f, uint32_t *seen);

/* Writing. As proto3 demands, zero and empty values are left out. */
void pb_write_varint(struct writer *w, uint64_t value);
void pb_write_int64(struct writer *w, uint32_t field, int64_t value); /* also int32 and enums */
void pb_write_uint64(struct writer *w, uint32_t field, uint64_t value);
void pb_write_sfixed64(struct writer *w, uint32_t field, int64_t value);
void pb_write_bytes(struct writer *w, uint32_t field, struct bytes value);

/* A sub-message (or, without a field number, a length-delimited message) is written between begin
 * and end, and written even when it is empty. mark is what begin returned; they nest. */
size_t pb_begin(struct writer *w, uint32_t field);
size_t pb_begin_delimited(struct writer *w);
void pb_end(struct writer *w, size_t mark);

size_t pb_varint_size(uint64_t value); /* 1..10 */

#endif
