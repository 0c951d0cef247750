/* push: what the host says to the enclave's config port (5050) and the answer. Wire: the 8 bytes "TMKMSv1\n",
 * u32be length (at most PUSH_MAX), a JSON object; the answer has the same form. One request a connection; both
 * sides have deadlines.
 *
 *   {"op":"config","config":{the tree of tmkms.toml, with secrets read from files put in place},
 *    "credentials":{"aws_key_id","aws_secret_key","aws_session_token","expires"},"verbose":bool}
 *      -> {"ok":true,"state":"ready","keys":[{"chain_id","public_key" (in the chain's format),"hex"}],
 *          "measured_config":hex48,"pcr16":hex48}
 *   {"op":"keygen","kms":{place},"credentials":{...},"nonce":hex}
 *      -> {"ok":true,"ciphertext":base64,"public_key":hex,"document":base64}
 *   {"op":"attest","nonce":hex,"user_data":hex}   -> {"ok":true,"document":base64}
 *   {"op":"ping"}, answered at once whatever else is in work
 *      -> {"ok":true,"state":"waiting"|"ready","signer":"alive"|"silent","session":"none"|"alive"|"silent",
 *          "log_vsock_port":number}
 *   any failure                                    -> {"ok":false,"error":"in words"}, with "code" for those of
 *                                                       enum push_code */
#ifndef TMKMS_NITRO_PUSH_H
#define TMKMS_NITRO_PUSH_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"

enum { PUSH_PORT = 5050, PUSH_MAX = 256 * 1024, PUSH_DEPTH_MAX = 16, PUSH_NODES_MAX = 8192 };

/* Refusals of a config that a program has to tell from others. */
enum push_code {
    PUSH_CODE_NONE,
    PUSH_CODE_MEASURED, /* "measured_config_differs" from the one that this enclave is bound to */
    PUSH_CODE_CONFIG,   /* "config_differs" from the running one in what is not measured */
};
/* NULL for PUSH_CODE_NONE; text NULL, or a name of no code: PUSH_CODE_NONE. */
const char *push_code_name(enum push_code code);
enum push_code push_code_of(const char *text);

/* The frame of a message of n bytes, for who does not wait: push_header_read says how many follow. */
enum { PUSH_HEADER_LEN = 12 };
void push_header_write(uint8_t out[PUSH_HEADER_LEN], uint32_t n);
bool push_header_read(
    uint32_t *ret_n, const uint8_t in[PUSH_HEADER_LEN], struct err *err) ATTR_MUST_USE;

/* push_write and push_read move one framed JSON object over a stream socket until deadline_us. */
bool push_write(int fd, const json_t *message, uint64_t deadline_us, struct err *err) ATTR_MUST_USE;
/* NULL and err: cut short, oversized, too slow, not JSON. The result is the caller's. */
json_t *push_read(int fd, uint64_t deadline_us, struct err *err);

/* push_parse reads the object without its frame. Nesting and the number of objects and lists are
 * bounded before anything is built. NULL and err; the result is the caller's. */
json_t *push_parse(struct bytes text, struct err *err);

/* push_ask is the host's side of one request: NULL and err also for an answer that says no, with the
 * words of the enclave (free of control characters), and its code (ret_code may be NULL). The result is the caller's.
 */
json_t *push_ask(
    int fd, const json_t *request, uint64_t deadline_us, enum push_code *ret_code, struct err *err);

#endif
