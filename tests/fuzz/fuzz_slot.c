/* A slot of the state file and the export line: whatever is read must be what we write. The input is tried as it
 * is, and once more with the right checksum behind it, so that the fields are reached. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/hash.h"
#include "state/record.h"

static void try_slot(const uint8_t slot[SLOT_SIZE])
{
    struct record rec;
    uint8_t again[SLOT_SIZE];
    if (slot_parse(&rec, slot) != SLOT_VALID)
        return;
    slot_render(&rec, again);
    if (record_problem(&rec) != NULL || memcmp(slot, again, SLOT_SIZE) != 0)
        abort();
}

static void try_export(const uint8_t *data, size_t n)
{
    struct record rec;
    if (export_parse(&rec, bytes_of(data, n)) && record_problem(&rec) != NULL)
        abort();
}

static void try_sealed(const uint8_t *data, size_t n)
{
    uint8_t slot[SLOT_SIZE], sum[SHA256_LEN];
    char hex[2 * SHA256_LEN + 1];
    struct writer w = writer_of(slot, sizeof slot - 1);
    write_bytes(&w, bytes_of(data, n));
    sha256(bytes_of(data, n), sum);
    hex_upper(bytes_of(sum, sizeof sum), hex);
    write_text(&w, ",\"checksum\":\"");
    write_text(&w, hex);
    write_text(&w, "\"}");
    if (w.bad)
        return;
    try_export(slot, w.n);
    memset(slot + w.n, ' ', sizeof slot - w.n);
    slot[SLOT_SIZE - 1] = '\n';
    try_slot(slot);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t slot[SLOT_SIZE];
    memset(slot, ' ', sizeof slot);
    slot[SLOT_SIZE - 1] = '\n';
    if (n <= sizeof slot) {
        memcpy(slot, data, n);
        try_slot(slot);
    }
    try_export(data, n);
    try_sealed(data, n);
    return 0;
}
