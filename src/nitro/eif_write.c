#include "nitro/eif_write.h"

#include <stdlib.h>
#include <string.h>

enum { SECTIONS_NEEDED = 3 }; /* kernel, command line, metadata */

/* What the reference writes; no loader looks at them. */
static const uint64_t default_memory = 1u << 30, default_cpus = 2;

struct section {
    enum eif_section_type type;
    struct bytes data;
};

static void list_sections(const struct eif *parts, struct section list[static EIF_SECTIONS_MAX])
{
    size_t n = 0;
    list[n++] = (struct section){EIF_KERNEL, parts->kernel};
    list[n++] = (struct section){EIF_CMDLINE, parts->cmdline};
    list[n++] = (struct section){EIF_METADATA, parts->metadata};
    for (size_t i = 0; i < parts->ramdisks_n; i++)
        list[n++] = (struct section){EIF_RAMDISK, parts->ramdisks[i]};
    if (parts->signature.n > 0)
        list[n++] = (struct section){EIF_SIGNATURE, parts->signature};
}

static void write_be(struct writer *w, uint64_t v, unsigned n)
{
    for (unsigned i = n; i > 0; i--)
        write_u8(w, (uint8_t)(v >> (8 * (i - 1))));
}

static void write_header(
    struct writer *w, const struct eif *parts, const struct section *list, size_t n)
{
    uint64_t at = EIF_HEADER_LEN;
    write_text(w, ".eif");
    write_be(w, EIF_VERSION, 2);
    write_be(w, parts->is_aarch64 ? EIF_FLAG_AARCH64 : 0, 2);
    write_be(w, default_memory, 8);
    write_be(w, default_cpus, 8);
    write_be(w, 0, 2);
    write_be(w, n, 2);
    for (size_t i = 0; i < EIF_SECTIONS_MAX; i++) {
        write_be(w, i < n ? at : 0, 8);
        at += i < n ? EIF_SECTION_HEADER_LEN + list[i].data.n : 0;
    }
    for (size_t i = 0; i < EIF_SECTIONS_MAX; i++)
        write_be(w, i < n ? list[i].data.n : 0, 8);
    write_be(w, 0, 4);
    write_be(w, 0, 4); /* the CRC, once everything else is there */
}

bool eif_write(const struct eif *parts, uint8_t **ret, size_t *ret_n, struct err *err)
{
    struct section list[EIF_SECTIONS_MAX];
    struct eif back;
    size_t n = SECTIONS_NEEDED + parts->ramdisks_n + (parts->signature.n > 0);
    if (n > EIF_SECTIONS_MAX)
        return err_set(err, "an enclave image has at most %d sections, and this one would have %zu",
            EIF_SECTIONS_MAX, n);
    list_sections(parts, list);
    size_t total = EIF_HEADER_LEN;
    for (size_t i = 0; i < n; i++)
        total += EIF_SECTION_HEADER_LEN + list[i].data.n;
    uint8_t *file = malloc(total);
    if (file == NULL)
        return err_set(err, "out of memory: the enclave image has %zu bytes", total);
    struct writer w = writer_of(file, total);
    write_header(&w, parts, list, n);
    for (size_t i = 0; i < n; i++) {
        write_be(&w, (uint64_t)list[i].type, 2);
        write_be(&w, 0, 2);
        write_be(&w, list[i].data.n, 8);
        write_bytes(&w, list[i].data);
    }
    struct writer crc = writer_of(file + EIF_HEADER_LEN - 4, 4);
    write_be(&crc, eif_crc(bytes_of(file, total)), 4);
    if (!eif_parse(&back, bytes_of(file, total), err)) {
        free(file);
        return false;
    }
    *ret = file;
    *ret_n = total;
    return true;
}
