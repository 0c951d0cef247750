/* eif_describe: what nitro-cli prints about enclave images, with its names and in its order. */
#ifndef TMKMS_NITRO_EIF_DESCRIBE_H
#define TMKMS_NITRO_EIF_DESCRIBE_H

#include <jansson.h>

#include "nitro/eif.h"

/* {"HashAlgorithm", "PCR0", "PCR1", "PCR2"[, "PCR8"]} */
json_t *eif_describe_pcrs(const struct eif_pcrs *pcrs);

/* "ImageName", "ImageVersion" and "Metadata" into ret. The metadata is not measured: whoever had the image can have
 * changed it. What is missing or no JSON is left out; false when nothing of it can be read. */
bool eif_describe_metadata(const struct eif *eif, json_t *ret);

#endif
