#include "aws/http_answer.h"

#include <string.h>
#include <strings.h>

static void spoil(struct http_answer *a, const char *why)
{
    a->state = HTTP_BAD;
    a->why = why;
}

/* "HTTP/1.1 200 OK"; the phrase may be missing. */
static void take_status(struct http_answer *a)
{
    const char *s = a->line;
    bool is_http = strncmp(s, "HTTP/1.", 7) == 0 && (s[7] == '0' || s[7] == '1') && s[8] == ' ';
    int status = 0;
    for (size_t i = 9; is_http && i < 12; i++) {
        is_http = s[i] >= '0' && s[i] <= '9';
        status = status * 10 + (s[i] - '0');
    }
    if (!is_http || status < 100 || status > 599 || (s[12] != ' ' && s[12] != '\0')) {
        spoil(a, "the answer is not HTTP/1.1");
        return;
    }
    a->status = status;
    a->state = HTTP_HEADER;
}

static bool read_number(const char *text, unsigned base, uint64_t *ret)
{
    uint64_t value = 0;
    if (*text == '\0' || strlen(text) > 15)
        return false;
    for (; *text != '\0'; text++) {
        static const char digits[] = "0123456789abcdef";
        int lower = *text >= 'A' && *text <= 'F' ? *text + ('a' - 'A') : *text;
        const char *digit = memchr(digits, lower, base);
        if (digit == NULL)
            return false;
        value = value * base + (uint64_t)(digit - digits);
    }
    *ret = value;
    return true;
}

static void take_length(struct http_answer *a, const char *value)
{
    uint64_t n;
    if (a->has_length || !read_number(value, 10, &n)) {
        spoil(a, "the answer's Content-Length is wrong");
        return;
    }
    if (n > HTTP_BODY_MAX) {
        spoil(a, "the answer is longer than 64 KiB");
        return;
    }
    a->has_length = true;
    a->left = n;
}

/* The text behind "name:" without white space around it, or NULL when the line is another header. */
static const char *header_value(char *line, const char *name)
{
    size_t n = strlen(name);
    if (strncasecmp(line, name, n) != 0 || line[n] != ':')
        return NULL;
    char *value = line + n + 1;
    value += strspn(value, " \t");
    size_t end = strlen(value);
    while (end > 0 && (value[end - 1] == ' ' || value[end - 1] == '\t'))
        value[--end] = '\0';
    return value;
}

static void take_header(struct http_answer *a)
{
    const char *value;
    if (a->line[0] == ' ' || a->line[0] == '\t' || strchr(a->line, ':') == NULL) {
        spoil(a, "the answer holds a line that is no header");
    } else if ((value = header_value(a->line, "content-length")) != NULL) {
        take_length(a, value);
    } else if ((value = header_value(a->line, "transfer-encoding")) != NULL) {
        if (a->is_chunked || strcasecmp(value, "chunked") != 0)
            spoil(a, "the answer has a transfer encoding other than chunked");
        a->is_chunked = true;
    }
}

static void end_of_headers(struct http_answer *a)
{
    if (a->has_length && a->is_chunked) {
        spoil(a, "the answer has both a length and chunks");
    } else if (a->status < 200) {
        a->has_length = a->is_chunked = false;
        a->state = HTTP_STATUS;
    } else if (a->status == 204 || a->status == 304) {
        a->state = HTTP_DONE;
    } else if (a->is_chunked) {
        a->state = HTTP_CHUNK_SIZE;
    } else if (a->has_length) {
        a->state = a->left == 0 ? HTTP_DONE : HTTP_LENGTH;
    } else {
        a->state = HTTP_UNTIL_CLOSE;
    }
}

