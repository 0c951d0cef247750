/* image_seal: puts the CRC of an enclave image right, after the test has changed something. */
#ifndef TMKMS_TESTS_NITRO_IMAGE_SEAL_H
#define TMKMS_TESTS_NITRO_IMAGE_SEAL_H

#include "nitro/eif.h"

static inline void image_put(uint8_t *at, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        at[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
}

static inline uint32_t image_crc(const uint8_t *p, size_t n)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < n; i++) {
        if (i >= EIF_HEADER_LEN - 4 && i < EIF_HEADER_LEN)
            continue;
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 1) != 0 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    }
    return ~crc;
}

static inline void image_seal(uint8_t *image, size_t n)
{
    image_put(image + EIF_HEADER_LEN - 4, image_crc(image, n), 4);
}

#endif
