#include "nitro/eif.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "nitro/attestation.h"
#include "nitro/cbor.h"
#include "nitro/pcr.h"

enum { CRC_AT = EIF_HEADER_LEN - 4 };

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

uint32_t eif_crc(struct bytes file)
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
    if ((h->flags & ~(uint64_t)EIF_FLAG_AARCH64) != 0 || reserved != 0 || unused != 0)
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
    if (h->offsets[i] != at)
        return err_set(err,
            "section %zu of the enclave image begins at byte %" PRIu64 " and not at %zu, where %s "
            "ends: sections overlap or leave a gap",
            i, h->offsets[i], at, i == 0 ? "the header" : "the one before");
    if (r->bad)
        return err_set(err, "section %zu of the enclave image is cut short", i);
    if (h->sizes[i] != size || flags != 0)
        return err_set(err, "section %zu of the enclave image is not as the table says", i);
    if (size > r->n)
        return err_set(err,
            "section %zu of the enclave image is cut short: %zu of %" PRIu64 " bytes", i, r->n,
            size);
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

bool eif_read(struct eif *ret, struct bytes file, bool *ret_crc_is_right, struct err *err)
{
    struct eif eif = {0};
    struct header h = {0};
    struct reader r = reader_of(file);
    if (!read_header(&h, &r, err))
        return false;
    eif.is_aarch64 = (h.flags & EIF_FLAG_AARCH64) != 0;
    for (size_t i = 0; i < h.sections_n; i++)
        if (!read_section(&eif, &h, i, &r, file.n, err))
            return false;
    if (!check_complete(&eif, &h, &r, err))
        return false;
    *ret_crc_is_right = eif_crc(file) == h.crc;
    *ret = eif;
    return true;
}

bool eif_parse(struct eif *ret, struct bytes file, struct err *err)
{
    struct eif eif;
    bool crc_is_right = false;
    if (!eif_read(&eif, file, &crc_is_right, err))
        return false;
    if (!crc_is_right)
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

void eif_certificate_measure(struct bytes der, uint8_t ret[PCR_LEN])
{
    measure_parts(&der, 1, ret);
}

/* Strings are byte strings or, as the reference writes them, lists of numbers. */
static void read_signature(
    struct reader *r, uint8_t *pem, size_t *ret_pem_n, struct eif_signature *ret)
{
    struct cbor_list map = cbor_read_map(r);
    while (cbor_more(r, &map)) {
        struct bytes name = cbor_read_text(r);
        if (bytes_equal(name, bytes_of_text("signing_certificate")))
            *ret_pem_n = cbor_read_octets(r, pem, EIF_CERTIFICATE_MAX);
        else if (bytes_equal(name, bytes_of_text("signature")))
            ret->cose_n = cbor_read_octets(r, ret->cose, EIF_COSE_MAX);
        else
            cbor_skip(r);
    }
}

/* The section is a list of maps, of which the first one signs PCR0 and the others mean nothing. */
bool eif_signature_parse(struct eif_signature *ret, struct bytes section, struct err *err)
{
    uint8_t pem[EIF_CERTIFICATE_MAX];
    size_t pem_n = 0;
    struct reader r = reader_of(section);
    struct cbor_list list = cbor_read_array(&r);
    ret->certificate_n = ret->cose_n = 0;
    if (!cbor_more(&r, &list))
        return err_set(err, "the signature section of the enclave image is empty or damaged");
    read_signature(&r, pem, &pem_n, ret);
    while (cbor_more(&r, &list))
        cbor_skip(&r);
    if (!reader_done(&r))
        return err_set(err, "the signature of the enclave image cannot be read");
    if (!attestation_root_from_pem(bytes_of(pem, pem_n), ret->certificate, sizeof ret->certificate,
            &ret->certificate_n, err))
        return err_prefix(err, "the signature of the enclave image");
    return true;
}

static bool measure_signer(struct bytes section, uint8_t ret[PCR_LEN], struct err *err)
{
    struct eif_signature signature;
    if (!eif_signature_parse(&signature, section, err))
        return false;
    eif_certificate_measure(bytes_of(signature.certificate, signature.certificate_n), ret);
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

bool eif_part_open(struct eif_file *ret, const char *path, struct err *err)
{
    struct stat st;
    int fd ATTR_CLEANUP(fd_close) = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        return err_errno(err, "cannot open %s", path);
    if (!S_ISREG(st.st_mode) || st.st_size == 0)
        return err_set(
            err, "%s is %s", path, S_ISREG(st.st_mode) ? "an empty file" : "not a regular file");
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return err_errno(err, "cannot read %s", path);
    ret->content = bytes_of(p, (size_t)st.st_size);
    return true;
}

bool eif_file_open(struct eif_file *ret, const char *path, struct err *err)
{
    struct eif_file file = {0};
    if (!eif_part_open(&file, path, err))
        return false;
    if (file.content.n < EIF_HEADER_LEN) {
        eif_file_close(&file);
        return err_set(err, "%s is not an enclave image (EIF)", path);
    }
    *ret = file;
    return true;
}

void eif_file_close(struct eif_file *file)
{
    if (file->content.p != NULL)
        munmap((void *)(uintptr_t)file->content.p, file->content.n);
    file->content = (struct bytes){0};
}
