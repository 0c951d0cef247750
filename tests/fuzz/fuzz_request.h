/* fuzz_request: what holds for every input of a privval line's parser. Shared by fuzz_request_p1, _p2. */
#ifndef TMKMS_FUZZ_REQUEST_H
#define TMKMS_FUZZ_REQUEST_H

#include <stdlib.h>
#include <string.h>

#include "privval/message.h"
#include "privval/protobuf.h"
#include "privval/sign_bytes.h"

static inline void fuzz_must(bool holds)
{
    if (!holds)
        abort();
}

static inline void fuzz_parsed(enum wire_line line, const struct request *req)
{
    uint8_t buf[REPLY_MAX];
    struct signed_reply reply = {.has_extension_signature = true};
    memset(reply.signature, 1, sizeof reply.signature);
    if (req->problem != NULL) {
        fuzz_must(reply_error(line, req, 2, req->problem, buf, sizeof buf).n > 0);
        return;
    }
    if (req->kind != REQUEST_VOTE && req->kind != REQUEST_PROPOSAL)
        return;
    size_t chain_id_n = strlen(req->chain_id);
    fuzz_must(chain_id_n > 0 && chain_id_n <= CHAIN_ID_MAX);
    fuzz_must(signable_problem(&req->signable) == NULL);
    struct bytes canonical = sign_bytes(&req->signable, req->chain_id, buf);
    fuzz_must(canonical.n > 0 && raw_bytes_problem(canonical) != NULL);
    fuzz_must(reply_signed(line, req, &reply, buf, sizeof buf).n > 0);
}

/* The body of the frame again, behind the length it really has: a cut or a longer frame then gets past
 * request_frame_len. */
static inline void fuzz_body(enum wire_line line, const uint8_t *data, size_t size)
{
    size_t prefix = 0;
    while (prefix < size && data[prefix] >= 0x80)
        prefix++;
    if (prefix == size || size > REQUEST_MAX)
        return;
    struct bytes body = bytes_of(data + prefix + 1, size - prefix - 1);
    struct writer w = writer_of(malloc(body.n + PB_VARINT_MAX), body.n + PB_VARINT_MAX);
    struct request req;
    fuzz_must(w.buf != NULL);
    pb_write_varint(&w, body.n);
    write_bytes(&w, body);
    if (request_parse(&req, line, written(&w)))
        fuzz_parsed(line, &req);
    free(w.buf);
}

static inline int fuzz_request(enum wire_line line, const uint8_t *data, size_t size)
{
    struct request req;
    struct bytes in = bytes_of(data, size);
    long n = request_frame_len(in);
    fuzz_must(n >= -1 && n <= REQUEST_MAX);
    if (n > 0 && (size_t)n <= size && request_parse(&req, line, bytes_of(data, (size_t)n)))
        fuzz_parsed(line, &req);
    if (n != (long)size)
        fuzz_must(!request_parse(&req, line, in));
    fuzz_body(line, data, size);
    return 0;
}

#endif
