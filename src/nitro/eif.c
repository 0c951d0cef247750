#include "nitro/eif.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "nitro/attestation.h"
#include "nitro/cbor.h"
#include "nitro/pcr.h"

enum { CRC_AT = EIF_HEADER_LEN - 4, FLAG_AARCH64 = 1, CERTIFICATE_PEM_MAX = 16384 };

/* ---- CRC-32 (ISO-HDLC), over everything but itself ------------------------------------ */

static void make_table(uint32_t table[256])
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;
        for (int bit = 0; bit < 8; bit++)
            v = (v & 1) != 0 ? v >> 1 ^ 0xedb88320u : v >> 1;
        table[i] = v;
    }
}

static uint32_t crc_of(struct bytes file)
{
    uint32_t table[256], crc = ~0u;
    make_table(table);
    for (size_t i = 0; i < file.n; i++)
        if (i < CRC_AT || i >= EIF_HEADER_LEN)
            crc = table[(crc ^ file.p[i]) & 0xff] ^ crc >> 8;
    return ~crc;
}

/* ---- the header ---------------------------------------------------------------------- */

static uint64_t read_be(struct reader *r, size_t n)
{
    struct bytes b = read_bytes(r, n);
    uint64_t v = 0;
    for (size_t i = 0; i < b.n; i++)
        v = v << 8 | b.p[i];
    return v;
}

struct header {
    uint64_t flags, sections_n, crc;
    uint64_t offsets[EIF_SECTIONS_MAX], sizes[EIF_SECTIONS_MAX];
};

static bool read_header(struct header *h, struct reader *r, struct err *err)
{
    if (!bytes_equal(read_bytes(r, 4), bytes_of_text(".eif")))
        return err_set(err, "not an enclave image (EIF)");
    uint64_t version = read_be(r, 2);
    h->flags = read_be(r, 2);
    read_be(r, 8); /* default memory: nobody uses it */
    read_be(r, 8); /* default CPUs */
    uint64_t reserved = read_be(r, 2);
    h->sections_n = read_be(r, 2);
    for (size_t i = 0; i < EIF_SECTIONS_MAX; i++)
        h->offsets[i] = read_be(r, 8);
    for (size_t i = 0; i < EIF_SECTIONS_MAX; i++)
        h->sizes[i] = read_be(r, 8);
    uint64_t unused = read_be(r, 4);
    h->crc = read_be(r, 4);
    if (r->bad)
        return err_set(err, "the header of the enclave image is cut short");
    if (version != EIF_VERSION)
        return err_set(err, "the enclave image has version %u, only %d is known", (unsigned)version,
            EIF_VERSION);
    if ((h->flags & ~(uint64_t)FLAG_AARCH64) != 0 || reserved != 0 || unused != 0)
        return err_set(err, "the header of the enclave image has bits that nobody knows");
    if (h->sections_n < 2 || h->sections_n > EIF_SECTIONS_MAX)
        return err_set(
            err, "the enclave image claims to have %u sections", (unsigned)h->sections_n);
    return true;
}

/* ---- sections ------------------------------------------------------------------------ */

static bool take_once(struct bytes *ret, struct bytes data, const char *what, struct err *err)
{
    if (ret->p != NULL)
        return err_set(err, "the enclave image has two %s sections", what);
    *ret = data;
    return true;
}

static bool take_section(struct eif *eif, uint64_t type, struct bytes data, struct err *err)
{
    if (eif->signature.p != NULL)
        return err_set(err, "the enclave image has a section behind the signature");
    if (type == EIF_KERNEL)
        return take_once(&eif->kernel, data, "kernel", err);
    if (type == EIF_CMDLINE)
        return take_once(&eif->cmdline, data, "command line", err);
    if (type == EIF_METADATA)
        return take_once(&eif->metadata, data, "metadata", err);
    if (type == EIF_SIGNATURE) {
        eif->signature = data;
        return (data.n > 0 && data.n <= EIF_SIGNATURE_MAX) ||
               err_set(err, "the signature section of the enclave image has %zu bytes", data.n);
    }
    if (type != EIF_RAMDISK)
        return err_set(
            err, "the enclave image has a section of the unknown type %u", (unsigned)type);
    if (eif->kernel.p == NULL)
        return err_set(err, "the enclave image has a ramdisk before the kernel");
    eif->ramdisks[eif->ramdisks_n++] = data;
    return true;
}

/* Section i stands where the one before it ended, and its own header agrees with the table. */
static bool read_section(struct eif *eif, const struct header *h, size_t i, struct reader *r,
    size_t file_n, struct err *err)
{
    size_t at = file_n - r->n;
    uint64_t type = read_be(r, 2), flags = read_be(r, 2), size = read_be(r, 8);
    if (r->bad || h->offsets[i] != at || h->sizes[i] != size || flags != 0)
        return err_set(err, "section %zu of the enclave image is not as the table says", i);
    if (size > r->n)
        return err_set(err, "section %zu of the enclave image is cut short", i);
    return take_section(eif, type, read_bytes(r, (size_t)size), err);
}

