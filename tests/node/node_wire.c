/* Privval messages from the node's side, after CometBFT's proto files (proto/tendermint/privval,
 * types; proto/cometbft/privval/v1). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "crypto/hash.h"
#include "node.h"

/* ---- writing protobuf ---- */

static void put_varint(struct writer *w, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        write_u8(w, (uint8_t)(v | 0x80));
    write_u8(w, (uint8_t)v);
}

static void put_tag(struct writer *w, unsigned field, unsigned wire)
{
    put_varint(w, (uint64_t)field << 3 | wire);
}

/* Zero is left out, as proto3 demands. */
static void put_int(struct writer *w, unsigned field, int64_t v)
{
    if (v == 0)
        return;
    put_tag(w, field, 0);
    put_varint(w, (uint64_t)v);
}

static void put_fixed64(struct writer *w, unsigned field, int64_t v)
{
    if (v == 0)
        return;
    put_tag(w, field, 1);
    write_u64le(w, (uint64_t)v);
}

static void put_bytes(struct writer *w, unsigned field, struct bytes b)
{
    if (b.n == 0)
        return;
    put_tag(w, field, 2);
    put_varint(w, b.n);
    write_bytes(w, b);
}

/* Puts the length of everything behind mark in front of it. */
static void close_length(struct writer *w, size_t mark)
{
    uint8_t raw[10];
    struct writer prefix = writer_of(raw, sizeof raw);
    size_t n = w->n - mark;
    put_varint(&prefix, n);
    write_bytes(w, written(&prefix)); /* makes room */
    if (w->bad)
        return;
    memmove(w->buf + mark + prefix.n, w->buf + mark, n);
    memcpy(w->buf + mark, raw, prefix.n);
}

/* A sub-message: everything written between open and close_length. */
static size_t open_message(struct writer *w, unsigned field)
{
    put_tag(w, field, 2);
    return w->n;
}

static void put_block_id(struct writer *w, unsigned field, const struct block_id *id)
{
    size_t outer = open_message(w, field);
    put_bytes(w, 1, bytes_of(id->hash, id->hash_len));
    size_t parts = open_message(w, 2);
    put_int(w, 1, id->parts_total);
    put_bytes(w, 2, bytes_of(id->parts_hash, id->parts_hash_len));
    close_length(w, parts);
    close_length(w, outer);
}

static void put_timestamp(struct writer *w, unsigned field, struct timestamp t)
{
    size_t mark = open_message(w, field);
    put_int(w, 1, t.seconds);
    put_int(w, 2, t.nanos);
    close_length(w, mark);
}

static int64_t type_of(enum step step)
{
    return step == STEP_PREVOTE ? 1 : step == STEP_PRECOMMIT ? 2 : 32;
}

static void put_vote(struct writer *w, enum wire_line line, const struct node_request *req)
{
    static const uint8_t made_up[ADDRESS_LEN] = {0x17, 0x2a, 0x01};
    struct bytes address = req->validator_address;
    const struct signable *s = &req->signable;
    size_t message = open_message(w, 3);
    size_t vote = open_message(w, 1);
    put_int(w, 1, type_of(s->step));
    put_int(w, 2, s->height);
    put_int(w, 3, s->round);
    put_block_id(w, 4, &s->block_id);
    put_timestamp(w, 5, s->timestamp);
    put_bytes(w, 6, address.n > 0 ? address : bytes_of(made_up, sizeof made_up));
    put_int(w, 7, req->validator_index);
    put_bytes(w, 9, req->extension);
    close_length(w, vote);
    put_bytes(w, 2, bytes_of_text(req->chain_id));
    if (line == WIRE_P2)
        put_int(w, 3, req->skip_extension);
    close_length(w, message);
}

static void put_proposal(struct writer *w, const struct node_request *req)
{
    const struct signable *s = &req->signable;
    size_t message = open_message(w, 5);
    size_t proposal = open_message(w, 1);
    put_int(w, 1, 32);
    put_int(w, 2, s->height);
    put_int(w, 3, s->round);
    put_int(w, 4, s->pol_round);
    put_block_id(w, 5, &s->block_id);
    put_timestamp(w, 6, s->timestamp);
    close_length(w, proposal);
    put_bytes(w, 2, bytes_of_text(req->chain_id));
    close_length(w, message);
}

