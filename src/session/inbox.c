#include "session/inbox.h"

#include <stdlib.h>
#include <string.h>

static uint8_t *memory(struct inbox *in)
{
    return in->large != NULL ? in->large : in->small;
}

static size_t capacity(const struct inbox *in)
{
    return in->large != NULL ? in->cap : sizeof in->small;
}

struct bytes inbox_bytes(const struct inbox *in)
{
    return bytes_of((in->large != NULL ? in->large : in->small) + in->start, in->n);
}

static void compact(struct inbox *in)
{
    if (in->start > 0)
        memmove(memory(in), memory(in) + in->start, in->n);
    in->start = 0;
}

static bool grow(struct inbox *in, size_t cap)
{
    uint8_t *p = malloc(cap);
    if (p == NULL)
        return false;
    memcpy(p, memory(in) + in->start, in->n);
    free(in->large);
    in->large = p;
    in->cap = cap;
    in->start = 0;
    return true;
}

bool inbox_expect(struct inbox *in, size_t n)
{
    if (n <= capacity(in))
        return true;
    /* Room behind it for the beginning of the next message, which may come in the same read. */
    return grow(in, n + INBOX_SMALL);
}

bool inbox_append(struct inbox *in, struct bytes b)
{
    if (b.n == 0)
        return true;
    if (b.n > capacity(in) - in->start - in->n)
        compact(in);
    if (b.n > capacity(in) - in->n && !grow(in, in->n + b.n + INBOX_SMALL))
        return false;
    memcpy(memory(in) + in->start + in->n, b.p, b.n);
    in->n += b.n;
    return true;
}

void inbox_consume(struct inbox *in, size_t n)
{
    in->start += n;
    in->n -= n;
    if (in->large != NULL && in->n <= sizeof in->small) {
        memcpy(in->small, in->large + in->start, in->n);
        free(in->large);
        in->large = NULL;
        in->start = 0;
    }
    if (in->n == 0)
        in->start = 0;
}

void inbox_clear(struct inbox *in)
{
    inbox_consume(in, in->n);
}