static bool check_complete(
    const struct eif *eif, const struct header *h, const struct reader *r, struct err *err)
{
    for (size_t i = (size_t)h->sections_n; i < EIF_SECTIONS_MAX; i++)
        if (h->offsets[i] != 0 || h->sizes[i] != 0)
            return err_set(err, "the enclave image has more sections than it counts");
    if (r->n != 0)
        return err_set(err, "%zu bytes follow the last section of the enclave image", r->n);
    if (eif->kernel.p == NULL || eif->cmdline.p == NULL || eif->metadata.p == NULL ||
        eif->ramdisks_n == 0)
        return err_set(err, "the enclave image lacks its %s",
            eif->kernel.p == NULL     ? "kernel"
            : eif->cmdline.p == NULL  ? "command line"
            : eif->metadata.p == NULL ? "metadata"
                                      : "ramdisk");
    return true;
}

bool eif_parse(struct eif *ret, struct bytes file, struct err *err)
{
    struct eif eif = {0};
    struct header h = {0};
    struct reader r = reader_of(file);
    if (!read_header(&h, &r, err))
        return false;
    eif.is_aarch64 = (h.flags & FLAG_AARCH64) != 0;
    for (size_t i = 0; i < h.sections_n; i++)
        if (!read_section(&eif, &h, i, &r, file.n, err))
            return false;
    if (!check_complete(&eif, &h, &r, err))
        return false;
    if (crc_of(file) != h.crc)
        return err_set(err, "the enclave image is damaged: its CRC is wrong");
    *ret = eif;
    return true;
}

/* ---- registers ----------------------------------------------------------------------- */

static void measure_parts(const struct bytes *parts, size_t n, uint8_t ret[PCR_LEN])
{
    uint8_t hash[PCR_LEN];
    sha384_parts(parts, n, hash);
    pcr_extend_zero(bytes_of(hash, sizeof hash), ret);
}

/* The signature section is a list of maps; the first one signs PCR0. Its certificate is PEM. */
static bool read_certificate(struct bytes section, uint8_t *pem, size_t *ret_n)
{
    struct reader r = reader_of(section);
    struct cbor_list list = cbor_read_array(&r);
    if (!cbor_more(&r, &list))
        return false;
    struct cbor_list map = cbor_read_map(&r);
    while (cbor_more(&r, &map)) {
        if (bytes_equal(cbor_read_text(&r), bytes_of_text("signing_certificate"))) {
            *ret_n = cbor_read_octets(&r, pem, CERTIFICATE_PEM_MAX);
            return !r.bad;
        }
        cbor_skip(&r);
    }
    return false;
}

static bool measure_signer(struct bytes section, uint8_t ret[PCR_LEN], struct err *err)
{
    uint8_t pem[CERTIFICATE_PEM_MAX], der[CERTIFICATE_PEM_MAX];
    size_t pem_n = 0, der_n = 0;
    if (!read_certificate(section, pem, &pem_n))
        return err_set(err, "the signature of the enclave image cannot be read");
    if (!attestation_root_from_pem(bytes_of(pem, pem_n), der, sizeof der, &der_n, err))
        return err_prefix(err, "the signature of the enclave image");
    const struct bytes part = bytes_of(der, der_n);
    measure_parts(&part, 1, ret);
    return true;
}

bool eif_measure(const struct eif *eif, struct eif_pcrs *ret, struct err *err)
{
    struct eif_pcrs pcrs = {.present = 1u << 0 | 1u << 1 | 1u << 2};
    struct bytes parts[EIF_SECTIONS_MAX + 2] = {eif->kernel, eif->cmdline};
    memcpy(parts + 2, eif->ramdisks, eif->ramdisks_n * sizeof parts[0]);
    measure_parts(parts, 2 + eif->ramdisks_n, pcrs.values[0]);
    measure_parts(parts, 3, pcrs.values[1]);
    measure_parts(eif->ramdisks + 1, eif->ramdisks_n - 1, pcrs.values[2]);
    if (eif->signature.n > 0) {
        if (!measure_signer(eif->signature, pcrs.values[8], err))
            return false;
        pcrs.present |= 1u << 8;
    }
    *ret = pcrs;
    return true;
}

/* ---- files --------------------------------------------------------------------------- */

bool eif_file_open(struct eif_file *ret, const char *path, struct err *err)
{
    struct stat st;
    int fd ATTR_CLEANUP(fd_close) = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        return err_errno(err, "cannot open %s", path);
    if (!S_ISREG(st.st_mode) || st.st_size < EIF_HEADER_LEN)
        return err_set(err, "%s is not an enclave image (EIF)", path);
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return err_errno(err, "cannot read %s", path);
    ret->content = bytes_of(p, (size_t)st.st_size);
    return true;
}

void eif_file_close(struct eif_file *file)
{
    if (file->content.p != NULL)
        munmap((void *)(uintptr_t)file->content.p, file->content.n);
    file->content = (struct bytes){0};
}
