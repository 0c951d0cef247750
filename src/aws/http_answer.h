/* http_answer: reads the answer to one HTTP/1.1 request, from bytes to the end of the body. No I/O.
 *
 *   STATUS -> HEADER -> (LENGTH | CHUNK_SIZE -> CHUNK_DATA -> CHUNK_END -> ... -> TRAILER | UNTIL_CLOSE) -> DONE
 *
 * Any step may end in BAD. An interim answer (1xx) goes from HEADER back to STATUS. */
#ifndef TMKMS_AWS_HTTP_ANSWER_H
#define TMKMS_AWS_HTTP_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum {
    HTTP_BODY_MAX = 65536,
    HTTP_LINE_MAX = 8192,
    HTTP_LINES_MAX = 128, /* status lines, headers and trailers together */
};

enum http_state {
    HTTP_STATUS,
    HTTP_HEADER,
    HTTP_LENGTH,
    HTTP_CHUNK_SIZE,
    HTTP_CHUNK_DATA,
    HTTP_CHUNK_END,
    HTTP_TRAILER,
    HTTP_UNTIL_CLOSE,
    HTTP_DONE,
    HTTP_BAD,
};

/* Starts zeroed. Plain data; large, so keep it off small stacks. */
struct http_answer {
    enum http_state state;
    int status; /* 100..599 */
    size_t body_n;
    char body[HTTP_BODY_MAX + 1]; /* terminated by zero */
    const char *why;              /* BAD: what is wrong with it (static) */
    /* How far the reading has come. */
    char line[HTTP_LINE_MAX];
    size_t line_n;
    unsigned lines_n;
    bool has_length, is_chunked;
    uint64_t left; /* of the body or the chunk */
};

/* http_answer_feed takes the next bytes; returns whether more are wanted. What follows a complete answer is an
 * error: there was one request. */
bool http_answer_feed(struct http_answer *a, struct bytes in);
/* The other side closed in order: completes an answer without a length, spoils any other that is not complete. */
void http_answer_close(struct http_answer *a);

#endif
