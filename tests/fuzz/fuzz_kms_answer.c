/* Answers of KMS: the first byte chooses operation and status, the rest is the body. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "aws/kms_body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct kms_request req;
    static struct kms_answer answer;
    static const int statuses[] = {200, 400, 403, 500};
    if (size == 0)
        return 0;
    req.op = KMS_DECRYPT + data[0] % 3U;
    enum kms_verdict verdict =
        kms_answer_read(&req, statuses[data[0] / 3U % 4U], bytes_of(data + 1, size - 1), &answer);
    if ((verdict == KMS_OK) != (answer.ok == 1) || answer.envelope_n > KMS_BLOB_MAX ||
        answer.ciphertext_n > KMS_BLOB_MAX)
        abort();
    if (verdict == KMS_OK && req.op != KMS_ENCRYPT && answer.envelope_n == 0)
        abort();
    if ((verdict != KMS_OK && answer.error[0] == '\0') ||
        memchr(answer.error, '\0', sizeof answer.error) == NULL)
        abort();
    for (const char *c = answer.error; *c != '\0'; c++)
        if (*c < ' ' || *c > '~')
            abort();
    return 0;
}
