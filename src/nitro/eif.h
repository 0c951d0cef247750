/* eif: enclave image files (EIF, version 4), read with strict limits, and the registers that follow from their
 * content. Reference: aws-nitro-enclaves-image-format (types/src/lib.rs, eif_build); every integer is big-endian. */
#ifndef TMKMS_NITRO_EIF_H
#define TMKMS_NITRO_EIF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"
#include "nitro/nsm.h"

enum {
    EIF_VERSION = 4,
    EIF_HEADER_LEN = 548,
    EIF_SECTIONS_MAX = 32,
    EIF_SECTION_HEADER_LEN = 12,
    EIF_SIGNATURE_MAX = 32768,
    EIF_FLAG_AARCH64 = 1,
    EIF_CERTIFICATE_MAX = 16384, /* in DER as well as in PEM */
    EIF_COSE_MAX = 4096,
};

enum eif_section_type {
    EIF_KERNEL = 1,
    EIF_CMDLINE,
    EIF_RAMDISK,
    EIF_SIGNATURE,
    EIF_METADATA,
};

/* Slices of the file. */
struct eif {
    bool is_aarch64;
    struct bytes kernel, cmdline;
    struct bytes metadata;  /* JSON; not measured and not signed: for display only */
    struct bytes signature; /* CBOR; empty: not signed */
    struct bytes ramdisks[EIF_SECTIONS_MAX];
    size_t ramdisks_n;
};

/* eif_parse checks every field of the headers, that the sections fill the file without a gap, and the CRC. */
bool eif_parse(struct eif *ret, struct bytes file, struct err *err) ATTR_MUST_USE;
/* eif_read does the same but for the CRC, of which it only says whether it is right: to describe a damaged image. */
bool eif_read(
    struct eif *ret, struct bytes file, bool *ret_crc_is_right, struct err *err) ATTR_MUST_USE;

/* CRC-32 (ISO-HDLC) of a whole image, without its own four bytes. */
uint32_t eif_crc(struct bytes file);

/* PCR0 (kernel, command line, every ramdisk), PCR1 (kernel, command line, first ramdisk), PCR2 (the other ramdisks)
 * and, for a signed image, PCR8 (its certificate). AWS's form hashes the bytes in one row: two images whose sections
 * end at other places have the same registers. */
struct eif_pcrs {
    uint32_t present; /* bit i: PCR i */
    uint8_t values[9][PCR_LEN];
};
bool eif_measure(const struct eif *eif, struct eif_pcrs *ret, struct err *err) ATTR_MUST_USE;
/* PCR8 of images that are signed with the certificate (DER). */
void eif_certificate_measure(struct bytes der, uint8_t ret[PCR_LEN]);

/* What the signature section says of PCR0. The certificate, in DER, is measured as PCR8; the COSE_Sign1 message is not
 * looked at here (eif_sign.h checks it). */
struct eif_signature {
    uint8_t certificate[EIF_CERTIFICATE_MAX], cose[EIF_COSE_MAX];
    size_t certificate_n, cose_n;
};
bool eif_signature_parse(
    struct eif_signature *ret, struct bytes section, struct err *err) ATTR_MUST_USE;

/* A whole image file, mapped. Zero-initialised: none. */
struct eif_file {
    struct bytes content;
};
bool eif_file_open(struct eif_file *ret, const char *path, struct err *err) ATTR_MUST_USE;
/* The same for what an image is made of: any file that is not empty. */
bool eif_part_open(struct eif_file *ret, const char *path, struct err *err) ATTR_MUST_USE;
void eif_file_close(struct eif_file *file);

#endif