static void put_celestia(struct writer *w, const struct node_request *req)
{
    put_bytes(w, 1, bytes_of_text(req->chain_id));
    put_bytes(w, 2, req->raw);
    put_bytes(w, 3, req->unique_id);
}

struct bytes node_encode(
    enum wire_line line, const struct node_request *req, uint8_t *buf, size_t cap)
{
    struct writer w = writer_of(buf, cap);
    size_t mark;
    switch (req->kind) {
    case NODE_PUBKEY:
        mark = open_message(&w, 1);
        put_bytes(&w, 1, bytes_of_text(req->chain_id));
        close_length(&w, mark);
        break;
    case NODE_VOTE:
        put_vote(&w, line, req);
        break;
    case NODE_PROPOSAL:
        put_proposal(&w, req);
        break;
    case NODE_PING:
        close_length(&w, open_message(&w, 7));
        break;
    case NODE_SIGN_BYTES:
        mark = open_message(&w, 9);
        put_bytes(&w, 1, req->raw);
        close_length(&w, mark);
        break;
    case NODE_CELESTIA:
        mark = open_message(&w, 9);
        put_celestia(&w, req);
        close_length(&w, mark);
        break;
    }
    close_length(&w, 0);
    return written(&w);
}

/* ---- canonical sign-bytes ---- */

static void put_canonical_block_id(struct writer *w, unsigned field, const struct block_id *id)
{
    if (id->hash_len > 0 || id->parts_total > 0 || id->parts_hash_len > 0)
        put_block_id(w, field, id);
}

static void put_canonical_vote(struct writer *w, const struct node_request *req)
{
    const struct signable *s = &req->signable;
    put_int(w, 1, type_of(s->step));
    put_fixed64(w, 2, s->height);
    put_fixed64(w, 3, s->round);
    put_canonical_block_id(w, 4, &s->block_id);
    put_timestamp(w, 5, s->timestamp);
    put_bytes(w, 6, bytes_of_text(req->chain_id));
}

static void put_canonical_proposal(struct writer *w, const struct node_request *req)
{
    const struct signable *s = &req->signable;
    put_int(w, 1, 32);
    put_fixed64(w, 2, s->height);
    put_fixed64(w, 3, s->round);
    put_int(w, 4, s->pol_round);
    put_canonical_block_id(w, 5, &s->block_id);
    put_timestamp(w, 6, s->timestamp);
    put_bytes(w, 7, bytes_of_text(req->chain_id));
}

static void put_canonical_extension(struct writer *w, const struct node_request *req)
{
    put_bytes(w, 1, req->extension);
    put_fixed64(w, 2, req->signable.height);
    put_fixed64(w, 3, req->signable.round);
    put_bytes(w, 4, bytes_of_text(req->chain_id));
}

struct bytes node_sign_bytes(
    const struct node_request *req, bool extension, uint8_t *buf, size_t cap)
{
    struct writer w = writer_of(buf, cap);
    size_t mark = 0;
    switch (req->kind) {
    case NODE_VOTE:
        if (extension)
            put_canonical_extension(&w, req);
        else
            put_canonical_vote(&w, req);
        break;
    case NODE_PROPOSAL:
        put_canonical_proposal(&w, req);
        break;
    case NODE_CELESTIA:
        write_text(&w, "COMET::RAW_BYTES::SIGN");
        mark = w.n;
        put_celestia(&w, req);
        break;
    case NODE_SIGN_BYTES:
        return req->raw;
    case NODE_PUBKEY:
    case NODE_PING:
        return (struct bytes){0};
    }
    close_length(&w, mark);
    return written(&w);
}

/* ---- reading protobuf ---- */

struct field {
    uint64_t number;
    uint64_t value;     /* varint */
    struct bytes bytes; /* length-delimited */
};

static uint64_t get_varint(struct reader *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        uint8_t b = read_u8(r);
        if (shift < 64)
            v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80)
            return v;
    }
    r->bad = true;
    return 0;
}

/* The next field; false at the end and for one that no reply of ours holds (then r->bad). */
static bool next(struct reader *r, struct field *f)
{
    *f = (struct field){0};
    if (r->n == 0 || r->bad)
        return false;
    uint64_t tag = get_varint(r);
    f->number = tag >> 3;
    if ((tag & 7) == 0)
        f->value = get_varint(r);
    else if ((tag & 7) == 2)
        f->bytes = read_bytes(r, get_varint(r));
    else
        r->bad = true;
    return !r->bad;
}

