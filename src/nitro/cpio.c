#include "nitro/cpio.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_LEN = 110, ALIGN = 4 };
static const char magic[] = "070701", trailer[] = "TRAILER!!!";

/* The fields behind the magic, eight hexadecimal digits each. */
enum field {
    INODE,
    MODE,
    UID,
    GID,
    LINKS,
    TIME,
    SIZE,
    MAJOR,
    MINOR,
    DEVICE_MAJOR,
    DEVICE_MINOR,
    NAME_SIZE,
    CHECKSUM,
    FIELDS_N
};

static size_t padding(size_t n)
{
    return (ALIGN - n % ALIGN) % ALIGN;
}

/* Relative, no empty part, no "." or "..", printable. */
static bool name_is_fine(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > CPIO_NAME_MAX || strcmp(name, trailer) == 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if (name[i] <= ' ' || name[i] > '~')
            return false;
    for (const char *part = name;; part += strcspn(part, "/") + 1) {
        size_t part_n = strcspn(part, "/");
        bool is_dots = part_n <= 2 && strspn(part, ".") >= part_n;
        if (is_dots)
            return false;
        if (part[part_n] == '\0')
            return true;
    }
}

/* ---- writing ------------------------------------------------------------------------- */

static bool folder_is_before(const struct cpio_entry *entries, size_t i)
{
    const char *slash = strrchr(entries[i].name, '/');
    if (slash == NULL)
        return true;
    size_t n = (size_t)(slash - entries[i].name);
    for (size_t k = 0; k < i; k++)
        if ((entries[k].mode & CPIO_KIND) == CPIO_DIRECTORY && strlen(entries[k].name) == n &&
            memcmp(entries[k].name, entries[i].name, n) == 0)
            return true;
    return false;
}

static bool check(const struct cpio_entry *entries, size_t i, struct err *err)
{
    const struct cpio_entry *e = &entries[i];
    if (!name_is_fine(e->name))
        return err_set(err, "'%.64s' is no name for a file in an archive", e->name);
    if (i > 0 && strcmp(entries[i - 1].name, e->name) >= 0)
        return err_set(err, "'%s' is out of order in the archive", e->name);
    if (!folder_is_before(entries, i))
        return err_set(err, "the folder of '%s' is not in the archive", e->name);
    if (e->data.n > UINT32_MAX)
        return err_set(err, "'%s' has %zu bytes, too many for an archive", e->name, e->data.n);
    bool is_file = (e->mode & CPIO_KIND) == CPIO_FILE;
    return is_file || e->data.n == 0 || err_set(err, "'%s' holds data but is no file", e->name);
}

static size_t entry_len(const struct cpio_entry *e)
{
    size_t name_end = HEADER_LEN + strlen(e->name) + 1;
    return name_end + padding(name_end) + e->data.n + padding(e->data.n);
}

static void write_padding(struct writer *w)
{
    for (size_t left = padding(w->n); left > 0; left--)
        write_u8(w, 0);
}

static void write_entry(struct writer *w, const struct cpio_entry *e, uint32_t inode)
{
    char digits[9];
    const uint32_t fields[FIELDS_N] = {
        [INODE] = inode,
        [MODE] = e->mode,
        [LINKS] = (e->mode & CPIO_KIND) == CPIO_DIRECTORY ? 2 : 1,
        [SIZE] = (uint32_t)e->data.n,
        [DEVICE_MAJOR] = e->device_major,
        [DEVICE_MINOR] = e->device_minor,
        [NAME_SIZE] = (uint32_t)strlen(e->name) + 1,
    };
    write_text(w, magic);
    for (size_t i = 0; i < FIELDS_N; i++) {
        snprintf(digits, sizeof digits, "%08X", fields[i]);
        write_text(w, digits);
    }
    write_text(w, e->name);
    write_u8(w, 0);
    write_padding(w);
    write_bytes(w, e->data);
    write_padding(w);
}

bool cpio_write(
    const struct cpio_entry *entries, size_t n, uint8_t **ret, size_t *ret_n, struct err *err)
{
    const struct cpio_entry end = {.name = trailer};
    size_t total = entry_len(&end);
    for (size_t i = 0; i < n; i++) {
        if (!check(entries, i, err))
            return false;
        total += entry_len(&entries[i]);
    }
    uint8_t *archive = malloc(total);
    if (archive == NULL)
        return err_set(err, "out of memory: the archive has %zu bytes", total);
    struct writer w = writer_of(archive, total);
    for (size_t i = 0; i < n; i++)
        write_entry(&w, &entries[i], (uint32_t)i + 1);
    write_entry(&w, &end, 0);
    *ret = archive;
    *ret_n = w.n;
    return true;
}

/* ---- reading ------------------------------------------------------------------------- */

/* Digits of either case; nothing else, in particular no sign or space. */
static uint32_t read_field(struct reader *r)
{
    uint8_t octets[4] = {0};
    struct bytes digits = read_bytes(r, 8);
    if (r->bad || !hex_decode((const char *)digits.p, digits.n, octets, sizeof octets))
        r->bad = true;
    return (uint32_t)octets[0] << 24 | (uint32_t)octets[1] << 16 | (uint32_t)octets[2] << 8 |
           octets[3];
}

static void skip_padding(struct reader *r, size_t behind)
{
    struct bytes zeros = read_bytes(r, padding(behind));
    for (size_t i = 0; i < zeros.n; i++)
        if (zeros.p[i] != 0)
            r->bad = true;
}

static const char *read_name(struct reader *r, uint32_t size)
{
    if (size < 2 || size > CPIO_NAME_MAX + 1)
        r->bad = true;
    struct bytes b = r->bad ? (struct bytes){0} : read_bytes(r, size);
    if (r->bad || memchr(b.p, 0, b.n) != b.p + b.n - 1) {
        r->bad = true;
        return "";
    }
    skip_padding(r, HEADER_LEN + size);
    return (const char *)b.p;
}

static bool rest_is_zero(struct reader *r)
{
    struct bytes rest = read_bytes(r, r->n);
    for (size_t i = 0; i < rest.n; i++)
        if (rest.p[i] != 0)
            return false;
    return true;
}

bool cpio_next(struct reader *r, struct cpio_entry *ret, bool *ret_is_end, struct err *err)
{
    uint32_t fields[FIELDS_N];
    size_t left = r->n;
    if (!bytes_equal(read_bytes(r, strlen(magic)), bytes_of_text(magic)))
        return err_set(
            err, "there is no newc header where %zu bytes are left of the archive", left);
    for (size_t i = 0; i < FIELDS_N; i++)
        fields[i] = read_field(r);
    struct cpio_entry e = {
        .name = read_name(r, fields[NAME_SIZE]),
        .mode = fields[MODE],
        .device_major = fields[DEVICE_MAJOR],
        .device_minor = fields[DEVICE_MINOR],
    };
    if (!r->bad && fields[SIZE] > r->n)
        return err_set(err, "'%.64s' in the archive is cut short", e.name);
    e.data = read_bytes(r, fields[SIZE]);
    skip_padding(r, fields[SIZE]);
    if (r->bad)
        return err_set(err, "the header where %zu bytes are left of the archive is damaged", left);
    bool is_end = strcmp(e.name, trailer) == 0;
    if (is_end && (e.data.n > 0 || !rest_is_zero(r)))
        return err_set(err, "something follows the end of the archive");
    if (!is_end && !name_is_fine(e.name))
        return err_set(err, "the archive holds a file with a name that is refused");
    *ret = e;
    *ret_is_end = is_end;
    return true;
}
