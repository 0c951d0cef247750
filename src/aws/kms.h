/* kms: what is asked of AWS KMS, as bodies of requests and answers. No I/O (see fetch/ and aws/http.h). */
#ifndef TMKMS_AWS_KMS_H
#define TMKMS_AWS_KMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"

enum {
    KMS_BLOB_MAX = 6144, /* CiphertextBlob, CiphertextForRecipient */
    KMS_KEY_ID_MAX = 256,
    KMS_REGION_MAX = 32,
    KMS_HOST_MAX = 256,
    KMS_CONTEXT_MAX = 1024, /* name\0value\0 ... */
    KMS_ROOT_MAX = 4096,    /* PEM of a root to use instead of Amazon's */
    AWS_KEY_ID_MAX = 128,
    AWS_SECRET_MAX = 128,
    AWS_TOKEN_MAX = 4096,
};

struct aws_credentials {
    char key_id[AWS_KEY_ID_MAX];
    char secret_key[AWS_SECRET_MAX];
    char session_token[AWS_TOKEN_MAX]; /* "": none */
    int64_t expires_s;                 /* since 1970, 0: not known */
};

/* Where KMS is and which key is meant; plain data. */
struct kms_place {
    char region[KMS_REGION_MAX];
    char host[KMS_HOST_MAX];     /* TLS name; "": kms.REGION.SUFFIX */
    uint16_t port;               /* of host, 0: 443 */
    uint32_t vsock_port;         /* of the parent's proxy, from inside the enclave; 0: 8000 */
    char key_id[KMS_KEY_ID_MAX]; /* "": not sent */
    char context[KMS_CONTEXT_MAX];
    uint32_t context_n;          /* pairs */
    char root_pem[KMS_ROOT_MAX]; /* "": the compiled-in Amazon roots */
};

enum kms_op { KMS_DECRYPT = 1, KMS_GENERATE_DATA_KEY, KMS_ENCRYPT };

struct kms_request {
    uint32_t op; /* enum kms_op */
    struct kms_place place;
    uint32_t blob_n; /* ciphertext (decrypt) or plaintext (encrypt) */
    uint8_t blob[KMS_BLOB_MAX];
    uint32_t document_n; /* attestation document; 0: no Recipient (encrypt) */
    uint8_t document[12288];
};

struct kms_answer {
    uint32_t ok;
    uint32_t envelope_n; /* CiphertextForRecipient */
    uint8_t envelope[KMS_BLOB_MAX];
    uint32_t ciphertext_n; /* CiphertextBlob */
    uint8_t ciphertext[KMS_BLOB_MAX];
    char error[1024]; /* not ok: `AccessDeniedException: text`, with what to do */
};

/* kms_place_is_sound: texts end, counts fit, nothing holds control characters (root_pem but lines).
 * For a place that came from another process. */
bool kms_place_is_sound(const struct kms_place *place) ATTR_MUST_USE;

/* How long the pairs of a context are, with their zero bytes; 0 too when they do not end. */
size_t kms_context_length(const struct kms_place *place);

/* The host name of KMS in a region: kms.eu-west-1.amazonaws.com, .amazonaws.com.cn, ... */
bool kms_host(const struct kms_place *place, char out[KMS_HOST_MAX], struct err *err) ATTR_MUST_USE;

/* kms_call does one operation over connections that `dial` makes (a connected descriptor or -1), retrying throttling
 * and internal errors with back-off until deadline_us. now_s: the trusted time, for TLS and SigV4. Blocking. An answer
 * that holds `Plaintext` where an envelope was asked for is an error. */
typedef int kms_dial(void *ctx, uint64_t deadline_us, struct err *err);
bool kms_call(const struct kms_request *req, const struct aws_credentials *creds, int64_t now_s,
    kms_dial *dial, void *ctx, uint64_t deadline_us, struct kms_answer *ret) ATTR_MUST_USE;

#endif
