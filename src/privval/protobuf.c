#include "privval/protobuf.h"

#include <string.h>

uint64_t pb_read_varint(struct reader *r)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < PB_VARINT_MAX; i++) {
        uint8_t byte = read_u8(r);
        if (i == PB_VARINT_MAX - 1 && byte > 1)
            break;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80)
            return r->bad ? 0 : value;
    }
    r->bad = true;
    return 0;
}

static bool read_value(struct reader *r, struct pb_field *f)
{
    switch (f->wire) {
    case PB_VARINT:
        f->value = pb_read_varint(r);
        return !r->bad;
    case PB_FIXED64:
        f->value = read_u64le(r);
        return !r->bad;
    case PB_FIXED32:
        f->value = read_u32le(r);
        return !r->bad;
    case PB_LEN: {
        uint64_t n = pb_read_varint(r);
        if (n > r->n)
            break;
        f->bytes = read_bytes(r, (size_t)n);
        return !r->bad;
    }
    case PB_GROUP_START:
    case PB_GROUP_END:
        break;
    }
    r->bad = true;
    return false;
}

bool pb_next(struct reader *r, struct pb_field *ret)
{
    if (r->bad || r->n == 0)
        return false;
    uint64_t tag = pb_read_varint(r);
    uint64_t number = tag >> 3;
    if (number == 0 || number > PB_FIELD_MAX) {
        r->bad = true;
        return false;
    }
    *ret = (struct pb_field){.number = (uint32_t)number, .wire = (enum pb_wire)(tag & 7)};
    return read_value(r, ret);
}

static uint64_t varint_of(struct reader *r, const struct pb_field *f)
{
    if (f->wire == PB_VARINT)
        return f->value;
    r->bad = true;
    return 0;
}

int64_t pb_int64(struct reader *r, const struct pb_field *f)
{
    return (int64_t)varint_of(r, f);
}

int32_t pb_int32(struct reader *r, const struct pb_field *f)
{
    return (int32_t)(uint32_t)varint_of(r, f);
}

uint32_t pb_uint32(struct reader *r, const struct pb_field *f)
{
    return (uint32_t)varint_of(r, f);
}

bool pb_bool(struct reader *r, const struct pb_field *f)
{
    return varint_of(r, f) != 0;
}

struct bytes pb_bytes(struct reader *r, const struct pb_field *f)
{
    if (f->wire == PB_LEN)
        return f->bytes;
    r->bad = true;
    return (struct bytes){0};
}

struct bytes pb_once(struct reader *r, const struct pb_field *f, uint32_t *seen)
{
    uint32_t bit = UINT32_C(1) << (f->number & 31);
    if ((*seen & bit) != 0)
        r->bad = true;
    *seen |= bit;
    return pb_bytes(r, f);
}

size_t pb_varint_size(uint64_t value)
{
    size_t n = 1;
    while (value >= 0x80) {
        value >>= 7;
        n++;
    }
    return n;
}

/* out holds PB_VARINT_MAX bytes; returns how many were used. */
static size_t put_varint(uint8_t *out, uint64_t value)
{
    size_t n = 0;
    while (value >= 0x80) {
        out[n++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    out[n++] = (uint8_t)value;
    return n;
}

void pb_write_varint(struct writer *w, uint64_t value)
{
    uint8_t raw[PB_VARINT_MAX];
    write_bytes(w, bytes_of(raw, put_varint(raw, value)));
}

static void write_tag(struct writer *w, uint32_t field, enum pb_wire wire)
{
    pb_write_varint(w, (uint64_t)field << 3 | wire);
}

void pb_write_uint64(struct writer *w, uint32_t field, uint64_t value)
{
    if (value == 0)
        return;
    write_tag(w, field, PB_VARINT);
    pb_write_varint(w, value);
}

void pb_write_int64(struct writer *w, uint32_t field, int64_t value)
{
    pb_write_uint64(w, field, (uint64_t)value);
}

void pb_write_sfixed64(struct writer *w, uint32_t field, int64_t value)
{
    if (value == 0)
        return;
    write_tag(w, field, PB_FIXED64);
    write_u64le(w, (uint64_t)value);
}

void pb_write_bytes(struct writer *w, uint32_t field, struct bytes value)
{
    if (value.n == 0)
        return;
    write_tag(w, field, PB_LEN);
    pb_write_varint(w, value.n);
    write_bytes(w, value);
}

/* One byte is kept for the length, enough for most messages; pb_end makes room when it was too
 * little. */
size_t pb_begin_delimited(struct writer *w)
{
    write_u8(w, 0);
    return w->n;
}

size_t pb_begin(struct writer *w, uint32_t field)
{
    write_tag(w, field, PB_LEN);
    return pb_begin_delimited(w);
}

void pb_end(struct writer *w, size_t mark)
{
    if (w->bad)
        return;
    uint8_t raw[PB_VARINT_MAX];
    size_t body = w->n - mark;
    size_t prefix = put_varint(raw, body);
    if (prefix - 1 > w->cap - w->n) {
        w->bad = true;
        return;
    }
    if (prefix > 1)
        memmove(w->buf + mark + prefix - 1, w->buf + mark, body);
    memcpy(w->buf + mark - 1, raw, prefix);
    w->n += prefix - 1;
}
