#include "crypto/merlin.h"

#include <sodium.h>
#include <string.h>

/* ---- keccak-f[1600] (FIPS 202, section 3) ---- */

static uint64_t rotate(uint64_t v, unsigned by)
{
    return by == 0 ? v : v << by | v >> (64 - by);
}

/* iota's constants are the output of an 8-bit shift register (FIPS 202, algorithm 5): bit 2^j - 1
 * of round i is the register's output number 7i + j. */
static uint64_t round_constant(uint8_t *lfsr)
{
    uint64_t constant = 0;
    for (unsigned j = 0; j < 7; j++) {
        if ((*lfsr & 1) != 0)
            constant |= UINT64_C(1) << ((1U << j) - 1);
        *lfsr = (uint8_t)(*lfsr << 1 ^ ((*lfsr >> 7) * 0x71));
    }
    return constant;
}

static void keccak_round(uint64_t a[25], uint64_t constant)
{
    uint64_t c[5], row[5];
    /* theta */
    for (unsigned x = 0; x < 5; x++)
        c[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
    for (unsigned i = 0; i < 25; i++)
        a[i] ^= c[(i + 4) % 5] ^ rotate(c[(i + 1) % 5], 1);

    /* rho and pi: each lane moves to the place of the next and turns by 1, 3, 6, ... bits */
    uint64_t lane = a[1];
    for (unsigned t = 0, x = 1, y = 0; t < 24; t++) {
        unsigned next_y = (2 * x + 3 * y) % 5;
        x = y;
        y = next_y;
        uint64_t old = a[x + 5 * y];
        a[x + 5 * y] = rotate(lane, (t + 1) * (t + 2) / 2 % 64);
        lane = old;
    }

    /* chi */
    for (unsigned y = 0; y < 25; y += 5) {
        memcpy(row, a + y, sizeof row);
        for (unsigned x = 0; x < 5; x++)
            a[y + x] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5]);
    }
    a[0] ^= constant; /* iota */
    sodium_memzero(c, sizeof c);
    sodium_memzero(row, sizeof row);
}

static void keccak_f1600(uint8_t state[200])
{
    uint64_t a[25];
    struct reader r = reader_of(bytes_of(state, 200));
    for (unsigned i = 0; i < 25; i++)
        a[i] = read_u64le(&r);
    uint8_t lfsr = 1;
    for (unsigned i = 0; i < 24; i++)
        keccak_round(a, round_constant(&lfsr));
    struct writer w = writer_of(state, 200);
    for (unsigned i = 0; i < 25; i++)
        write_u64le(&w, a[i]);
    sodium_memzero(a, sizeof a);
}

/* ---- STROBE-128 (strobe.sourceforge.io/specs, v1.0.2, section 6) ---- */

enum { STROBE_RATE = 166 };
enum { FLAG_I = 1, FLAG_A = 2, FLAG_C = 4, FLAG_M = 16 };

static void strobe_run_f(struct merlin *m)
{
    m->state[m->pos] ^= m->pos_begin;
    m->state[m->pos + 1] ^= 0x04;
    m->state[STROBE_RATE + 1] ^= 0x80;
    keccak_f1600(m->state);
    m->pos = 0;
    m->pos_begin = 0;
}

static void strobe_absorb(struct merlin *m, struct bytes data)
{
    for (size_t i = 0; i < data.n; i++) {
        m->state[m->pos++] ^= data.p[i];
        if (m->pos == STROBE_RATE)
            strobe_run_f(m);
    }
}

/* PRF output is taken out of the state and replaced by zeros, so that it cannot be computed again.
 */
static void strobe_squeeze(struct merlin *m, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = m->state[m->pos];
        m->state[m->pos++] = 0;
        if (m->pos == STROBE_RATE)
            strobe_run_f(m);
    }
}

static void strobe_begin(struct merlin *m, uint8_t flags)
{
    uint8_t header[2] = {m->pos_begin, flags};
    m->pos_begin = (uint8_t)(m->pos + 1);
    strobe_absorb(m, bytes_of(header, sizeof header));
    if ((flags & FLAG_C) != 0 && m->pos != 0)
        strobe_run_f(m);
}

/* ---- Merlin ---- */

/* meta-AD(label), and as part of the same operation the length of what follows. */
static void merlin_label(struct merlin *m, const char *label, size_t n)
{
    uint8_t length[4];
    struct writer w = writer_of(length, sizeof length);
    write_u32le(&w, (uint32_t)n);
    strobe_begin(m, FLAG_M | FLAG_A);
    strobe_absorb(m, bytes_of_text(label));
    strobe_absorb(m, written(&w));
}

void merlin_init(struct merlin *m, const char *protocol_label)
{
    static const uint8_t domain[6] = {1, STROBE_RATE + 2, 1, 0, 1, 12 * 8};
    memset(m, 0, sizeof *m);
    memcpy(m->state, domain, sizeof domain);
    memcpy(m->state + sizeof domain, "STROBEv1.0.2", 12);
    keccak_f1600(m->state);
    strobe_begin(m, FLAG_M | FLAG_A);
    strobe_absorb(m, bytes_of_text("Merlin v1.0"));
    merlin_append(m, "dom-sep", bytes_of_text(protocol_label));
}

void merlin_append(struct merlin *m, const char *label, struct bytes data)
{
    merlin_label(m, label, data.n);
    strobe_begin(m, FLAG_A);
    strobe_absorb(m, data);
}

void merlin_challenge(struct merlin *m, const char *label, uint8_t *out, size_t n)
{
    merlin_label(m, label, n);
    strobe_begin(m, FLAG_I | FLAG_A | FLAG_C);
    strobe_squeeze(m, out, n);
}

void merlin_wipe(struct merlin *m)
{
    sodium_memzero(m, sizeof *m);
}
