#include "session/serve.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static enum wire_line line_of(const struct serve *s)
{
    return (enum wire_line)s->validator->line;
}

/* Celestia's raw-bytes request names its chain; the one of P2 has no field for it. */
static bool names_a_chain(const struct serve *s)
{
    switch (s->request.kind) {
    case REQUEST_PING:
        return false;
    case REQUEST_RAW_BYTES:
        return line_of(s) == WIRE_P1;
    case REQUEST_PUBKEY:
    case REQUEST_VOTE:
    case REQUEST_PROPOSAL:
        return true;
    }
    return true;
}

/* true: nothing here speaks against the request. */
static bool is_acceptable(const struct serve *s, struct err *why)
{
    const struct request *r = &s->request;
    if (r->problem != NULL)
        return err_set(why, "%s", r->problem);
    if (names_a_chain(s) && strcmp(r->chain_id, s->chain->id) != 0)
        return err_set(why, "chain ID error: got unexpected chain ID: %s (expecting: %s)",
            r->chain_id, s->chain->id);
    bool is_consensus = r->kind == REQUEST_VOTE || r->kind == REQUEST_PROPOSAL;
    int64_t max = s->validator->max_height;
    if (is_consensus && max >= 0 && r->signable.height > max)
        return err_set(why,
            "requested signature above stop height: attempted to sign at height %" PRId64
            " which is greater than %" PRId64,
            r->signable.height, max);
    if (r->kind == REQUEST_RAW_BYTES && !s->chain->sign_raw_bytes)
        return err_set(why,
            "raw bytes are not signed for chain %s: sign_raw_bytes = true in its [[chain]] section "
            "of "
            "tmkms.toml would allow it",
            s->chain->id);
    return true;
}

static void fill_sign(const struct serve *s, struct sign_request *sign, struct bytes blob[2])
{
    const struct request *r = &s->request;
    memset(sign, 0, sizeof *sign);
    if (r->kind == REQUEST_RAW_BYTES) {
        sign->kind = line_of(s) == WIRE_P1 ? SIGN_RAW_CELESTIA : SIGN_RAW_P2;
        sign->unique_id_n = (uint32_t)r->unique_id.n;
        blob[0] = r->raw_bytes;
        blob[1] = r->unique_id;
    } else {
        sign->kind = SIGN_VOTE_OR_PROPOSAL;
        sign->signable = r->signable;
        sign->skip_extension = r->skip_extension;
        blob[0] = r->extension;
        blob[1] = bytes_of(NULL, 0);
    }
    sign->blob_n = (uint32_t)(blob[0].n + blob[1].n);
}

enum serve_verdict serve_request(struct serve *s, struct bytes frame, uint8_t buf[REPLY_MAX],
    struct bytes *ret_reply, struct sign_request *ret_sign, struct bytes ret_blob[2],
    struct err *why)
{
    if (!request_parse(&s->request, line_of(s), frame)) {
        err_set(why, "malformed protocol message (version mismatch?)");
        return SERVE_CLOSE;
    }
    if (!is_acceptable(s, why)) {
        *ret_reply = reply_error(line_of(s), &s->request, 0, why->text, buf, REPLY_MAX);
        return SERVE_REFUSE;
    }
    switch (s->request.kind) {
    case REQUEST_PING:
        *ret_reply = reply_ping(buf, REPLY_MAX);
        return SERVE_REPLY;
    case REQUEST_PUBKEY:
        *ret_reply = reply_pubkey(line_of(s), &s->chain->key, buf, REPLY_MAX);
        return SERVE_REPLY;
    case REQUEST_VOTE:
    case REQUEST_PROPOSAL:
    case REQUEST_RAW_BYTES:
        fill_sign(s, ret_sign, ret_blob);
        return SERVE_SIGN;
    }
    err_set(why, "unknown request");
    return SERVE_CLOSE;
}

static struct bytes signed_frame(
    const struct serve *s, const struct sign_reply *reply, uint8_t *buf)
{
    struct signed_reply out = {.timestamp = reply->timestamp,
        .has_extension_signature = reply->has_extension_signature != 0};
    memcpy(out.signature, reply->signature, sizeof out.signature);
    memcpy(out.extension_signature, reply->extension_signature, sizeof out.extension_signature);
    return reply_signed(line_of(s), &s->request, &out, buf, REPLY_MAX);
}

struct bytes serve_reply(
    const struct serve *s, const struct sign_reply *reply, uint8_t buf[REPLY_MAX])
{
    /* The Rust tmkms's code and sentence, then why. */
    enum { CODE_REFUSED = 0, CODE_DOUBLE_SIGN = 2 };
    char text[128 + SIGN_REASON_MAX];
    switch ((enum sign_outcome)reply->outcome) {
    case SIGN_DONE:
    case SIGN_REPEATED:
        return signed_frame(s, reply, buf);
    case SIGN_REFUSED:
        break;
    case SIGN_DOUBLE:
        snprintf(text, sizeof text, "double signing requested at height: %" PRId64 " (%s)",
            s->request.signable.height, reply->reason);
        return reply_error(line_of(s), &s->request, CODE_DOUBLE_SIGN, text, buf, REPLY_MAX);
    }
    return reply_error(line_of(s), &s->request, CODE_REFUSED, reply->reason, buf, REPLY_MAX);
}
