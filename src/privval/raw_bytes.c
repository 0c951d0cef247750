/* What may be signed as raw bytes, and how Celestia wraps it. */
#include "privval/sign_bytes.h"

#include "privval/protobuf.h"

static const char CELESTIA_PREFIX[] = "COMET::RAW_BYTES::SIGN";
static const char NOISE_PREFIX[] = "noise-libp2p-static-key:";
enum { SECRET_CONNECTION_CHALLENGE_LEN = 32 };

static bool starts_with(struct bytes value, const char *text)
{
    struct bytes prefix = bytes_of_text(text);
    return value.n >= prefix.n && bytes_equal(bytes_of(value.p, prefix.n), prefix);
}

/* Whether CanonicalVote, CanonicalProposal or CanonicalVoteExtension has this field with this wire
 * type. The three (and pol_round as a fixed64, as it was up to v0.33) are taken as one: that
 * refuses more, and nothing has to be told apart. */
static bool is_canonical_field(const struct pb_field *f)
{
    switch (f->number) {
    case 1: /* type, or extension */
        return f->wire == PB_VARINT || f->wire == PB_LEN;
    case 2: /* height */
    case 3: /* round */
        return f->wire == PB_FIXED64;
    case 4: /* pol_round, or block_id, or an extension's chain_id */
        return f->wire == PB_VARINT || f->wire == PB_FIXED64 || f->wire == PB_LEN;
    case 5: /* block_id, or a vote's timestamp */
    case 6: /* timestamp, or a vote's chain_id */
    case 7: /* a proposal's chain_id */
        return f->wire == PB_LEN;
    default:
        return false;
    }
}

/* A verifier compares with bytes that the canonical encoder wrote, so only those are dangerous.
 * Every message it can write has fields of these numbers and types only; which of them, in what
 * order, how often and holding what is not looked at. */
static bool holds_canonical_fields_only(struct bytes message)
{
    struct reader r = reader_of(message);
    struct pb_field f;
    while (pb_next(&r, &f))
        if (!is_canonical_field(&f))
            return false;
    return !r.bad;
}

static bool is_length_prefixed_canonical(struct bytes value)
{
    struct reader r = reader_of(value);
    uint64_t n = pb_read_varint(&r);
    return !r.bad && n == r.n && holds_canonical_fields_only(bytes_of(r.p, r.n));
}

const char *raw_bytes_problem(struct bytes value)
{
    /* CometBFT signs the empty value, and no canonical message is that short: its length comes
     * first. */
    if (value.n == 0)
        return NULL;
    if (value.n == SECRET_CONNECTION_CHALLENGE_LEN)
        return "32 bytes could be the challenge of a SecretConnection handshake";
    if (starts_with(value, NOISE_PREFIX))
        return "the bytes begin like the signature payload of a noise handshake";
    if (starts_with(value, CELESTIA_PREFIX))
        return "the bytes begin like Celestia's signed raw bytes";
    if (is_length_prefixed_canonical(value) || holds_canonical_fields_only(value))
        return "the bytes could be the sign-bytes of a vote, a proposal or a vote extension";
    return NULL;
}

/* Why these bytes are never canonical ones, whatever the node puts into them: canonical bytes begin
 * with their length. 'C' (0x43) would be a length of 67, and the 'O' (0x4f) behind it the first
 * tag: field 9 with wire type 7. There is no wire type 7. Nor do they begin like a noise payload,
 * and they are longer than a SecretConnection challenge. */
struct bytes celestia_sign_bytes(
    const char *chain_id, struct bytes raw, struct bytes unique_id, uint8_t *buf, size_t cap)
{
    struct writer w = writer_of(buf, cap);
    write_text(&w, CELESTIA_PREFIX);
    size_t request = pb_begin_delimited(&w);
    pb_write_bytes(&w, 1, bytes_of_text(chain_id));
    pb_write_bytes(&w, 2, raw);
    pb_write_bytes(&w, 3, unique_id);
    pb_end(&w, request);
    return written(&w);
}
