#include "base/bytes.h"

#include <string.h>

struct bytes bytes_of(const void *p, size_t n)
{
    return (struct bytes){p, n};
}

struct bytes bytes_of_text(const char *text)
{
    return bytes_of(text, strlen(text));
}

bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

struct reader reader_of(struct bytes b)
{
    return (struct reader){.p = b.p, .n = b.n};
}

struct bytes read_bytes(struct reader *r, size_t n)
{
    if (r->bad || n > r->n) {
        r->bad = true;
        return (struct bytes){0};
    }
    struct bytes b = {r->p, n};
    if (n > 0)
        r->p += n;
    r->n -= n;
    return b;
}

static uint64_t read_le(struct reader *r, size_t n)
{
    struct bytes b = read_bytes(r, n);
    uint64_t v = 0;
    for (size_t i = b.n; i > 0; i--)
        v = v << 8 | b.p[i - 1];
    return v;
}

uint8_t read_u8(struct reader *r)
{
    return (uint8_t)read_le(r, 1);
}

uint16_t read_u16be(struct reader *r)
{
    struct bytes b = read_bytes(r, 2);
    return b.n == 2 ? (uint16_t)(b.p[0] << 8 | b.p[1]) : 0;
}

uint32_t read_u32le(struct reader *r)
{
    return (uint32_t)read_le(r, 4);
}

uint64_t read_u64le(struct reader *r)
{
    return read_le(r, 8);
}

bool reader_done(const struct reader *r)
{
    return !r->bad && r->n == 0;
}

struct writer writer_of(void *buf, size_t cap)
{
    return (struct writer){.buf = buf, .cap = cap};
}

void write_bytes(struct writer *w, struct bytes b)
{
    if (w->bad || b.n > w->cap - w->n) {
        w->bad = true;
        return;
    }
    if (b.n > 0)
        memcpy(w->buf + w->n, b.p, b.n);
    w->n += b.n;
}

static void write_le(struct writer *w, uint64_t v, size_t n)
{
    uint8_t raw[8];
    for (size_t i = 0; i < n; i++)
        raw[i] = (uint8_t)(v >> (8 * i));
    write_bytes(w, bytes_of(raw, n));
}

void write_u8(struct writer *w, uint8_t v)
{
    write_le(w, v, 1);
}

void write_u16be(struct writer *w, uint16_t v)
{
    write_u8(w, (uint8_t)(v >> 8));
    write_u8(w, (uint8_t)v);
}

void write_u32le(struct writer *w, uint32_t v)
{
    write_le(w, v, 4);
}

void write_u64le(struct writer *w, uint64_t v)
{
    write_le(w, v, 8);
}

void write_text(struct writer *w, const char *text)
{
    write_bytes(w, bytes_of_text(text));
}

struct bytes written(const struct writer *w)
{
    return w->bad ? (struct bytes){0} : bytes_of(w->buf, w->n);
}

static void hex_with(const char *digits, struct bytes in, char *out)
{
    for (size_t i = 0; i < in.n; i++) {
        out[2 * i] = digits[in.p[i] >> 4];
        out[2 * i + 1] = digits[in.p[i] & 15];
    }
    out[2 * in.n] = '\0';
}

void hex_lower(struct bytes in, char *out)
{
    hex_with("0123456789abcdef", in, out);
}

void hex_upper(struct bytes in, char *out)
{
    hex_with("0123456789ABCDEF", in, out);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool hex_decode(const char *text, size_t text_n, uint8_t *out, size_t out_n)
{
    if (text_n != 2 * out_n)
        return false;
    for (size_t i = 0; i < out_n; i++)
        if (hex_digit(text[2 * i]) < 0 || hex_digit(text[2 * i + 1]) < 0)
            return false;
    for (size_t i = 0; i < out_n; i++)
        out[i] = (uint8_t)(hex_digit(text[2 * i]) << 4 | hex_digit(text[2 * i + 1]));
    return true;
}
