/* nitro_image: what the commands about enclave images share. */
#ifndef TMKMS_CLI_NITRO_IMAGE_H
#define TMKMS_CLI_NITRO_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/attr.h"
#include "base/err.h"

/* The file is complete under its name or not there at all; an older one is replaced. Anyone may read it: an image
 * holds no secret. */
bool nitro_image_save(
    const char *path, const uint8_t *file, size_t file_n, struct err *err) ATTR_MUST_USE;

/* Prints and releases it; returns the exit code. */
int nitro_json_print(json_t *json);

int64_t nitro_now_s(void);

#endif
