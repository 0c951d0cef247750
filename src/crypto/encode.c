#include "crypto/encode.h"

#include <sodium.h>
#include <string.h>

/* libsodium's base64 takes the same time for every content: key files go through it. */
bool base64_encode(struct bytes in, char *out, size_t out_cap)
{
    if (in.n > SIZE_MAX / 2 ||
        sodium_base64_encoded_len(in.n, sodium_base64_VARIANT_ORIGINAL) > out_cap)
        return false;
    sodium_bin2base64(out, out_cap, in.p, in.n, sodium_base64_VARIANT_ORIGINAL);
    return true;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool base64_decode(struct bytes text, uint8_t *out, size_t out_cap, size_t *ret_n)
{
    while (text.n > 0 && is_space(text.p[0]))
        text = bytes_of(text.p + 1, text.n - 1);
    while (text.n > 0 && is_space(text.p[text.n - 1]))
        text.n--;
    size_t whole = text.n;
    while (text.n > 0 && whole - text.n < 2 && text.p[text.n - 1] == '=')
        text.n--;
    if (text.n < whole && whole % 4 != 0)
        return false;
    return sodium_base642bin(out, out_cap, (const char *)text.p, text.n, NULL, ret_n, NULL,
               sodium_base64_VARIANT_ORIGINAL_NO_PADDING) == 0;
}

/* ---- bech32 (BIP 173) ---- */

enum { BECH32_TEXT_MAX = 1023, BECH32_HRP_MAX = 83, BECH32_CHECKSUM_LEN = 6 };

static const char bech32_alphabet[] = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

static uint32_t bech32_step(uint32_t chk, uint8_t value)
{
    static const uint32_t generator[5] = {
        0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3};
    uint32_t top = chk >> 25;
    chk = (chk & 0x1ffffff) << 5 ^ value;
    for (int i = 0; i < 5; i++)
        if ((top >> i & 1) != 0)
            chk ^= generator[i];
    return chk;
}

static bool bech32_hrp_is_good(const char *hrp)
{
    size_t n = strnlen(hrp, BECH32_HRP_MAX + 1);
    if (n < 1 || n > BECH32_HRP_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if (hrp[i] < 33 || hrp[i] > 126 || (hrp[i] >= 'A' && hrp[i] <= 'Z'))
            return false;
    return true;
}

static uint32_t bech32_start(const char *hrp)
{
    uint32_t chk = 1;
    for (const char *c = hrp; *c != '\0'; c++)
        chk = bech32_step(chk, (uint8_t)(*c >> 5));
    chk = bech32_step(chk, 0);
    for (const char *c = hrp; *c != '\0'; c++)
        chk = bech32_step(chk, (uint8_t)(*c & 31));
    return chk;
}

static void bech32_put(struct writer *w, uint32_t *chk, uint32_t value)
{
    *chk = bech32_step(*chk, (uint8_t)(value & 31));
    write_u8(w, (uint8_t)bech32_alphabet[value & 31]);
}

static void bech32_put_data(struct writer *w, uint32_t *chk, struct bytes data)
{
    uint32_t acc = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < data.n; i++) {
        acc = (acc << 8 | data.p[i]) & 0xfff;
        for (bits += 8; bits >= 5; bits -= 5)
            bech32_put(w, chk, acc >> (bits - 5));
    }
    if (bits > 0)
        bech32_put(w, chk, acc << (5 - bits));
}

bool bech32_encode(const char *hrp, struct bytes data, char *out, size_t out_cap)
{
    if (!bech32_hrp_is_good(hrp) || data.n > BECH32_TEXT_MAX)
        return false;
    size_t n = strlen(hrp) + 1 + (data.n * 8 + 4) / 5 + BECH32_CHECKSUM_LEN;
    if (n > BECH32_TEXT_MAX || n >= out_cap)
        return false;
    uint32_t chk = bech32_start(hrp);

    struct writer w = writer_of(out, out_cap);
    write_text(&w, hrp);
    write_u8(&w, '1');
    bech32_put_data(&w, &chk, data);
    uint32_t sum = chk;
    for (int i = 0; i < BECH32_CHECKSUM_LEN; i++)
        sum = bech32_step(sum, 0);
    sum ^= 1;
    for (int i = 0; i < BECH32_CHECKSUM_LEN; i++)
        bech32_put(&w, &chk, sum >> 5 * (5 - i));
    write_u8(&w, '\0');
    return !w.bad;
}

/* The text in lower case; false when both cases stand in it, or it is too long. */
static bool bech32_lower(const char *text, char lower[BECH32_TEXT_MAX + 1])
{
    bool has_lower = false, has_upper = false;
    size_t n = strnlen(text, BECH32_TEXT_MAX + 1);
    if (n > BECH32_TEXT_MAX)
        return false;
    for (size_t i = 0; i <= n; i++) {
        bool is_upper = text[i] >= 'A' && text[i] <= 'Z';
        has_upper |= is_upper;
        has_lower |= text[i] >= 'a' && text[i] <= 'z';
        lower[i] = (char)(is_upper ? text[i] - 'A' + 'a' : text[i]);
    }
    return !(has_lower && has_upper);
}

/* Groups of five bits to bytes; the rest must be padding of fewer than five zero bits. */
static bool bech32_bytes(const char *groups, size_t n, struct writer *out)
{
    uint32_t acc = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < n; i++) {
        acc = (acc << 5 | (uint32_t)(strchr(bech32_alphabet, groups[i]) - bech32_alphabet)) & 0xfff;
        bits += 5;
        if (bits >= 8) {
            bits -= 8;
            write_u8(out, (uint8_t)(acc >> bits));
        }
    }
    return bits < 5 && (acc & ((1U << bits) - 1)) == 0 && !out->bad;
}

