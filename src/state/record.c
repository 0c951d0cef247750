#include "state/record.h"

#include <string.h>

#include "crypto/hash.h"

enum { VERSION = 1, HEX_HASH = 2 * HASH_LEN, HEX_KEY = 2 * PUBLIC_KEY_MAX };

static const char slot_head[] = "{\"tmkms_state\":";
static const char export_head[] = "{\"tmkms_export\":";
static const char link_head[] = ",\"link\":{\"sequence\":\"";
static const char checksum_head[] = ",\"checksum\":\"";
static const char checksum_tail[] = "\"}";

const char *record_problem(const struct record *r)
{
    static const struct signable nothing;
    size_t n = strnlen(r->chain_id, sizeof r->chain_id);
    if (n < 1 || n > CHAIN_ID_MAX)
        return "a chain id has 1 to 50 characters";
    for (size_t i = 0; i < n; i++)
        if (r->chain_id[i] < ' ' || r->chain_id[i] > '~' || strchr("\"\\", r->chain_id[i]) != NULL)
            return "a chain id is made of printable characters without quote and backslash";
    if (!(r->key.type == KEY_ED25519 && r->key.len == 32) &&
        !(r->key.type == KEY_SECP256K1 && r->key.len == 33))
        return "a public key has 32 bytes (Ed25519) or 33 bytes (secp256k1)";
    if (r->sequence > RECORD_SEQUENCE_MAX || r->link_sequence > RECORD_SEQUENCE_MAX ||
        r->mark.floor < 0)
        return "a number is out of range";
    const struct signable *last = &r->mark.last;
    if (last->step != STEP_NONE)
        return signable_problem(last);
    bool is_empty = last->height == 0 && last->round == 0 &&
                    signable_same_but_time(last, &nothing) &&
                    timestamp_equal(&last->timestamp, &nothing.timestamp);
    return is_empty ? NULL : "step none is for a state in which nothing was signed";
}

void record_unlink(struct record *r)
{
    r->link_sequence = 0;
    memset(r->link_mac, 0, sizeof r->link_mac);
}

/* ---- writing ----------------------------------------------------------------------------------
 */

static void put_number(struct writer *w, int64_t v)
{
    uint8_t digits[20];
    size_t at = sizeof digits;
    uint64_t rest = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    do
        digits[--at] = (uint8_t)('0' + rest % 10);
    while ((rest /= 10) > 0);
    if (v < 0)
        digits[--at] = '-';
    write_bytes(w, bytes_of(digits + at, sizeof digits - at));
}

static void put_named_number(struct writer *w, const char *head, int64_t v)
{
    write_text(w, head);
    put_number(w, v);
}

static void put_named_hex(struct writer *w, const char *head, struct bytes b)
{
    char hex[HEX_KEY + 1];
    hex_upper(b, hex);
    write_text(w, head);
    write_text(w, hex);
}

static void put_signable(struct writer *w, const struct signable *s)
{
    put_named_number(w, ",\"height\":\"", s->height);
    put_named_number(w, "\",\"round\":", s->round);
    write_text(w, ",\"step\":\"");
    write_text(w, step_name(s->step));
    put_named_number(w, "\",\"pol_round\":", s->pol_round);
    put_named_hex(
        w, ",\"block_id\":{\"hash\":\"", bytes_of(s->block_id.hash, s->block_id.hash_len));
    put_named_number(w, "\",\"parts\":{\"total\":", s->block_id.parts_total);
    put_named_hex(w, ",\"hash\":\"", bytes_of(s->block_id.parts_hash, s->block_id.parts_hash_len));
    put_named_number(w, "\"}},\"timestamp\":{\"seconds\":\"", s->timestamp.seconds);
    put_named_number(w, "\",\"nanos\":", s->timestamp.nanos);
    write_text(w, "}");
}

static void put_link(struct writer *w, const struct record *r)
{
    if (r->link_sequence == 0)
        return;
    put_named_number(w, link_head, (int64_t)r->link_sequence);
    put_named_hex(w, "\",\"mac\":\"", bytes_of(r->link_mac, sizeof r->link_mac));
    write_text(w, "\"}");
}

