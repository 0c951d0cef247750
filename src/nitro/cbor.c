#include "nitro/cbor.h"

#include <string.h>

/* RFC 8949 §3: three bits of major type, five bits that are the value or say how long it is. */
enum {
    MAJOR_UINT,
    MAJOR_NEGATIVE,
    MAJOR_BYTES,
    MAJOR_TEXT,
    MAJOR_ARRAY,
    MAJOR_MAP,
    MAJOR_TAG,
    MAJOR_SIMPLE,
    INFO_1 = 24, /* the value follows in 1, 2, 4, 8 bytes */
    INFO_8 = 27,
    INFO_INDEFINITE = 31,
    SIMPLE_FALSE = 20,
    SIMPLE_TRUE = 21,
    SIMPLE_NULL = 22,
    SIMPLE_UNDEFINED = 23,
    BREAK = 0xff,
};

struct head {
    unsigned major, info;
    uint64_t value;
};

static struct head read_head(struct reader *r)
{
    uint8_t first = read_u8(r);
    struct head h = {.major = first >> 5, .info = first & 31, .value = first & 31};
    if (h.info >= INFO_1 && h.info <= INFO_8) {
        struct bytes tail = read_bytes(r, (size_t)1 << (h.info - INFO_1));
        h.value = 0;
        for (size_t i = 0; i < tail.n; i++)
            h.value = h.value << 8 | tail.p[i];
    } else if (h.info > INFO_8) {
        bool may_be_indefinite =
            h.major == MAJOR_ARRAY || h.major == MAJOR_MAP || h.major == MAJOR_SIMPLE;
        if (h.info != INFO_INDEFINITE || !may_be_indefinite)
            r->bad = true;
        h.value = 0;
    }
    return r->bad ? (struct head){0} : h;
}

static enum cbor_kind kind_of_simple(const struct head *h)
{
    switch (h->info) {
    case SIMPLE_FALSE:
    case SIMPLE_TRUE:
        return CBOR_BOOL;
    case SIMPLE_NULL:
    case SIMPLE_UNDEFINED:
        return CBOR_NULL;
    case INFO_INDEFINITE:
        return CBOR_BREAK;
    default:
        return CBOR_OTHER;
    }
}

static enum cbor_kind kind_of(const struct head *h)
{
    static const enum cbor_kind kinds[] = {
        [MAJOR_UINT] = CBOR_UINT,
        [MAJOR_NEGATIVE] = CBOR_NEGATIVE,
        [MAJOR_BYTES] = CBOR_BYTES,
        [MAJOR_TEXT] = CBOR_TEXT,
        [MAJOR_ARRAY] = CBOR_ARRAY,
        [MAJOR_MAP] = CBOR_MAP,
        [MAJOR_TAG] = CBOR_TAG,
    };
    return h->major == MAJOR_SIMPLE ? kind_of_simple(h) : kinds[h->major];
}

enum cbor_kind cbor_peek(const struct reader *r)
{
    struct reader ahead = *r;
    struct head h = read_head(&ahead);
    return ahead.bad ? CBOR_BAD : kind_of(&h);
}

/* The head of an item that must be of this kind. */
static struct head expect(struct reader *r, enum cbor_kind kind)
{
    struct head h = read_head(r);
    if (!r->bad && kind_of(&h) != kind)
        r->bad = true;
    return r->bad ? (struct head){0} : h;
}

uint64_t cbor_read_uint(struct reader *r)
{
    return expect(r, CBOR_UINT).value;
}

uint64_t cbor_read_tag(struct reader *r)
{
    return expect(r, CBOR_TAG).value;
}

bool cbor_read_bool(struct reader *r)
{
    return expect(r, CBOR_BOOL).info == SIMPLE_TRUE;
}

void cbor_read_null(struct reader *r)
{
    expect(r, CBOR_NULL);
}

static struct bytes read_string(struct reader *r, enum cbor_kind kind)
{
    uint64_t n = expect(r, kind).value;
    if (n > r->n)
        r->bad = true;
    return r->bad ? (struct bytes){0} : read_bytes(r, (size_t)n);
}

struct bytes cbor_read_bytes(struct reader *r)
{
    return read_string(r, CBOR_BYTES);
}

struct bytes cbor_read_text(struct reader *r)
{
    return read_string(r, CBOR_TEXT);
}

static struct cbor_list read_list(struct reader *r, enum cbor_kind kind)
{
    struct head h = expect(r, kind);
    if (h.info == INFO_INDEFINITE)
        return (struct cbor_list){.is_indefinite = true};
    /* Every item takes a byte: a count beyond what is left is a lie, told before anyone loops over it. */
    if (h.value > r->n)
        r->bad = true;
    return (struct cbor_list){.left = r->bad ? 0 : h.value};
}

struct cbor_list cbor_read_array(struct reader *r)
{
    return read_list(r, CBOR_ARRAY);
}

struct cbor_list cbor_read_map(struct reader *r)
{
    return read_list(r, CBOR_MAP);
}

bool cbor_more(struct reader *r, struct cbor_list *list)
{
    if (r->bad)
        return false;
    if (list->is_indefinite) {
        if (cbor_peek(r) != CBOR_BREAK)
            return true;
        read_u8(r);
        return false;
    }
    if (list->left == 0)
        return false;
    list->left--;
    return true;
}

