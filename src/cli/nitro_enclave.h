/* nitro_enclave: how the commands on the parent reach an enclave's config port. */
#ifndef TMKMS_CLI_NITRO_ENCLAVE_H
#define TMKMS_CLI_NITRO_ENCLAVE_H

#include <jansson.h>
#include <stdint.h>

#include "aws/kms.h"
#include "base/err.h"
#include "cli/command.h"
#include "link/vsock.h"
#include "nitro/push.h"

/* The flags that these commands share; borrowed from argv. The names with `config_push` are those of
 * the prototype. */
struct enclave_options {
    const char *port, *cid, *uds, *timeout;
};
#define ENCLAVE_OPTION_FLAGS(o)                                                                    \
    {'p', "port", &(o).port, NULL}, {'i', "cid", &(o).cid, NULL},                                  \
        {0, "config_push_port", &(o).port, NULL}, {0, "config-push-port", &(o).port, NULL},        \
        {0, "config_push_cid", &(o).cid, NULL}, {0, "config-push-cid", &(o).cid, NULL},            \
        {0, "vsock-uds", &(o).uds, NULL},                                                          \
    {                                                                                              \
        0, "timeout", &(o).timeout, NULL                                                           \
    }
enum { ENCLAVE_FLAGS_N = 8 };
#define ENCLAVE_OPTIONS_HELP                                                                       \
    "  -i, --cid CID         The enclave's CID (also --config_push_cid)\n"                         \
    "  -p, --port PORT       Its config port [default: 5050] (also --config_push_port)\n"          \
    "      --timeout SECONDS How long to wait for its answer [default: 130]\n"                     \
    "      --vsock-uds PATH  Reach it through unix sockets instead of vsock [default:\n"           \
    "                        $TMKMS_VSOCK_UDS]; then no CID is needed\n"

struct enclave {
    struct vsock vsock;
    uint32_t cid, port, timeout_s;
};

/* enclave_from reads the flags. COMMAND_GO_ON, or the exit code to return at once. */
int enclave_from(const struct command *self, const struct enclave_options *o, struct enclave *ret);

/* enclave_ask: one request and its answer (the caller's). NULL and err: not reached, or it said no. */
json_t *enclave_ask(const struct enclave *e, const json_t *request, struct err *err);
/* The same, with the code of a no. */
json_t *enclave_ask_coded(
    const struct enclave *e, const json_t *request, enum push_code *ret_code, struct err *err);

/* A text of an answer: "" when it is missing, or holds what should not reach a terminal. */
const char *enclave_text(const json_t *answer, const char *name);

/* Decimal digits only. */
bool enclave_number(const char *text, uint32_t min, uint32_t max, uint32_t *ret);

/* enclave_parent_is_sound: are these a role and an instance that PCR3 and PCR4 can be computed from? NULL is sound. */
bool enclave_parent_is_sound(const char *role, const char *instance, struct err *err) ATTR_MUST_USE;

/* The table of a request; the caller's. */
json_t *enclave_credentials(const struct aws_credentials *c);

#endif
