#include "signer/answer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "privval/sign_bytes.h"
#include "signer/sign.h"

static void refuse(struct sign_reply *reply, const char *reason)
{
    reply->outcome = SIGN_REFUSED;
    snprintf(reply->reason, sizeof reply->reason, "%.*s", SIGN_REASON_MAX - 1, reason);
}

static void refuse_verdict(struct sign_reply *reply, enum guard_verdict verdict,
    const struct watermark *mark, const struct signable *next)
{
    refuse(reply, "");
    guard_explain(verdict, mark, next, reply->reason, sizeof reply->reason);
    if (verdict == GUARD_CONFLICT || verdict == GUARD_OTHER_BLOCK)
        reply->outcome = SIGN_DOUBLE;
}

/* An extension belongs to a precommit for a block, where it is signed even if empty, and nowhere
 * else. */
static bool has_extension(const struct sign_request *req)
{
    return req->signable.step == STEP_PRECOMMIT && !block_id_is_nil(&req->signable.block_id);
}

static void sign_extension(struct signer_chain *chain, const struct sign_request *req,
    struct bytes blob, struct sign_reply *reply)
{
    struct bytes msg =
        extension_sign_bytes(&req->signable, chain->id, blob, chain->scratch, SIGNER_SCRATCH);
    if (msg.n == 0)
        return;
    signing_key_sign(chain->key, msg, reply->extension_signature);
    reply->has_extension_signature = 1;
}

/* What keeps the store from being ahead of the parent's, in the parent's words: nothing is signed. */
static enum state_outcome refuse_pending(
    enum state_outcome outcome, struct sign_reply *reply, const struct err *why)
{
    if (outcome == STATE_PENDING)
        refuse(reply, why->text);
    return outcome;
}

/* After an invalid slot the first height that could be signed is given up: the lost record may have
 * been for it. */
static enum state_outcome burn_height(struct signer_chain *chain, const struct signable *next,
    struct sign_reply *reply, struct err *err)
{
    struct watermark burnt = *durable_watermark(state_current(chain->state));
    burnt.floor = next->height;
    const struct durable *token;
    enum state_outcome outcome = state_commit(chain->state, &burnt, &token, err);
    if (outcome != STATE_DURABLE)
        return refuse_pending(outcome, reply, err);
    refuse(reply, "");
    snprintf(reply->reason, sizeof reply->reason,
        "height %" PRId64 " is not signed: the state file had an invalid slot when it was opened; "
        "the next height will be",
        next->height);
    return outcome;
}

static void sign_into(struct signer_chain *chain, const struct sign_request *req, struct bytes blob,
    const struct durable *token, struct sign_reply *reply)
{
    sign_durable(chain->key, token, reply->signature);
    reply->timestamp = durable_watermark(token)->last.timestamp;
    if (has_extension(req) && !req->skip_extension)
        sign_extension(chain, req, blob, reply);
}

static enum state_outcome answer_new(struct signer_chain *chain, const struct sign_request *req,
    struct bytes blob, struct sign_reply *reply, struct err *err)
{
    if (state_burns_first(chain->state))
        return burn_height(chain, &req->signable, reply, err);
    const struct durable *token = state_current(chain->state);
    struct watermark after = {.floor = durable_watermark(token)->floor, .last = req->signable};
    enum state_outcome outcome = state_commit(chain->state, &after, &token, err);
    if (outcome != STATE_DURABLE)
        return refuse_pending(outcome, reply, err);
    reply->outcome = SIGN_DONE;
    sign_into(chain, req, blob, token, reply);
    return outcome;
}

static enum state_outcome answer_vote_or_proposal(struct signer_chain *chain,
    const struct sign_request *req, struct bytes blob, struct sign_reply *reply, struct err *err)
{
    if (blob.n > 0 && !has_extension(req)) {
        refuse(reply, "an extension belongs to a precommit for a block only");
        return STATE_DURABLE;
    }
    enum state_outcome outcome = state_settle(chain->state, err);
    if (outcome != STATE_DURABLE)
        return refuse_pending(outcome, reply, err);
    const struct durable *token = state_current(chain->state);
    const struct watermark *mark = durable_watermark(token);
    enum guard_verdict verdict = guard_check(mark, &req->signable, &chain->policy);
    if (verdict == GUARD_SIGN)
        return answer_new(chain, req, blob, reply, err);
    if (verdict == GUARD_REPEAT) {
        reply->outcome = SIGN_REPEATED;
        sign_into(chain, req, blob, token, reply);
    } else {
        refuse_verdict(reply, verdict, mark, &req->signable);
    }
    return outcome;
}

static void answer_raw(struct signer_chain *chain, const struct sign_request *req,
    struct bytes blob, struct sign_reply *reply)
{
    if (!chain->sign_raw_bytes) {
        refuse(reply,
            "raw bytes are not signed for this chain (sign_raw_bytes in its [[chain]] section)");
        return;
    }
    struct bytes msg = blob;
    if (req->kind == SIGN_RAW_CELESTIA) {
        struct bytes raw = bytes_of(blob.p, blob.n - req->unique_id_n);
        struct bytes id = bytes_of(blob.p + raw.n, req->unique_id_n);
        msg = celestia_sign_bytes(chain->id, raw, id, chain->scratch, SIGNER_SCRATCH);
        if (msg.n == 0) {
            refuse(reply, "the raw bytes are too long");
            return;
        }
    } else {
        const char *problem = raw_bytes_problem(blob);
        if (problem != NULL) {
            refuse(reply, problem);
            return;
        }
    }
    signing_key_sign(chain->key, msg, reply->signature);
    reply->outcome = SIGN_DONE;
}

bool signer_answer(struct signer_chain *chain, const struct sign_request *req, struct bytes blob,
    struct sign_reply *reply, struct err *err)
{
    memset(reply, 0, sizeof *reply);
    if (req->unique_id_n > blob.n) {
        refuse(reply, "malformed request");
        return true;
    }
    switch ((enum sign_kind)req->kind) {
    case SIGN_VOTE_OR_PROPOSAL:
        return answer_vote_or_proposal(chain, req, blob, reply, err) != STATE_FAILED;
    case SIGN_RAW_P2:
    case SIGN_RAW_CELESTIA:
        answer_raw(chain, req, blob, reply);
        return true;
    }
    refuse(reply, "malformed request");
    return true;
}
