/* How an image differs from the one that was built here, in words. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "crypto/hash.h"
#include "nitro/cpio.h"
#include "nitro/image.h"

enum { TEXT_MAX = 6000, HASH_TEXT_MAX = 2 * SHA256_LEN + 1 };

struct comparison {
    image_said *said;
    void *ctx;
    bool is_same;
};

ATTR_PRINTF(3, 4)
static void say(struct comparison *c, enum image_finding finding, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (finding == IMAGE_DIFFERS)
        c->is_same = false;
    c->said(c->ctx, finding, text);
}

static void hash_text(struct bytes b, char out[HASH_TEXT_MAX])
{
    uint8_t hash[SHA256_LEN];
    sha256(b, hash);
    hex_lower(bytes_of(hash, sizeof hash), out);
}

static size_t first_difference(struct bytes a, struct bytes b)
{
    size_t i = 0;
    while (i < a.n && i < b.n && a.p[i] == b.p[i])
        i++;
    return i;
}

/* ---- kernel and command line ---------------------------------------------------------- */

static void compare_kernels(struct comparison *c, const struct eif *given, const struct eif *built)
{
    char hashes[2][HASH_TEXT_MAX], versions[2][KERNEL_VERSION_MAX];
    kernel_version(given->kernel, versions[0]);
    kernel_version(built->kernel, versions[1]);
    hash_text(given->kernel, hashes[0]);
    if (bytes_equal(given->kernel, built->kernel)) {
        say(c, IMAGE_SAME, "kernel: version %s, %zu bytes, SHA-256 %s", versions[0],
            given->kernel.n, hashes[0]);
        return;
    }
    hash_text(built->kernel, hashes[1]);
    say(c, IMAGE_DIFFERS,
        "kernel: the image has version %s, %zu bytes, SHA-256 %s; here it is version %s, %zu "
        "bytes, SHA-256 %s; the first byte that differs is %zu",
        versions[0], given->kernel.n, hashes[0], versions[1], built->kernel.n, hashes[1],
        first_difference(given->kernel, built->kernel));
}

/* For a terminal: what is not printable is shown as '?'. */
static void printable(struct bytes b, char out[IMAGE_CMDLINE_MAX + 1])
{
    size_t n = b.n < IMAGE_CMDLINE_MAX ? b.n : IMAGE_CMDLINE_MAX;
    for (size_t i = 0; i < n; i++)
        out[i] = b.p[i] < ' ' || b.p[i] > '~' ? '?' : (char)b.p[i];
    out[n] = '\0';
}

static void compare_cmdlines(struct comparison *c, const struct eif *given, const struct eif *built)
{
    char texts[2][IMAGE_CMDLINE_MAX + 1];
    printable(given->cmdline, texts[0]);
    printable(built->cmdline, texts[1]);
    if (bytes_equal(given->cmdline, built->cmdline))
        say(c, IMAGE_SAME, "command line: %s", texts[0]);
    else
        say(c, IMAGE_DIFFERS, "command line: the image has '%s', expected is '%s'", texts[0],
            texts[1]);
}

/* ---- ramdisks ------------------------------------------------------------------------- */

static void entry_text(const struct cpio_entry *e, char *out, size_t cap)
{
    char hash[HASH_TEXT_MAX];
    hash_text(e->data, hash);
    if ((e->mode & CPIO_KIND) == CPIO_FILE)
        snprintf(out, cap, "%zu bytes, mode %o, SHA-256 %s", e->data.n, e->mode, hash);
    else
        snprintf(out, cap, "mode %o, device %" PRIu32 ":%" PRIu32 ", %zu bytes", e->mode,
            e->device_major, e->device_minor, e->data.n);
}

static bool entries_are_equal(const struct cpio_entry *a, const struct cpio_entry *b)
{
    return a->mode == b->mode && a->device_major == b->device_major &&
           a->device_minor == b->device_minor && bytes_equal(a->data, b->data);
}

/* Both stand at the entry that comes next, in the order of names. True: it is the same, go on. */
static bool compare_entries(struct comparison *c, const struct cpio_entry *given, bool given_ends,
    const struct cpio_entry *built, bool built_ends)
{
    char texts[2][256];
    int order = given_ends ? 1 : built_ends ? -1 : strcmp(given->name, built->name);
    if (order == 0 && entries_are_equal(given, built))
        return true;
    entry_text(given, texts[0], sizeof texts[0]);
    entry_text(built, texts[1], sizeof texts[1]);
    if (order < 0)
        say(c, IMAGE_DIFFERS,
            "ramdisk: the image holds %s (%s), which is not in the one built here", given->name,
            texts[0]);
    else if (order > 0)
        say(c, IMAGE_DIFFERS, "ramdisk: the image lacks %s (%s)", built->name, texts[1]);
    else
        say(c, IMAGE_DIFFERS, "ramdisk: %s in the image is %s; here it is %s", given->name,
            texts[0], texts[1]);
    return false;
}

static void compare_ramdisk(struct comparison *c, struct bytes given, struct bytes built)
{
    struct reader a = reader_of(given), b = reader_of(built);
    struct err err;
    for (bool ends = false; !ends;) {
        struct cpio_entry x = {.name = ""}, y = {.name = ""};
        bool y_ends = false;
        if (!cpio_next(&b, &y, &y_ends, &err))
            break;
        if (!cpio_next(&a, &x, &ends, &err)) {
            say(c, IMAGE_DIFFERS,
                "ramdisk: that of the image is no archive as it is built here: %s", err.text);
            return;
        }
        if ((ends && y_ends) || !compare_entries(c, &x, ends, &y, y_ends))
            break;
    }
    if (c->is_same)
        say(c, IMAGE_DIFFERS,
            "ramdisk: the same files, but the archives differ (owner, times or padding) from byte "
            "%zu on",
            first_difference(given, built));
}

static void compare_ramdisks(struct comparison *c, const struct eif *given, const struct eif *built)
{
    bool was_same = c->is_same;
    c->is_same = true;
    char hash[HASH_TEXT_MAX];
    if (bytes_equal(given->ramdisks[0], built->ramdisks[0])) {
        hash_text(given->ramdisks[0], hash);
        say(c, IMAGE_SAME, "ramdisk: %zu bytes, SHA-256 %s", given->ramdisks[0].n, hash);
    } else {
        compare_ramdisk(c, given->ramdisks[0], built->ramdisks[0]);
    }
    if (given->ramdisks_n != built->ramdisks_n)
        say(c, IMAGE_DIFFERS,
            "ramdisks: the image has %zu, the one built here %zu; a later one can replace every "
            "file of the first",
            given->ramdisks_n, built->ramdisks_n);
    c->is_same = c->is_same && was_same;
}

/* ---- together ------------------------------------------------------------------------- */

bool image_compare(const struct eif *given, const struct eif *built, image_said *said, void *ctx)
{
    struct comparison c = {.said = said, .ctx = ctx, .is_same = true};
    if (given->is_aarch64 != built->is_aarch64)
        say(&c, IMAGE_DIFFERS, "architecture: the image is for %s, the one built here for %s",
            given->is_aarch64 ? "aarch64" : "x86-64", built->is_aarch64 ? "aarch64" : "x86-64");
    compare_kernels(&c, given, built);
    compare_cmdlines(&c, given, built);
    compare_ramdisks(&c, given, built);
    if (!bytes_equal(given->metadata, built->metadata))
        say(&c, IMAGE_NOTE, "metadata: another (name, version, time or tool); it is not measured");
    return c.is_same;
}
