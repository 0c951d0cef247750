/* Requests from the wire into struct request. */
#include "privval/message.h"

#include <assert.h>
#include <string.h>

#include "privval/canonical.h"
#include "privval/protobuf.h"

/* Length prefixes are read in their shortest form only: REQUEST_MAX fits three bytes. */
enum { FRAME_PREFIX_MAX = 3 };
static_assert(REQUEST_MAX < 1 << (7 * FRAME_PREFIX_MAX), "the limit needs a longer prefix");

/* Any length but 0 and 32 is kept as this, which signable_problem refuses. */
enum { HASH_LEN_WRONG = UINT8_MAX };

long request_frame_len(struct bytes stream)
{
    size_t body = 0;
    for (size_t i = 0; i < FRAME_PREFIX_MAX; i++) {
        if (i == stream.n)
            return 0;
        body |= (size_t)(stream.p[i] & 0x7f) << (7 * i);
        if (stream.p[i] >= 0x80)
            continue;
        size_t frame = i + 1 + body;
        return frame <= REQUEST_MAX && i + 1 == pb_varint_size(body) ? (long)frame : -1;
    }
    return -1;
}

/* The first problem is the one reported. */
static void refuse(struct request *req, const char *problem)
{
    if (req->problem == NULL)
        req->problem = problem;
}

static uint8_t read_hash(struct bytes hash, uint8_t out[HASH_LEN])
{
    memset(out, 0, HASH_LEN);
    if (hash.n == 0)
        return 0;
    if (hash.n != HASH_LEN)
        return HASH_LEN_WRONG;
    memcpy(out, hash.p, HASH_LEN);
    return HASH_LEN;
}

static bool read_part_set_header(struct block_id *ret, struct bytes in)
{
    struct reader r = reader_of(in);
    struct pb_field f;
    while (pb_next(&r, &f)) {
        switch (f.number) {
        case 1:
            ret->parts_total = pb_uint32(&r, &f);
            break;
        case 2:
            ret->parts_hash_len = read_hash(pb_bytes(&r, &f), ret->parts_hash);
            break;
        default:
            break;
        }
    }
    return !r.bad;
}

static bool read_block_id(struct block_id *ret, struct bytes in)
{
    struct reader r = reader_of(in);
    struct pb_field f;
    uint32_t seen = 0;
    while (pb_next(&r, &f)) {
        switch (f.number) {
        case 1:
            ret->hash_len = read_hash(pb_bytes(&r, &f), ret->hash);
            break;
        case 2:
            r.bad |= !read_part_set_header(ret, pb_once(&r, &f, &seen));
            break;
        default:
            break;
        }
    }
    return !r.bad;
}

static bool read_timestamp(struct timestamp *ret, struct bytes in)
{
    struct reader r = reader_of(in);
    struct pb_field f;
    *ret = (struct timestamp){0};
    while (pb_next(&r, &f)) {
        switch (f.number) {
        case 1:
            ret->seconds = pb_int64(&r, &f);
            break;
        case 2:
            ret->nanos = pb_int32(&r, &f);
            break;
        default:
            break;
        }
    }
    return !r.bad;
}

static void read_address(struct request *req, struct bytes address)
{
    memset(req->validator_address, 0, ADDRESS_LEN);
    req->validator_address_len = 0;
    if (address.n == 0)
        return;
    if (address.n != ADDRESS_LEN) {
        refuse(req, "the validator address is neither empty nor 20 bytes long");
        return;
    }
    memcpy(req->validator_address, address.p, ADDRESS_LEN);
    req->validator_address_len = ADDRESS_LEN;
}