static bool get_signature(uint8_t out[SIGNATURE_LEN], struct bytes b, bool *has)
{
    if (b.n != 0 && b.n != SIGNATURE_LEN)
        return false;
    *has = b.n > 0;
    if (*has)
        memcpy(out, b.p, b.n);
    return true;
}

static bool get_error(struct node_reply *ret, struct bytes b)
{
    struct field f;
    struct reader r = reader_of(b);
    ret->is_error = true; /* its presence counts, even empty */
    while (next(&r, &f)) {
        if (f.number == 1)
            ret->error_code = (int64_t)f.value;
        else if (f.number == 2)
            snprintf(
                ret->error, sizeof ret->error, "%.*s", (int)f.bytes.n, (const char *)f.bytes.p);
    }
    return reader_done(&r);
}

static bool get_timestamp(struct node_reply *ret, struct bytes b)
{
    struct field f;
    struct reader r = reader_of(b);
    ret->has_timestamp = true;
    while (next(&r, &f)) {
        if (f.number == 1)
            ret->timestamp.seconds = (int64_t)f.value;
        else if (f.number == 2)
            ret->timestamp.nanos = (int32_t)f.value;
    }
    return reader_done(&r);
}

/* Vote and proposal differ in their numbers. */
static bool get_signed(
    struct node_reply *ret, struct bytes b, uint64_t time_field, uint64_t sig_field)
{
    struct field f;
    struct reader r = reader_of(b);
    bool ok = true;
    while (ok && next(&r, &f)) {
        if (f.number == time_field)
            ok = get_timestamp(ret, f.bytes);
        else if (f.number == sig_field)
            ok = get_signature(ret->signature, f.bytes, &ret->has_signature);
        else if (f.number == 10)
            ok = get_signature(ret->extension_signature, f.bytes, &ret->has_extension_signature);
    }
    return ok && reader_done(&r);
}

static bool set_key(struct public_key *key, enum key_type type, struct bytes b)
{
    if (b.n != (type == KEY_ED25519 ? 32 : 33))
        return false;
    key->type = type;
    key->len = (uint32_t)b.n;
    memcpy(key->bytes, b.p, b.n);
    return true;
}

static bool get_key_p1(struct node_reply *ret, struct bytes b)
{
    struct field f;
    struct reader r = reader_of(b);
    bool ok = true;
    while (ok && next(&r, &f))
        if (f.number == 1 || f.number == 2)
            ok = set_key(&ret->key, f.number == 1 ? KEY_ED25519 : KEY_SECP256K1, f.bytes);
    return ok && reader_done(&r);
}

static bool get_pubkey(struct node_reply *ret, enum wire_line line, struct bytes b)
{
    struct field f;
    struct reader r = reader_of(b);
    struct bytes raw = {0}, type = {0};
    bool ok = true;
    while (ok && next(&r, &f)) {
        if (f.number == 2)
            ok = get_error(ret, f.bytes);
        else if (line == WIRE_P1 && f.number == 1)
            ok = get_key_p1(ret, f.bytes);
        else if (line == WIRE_P2 && f.number == 3)
            raw = f.bytes;
        else if (line == WIRE_P2 && f.number == 4)
            type = f.bytes;
    }
    if (ok && raw.n > 0)
        ok = set_key(&ret->key,
            bytes_equal(type, bytes_of_text("ed25519")) ? KEY_ED25519 : KEY_SECP256K1, raw);
    return ok && reader_done(&r);
}

static bool get_answer(struct node_reply *ret, struct bytes b)
{
    struct field f;
    struct reader r = reader_of(b);
    bool ok = true;
    while (ok && next(&r, &f)) {
        if (f.number == 2)
            ok = get_error(ret, f.bytes);
        else if (f.number == 1 && ret->kind == NODE_VOTE)
            ok = get_signed(ret, f.bytes, 5, 8);
        else if (f.number == 1 && ret->kind == NODE_PROPOSAL)
            ok = get_signed(ret, f.bytes, 6, 7);
        else if (f.number == 1)
            ok = get_signature(ret->signature, f.bytes, &ret->has_signature);
    }
    return ok && reader_done(&r);
}