bool bech32_decode(
    const char *text, char *prefix, size_t prefix_cap, uint8_t *out, size_t out_cap, size_t *ret_n)
{
    char lower[BECH32_TEXT_MAX + 1];
    if (!bech32_lower(text, lower))
        return false;
    char *one = strrchr(lower, '1');
    if (one == NULL || (size_t)(one - lower) >= prefix_cap)
        return false;
    *one = '\0';
    const char *data = one + 1;
    size_t n = strlen(data);
    if (!bech32_hrp_is_good(lower) || n < BECH32_CHECKSUM_LEN ||
        data[strspn(data, bech32_alphabet)] != '\0')
        return false;
    uint32_t chk = bech32_start(lower);
    for (size_t i = 0; i < n; i++)
        chk = bech32_step(chk, (uint8_t)(strchr(bech32_alphabet, data[i]) - bech32_alphabet));
    struct writer w = writer_of(out, out_cap);
    if (chk != 1 || !bech32_bytes(data, n - BECH32_CHECKSUM_LEN, &w))
        return false;
    memcpy(prefix, lower, (size_t)(one - lower) + 1);
    *ret_n = w.n;
    return true;
}

/* ---- base58 ---- */

static const char base58_alphabet[] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/* num = num * factor + add, where num has *n digits of the given base, lowest first. */
static bool digits_mul_add(
    uint8_t *num, size_t *n, size_t cap, uint32_t base, uint32_t factor, uint32_t add)
{
    uint32_t carry = add;
    for (size_t i = 0; i < *n; i++) {
        carry += num[i] * factor;
        num[i] = (uint8_t)(carry % base);
        carry /= base;
    }
    for (; carry > 0; carry /= base) {
        if (*n == cap)
            return false;
        num[(*n)++] = (uint8_t)(carry % base);
    }
    return true;
}

static void reverse(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        uint8_t low = p[i];
        p[i] = p[n - 1 - i];
        p[n - 1 - i] = low;
    }
}

/* The digits are worked out in the output buffer itself, lowest first; then it is turned round. */
bool base58_encode(struct bytes in, char *out, size_t out_cap)
{
    uint8_t *digits = (uint8_t *)out;
    size_t zeros = 0, n = 0;
    while (zeros < in.n && in.p[zeros] == 0)
        zeros++;
    for (size_t i = zeros; i < in.n; i++)
        if (!digits_mul_add(digits, &n, out_cap, 58, 256, in.p[i]))
            return false;
    if (out_cap - n <= zeros)
        return false;
    memset(digits + n, 0, zeros);
    n += zeros;
    reverse(digits, n);
    for (size_t i = 0; i < n; i++)
        out[i] = base58_alphabet[digits[i]];
    out[n] = '\0';
    return true;
}

bool base58_decode(const char *text, size_t text_n, uint8_t *out, size_t out_cap, size_t *ret_n)
{
    size_t zeros = 0, n = 0;
    while (zeros < text_n && text[zeros] == '1')
        zeros++;
    for (size_t i = zeros; i < text_n; i++) {
        const char *at = memchr(base58_alphabet, text[i], 58);
        if (at == NULL ||
            !digits_mul_add(out, &n, out_cap, 256, 58, (uint32_t)(at - base58_alphabet)))
            return false;
    }
    if (out_cap - n < zeros)
        return false;
    memset(out + n, 0, zeros);
    n += zeros;
    reverse(out, n);
    *ret_n = n;
    return true;
}
