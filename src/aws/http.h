/* http: one HTTP/1.1 request and its answer over a connected descriptor, in clear or under TLS. Blocking, with a
 * deadline over all of it. No redirects, no proxies, no second request.
 *
 * TLS: 1.2 or newer, roots given or Amazon's, host name checked, certificates judged at a given time; nothing is read
 * from the system. The caller has called aws_start and ignores SIGPIPE. */
#ifndef TMKMS_AWS_HTTP_H
#define TMKMS_AWS_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "aws/http_answer.h"
#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"

enum {
    HTTP_HEADERS_MAX = 8192, /* request line and headers of a request */
};

struct http_tls {
    const char *host;     /* the name (or address) that the certificate must carry */
    const char *root_pem; /* NULL or "": Amazon's */
    int64_t now_s;        /* since 1970 */
};

struct http_request {
    const char *method; /* "GET" */
    const char *path;   /* "/" */
    const char *host;   /* of the Host header, with ":port" where it is not the usual one */
    const char
        *headers; /* more header lines, each ended by "\r\n"; the caller answers for their form */
    struct bytes body;
};

/* What http_call came to. BROKEN: the connection failed, another may do. REFUSED: this will not get better by trying
 * again (certificate, an answer that is not HTTP). */
enum http_outcome { HTTP_ANSWERED, HTTP_BROKEN, HTTP_REFUSED };

/* http_call: tls NULL means in clear. fd is borrowed and non-blocking afterwards. Any status is an answer. *ret is
 * overwritten in any case, err holds the reason unless HTTP_ANSWERED. */
enum http_outcome http_call(int fd, const struct http_tls *tls, const struct http_request *req,
    uint64_t deadline_us, struct http_answer *ret, struct err *err) ATTR_MUST_USE;

#endif
