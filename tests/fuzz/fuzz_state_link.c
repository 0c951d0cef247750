/* Bytes of a peer of the state link: whatever is read is written back as it was. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "state/link_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t out[LINK_FRAME_MAX], line[RECORD_LINE_MAX];
    struct link_frame f;
    struct record rec;
    if (n < LINK_HEAD || link_frame_length(data) != n - LINK_HEAD || n == LINK_HEAD)
        return 0;
    if (!link_frame_read(&f, bytes_of(data + LINK_HEAD, n - LINK_HEAD)))
        return 0;
    if (!bytes_equal(link_frame_write(&f, out), bytes_of(data, n)))
        abort();
    if (f.kind != LINK_RECORD || !link_frame_record(&rec, &f))
        return 0;
    struct link_frame again = link_frame_of_record(&rec, line);
    again.burns_first = f.burns_first;
    if (!bytes_equal(link_frame_write(&again, out), bytes_of(data, n)))
        abort();
    return 0;
}
