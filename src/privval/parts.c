#include "privval/parts.h"

#include "privval/protobuf.h"

void parts_write_block_id(struct writer *w, uint32_t field, const struct block_id *id)
{
    if (id->hash_len > HASH_LEN || id->parts_hash_len > HASH_LEN) {
        w->bad = true;
        return;
    }
    size_t block_id = pb_begin(w, field);
    pb_write_bytes(w, 1, bytes_of(id->hash, id->hash_len));
    size_t header = pb_begin(w, 2);
    pb_write_uint64(w, 1, id->parts_total);
    pb_write_bytes(w, 2, bytes_of(id->parts_hash, id->parts_hash_len));
    pb_end(w, header);
    pb_end(w, block_id);
}

void parts_write_timestamp(struct writer *w, uint32_t field, const struct timestamp *time)
{
    size_t timestamp = pb_begin(w, field);
    pb_write_int64(w, 1, time->seconds);
    pb_write_int64(w, 2, time->nanos);
    pb_end(w, timestamp);
}
