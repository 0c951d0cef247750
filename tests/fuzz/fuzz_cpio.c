/* Archives of a ramdisk: every entry lies inside, and what is read and in order is written back to be read the same. */
#include <stdlib.h>
#include <string.h>

#include "nitro/cpio.h"

enum { ENTRIES_MAX = 16 };

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void check_inside(const struct cpio_entry *e, const uint8_t *data, size_t size)
{
    const uint8_t *name = (const uint8_t *)e->name, *end = data + size;
    must(name >= data && name < end && memchr(name, 0, (size_t)(end - name)) != NULL);
    must(strlen(e->name) <= CPIO_NAME_MAX);
    if (e->data.n > 0)
        must(e->data.p >= data && e->data.n <= size && e->data.p <= end - e->data.n);
}

static void write_back(const struct cpio_entry *entries, size_t n)
{
    uint8_t *archive = NULL;
    size_t archive_n = 0;
    struct err err;
    if (!cpio_write(entries, n, &archive, &archive_n, &err))
        return;
    struct reader r = reader_of(bytes_of(archive, archive_n));
    struct cpio_entry e;
    bool is_end = false;
    for (size_t i = 0; i < n; i++) {
        must(cpio_next(&r, &e, &is_end, &err) && !is_end);
        must(strcmp(e.name, entries[i].name) == 0 && bytes_equal(e.data, entries[i].data));
    }
    must(cpio_next(&r, &e, &is_end, &err) && is_end && reader_done(&r));
    free(archive);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cpio_entry entries[ENTRIES_MAX], e;
    struct reader r = reader_of(bytes_of(data, size));
    struct err err;
    size_t n = 0;
    for (bool is_end = false; !is_end;) {
        size_t left = r.n;
        if (!cpio_next(&r, &e, &is_end, &err))
            return 0;
        must(r.n < left);
        check_inside(&e, data, size);
        if (!is_end && n < ENTRIES_MAX)
            entries[n++] = e;
    }
    must(reader_done(&r));
    write_back(entries, n);
    return 0;
}
