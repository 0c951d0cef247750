/* cmdline: what the kernel's command line tells the enclave. It is part of the image and measured in PCR0; QEMU's
 * -append is not. Form: Linux, Documentation/admin-guide/kernel-parameters.rst. */
#ifndef TMKMS_ENCLAVE_CMDLINE_H
#define TMKMS_ENCLAVE_CMDLINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"

enum { CMDLINE_MAX = 4096 };

struct cmdline {
    bool is_debug;       /* tmkms.debug=1: registers that are zero are taken */
    uint32_t parent_cid; /* tmkms.parent_cid=N */
    uint32_t port;       /* tmkms.port=N: where configs are pushed to */
};

/* cmdline_parse: of a key that stands there twice the last one counts. A key of ours that is not known, or a value that
 * it does not take, is an error; keys of others are theirs. */
bool cmdline_parse(struct cmdline *ret, struct bytes text, struct err *err) ATTR_MUST_USE;

/* cmdline_read takes it from <root>/proc/cmdline. */
bool cmdline_read(struct cmdline *ret, const char *root, struct err *err) ATTR_MUST_USE;

#endif
