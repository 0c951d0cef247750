/* last_words: why an enclave ends, told where somebody may hear it: on the console, which only a debug enclave has, and
 * to the log port of the parent. */
#ifndef TMKMS_ENCLAVE_LAST_WORDS_H
#define TMKMS_ENCLAVE_LAST_WORDS_H

#include <stdint.h>

#include "link/vsock.h"

enum { LAST_WORDS_PORT = 6050, LAST_WORDS_US = 1000000 };

/* last_words_say takes at most LAST_WORDS_US and cannot fail. The lines go out before it returns where anybody takes
 * them. log_port: 0 for LAST_WORDS_PORT. */
void last_words_say(const struct vsock *v, uint32_t log_port, const char *words);

#endif