bool node_decode(struct node_reply *ret, enum wire_line line, struct bytes frame, struct err *err)
{
    static const enum node_kind kinds[] = {[2] = NODE_PUBKEY,
        [4] = NODE_VOTE,
        [6] = NODE_PROPOSAL,
        [8] = NODE_PING,
        [10] = NODE_SIGN_BYTES};
    struct reader r = reader_of(frame);
    struct field f;
    struct node_reply reply = {0};
    if (get_varint(&r) != r.n || !next(&r, &f) || !reader_done(&r))
        return err_set(err, "the signer's reply is no privval message");
    if (f.number >= sizeof kinds / sizeof kinds[0] || kinds[f.number] == 0)
        return err_set(err, "the signer's reply has the unexpected number %u", (unsigned)f.number);
    reply.kind = kinds[f.number];
    if (reply.kind == NODE_SIGN_BYTES && line == WIRE_P1)
        reply.kind = NODE_CELESTIA;
    if (reply.kind == NODE_PUBKEY ? !get_pubkey(&reply, line, f.bytes)
                                  : !get_answer(&reply, f.bytes))
        return err_set(err, "the signer's reply %u cannot be decoded", (unsigned)f.number);
    *ret = reply;
    return true;
}

/* ---- judging ---- */

static size_t room_for(const struct node_request *req)
{
    return req->extension.n + req->raw.n + req->unique_id.n + NODE_REQUEST_OVERHEAD;
}

static bool verify(const struct node_request *req, bool extension, const struct public_key *key,
    const uint8_t sig[SIGNATURE_LEN], struct err *err)
{
    size_t cap = room_for(req);
    uint8_t *buf = malloc(cap);
    bool ok = buf != NULL && public_key_verify(key, node_sign_bytes(req, extension, buf, cap), sig);
    free(buf);
    return ok || err_set(err, "bad %s signature at %lld/%d/%s",
                     extension ? "extension" : "consensus", (long long)req->signable.height,
                     (int)req->signable.round, step_name(req->signable.step));
}

bool node_check(const struct node_request *req, const struct node_reply *reply,
    const struct public_key *key, struct err *err)
{
    if (reply->kind != req->kind)
        return err_set(err, "the reply is of another kind than the request");
    if (reply->is_error)
        return err_set(err, "the signer refused: %s", reply->error);
    if (req->kind == NODE_PING || req->kind == NODE_PUBKEY)
        return true;
    if (!reply->has_signature)
        return err_set(err, "the reply holds no signature");
    struct node_request judged = *req;
    if (req->kind == NODE_VOTE)
        judged.signable.timestamp = reply->timestamp;
    bool wants_extension = req->kind == NODE_VOTE && req->signable.step == STEP_PRECOMMIT &&
                           !block_id_is_nil(&req->signable.block_id) && !req->skip_extension;
    if (reply->has_extension_signature != wants_extension)
        return err_set(
            err, "an extension signature is %s", wants_extension ? "missing" : "out of place");
    return verify(&judged, false, key, reply->signature, err) &&
           (!wants_extension || verify(&judged, true, key, reply->extension_signature, err));
}

struct signable node_signable(int64_t height, int32_t round, enum step step)
{
    uint64_t now = clock_realtime_us();
    struct signable s = {.height = height, .round = round, .step = step};
    s.pol_round = step == STEP_PROPOSAL ? -1 : 0;
    s.timestamp.seconds = (int64_t)(now / 1000000);
    s.timestamp.nanos = (int32_t)(now % 1000000 * 1000);
    s.block_id.parts_total = 1;
    s.block_id.hash_len = s.block_id.parts_hash_len = HASH_LEN;
    sha256(bytes_of(&height, sizeof height), s.block_id.hash);
    sha256(bytes_of(s.block_id.hash, HASH_LEN), s.block_id.parts_hash);
    return s;
}

bool node_ask(struct node_conn *c, enum wire_line line, const struct node_request *req,
    uint64_t deadline, struct node_reply *ret, struct err *err)
{
    size_t cap = room_for(req);
    uint8_t *buf = malloc(cap);
    struct bytes reply;
    bool sent = buf != NULL && node_send(c, node_encode(line, req, buf, cap), err);
    free(buf);
    return sent && node_receive(c, &reply, deadline, err) && node_decode(ret, line, reply, err);
}
