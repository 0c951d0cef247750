#include "privval/sign_bytes.h"

#include "privval/canonical.h"

/* The chain id as a slice; empty when it is not one that may be signed for. */
static struct bytes chain_id_bytes(const char *chain_id)
{
    struct bytes id = bytes_of_text(chain_id);
    return id.n <= CHAIN_ID_MAX ? id : (struct bytes){0};
}

struct bytes sign_bytes(const struct signable *s, const char *chain_id, uint8_t buf[SIGN_BYTES_MAX])
{
    struct writer w = writer_of(buf, SIGN_BYTES_MAX);
    struct bytes chain = chain_id_bytes(chain_id);
    if (chain.n == 0 || signable_problem(s) != NULL)
        return (struct bytes){0};
    switch (s->step) {
    case STEP_PROPOSAL:
        canonical_write_proposal(&w, s, chain);
        break;
    case STEP_PREVOTE:
        canonical_write_vote(&w, TYPE_PREVOTE, s, chain);
        break;
    case STEP_PRECOMMIT:
        canonical_write_vote(&w, TYPE_PRECOMMIT, s, chain);
        break;
    case STEP_NONE:
        break;
    }
    return written(&w);
}

struct bytes extension_sign_bytes(const struct signable *precommit, const char *chain_id,
    struct bytes extension, uint8_t *buf, size_t cap)
{
    struct writer w = writer_of(buf, cap);
    struct bytes chain = chain_id_bytes(chain_id);
    if (chain.n == 0 || signable_problem(precommit) != NULL || precommit->step != STEP_PRECOMMIT ||
        block_id_is_nil(&precommit->block_id))
        return (struct bytes){0};
    canonical_write_extension(&w, precommit->height, precommit->round, chain, extension);
    return written(&w);
}