static void take_chunk_size(struct http_answer *a)
{
    char *extension = strchr(a->line, ';');
    if (extension != NULL)
        *extension = '\0';
    size_t n = strlen(a->line);
    while (n > 0 && (a->line[n - 1] == ' ' || a->line[n - 1] == '\t'))
        a->line[--n] = '\0';
    if (!read_number(a->line, 16, &a->left))
        spoil(a, "a chunk of the answer has no size");
    else if (a->left > HTTP_BODY_MAX - a->body_n)
        spoil(a, "the answer is longer than 64 KiB");
    else
        a->state = a->left == 0 ? HTTP_TRAILER : HTTP_CHUNK_DATA;
}

static void take_line(struct http_answer *a)
{
    bool is_empty = a->line[0] == '\0';
    if (a->state == HTTP_CHUNK_SIZE) {
        take_chunk_size(a); /* at least a byte of the body each: bounded by its limit */
    } else if (a->state == HTTP_CHUNK_END) {
        a->state = HTTP_CHUNK_SIZE;
        if (!is_empty)
            spoil(a, "a chunk of the answer is longer than it says");
    } else if (++a->lines_n > HTTP_LINES_MAX) {
        spoil(a, "the answer has too many headers");
    } else if (a->state == HTTP_STATUS) {
        take_status(a);
    } else if (a->state == HTTP_HEADER && is_empty) {
        end_of_headers(a);
    } else if (a->state == HTTP_HEADER) {
        take_header(a);
    } else if (is_empty) { /* HTTP_TRAILER */
        a->state = HTTP_DONE;
    }
}

/* One byte of a line; lines end with CR LF, and a bare LF is understood. */
static void take_line_byte(struct http_answer *a, uint8_t byte)
{
    if (byte == '\n') {
        if (a->line_n > 0 && a->line[a->line_n - 1] == '\r')
            a->line_n--;
        a->line[a->line_n] = '\0';
        a->line_n = 0;
        take_line(a);
    } else if (byte == '\0') {
        spoil(a, "the answer holds a zero byte among its headers");
    } else if (a->line_n >= sizeof a->line - 1) {
        spoil(a, "the answer holds a header that is too long");
    } else {
        a->line[a->line_n++] = (char)byte;
    }
}

static void take_body(struct http_answer *a, struct reader *r)
{
    bool is_open = a->state == HTTP_UNTIL_CLOSE;
    size_t room = HTTP_BODY_MAX - a->body_n;
    size_t n = is_open || r->n < a->left ? r->n : (size_t)a->left;
    if (n > room) {
        spoil(a, "the answer is longer than 64 KiB");
        return;
    }
    struct bytes part = read_bytes(r, n);
    memcpy(a->body + a->body_n, part.p, part.n);
    a->body_n += part.n;
    a->body[a->body_n] = '\0';
    if (is_open)
        return;
    a->left -= n;
    if (a->left == 0)
        a->state = a->state == HTTP_LENGTH ? HTTP_DONE : HTTP_CHUNK_END;
}

bool http_answer_feed(struct http_answer *a, struct bytes in)
{
    struct reader r = reader_of(in);
    while (r.n > 0 && a->state != HTTP_BAD) {
        switch (a->state) {
        case HTTP_LENGTH:
        case HTTP_CHUNK_DATA:
        case HTTP_UNTIL_CLOSE:
            take_body(a, &r);
            break;
        case HTTP_STATUS:
        case HTTP_HEADER:
        case HTTP_CHUNK_SIZE:
        case HTTP_CHUNK_END:
        case HTTP_TRAILER:
            take_line_byte(a, read_u8(&r));
            break;
        case HTTP_DONE:
            spoil(a, "bytes follow the answer");
            break;
        case HTTP_BAD:
            break;
        }
    }
    return a->state != HTTP_DONE && a->state != HTTP_BAD;
}

void http_answer_close(struct http_answer *a)
{
    if (a->state == HTTP_UNTIL_CLOSE)
        a->state = HTTP_DONE;
    else if (a->state != HTTP_DONE && a->state != HTTP_BAD)
        spoil(a, "the connection ended in the middle of the answer");
}
