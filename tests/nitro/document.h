/* document: the real attestation document of AWS that the tests have, made 2026-02-02T20:43:47Z. */
#ifndef TMKMS_TESTS_NITRO_DOCUMENT_H
#define TMKMS_TESTS_NITRO_DOCUMENT_H

#include <fcntl.h>

#include "base/fd.h"
#include "crypto/encode.h"
#include "vectors.h"

enum { REAL_LEN = 4556, REAL_TIME_S = 1770065027 };

static inline struct bytes real_document(void)
{
    static uint8_t document[REAL_LEN];
    char text[2 * REAL_LEN];
    size_t text_n = 0, n = 0;
    struct err err;
    int fd = open(VECTORS_DIR "/attestation_2026-02.b64", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fd_read_all(fd, text, sizeof text, &text_n, &err));
    fd_close(&fd);
    assert_true(base64_decode(bytes_of(text, text_n), document, sizeof document, &n));
    assert_int_equal(n, REAL_LEN);
    return bytes_of(document, n);
}

#endif
