#include "ipc/control.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "nitro/keygen.h"

/* The size of a message of each kind: its header and the one union member it uses. 0: no such kind.
 */
static size_t control_size(uint32_t kind)
{
    static const size_t sizes[] = {
        [CONTROL_CHAIN_ADD] = sizeof(struct config_chain),
        [CONTROL_CHAIN_UPDATE] = sizeof(struct config_chain),
        [CONTROL_CHAIN_READY] = sizeof(struct control_chain),
        [CONTROL_CHAIN_ADD_S] = sizeof(struct control_chain),
        [CONTROL_CHAIN_GO] = sizeof(struct control_floor),
        [CONTROL_CHAIN_OPEN] = CHAIN_ID_MAX + 1,
        [CONTROL_CHANNEL] = CHAIN_ID_MAX + 1,
        [CONTROL_CHAIN_DROP] = CHAIN_ID_MAX + 1,
        [CONTROL_VALIDATOR_ADD] = sizeof(struct config_validator),
        [CONTROL_VALIDATOR_DROP] = sizeof(struct config_validator),
        [CONTROL_FAILED] = CONTROL_TEXT_MAX,
        [CONTROL_WARNING] = CONTROL_TEXT_MAX,
        [CONTROL_END] = CHAIN_ID_MAX + 1,
        [CONTROL_NSM] = CHAIN_ID_MAX + 1,
        [CONTROL_DOCUMENT_ASK] = CHAIN_ID_MAX + 1,
        [CONTROL_DOCUMENT] = sizeof(struct control_document),
        [CONTROL_SEALED_ADD] = sizeof(struct control_sealed),
        [CONTROL_IDENTITY_OPEN] = sizeof(struct control_sealed),
        [CONTROL_IDENTITY] = CHAIN_ID_MAX + 1,
        [CONTROL_KEYGEN] = sizeof(struct control_keygen),
        [CONTROL_KEYGEN_DONE] = sizeof(struct control_keygen_done),
        [CONTROL_LINK_ASK] = CHAIN_ID_MAX + 1,
        [CONTROL_LINK] = CHAIN_ID_MAX + 1,
        [CONTROL_DIAL] = sizeof(struct control_dial),
        [CONTROL_DIALLED] = sizeof(struct control_dialled),
        [CONTROL_PING] = CHAIN_ID_MAX + 1,
        [CONTROL_PONG] = CHAIN_ID_MAX + 1,
    };
    size_t known = sizeof sizes / sizeof sizes[0];
    return kind < known && sizes[kind] > 0 ? offsetof(struct control, u) + sizes[kind] : 0;
}

#define TERMINATED(array) (memchr((array), '\0', sizeof(array)) != NULL)

static bool public_key_is_sound(const struct public_key *k)
{
    return (k->type == KEY_ED25519 && k->len == 32) || (k->type == KEY_SECP256K1 && k->len == 33);
}

static bool chain_is_sound(const struct config_chain *c)
{
    return TERMINATED(c->id) && c->id[0] != '\0' && TERMINATED(c->account_prefix) &&
           TERMINATED(c->consensus_prefix) && TERMINATED(c->state_file) &&
           TERMINATED(c->key_file) && c->display >= DISPLAY_BECH32 && c->display <= DISPLAY_HEX &&
           c->key_format >= KEY_FILE_BASE64 && c->key_format <= KEY_FILE_EXPANDED96 &&
           c->key_type >= KEY_ED25519 && c->key_type <= KEY_SECP256K1 &&
           c->hook_args[sizeof c->hook_args - 1] == '\0' && c->sealed_n <= sizeof c->sealed &&
           (c->expected_key.type == 0 || public_key_is_sound(&c->expected_key)) &&
           kms_place_is_sound(&c->kms);
}

static bool validator_is_sound(const struct config_validator *v)
{
    const struct link_address *a = &v->address;
    return TERMINATED(v->chain_id) && TERMINATED(v->secret_key) && TERMINATED(a->text) &&
           TERMINATED(a->host) && TERMINATED(a->path) && a->kind >= LINK_UNIX &&
           a->kind <= LINK_VSOCK && v->sealed_n <= sizeof v->sealed &&
           (v->line == WIRE_P1 || v->line == WIRE_P2);
}

