/* eif_write: enclave image files, put together from their parts. The order of the sections is that of AWS's eif_build,
 * and so are all bytes given the same parts. */
#ifndef TMKMS_NITRO_EIF_WRITE_H
#define TMKMS_NITRO_EIF_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "nitro/eif.h"

/* eif_write: kernel, command line, metadata, ramdisks, signature (where there is one), with the CRC over all of it.
 * The file is the caller's to free. An image that eif_parse would refuse is an error. */
bool eif_write(
    const struct eif *parts, uint8_t **ret, size_t *ret_n, struct err *err) ATTR_MUST_USE;

#endif
