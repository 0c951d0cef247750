#include "privval/canonical.h"

#include "privval/parts.h"
#include "privval/protobuf.h"

/* CanonicalizeBlockID leaves out a nil block id and nothing else. */
static void write_block_id(struct writer *w, uint32_t field, const struct block_id *id)
{
    if (!block_id_is_nil(id))
        parts_write_block_id(w, field, id);
}

void canonical_write_vote(
    struct writer *w, int32_t type, const struct signable *s, struct bytes chain_id)
{
    size_t vote = pb_begin_delimited(w);
    pb_write_int64(w, 1, type);
    pb_write_sfixed64(w, 2, s->height);
    pb_write_sfixed64(w, 3, s->round);
    write_block_id(w, 4, &s->block_id);
    parts_write_timestamp(w, 5, &s->timestamp);
    pb_write_bytes(w, 6, chain_id);
    pb_end(w, vote);
}

void canonical_write_proposal(struct writer *w, const struct signable *s, struct bytes chain_id)
{
    size_t proposal = pb_begin_delimited(w);
    pb_write_int64(w, 1, TYPE_PROPOSAL);
    pb_write_sfixed64(w, 2, s->height);
    pb_write_sfixed64(w, 3, s->round);
    pb_write_int64(w, 4, s->pol_round);
    write_block_id(w, 5, &s->block_id);
    parts_write_timestamp(w, 6, &s->timestamp);
    pb_write_bytes(w, 7, chain_id);
    pb_end(w, proposal);
}

void canonical_write_extension(
    struct writer *w, int64_t height, int32_t round, struct bytes chain_id, struct bytes extension)
{
    /* The length is computed, for pb_end would move a megabyte. */
    uint64_t size = extension.n == 0 ? 0 : 1 + pb_varint_size(extension.n) + extension.n;
    size += height == 0 ? 0 : 9;
    size += round == 0 ? 0 : 9;
    size += chain_id.n == 0 ? 0 : 1 + pb_varint_size(chain_id.n) + chain_id.n;
    pb_write_varint(w, size);
    pb_write_bytes(w, 1, extension);
    pb_write_sfixed64(w, 2, height);
    pb_write_sfixed64(w, 3, round);
    pb_write_bytes(w, 4, chain_id);
}