static bool control_is_sound(const struct control *c)
{
    switch ((enum control_kind)c->kind) {
    case CONTROL_CHAIN_ADD:
    case CONTROL_CHAIN_UPDATE:
        return chain_is_sound(&c->u.chain);
    case CONTROL_CHAIN_READY:
    case CONTROL_CHAIN_ADD_S:
        return TERMINATED(c->u.channel.id) && public_key_is_sound(&c->u.channel.key);
    case CONTROL_CHAIN_GO:
        return TERMINATED(c->u.floor.id);
    case CONTROL_CHAIN_OPEN:
    case CONTROL_CHANNEL:
    case CONTROL_CHAIN_DROP:
    case CONTROL_END:
    case CONTROL_NSM:
    case CONTROL_DOCUMENT_ASK:
    case CONTROL_IDENTITY:
    case CONTROL_LINK_ASK:
    case CONTROL_LINK:
    case CONTROL_PING:
    case CONTROL_PONG:
        return TERMINATED(c->u.chain_id);
    case CONTROL_DOCUMENT:
        return c->u.document.n <= sizeof c->u.document.document;
    case CONTROL_SEALED_ADD:
        return chain_is_sound(&c->u.sealed.chain) && c->u.sealed.envelope_n <= KMS_BLOB_MAX;
    case CONTROL_IDENTITY_OPEN:
        return c->u.sealed.envelope_n <= KMS_BLOB_MAX;
    case CONTROL_KEYGEN:
        return kms_place_is_sound(&c->u.keygen.place) && c->u.keygen.envelope_n <= KMS_BLOB_MAX &&
               c->u.keygen.ciphertext_n <= KMS_BLOB_MAX &&
               c->u.keygen.nonce_n <= sizeof c->u.keygen.nonce;
    case CONTROL_KEYGEN_DONE:
        return public_key_is_sound(&c->u.keygen_done.key) &&
               c->u.keygen_done.document.n <= sizeof c->u.keygen_done.document.document;
    case CONTROL_VALIDATOR_ADD:
    case CONTROL_VALIDATOR_DROP:
        return validator_is_sound(&c->u.validator);
    case CONTROL_DIAL:
        return TERMINATED(c->u.dial.address);
    case CONTROL_DIALLED:
        return true;
    case CONTROL_FAILED:
    case CONTROL_WARNING:
        return TERMINATED(c->u.text);
    }
    return false;
}

bool control_send(int sock, const struct control *msg, const int *fds, size_t fds_n)
{
    return fd_send_msg(sock, msg, control_size(msg->kind), fds, fds_n);
}

bool control_send_now(int sock, const struct control *msg, const int *fds, size_t fds_n)
{
    return fd_send_msg_before(sock, msg, control_size(msg->kind), fds, fds_n, 0);
}

int control_recv(int sock, struct control *ret, int *fds, size_t fds_max, size_t *ret_fds_n)
{
    struct control msg;
    ssize_t n = fd_recv_msg(sock, &msg, sizeof msg, fds, fds_max, ret_fds_n);
    /* ECONNRESET: the other side has ended, and not read all that it was sent. */
    if (n <= 0)
        return n == 0 || errno == ECONNRESET ? 0 : -1;
    if ((size_t)n < sizeof msg.kind || (size_t)n != control_size(msg.kind) ||
        !control_is_sound(&msg)) {
        while (*ret_fds_n > 0)
            fd_close(&fds[--*ret_fds_n]);
        errno = EPROTO;
        return -1;
    }
    memcpy(ret, &msg, (size_t)n);
    return 1;
}

void control_fail(int sock, const char *fmt, ...)
{
    struct control msg = {.kind = CONTROL_FAILED};
    va_list args;
    va_start(args, fmt);
    vsnprintf(msg.u.text, sizeof msg.u.text, fmt, args);
    va_end(args);
    (void)!control_send(sock, &msg, NULL, 0);
}
