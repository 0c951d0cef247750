/* Replies as whole frames; each is what CometBFT's own signer writes, but for the extension of a
 * vote. */
#include "privval/message.h"

#include "privval/parts.h"
#include "privval/protobuf.h"

enum { ERROR_TEXT_MAX = 512 };

/* The numbers of the oneof in Message. */
enum { REPLY_PUBKEY = 2, REPLY_VOTE = 4, REPLY_PROPOSAL = 6, REPLY_PING = 8, REPLY_RAW = 10 };

/* The numbers in P1's tendermint.crypto.PublicKey. P2 names the type instead. */
static const uint32_t P1_KEY_FIELDS[] = {[KEY_ED25519] = 1, [KEY_SECP256K1] = 2};

/* What an error reply holds where the signed thing would stand. */
static const struct request NOTHING = {.signable.timestamp.seconds = GO_ZERO_SECONDS};

struct bytes reply_ping(uint8_t *buf, size_t cap)
{
    struct writer w = writer_of(buf, cap);
    size_t frame = pb_begin_delimited(&w);
    pb_end(&w, pb_begin(&w, REPLY_PING));
    pb_end(&w, frame);
    return written(&w);
}

struct bytes reply_pubkey(
    enum wire_line line, const struct public_key *key, uint8_t *buf, size_t cap)
{
    if (key->type != KEY_ED25519 && key->type != KEY_SECP256K1)
        return (struct bytes){0};
    struct writer w = writer_of(buf, cap);
    struct bytes raw = bytes_of(key->bytes, key->len);
    size_t frame = pb_begin_delimited(&w);
    size_t reply = pb_begin(&w, REPLY_PUBKEY);
    switch (line) {
    case WIRE_P1: {
        size_t public_key = pb_begin(&w, 1);
        pb_write_bytes(&w, P1_KEY_FIELDS[key->type], raw);
        pb_end(&w, public_key);
        break;
    }
    case WIRE_P2:
        pb_write_bytes(&w, 3, raw);
        pb_write_bytes(&w, 4, bytes_of_text(key_type_name((enum key_type)key->type)));
        break;
    }
    pb_end(&w, reply);
    pb_end(&w, frame);
    return written(&w);
}

/* reply: NULL for none. The extension, field 9, is left out: nodes do not read it back, and those
 * before v0.40 close on a reply over 10,240 bytes. */
static void write_vote(
    struct writer *w, const struct request *req, const struct signed_reply *reply)
{
    const struct signable *s = &req->signable;
    size_t vote = pb_begin(w, 1);
    pb_write_int64(w, 1, req->type);
    pb_write_int64(w, 2, s->height);
    pb_write_int64(w, 3, s->round);
    parts_write_block_id(w, 4, &s->block_id);
    parts_write_timestamp(w, 5, reply != NULL ? &reply->timestamp : &s->timestamp);
    pb_write_bytes(w, 6, bytes_of(req->validator_address, req->validator_address_len));
    pb_write_int64(w, 7, req->validator_index);
    if (reply != NULL)
        pb_write_bytes(w, 8, bytes_of(reply->signature, SIGNATURE_LEN));
    if (reply != NULL && reply->has_extension_signature)
        pb_write_bytes(w, 10, bytes_of(reply->extension_signature, SIGNATURE_LEN));
    pb_end(w, vote);
}

static void write_proposal(
    struct writer *w, const struct request *req, const struct signed_reply *reply)
{
    const struct signable *s = &req->signable;
    size_t proposal = pb_begin(w, 1);
    pb_write_int64(w, 1, req->type);
    pb_write_int64(w, 2, s->height);
    pb_write_int64(w, 3, s->round);
    pb_write_int64(w, 4, s->pol_round);
    parts_write_block_id(w, 5, &s->block_id);
    parts_write_timestamp(w, 6, reply != NULL ? &reply->timestamp : &s->timestamp);
    if (reply != NULL)
        pb_write_bytes(w, 7, bytes_of(reply->signature, SIGNATURE_LEN));
    pb_end(w, proposal);
}

static uint32_t reply_field(enum request_kind kind)
{
    switch (kind) {
    case REQUEST_PUBKEY:
        return REPLY_PUBKEY;
    case REQUEST_VOTE:
        return REPLY_VOTE;
    case REQUEST_PROPOSAL:
        return REPLY_PROPOSAL;
    case REQUEST_PING:
        return REPLY_PING;
    case REQUEST_RAW_BYTES:
        return REPLY_RAW;
    }
    return 0;
}

struct bytes reply_signed(enum wire_line line, const struct request *req,
    const struct signed_reply *reply, uint8_t *buf, size_t cap)
{
    (void)line; /* both lines agree here */
    struct writer w = writer_of(buf, cap);
    size_t frame = pb_begin_delimited(&w);
    size_t body = pb_begin(&w, reply_field(req->kind));
    switch (req->kind) {
    case REQUEST_VOTE:
        write_vote(&w, req, reply);
        break;
    case REQUEST_PROPOSAL:
        write_proposal(&w, req, reply);
        break;
    case REQUEST_RAW_BYTES:
        pb_write_bytes(&w, 1, bytes_of(reply->signature, SIGNATURE_LEN));
        break;
    case REQUEST_PUBKEY:
    case REQUEST_PING:
        w.bad = true; /* nothing in them is signed */
        break;
    }
    pb_end(&w, body);
    pb_end(&w, frame);
    return written(&w);
}

/* Cut between characters where the text is UTF-8. */
static struct bytes error_text(const char *text)
{
    struct bytes b = bytes_of_text(text);
    if (b.n <= ERROR_TEXT_MAX)
        return b;
    b.n = ERROR_TEXT_MAX;
    while (b.n > 0 && (b.p[b.n] & 0xc0) == 0x80)
        b.n--;
    return b;
}

/* RemoteSignerError: its presence alone is what makes the node see a refusal. */
static void write_error(struct writer *w, uint32_t field, int code, const char *text)
{
    size_t error = pb_begin(w, field);
    pb_write_int64(w, 1, code);
    pb_write_bytes(w, 2, error_text(text));
    pb_end(w, error);
}

struct bytes reply_error(enum wire_line line, const struct request *req, int code, const char *text,
    uint8_t *buf, size_t cap)
{
    if (req->kind == REQUEST_PING)
        return reply_ping(buf, cap); /* has no place for an error */
    struct writer w = writer_of(buf, cap);
    size_t frame = pb_begin_delimited(&w);
    size_t body = pb_begin(&w, reply_field(req->kind));
    if (req->kind == REQUEST_VOTE)
        write_vote(&w, &NOTHING, NULL);
    else if (req->kind == REQUEST_PROPOSAL)
        write_proposal(&w, &NOTHING, NULL);
    else if (req->kind == REQUEST_PUBKEY && line == WIRE_P1)
        pb_end(&w, pb_begin(&w, 1)); /* not nullable there */
    write_error(&w, 2, code, text);
    pb_end(&w, body);
    pb_end(&w, frame);
    return written(&w);
}
