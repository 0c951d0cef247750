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

/* PCR0 (kernel, command line, every ramdisk), PCR1 (kernel, command line, first ramdisk), PCR2 (the other ramdisks)
 * and, for a signed image, PCR8 (its certificate). */
struct eif_pcrs {
    uint32_t present; /* bit i: PCR i */
    uint8_t values[9][PCR_LEN];
};
bool eif_measure(const struct eif *eif, struct eif_pcrs *ret, struct err *err) ATTR_MUST_USE;

/* A whole file, mapped. Zero-initialised: none. */
struct eif_file {
    struct bytes content;
};
bool eif_file_open(struct eif_file *ret, const char *path, struct err *err) ATTR_MUST_USE;
void eif_file_close(struct eif_file *file);

#endif