static bool read_vote(struct request *req, struct bytes in)
{
    struct reader r = reader_of(in);
    struct pb_field f;
    uint32_t seen = 0;
    struct signable *s = &req->signable;
    while (pb_next(&r, &f)) {
        switch (f.number) {
        case 1:
            req->type = pb_int32(&r, &f);
            break;
        case 2:
            s->height = pb_int64(&r, &f);
            break;
        case 3:
            s->round = pb_int32(&r, &f);
            break;
        case 4:
            r.bad |= !read_block_id(&s->block_id, pb_once(&r, &f, &seen));
            break;
        case 5:
            r.bad |= !read_timestamp(&s->timestamp, pb_once(&r, &f, &seen));
            break;
        case 6:
            read_address(req, pb_bytes(&r, &f));
            break;
        case 7:
            req->validator_index = pb_int32(&r, &f);
            break;
        case 8:  /* an earlier signature */
        case 10: /* and one of the extension: replaced by ours */
            pb_bytes(&r, &f);
            break;
        case 9:
            req->extension = pb_bytes(&r, &f);
            break;
        default:
            break;
        }
    }
    return !r.bad;
}

static bool read_proposal(struct request *req, struct bytes in)
{
    struct reader r = reader_of(in);
    struct pb_field f;
    uint32_t seen = 0;
    struct signable *s = &req->signable;
    while (pb_next(&r, &f)) {
        switch (f.number) {
        case 1:
            req->type = pb_int32(&r, &f);
            break;
        case 2:
            s->height = pb_int64(&r, &f);
            break;
        case 3:
            s->round = pb_int32(&r, &f);
            break;
        case 4:
            s->pol_round = pb_int32(&r, &f);
            break;
        case 5:
            r.bad |= !read_block_id(&s->block_id, pb_once(&r, &f, &seen));
            break;
        case 6:
            r.bad |= !read_timestamp(&s->timestamp, pb_once(&r, &f, &seen));
            break;
        case 7: /* an earlier signature: replaced by ours */
            pb_bytes(&r, &f);
            break;
        default:
            break;
        }
    }
    return !r.bad;
}

static void check_extension(struct request *req)
{
    const struct signable *s = &req->signable;
    bool allowed = s->step == STEP_PRECOMMIT && !block_id_is_nil(&s->block_id);
    /* Also with P2's skip_extension_signing, where CometBFT v1.0.1 would sign: no honest node sends
     * one. */
    if (req->extension.n > 0 && !allowed)
        refuse(req, "only a precommit for a block may carry a vote extension");
}

static void check_vote(struct request *req)
{
    if (req->type == TYPE_PREVOTE)
        req->signable.step = STEP_PREVOTE;
    else if (req->type == TYPE_PRECOMMIT)
        req->signable.step = STEP_PRECOMMIT;
    else
        refuse(req, "the vote is neither a prevote (type 1) nor a precommit (type 2)");
    check_extension(req);
}

/* Printable, so that a foreign chain id can be named in a log. */
static void read_chain_id(struct request *req, struct bytes id)
{
    req->chain_id[0] = '\0';
    if (id.n == 0)
        refuse(req, "the chain id is empty");
    else if (id.n > CHAIN_ID_MAX)
        refuse(req, "the chain id is longer than 50 bytes");
    for (size_t i = 0; i < id.n; i++)
        if (id.p[i] < 0x20 || id.p[i] == 0x7f)
            refuse(req, "the chain id holds a control character");
    if (req->problem != NULL)
        return;
    memcpy(req->chain_id, id.p, id.n);
    req->chain_id[id.n] = '\0';
}

static bool read_pubkey_request(struct request *req, struct bytes in)
{
    struct reader r = reader_of(in);
    struct pb_field f;
    struct bytes chain_id = {0};
    while (pb_next(&r, &f))
        if (f.number == 1)
            chain_id = pb_bytes(&r, &f);
    read_chain_id(req, chain_id);
    return !r.bad;
}

/* SignVoteRequest and SignProposalRequest: the thing, the chain id and, in P2's vote, the skip
 * flag. */
