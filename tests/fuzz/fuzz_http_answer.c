/* Answers of an HTTP server, in pieces whose size the first byte gives. */
#include <stdint.h>
#include <stdlib.h>

#include "aws/http_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_answer a;
    if (size == 0)
        return 0;
    size_t step = (size_t)data[0] + 1;
    a = (struct http_answer){0};
    for (size_t at = 1; at < size; at += step)
        if (!http_answer_feed(&a, bytes_of(data + at, size - at < step ? size - at : step)))
            break;
    http_answer_close(&a);
    if ((a.state != HTTP_DONE && a.state != HTTP_BAD) || a.body_n > HTTP_BODY_MAX ||
        a.body[a.body_n] != '\0')
        abort();
    if (a.state == HTTP_DONE && (a.status < 200 || a.status > 599))
        abort();
    return 0;
}
