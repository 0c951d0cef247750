/* Foreign state files in every format: an import never allows less than it says, and never a negative height. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "state/exchange.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct public_key key = {.type = KEY_ED25519, .len = 32, .bytes = {1, 2, 3}};
    for (enum exchange_format f = EXCHANGE_DETECT; f <= EXCHANGE_COMETBFT; f++) {
        struct record rec, back;
        struct err err;
        if (!exchange_read(&rec, f, bytes_of(data, n), "test_chain_id", &key, &err))
            continue;
        uint8_t line[RECORD_LINE_MAX];
        if (record_problem(&rec) != NULL ||
            !exchange_read(&back, EXCHANGE_OWN, exchange_write(EXCHANGE_OWN, &rec, line),
                "test_chain_id", &key, &err) ||
            !watermark_covers(&back.mark, &rec.mark))
            abort();
    }
    return 0;
}
