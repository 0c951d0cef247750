/* golden_image: enclave images of the reference's golden vectors, written from the description of the format. */
#ifndef TMKMS_TESTS_NITRO_GOLDEN_IMAGE_H
#define TMKMS_TESTS_NITRO_GOLDEN_IMAGE_H

#include "nitro/image_seal.h"
#include "vectors.h"

struct image_section {
    uint16_t type;
    struct bytes data;
};

static inline struct bytes image_make(
    uint8_t *out, size_t cap, const struct image_section *sections, size_t n)
{
    memset(out, 0, cap);
    memcpy(out, ".eif", 4);
    image_put(out + 4, 4, 2);
    image_put(out + 8, 1u << 30, 8);
    image_put(out + 16, 2, 8);
    image_put(out + 26, n, 2);
    size_t at = EIF_HEADER_LEN;
    for (size_t i = 0; i < n; i++) {
        assert_true(at + EIF_SECTION_HEADER_LEN + sections[i].data.n <= cap);
        image_put(out + 0x1c + 8 * i, at, 8);
        image_put(out + 0x11c + 8 * i, sections[i].data.n, 8);
        image_put(out + at, sections[i].type, 2);
        image_put(out + at + 4, sections[i].data.n, 8);
        at += EIF_SECTION_HEADER_LEN;
        if (sections[i].data.n > 0)
            memcpy(out + at, sections[i].data.p, sections[i].data.n);
        at += sections[i].data.n;
    }
    image_seal(out, at);
    return bytes_of(out, at);
}

/* Vector A (two ramdisks) or B (one). */
static inline struct bytes image_golden(uint8_t *out, size_t cap, size_t ramdisks_n)
{
    const struct image_section sections[] = {
        {EIF_KERNEL, bytes_of_text("KERNEL")},
        {EIF_CMDLINE, bytes_of_text("console=ttyS0")},
        {EIF_METADATA, bytes_of_text("{\"ImageName\":\"t\",\"ImageVersion\":\"1\"}")},
        {EIF_RAMDISK, bytes_of_text("RAMDISK0")},
        {EIF_RAMDISK, bytes_of_text("RAMDISK1")},
    };
    return image_make(out, cap, sections, 3 + ramdisks_n);
}

#define IMAGE_A_PCR0                                                                               \
    "61fd2b06210a933b3db5e15c5752e394894bb097f7f1d96ad1f55a7525d0d7aa2c63b235f44420b12d8376cc392b" \
    "defb"
#define IMAGE_A_PCR1                                                                               \
    "a6d35ce3e7ba80048a2b23da9b15063726a7cea90e16e9d6934e92a15aa1896fd54de706310e2fbc585d9c37db9c" \
    "1805"
#define IMAGE_A_PCR2                                                                               \
    "5f699ae4300525c628f5c96fc521729dd6ca1a2c07cb07b69e7ae9e3fa935cfd7cc83b3e26d89201a486d9db2405" \
    "c562"
#define IMAGE_B_PCR2                                                                               \
    "21b9efbc184807662e966d34f390821309eeac6802309798826296bf3e8bec7c10edb30948c90ba67310f7b964fc" \
    "500a"

#endif
