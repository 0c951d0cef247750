/* aws: what every process that uses this room does first. */
#ifndef TMKMS_AWS_AWS_H
#define TMKMS_AWS_AWS_H

#include "base/attr.h"
#include "base/err.h"

/* aws_start makes OpenSSL (TLS, X.509, CMS) ready without reading a file, now or later: call it before
 * sandbox_enter, behind crypto_start. May be called again. */
bool aws_start(struct err *err) ATTR_MUST_USE;

/* The reason OpenSSL noted last, in its words ("unsupported", "certificate verify failed"), and its queue is emptied.
 * The text is static. */
const char *aws_openssl_reason(void);

#endif
