/* sigv4: the signature of a request to AWS (Signature Version 4; AWS General Reference, "Create a signed AWS API
 * request"). A pure function. */
#ifndef TMKMS_AWS_SIGV4_H
#define TMKMS_AWS_SIGV4_H

#include <stddef.h>
#include <stdint.h>

#include "aws/kms.h"

enum {
    SIGV4_DATE_LEN = 16, /* "20150830T123600Z" */
    SIGV4_AUTHORIZATION_MAX = 1024,
    SIGV4_HEADERS_MAX = 16,
    SIGV4_CANONICAL_MAX = 16384,
};

struct sigv4_header {
    const char *name;  /* lower case */
    const char *value; /* without white space at its ends or doubled inside */
};

/* All slices and texts are borrowed. path and query are in canonical form already. */
struct sigv4_request {
    const char *method;
    const char *path;                   /* "/" */
    const char *query;                  /* "" */
    const struct sigv4_header *headers; /* sorted by name; host and x-amz-date among them */
    size_t headers_n;
    struct bytes body;
    const char *region, *service;
};

/* The date as the x-amz-date header wants it. false outside the years 1970 to 9999. */
bool sigv4_date(int64_t now_s, char ret[SIGV4_DATE_LEN + 1]) ATTR_MUST_USE;

/* sigv4_sign writes the value of the Authorization header. date: of sigv4_date. What it derives from the secret key is
 * wiped. false when something does not fit. */
bool sigv4_sign(const struct sigv4_request *req, const struct aws_credentials *creds,
    const char *date, char ret[SIGV4_AUTHORIZATION_MAX]) ATTR_MUST_USE;

#endif