static void put_line(struct writer *w, const char *head, const struct record *r)
{
    put_named_number(w, head, VERSION);
    if (head == slot_head) {
        put_named_number(w, ",\"sequence\":\"", (int64_t)r->sequence);
        write_text(w, "\"");
        put_link(w, r);
    }
    write_text(w, ",\"chain_id\":\"");
    write_text(w, r->chain_id);
    write_text(w, "\",\"key_type\":\"");
    write_text(w, key_type_name((enum key_type)r->key.type));
    put_named_hex(w, "\",\"public_key\":\"", bytes_of(r->key.bytes, r->key.len));
    put_named_number(w, "\",\"floor\":\"", r->mark.floor);
    write_text(w, r->burn_next ? "\",\"burn_next\":true" : "\",\"burn_next\":false");
    put_signable(w, &r->mark.last);

    uint8_t sum[SHA256_LEN];
    sha256(written(w), sum);
    put_named_hex(w, checksum_head, bytes_of(sum, sizeof sum));
    write_text(w, checksum_tail);
}

void slot_render(const struct record *r, uint8_t out[SLOT_SIZE])
{
    struct writer w = writer_of(out, SLOT_SIZE);
    put_line(&w, slot_head, r);
    memset(out + w.n, ' ', SLOT_SIZE - 1 - w.n);
    out[SLOT_SIZE - 1] = '\n';
}

struct bytes export_render(const struct record *r, uint8_t out[RECORD_LINE_MAX])
{
    struct writer w = writer_of(out, RECORD_LINE_MAX);
    put_line(&w, export_head, r);
    write_text(&w, "\n");
    return written(&w);
}

/* ---- reading ----------------------------------------------------------------------------------
 */

static void expect(struct reader *r, const char *text)
{
    struct bytes want = bytes_of_text(text);
    if (!bytes_equal(read_bytes(r, want.n), want))
        r->bad = true;
}

static struct bytes take_text(struct reader *r)
{
    size_t n = 0;
    while (n < r->n && r->p[n] != '"')
        n++;
    return read_bytes(r, n);
}

/* Looser than the written form (leading zeros, -0): rendering again and comparing catches the rest.
 */
static int64_t take_number(struct reader *r, int64_t min, int64_t max)
{
    bool negative = r->n > 0 && *r->p == '-';
    if (negative)
        read_u8(r);
    int64_t v = 0;
    size_t digits = 0;
    for (; !r->bad && r->n > 0 && *r->p >= '0' && *r->p <= '9'; digits++) {
        int digit = read_u8(r) - '0';
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, negative ? -digit : digit, &v))
            r->bad = true;
    }
    if (digits == 0 || v < min || v > max)
        r->bad = true;
    return r->bad ? 0 : v;
}

/* At most cap bytes; how many there were. */
static uint8_t take_hex(struct reader *r, uint8_t *out, size_t cap)
{
    struct bytes text = take_text(r);
    size_t n = text.n / 2;
    if (n > cap || (text.n > 0 && !hex_decode((const char *)text.p, text.n, out, n)))
        r->bad = true;
    return r->bad ? 0 : (uint8_t)n;
}

static enum step take_step(struct reader *r)
{
    struct bytes name = take_text(r);
    for (enum step step = STEP_NONE; step <= STEP_PRECOMMIT; step++)
        if (bytes_equal(name, bytes_of_text(step_name(step))))
            return step;
    r->bad = true;
    return STEP_NONE;
}

static uint32_t take_key_type(struct reader *r)
{
    struct bytes name = take_text(r);
    for (enum key_type type = KEY_ED25519; type <= KEY_SECP256K1; type++)
        if (bytes_equal(name, bytes_of_text(key_type_name(type))))
            return type;
    r->bad = true;
    return 0;
}

static void take_chain_id(struct reader *r, char out[CHAIN_ID_MAX + 1])
{
    struct bytes text = take_text(r);
    if (text.n < 1 || text.n > CHAIN_ID_MAX) {
        r->bad = true;
        return;
    }
    memcpy(out, text.p, text.n);
}

static bool take_bool(struct reader *r)
{
    bool is_true = r->n > 0 && *r->p == 't';
    expect(r, is_true ? "true" : "false");
    return is_true;
}

static void take_signable(struct reader *r, struct signable *s)
{
    expect(r, ",\"height\":\"");
    s->height = take_number(r, 0, INT64_MAX);
    expect(r, "\",\"round\":");
    s->round = (int32_t)take_number(r, 0, INT32_MAX);
    expect(r, ",\"step\":\"");
    s->step = take_step(r);
    expect(r, "\",\"pol_round\":");
    s->pol_round = (int32_t)take_number(r, -1, INT32_MAX);
    expect(r, ",\"block_id\":{\"hash\":\"");
    s->block_id.hash_len = take_hex(r, s->block_id.hash, HASH_LEN);
    expect(r, "\",\"parts\":{\"total\":");
    s->block_id.parts_total = (uint32_t)take_number(r, 0, UINT32_MAX);
    expect(r, ",\"hash\":\"");
    s->block_id.parts_hash_len = take_hex(r, s->block_id.parts_hash, HASH_LEN);
    expect(r, "\"}},\"timestamp\":{\"seconds\":\"");
    s->timestamp.seconds = take_number(r, INT64_MIN, INT64_MAX);
    expect(r, "\",\"nanos\":");
    s->timestamp.nanos = (int32_t)take_number(r, 0, INT32_MAX);
    expect(r, "}");
}

