#include "base/printable.h"

#include <stdbool.h>
#include <stdint.h>

/* The code point and its length; 0: not UTF-8. */
static size_t decode(const unsigned char *p, uint32_t *ret)
{
    static const struct {
        unsigned char mask, lead;
        uint32_t min;
    } forms[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    for (size_t more = 0; more < sizeof forms / sizeof forms[0]; more++) {
        if ((p[0] & forms[more].mask) != forms[more].lead)
            continue;
        uint32_t c = p[0] & (uint32_t)(unsigned char)~forms[more].mask;
        for (size_t i = 1; i <= more; i++) {
            if ((p[i] & 0xc0) != 0x80)
                return 0;
            c = c << 6 | (p[i] & 0x3fU);
        }
        *ret = c;
        return c >= forms[more].min ? more + 1 : 0;
    }
    return 0;
}

/* Unicode's controls, surrogates, private and non-characters, and what it calls default ignorable or a format. */
static bool is_hidden(uint32_t c)
{
    static const struct {
        uint32_t from, to;
    } hidden[] = {{0x00, 0x1f}, {0x7f, 0x9f}, {0xad, 0xad}, {0x34f, 0x34f}, {0x600, 0x605},
        {0x61c, 0x61c}, {0x6dd, 0x6dd}, {0x70f, 0x70f}, {0x115f, 0x1160}, {0x17b4, 0x17b5},
        {0x180b, 0x180f}, {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f}, {0x3164, 0x3164},
        {0xd800, 0xf8ff}, {0xfe00, 0xfe0f}, {0xfeff, 0xfeff}, {0xffa0, 0xffa0}, {0xfff0, 0xfffb},
        {0xfffe, 0xffff}, {0x110bd, 0x110bd}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a},
        {0xe0000, UINT32_MAX}};
    for (size_t i = 0; i < sizeof hidden / sizeof hidden[0]; i++)
        if (c >= hidden[i].from && c <= hidden[i].to)
            return true;
    return false;
}

size_t printable_length(const char *text)
{
    uint32_t c = 0;
    size_t n = decode((const unsigned char *)text, &c);
    return n > 0 && !is_hidden(c) ? n : 0;
}

void printable_make(char *text)
{
    while (*text != '\0') {
        size_t n = printable_length(text);
        if (n == 0 && *text != '\n' && *text != '\t')
            *text = '?';
        text += n > 0 ? n : 1;
    }
}