/* ---- skipping ------------------------------------------------------------------- */

/* One level of what is being skipped. `items` counts single items: a pair of a map is two. */
struct level {
    uint64_t items;
    bool is_indefinite, is_map;
};

/* Opens a level for a list, passes over anything else. */
static bool skip_head(struct reader *r, struct level *opened)
{
    struct head h = read_head(r);
    enum cbor_kind kind = kind_of(&h);
    if (r->bad || kind == CBOR_BREAK) {
        r->bad = true;
        return false;
    }
    if (kind == CBOR_BYTES || kind == CBOR_TEXT) {
        if (h.value > r->n)
            r->bad = true;
        else
            read_bytes(r, (size_t)h.value);
        return false;
    }
    bool is_map = kind == CBOR_MAP;
    if (!is_map && kind != CBOR_ARRAY && kind != CBOR_TAG)
        return false;
    *opened = (struct level){.is_map = is_map, .is_indefinite = h.info == INFO_INDEFINITE};
    if (kind == CBOR_TAG)
        opened->items = 1;
    else if (h.value > r->n)
        r->bad = true;
    else if (!opened->is_indefinite)
        opened->items = is_map ? 2 * h.value : h.value;
    return true;
}

/* Is the level at its end? A map of indefinite length may not end between a key and its value. */
static bool level_ends(struct reader *r, struct level *level)
{
    if (!level->is_indefinite)
        return level->items == 0;
    if (cbor_peek(r) != CBOR_BREAK)
        return false;
    read_u8(r);
    if (level->is_map && level->items % 2 != 0)
        r->bad = true;
    return true;
}

void cbor_skip(struct reader *r)
{
    struct level levels[CBOR_DEPTH_MAX];
    size_t depth = 0;
    struct level opened;
    if (skip_head(r, &opened))
        levels[depth++] = opened;
    while (depth > 0 && !r->bad) {
        struct level *top = &levels[depth - 1];
        if (level_ends(r, top)) {
            depth--;
            continue;
        }
        top->items = top->is_indefinite ? top->items + 1 : top->items - 1;
        if (!skip_head(r, &opened))
            continue;
        if (depth == CBOR_DEPTH_MAX)
            r->bad = true;
        else
            levels[depth++] = opened;
    }
}

size_t cbor_read_octets(struct reader *r, uint8_t *out, size_t cap)
{
    if (cbor_peek(r) == CBOR_BYTES) {
        struct bytes b = cbor_read_bytes(r);
        if (b.n > cap) {
            r->bad = true;
            return 0;
        }
        if (b.n > 0)
            memmove(out, b.p, b.n);
        return b.n;
    }
    struct cbor_list list = cbor_read_array(r);
    size_t n = 0;
    while (cbor_more(r, &list)) {
        uint64_t v = cbor_read_uint(r);
        if (v > 255 || n == cap)
            r->bad = true;
        else if (!r->bad)
            out[n++] = (uint8_t)v;
    }
    return r->bad ? 0 : n;
}

/* ---- writing -------------------------------------------------------------------- */

static void write_head(struct writer *w, unsigned major, uint64_t v)
{
    static const uint64_t limits[] = {UINT8_MAX, UINT16_MAX, UINT32_MAX, UINT64_MAX};
    unsigned first = major << 5;
    if (v < INFO_1) {
        write_u8(w, (uint8_t)(first | (unsigned)v));
        return;
    }
    unsigned form = 0;
    while (v > limits[form])
        form++;
    write_u8(w, (uint8_t)(first | (INFO_1 + form)));
    for (unsigned left = 1u << form; left > 0; left--)
        write_u8(w, (uint8_t)(v >> (8 * (left - 1))));
}

void cbor_write_uint(struct writer *w, uint64_t v)
{
    write_head(w, MAJOR_UINT, v);
}

void cbor_write_bytes_head(struct writer *w, uint64_t n)
{
    write_head(w, MAJOR_BYTES, n);
}

void cbor_write_bytes(struct writer *w, struct bytes b)
{
    write_head(w, MAJOR_BYTES, b.n);
    write_bytes(w, b);
}

void cbor_write_text(struct writer *w, const char *text)
{
    struct bytes b = bytes_of_text(text);
    write_head(w, MAJOR_TEXT, b.n);
    write_bytes(w, b);
}

void cbor_write_array(struct writer *w, uint64_t items)
{
    write_head(w, MAJOR_ARRAY, items);
}

void cbor_write_map(struct writer *w, uint64_t pairs)
{
    write_head(w, MAJOR_MAP, pairs);
}

void cbor_write_open_map(struct writer *w)
{
    write_u8(w, MAJOR_MAP << 5 | INFO_INDEFINITE);
}

void cbor_write_break(struct writer *w)
{
    write_u8(w, BREAK);
}

void cbor_write_bool(struct writer *w, bool v)
{
    write_u8(w, (uint8_t)(MAJOR_SIMPLE << 5 | (v ? SIMPLE_TRUE : SIMPLE_FALSE)));
}

void cbor_write_null(struct writer *w)
{
    write_u8(w, MAJOR_SIMPLE << 5 | SIMPLE_NULL);
}
