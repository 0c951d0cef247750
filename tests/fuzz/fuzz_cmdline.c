/* The kernel's command line: what is taken is in range, and taken again from our own words for it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "enclave/cmdline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cmdline c, again;
    struct err err = {""};
    char text[128];
    if (!cmdline_parse(&c, bytes_of(data, size), &err)) {
        if (strstr(err.text, "tmkms.") == NULL)
            abort();
        return 0;
    }
    if (c.parent_cid == 0 || c.parent_cid == UINT32_MAX || c.port == 0 || c.port == UINT32_MAX)
        abort();
    snprintf(text, sizeof text, "tmkms.debug=%d tmkms.parent_cid=%u tmkms.port=%u", c.is_debug,
        (unsigned)c.parent_cid, (unsigned)c.port);
    if (!cmdline_parse(&again, bytes_of_text(text), &err) || again.is_debug != c.is_debug ||
        again.parent_cid != c.parent_cid || again.port != c.port)
        abort();
    return 0;
}
