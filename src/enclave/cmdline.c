#include "enclave/cmdline.h"

#include <limits.h>
#include <string.h>

#include "enclave/machine_file.h"
#include "link/vsock.h"
#include "nitro/push.h"

static const char ours[] = "tmkms.";

/* ---- words ---- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The next word; blanks between double quotes belong to it. Empty: there is none. */
static struct bytes next_word(struct bytes *text)
{
    bool is_quoted = false;
    size_t n = 0;
    while (text->n > 0 && is_blank(text->p[0]))
        *text = bytes_of(text->p + 1, text->n - 1);
    while (n < text->n && (is_quoted || !is_blank(text->p[n])))
        is_quoted ^= text->p[n++] == '"';
    struct bytes word = bytes_of(text->p, n);
    if (n > 0)
        *text = bytes_of(text->p + n, text->n - n);
    return word;
}

static bool is_our_key(struct bytes word)
{
    return word.n >= sizeof ours - 1 && memcmp(word.p, ours, sizeof ours - 1) == 0;
}

/* ---- values ---- */

static bool read_number(struct bytes value, uint32_t min, uint32_t max, uint32_t *ret)
{
    uint64_t n = 0;
    if (value.n == 0 || value.n > 10)
        return false;
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < '0' || value.p[i] > '9')
            return false;
        n = n * 10 + (uint64_t)(value.p[i] - '0');
    }
    if (n < min || n > max)
        return false;
    *ret = (uint32_t)n;
    return true;
}

static bool take(struct cmdline *c, struct bytes key, struct bytes value)
{
    uint32_t debug;
    if (bytes_equal(key, bytes_of_text("tmkms.parent_cid")))
        return read_number(value, 1, UINT32_MAX - 1, &c->parent_cid);
    if (bytes_equal(key, bytes_of_text("tmkms.port")))
        return read_number(value, 1, UINT32_MAX - 1, &c->port);
    if (!bytes_equal(key, bytes_of_text("tmkms.debug")) || !read_number(value, 0, 1, &debug))
        return false;
    c->is_debug = debug == 1;
    return true;
}

static struct bytes key_of(struct bytes word)
{
    const uint8_t *end = word.n > 0 ? memchr(word.p, '=', word.n) : NULL;
    return bytes_of(word.p, end != NULL ? (size_t)(end - word.p) : word.n);
}

bool cmdline_parse(struct cmdline *ret, struct bytes text, struct err *err)
{
    enum { SHOWN_MAX = 60 };
    struct cmdline c = {.parent_cid = VSOCK_CID_PARENT, .port = PUSH_PORT};
    for (;;) {
        struct bytes word = next_word(&text);
        /* What stands behind -- is for programs, not for the machine. */
        if (word.n == 0 || bytes_equal(word, bytes_of_text("--")))
            break;
        if (!is_our_key(word))
            continue;
        struct bytes key = key_of(word);
        size_t used = key.n < word.n ? key.n + 1 : key.n;
        if (!take(&c, key, bytes_of(word.p + used, word.n - used)))
            return err_set(err,
                "the kernel's command line says %.*s; known are tmkms.debug=0 or 1, "
                "tmkms.parent_cid=NUMBER and "
                "tmkms.port=NUMBER",
                word.n < SHOWN_MAX ? (int)word.n : SHOWN_MAX, (const char *)word.p);
    }
    *ret = c;
    return true;
}

bool cmdline_read(struct cmdline *ret, const char *root, struct err *err)
{
    uint8_t text[CMDLINE_MAX];
    size_t n;
    return machine_file_read(root, "/proc/cmdline", text, sizeof text, &n, err) &&
           cmdline_parse(ret, bytes_of(text, n), err);
}
