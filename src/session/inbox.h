/* inbox: the bytes of one connection that wait to be understood. Small messages live in a buffer
 * that is allocated once with the connection; a large one gets memory of its own, which is given
 * back after it. */
#ifndef TMKMS_SESSION_INBOX_H
#define TMKMS_SESSION_INBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"

enum { INBOX_SMALL = 16384 };

struct inbox {
    uint8_t small[INBOX_SMALL];
    uint8_t *large;  /* NULL: small is in use */
    size_t cap;      /* of large */
    size_t start, n; /* what waits is n bytes from start on */
};

/* A zeroed inbox is empty. */
struct bytes inbox_bytes(const struct inbox *in); /* borrowed until the next call */
/* false: no memory. The caller bounds what it appends before it consumes. */
bool inbox_append(struct inbox *in, struct bytes b) ATTR_MUST_USE;
/* Makes room for a message of n bytes in one go. */
bool inbox_expect(struct inbox *in, size_t n) ATTR_MUST_USE;
void inbox_consume(struct inbox *in, size_t n);
void inbox_clear(struct inbox *in); /* gives the memory back too */

#endif
