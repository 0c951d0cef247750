/* bytes: a borrowed slice, a reader and a writer that remember their first failure.
 *
 * Read or write everything, then ask once: after the first field that does not fit, every further
 * call does nothing and yields zero, and `bad` stays set. No function here allocates or keeps a
 * copy. */
#ifndef TMKMS_BASE_BYTES_H
#define TMKMS_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A slice someone else owns. {NULL, 0} is the empty slice. */
struct bytes {
    const uint8_t *p;
    size_t n;
};

struct reader {
    const uint8_t *p; /* the next byte */
    size_t n;         /* how many are left */
    bool bad;
};

struct writer {
    uint8_t *buf;
    size_t cap;
    size_t n; /* written so far */
    bool bad; /* something did not fit */
};

struct bytes bytes_of(const void *p, size_t n);
struct bytes bytes_of_text(const char *text);     /* without the final zero */
bool bytes_equal(struct bytes a, struct bytes b); /* not constant time: public data only */

struct reader reader_of(struct bytes b);
/* Next n bytes, borrowed from the input; empty after a failure. */
struct bytes read_bytes(struct reader *r, size_t n);
uint8_t read_u8(struct reader *r);
uint16_t read_u16be(struct reader *r);
uint32_t read_u32le(struct reader *r);
uint64_t read_u64le(struct reader *r);
/* Everything was understood: no failure and nothing left over. */
bool reader_done(const struct reader *r);

struct writer writer_of(void *buf, size_t cap);
void write_bytes(struct writer *w, struct bytes b);
void write_u8(struct writer *w, uint8_t v);
void write_u16be(struct writer *w, uint16_t v);
void write_u32le(struct writer *w, uint32_t v);
void write_u64le(struct writer *w, uint64_t v);
void write_text(struct writer *w, const char *text); /* without the final zero */
/* What was written, borrowed from the buffer; empty when something did not fit. */
struct bytes written(const struct writer *w);

/* Hex, lower or upper case. out holds 2n+1 characters. */
void hex_lower(struct bytes in, char *out);
void hex_upper(struct bytes in, char *out);
/* Decodes exactly out_n bytes from 2*out_n hex digits of either case; false for anything else. */
bool hex_decode(const char *text, size_t text_n, uint8_t *out, size_t out_n);

#endif