/* The one field that may be absent. */
static void take_link(struct reader *r, struct record *rec)
{
    size_t n = sizeof link_head - 1;
    if (r->n < n || memcmp(r->p, link_head, n) != 0)
        return;
    expect(r, link_head);
    rec->link_sequence = (uint64_t)take_number(r, 1, INT64_MAX);
    expect(r, "\",\"mac\":\"");
    if (take_hex(r, rec->link_mac, sizeof rec->link_mac) != sizeof rec->link_mac)
        r->bad = true;
    expect(r, "\"}");
}

/* Everything between the version and the checksum. */
static bool take_record(struct record *ret, const char *head, struct bytes body)
{
    struct record rec = {0};
    struct reader r = reader_of(body);
    if (head == slot_head) {
        expect(&r, ",\"sequence\":\"");
        rec.sequence = (uint64_t)take_number(&r, 0, INT64_MAX);
        expect(&r, "\"");
        take_link(&r, &rec);
    }
    expect(&r, ",\"chain_id\":\"");
    take_chain_id(&r, rec.chain_id);
    expect(&r, "\",\"key_type\":\"");
    rec.key.type = take_key_type(&r);
    expect(&r, "\",\"public_key\":\"");
    rec.key.len = take_hex(&r, rec.key.bytes, PUBLIC_KEY_MAX);
    expect(&r, "\",\"floor\":\"");
    rec.mark.floor = take_number(&r, 0, INT64_MAX);
    expect(&r, "\",\"burn_next\":");
    rec.burn_next = take_bool(&r);
    take_signable(&r, &rec.mark.last);
    if (!reader_done(&r) || record_problem(&rec) != NULL)
        return false;
    *ret = rec;
    return true;
}

static enum slot_form parse_line(struct record *ret, const char *head, struct bytes line)
{
    enum { TAIL = sizeof checksum_head - 1 + 2 * SHA256_LEN + sizeof checksum_tail - 1 };
    struct reader r = reader_of(line);
    expect(&r, head);
    if (r.bad || r.n < TAIL)
        return SLOT_DAMAGED;
    uint8_t want[SHA256_LEN], sum[SHA256_LEN];
    sha256(bytes_of(line.p, line.n - TAIL), sum);
    struct reader tail = reader_of(bytes_of(line.p + line.n - TAIL, TAIL));
    expect(&tail, checksum_head);
    if (take_hex(&tail, want, SHA256_LEN) != SHA256_LEN || memcmp(sum, want, SHA256_LEN) != 0)
        return SLOT_DAMAGED;
    if (take_number(&r, 0, INT32_MAX) != VERSION && !r.bad)
        return SLOT_OTHER_VERSION;
    if (r.bad || r.n < TAIL || !take_record(ret, head, bytes_of(r.p, r.n - TAIL)))
        return SLOT_DAMAGED;
    return SLOT_VALID;
}

enum slot_form slot_parse(struct record *ret, const uint8_t in[SLOT_SIZE])
{
    size_t n = SLOT_SIZE - 1;
    while (n > 0 && in[n - 1] == ' ')
        n--;
    struct record rec;
    enum slot_form form = parse_line(&rec, slot_head, bytes_of(in, n));
    if (form != SLOT_VALID)
        return form;
    uint8_t again[SLOT_SIZE];
    slot_render(&rec, again);
    if (memcmp(again, in, SLOT_SIZE) != 0)
        return SLOT_DAMAGED;
    *ret = rec;
    return SLOT_VALID;
}

bool export_parse(struct record *ret, struct bytes text)
{
    if (text.n > 0 && text.p[text.n - 1] == '\n')
        text.n--;
    struct record rec;
    if (text.n >= RECORD_LINE_MAX || parse_line(&rec, export_head, text) != SLOT_VALID)
        return false;
    uint8_t again[RECORD_LINE_MAX];
    if (!bytes_equal(bytes_of(again, export_render(&rec, again).n - 1), text))
        return false;
    *ret = rec;
    return true;
}
