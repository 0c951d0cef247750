/* kms_body: the JSON of requests to KMS and of its answers. No I/O. */
#ifndef TMKMS_AWS_KMS_BODY_H
#define TMKMS_AWS_KMS_BODY_H

#include "aws/kms.h"

enum {
    /* The longest request: base64 of the document and of the blob, the context with every byte escaped. */
    KMS_BODY_MAX = 48 * 1024,
};

/* "TrentService.Decrypt" */
const char *kms_target(enum kms_op op);

/* Writes the request's body; false when it does not fit or a field is out of its bounds. It holds the plaintext of an
 * Encrypt: the caller wipes it. */
bool kms_body_write(const struct kms_request *req, struct writer *w) ATTR_MUST_USE;

/* What an answer of KMS means. */
enum kms_verdict {
    KMS_OK,
    KMS_AGAIN, /* throttled, or broken inside: try again */
    KMS_NO,    /* try again and it says the same */
};

/* kms_answer_read fills *ret (ok, blobs, error) from the HTTP status and the body. */
enum kms_verdict kms_answer_read(const struct kms_request *req, int status, struct bytes body,
    struct kms_answer *ret) ATTR_MUST_USE;

#endif
