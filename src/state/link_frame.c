#include "state/link_frame.h"

#include <string.h>

#include "crypto/hash.h"

enum { BURNS_FIRST = 1 };

static void write_short(struct writer *w, struct bytes b)
{
    write_u8(w, (uint8_t)b.n);
    write_bytes(w, b);
}

static void write_body(struct writer *w, const struct link_frame *f)
{
    switch (f->kind) {
    case LINK_HELLO:
        write_u8(w, LINK_VERSION);
        write_short(w, bytes_of_text(f->chain_id));
        write_u8(w, (uint8_t)f->key.type);
        write_short(w, bytes_of(f->key.bytes, f->key.len));
        write_u64le(w, f->sequence);
        write_bytes(w, bytes_of(f->boot, sizeof f->boot));
        return;
    case LINK_RECORD:
        write_u64le(w, f->sequence);
        write_bytes(w, bytes_of(f->mac, sizeof f->mac));
        write_u8(w, f->burns_first ? BURNS_FIRST : 0);
        write_bytes(w, f->text);
        return;
    case LINK_ACK:
        write_u64le(w, f->sequence);
        return;
    case LINK_REFUSE:
        write_bytes(
            w, bytes_of(f->text.p, f->text.n < LINK_WORDS_MAX ? f->text.n : LINK_WORDS_MAX));
        return;
    case LINK_PROBE:
    case LINK_ALIVE:
        return;
    }
}

struct bytes link_frame_write(const struct link_frame *f, uint8_t out[LINK_FRAME_MAX])
{
    struct writer w = writer_of(out + LINK_HEAD, LINK_FRAME_MAX - LINK_HEAD);
    write_u8(&w, (uint8_t)f->kind);
    write_body(&w, f);
    struct writer head = writer_of(out, LINK_HEAD);
    write_u32le(&head, (uint32_t)w.n);
    return w.bad ? bytes_of(NULL, 0) : bytes_of(out, LINK_HEAD + w.n);
}

size_t link_frame_length(const uint8_t head[LINK_HEAD])
{
    struct reader r = reader_of(bytes_of(head, LINK_HEAD));
    uint32_t n = read_u32le(&r);
    return n <= LINK_FRAME_MAX - LINK_HEAD ? n : 0;
}

static struct bytes read_short(struct reader *r, size_t max)
{
    struct bytes b = read_bytes(r, read_u8(r));
    if (b.n < 1 || b.n > max)
        r->bad = true;
    return r->bad ? bytes_of(NULL, 0) : b;
}

static void read_into(struct reader *r, void *out, size_t n)
{
    struct bytes b = read_bytes(r, n);
    if (b.n == n)
        memcpy(out, b.p, n);
}

static void read_hello(struct reader *r, struct link_frame *f)
{
    if (read_u8(r) != LINK_VERSION)
        r->bad = true;
    struct bytes chain_id = read_short(r, CHAIN_ID_MAX);
    f->key.type = read_u8(r);
    struct bytes key = read_short(r, PUBLIC_KEY_MAX);
    f->sequence = read_u64le(r);
    read_into(r, f->boot, sizeof f->boot);
    if (r->bad)
        return;
    memcpy(f->chain_id, chain_id.p, chain_id.n);
    memcpy(f->key.bytes, key.p, key.n);
    f->key.len = (uint32_t)key.n;
    struct record named = {.sequence = f->sequence, .key = f->key};
    memcpy(named.chain_id, f->chain_id, sizeof named.chain_id);
    if (strlen(f->chain_id) != chain_id.n || record_problem(&named) != NULL)
        r->bad = true;
}

static void read_record(struct reader *r, struct link_frame *f)
{
    f->sequence = read_u64le(r);
    read_into(r, f->mac, sizeof f->mac);
    uint8_t flags = read_u8(r);
    f->burns_first = flags == BURNS_FIRST;
    f->text = read_bytes(r, r->n);
    if (flags > BURNS_FIRST || f->text.n == 0 || f->text.n > RECORD_LINE_MAX ||
        f->sequence > RECORD_SEQUENCE_MAX)
        r->bad = true;
}

/* false: no such kind. */
static bool read_body(struct reader *r, struct link_frame *f)
{
    switch (f->kind) {
    case LINK_HELLO:
        read_hello(r, f);
        return true;
    case LINK_RECORD:
        read_record(r, f);
        return true;
    case LINK_ACK:
        f->sequence = read_u64le(r);
        return true;
    case LINK_REFUSE:
        f->text = read_bytes(r, r->n);
        r->bad |= f->text.n > LINK_WORDS_MAX;
        return true;
    case LINK_PROBE:
    case LINK_ALIVE:
        return true;
    }
    return false;
}

bool link_frame_read(struct link_frame *ret, struct bytes rest)
{
    struct reader r = reader_of(rest);
    struct link_frame f = {.kind = (enum link_frame_kind)read_u8(&r)};
    if (!read_body(&r, &f) || !reader_done(&r))
        return false;
    *ret = f;
    return true;
}

struct link_frame link_frame_of_record(const struct record *rec, uint8_t line[RECORD_LINE_MAX])
{
    struct link_frame f = {.kind = LINK_RECORD, .sequence = rec->link_sequence};
    memcpy(f.mac, rec->link_mac, sizeof f.mac);
    f.text = export_render(rec, line);
    return f;
}

bool link_frame_record(struct record *ret, const struct link_frame *f)
{
    struct record rec;
    if (f->text.n == 0 || f->text.p[f->text.n - 1] != '\n' || !export_parse(&rec, f->text))
        return false;
    rec.link_sequence = f->sequence;
    memcpy(rec.link_mac, f->mac, sizeof rec.link_mac);
    *ret = rec;
    return true;
}

void link_mac(
    const uint8_t key[SHA256_LEN], uint64_t sequence, struct bytes line, uint8_t out[SHA256_LEN])
{
    static const char purpose[] = "tmkms state link record 1\n";
    uint8_t buf[sizeof purpose + sizeof sequence + RECORD_LINE_MAX];
    struct writer w = writer_of(buf, sizeof buf);
    write_text(&w, purpose);
    write_u64le(&w, sequence);
    write_bytes(&w, line);
    hmac_sha256(bytes_of(key, SHA256_LEN), written(&w), out);
}