static bool read_sign_request(struct request *req, enum wire_line line, struct bytes in)
{
    struct reader r = reader_of(in);
    struct pb_field f;
    uint32_t seen = 0;
    struct bytes thing = {0}, chain_id = {0};
    while (pb_next(&r, &f)) {
        if (f.number == 1)
            thing = pb_once(&r, &f, &seen);
        else if (f.number == 2)
            chain_id = pb_bytes(&r, &f);
        else if (f.number == 3 && line == WIRE_P2 && req->kind == REQUEST_VOTE)
            req->skip_extension = pb_bool(&r, &f);
    }
    if (r.bad)
        return false;
    req->signable.timestamp.seconds = GO_ZERO_SECONDS; /* when there is none */
    read_chain_id(req, chain_id);
    if (seen == 0) {
        refuse(req, "the request holds nothing to sign");
        return true;
    }
    if (req->kind == REQUEST_PROPOSAL) {
        req->signable.step = STEP_PROPOSAL; /* whatever its type field says, as in CometBFT */
        if (!read_proposal(req, thing))
            return false;
    } else {
        if (!read_vote(req, thing))
            return false;
        check_vote(req);
    }
    refuse(req, signable_problem(&req->signable));
    return true;
}

static bool read_ping(struct bytes in)
{
    struct reader r = reader_of(in);
    struct pb_field f;
    while (pb_next(&r, &f))
        continue;
    return !r.bad;
}

/* P2: SignBytesRequest{value=1}. */
static bool read_sign_bytes(struct request *req, struct bytes in)
{
    struct reader r = reader_of(in);
    struct pb_field f;
    while (pb_next(&r, &f))
        if (f.number == 1)
            req->raw_bytes = pb_bytes(&r, &f);
    return !r.bad;
}

/* P1, Celestia: SignRawBytesRequest{chain_id=1, raw_bytes=2, unique_id=3}, none of them empty. */
static bool read_sign_raw_bytes(struct request *req, struct bytes in)
{
    struct reader r = reader_of(in);
    struct pb_field f;
    struct bytes chain_id = {0};
    while (pb_next(&r, &f)) {
        if (f.number == 1)
            chain_id = pb_bytes(&r, &f);
        else if (f.number == 2)
            req->raw_bytes = pb_bytes(&r, &f);
        else if (f.number == 3)
            req->unique_id = pb_bytes(&r, &f);
    }
    read_chain_id(req, chain_id);
    if (req->raw_bytes.n == 0)
        refuse(req, "the raw bytes are empty");
    if (req->unique_id.n == 0)
        refuse(req, "the unique id is empty");
    return !r.bad;
}

/* The numbers of the oneof in Message; the even ones up to 10 are replies. */
enum {
    MESSAGE_PUBKEY = 1,
    MESSAGE_VOTE = 3,
    MESSAGE_PROPOSAL = 5,
    MESSAGE_PING = 7,
    MESSAGE_RAW = 9,
    MESSAGE_LAST = 10
};

static bool read_message(struct request *req, enum wire_line line, uint32_t number, struct bytes in)
{
    switch (number) {
    case MESSAGE_PUBKEY:
        req->kind = REQUEST_PUBKEY;
        return read_pubkey_request(req, in);
    case MESSAGE_VOTE:
        req->kind = REQUEST_VOTE;
        return read_sign_request(req, line, in);
    case MESSAGE_PROPOSAL:
        req->kind = REQUEST_PROPOSAL;
        return read_sign_request(req, line, in);
    case MESSAGE_PING:
        req->kind = REQUEST_PING;
        return read_ping(in);
    case MESSAGE_RAW:
        req->kind = REQUEST_RAW_BYTES;
        return line == WIRE_P2 ? read_sign_bytes(req, in) : read_sign_raw_bytes(req, in);
    default:
        return false;
    }
}

bool request_parse(struct request *ret, enum wire_line line, struct bytes frame)
{
    if (request_frame_len(frame) != (long)frame.n || frame.n == 0)
        return false;
    size_t prefix = 0;
    while (frame.p[prefix++] >= 0x80)
        continue;
    struct reader r = reader_of(bytes_of(frame.p + prefix, frame.n - prefix));
    struct pb_field f;
    uint32_t number = 0;
    struct bytes message = {0};
    while (pb_next(&r, &f)) {
        if (f.number > MESSAGE_LAST)
            continue;
        if (number != 0)
            return false; /* two messages in one */
        number = f.number;
        message = pb_bytes(&r, &f);
    }
    struct request req = {0};
    if (r.bad || !read_message(&req, line, number, message))
        return false;
    *ret = req;
    return true;
}
