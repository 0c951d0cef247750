#include "enclave/push_frames.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "crypto/secret.h"
#include "nitro/keygen.h"

enum { ROOM_US = 2000000 };

/* The size of a frame of each kind: its header and the one union member it uses. 0: no such kind.
 */
static size_t frame_size(uint32_t kind)
{
    static const size_t sizes[] = {
        [PUSH_CONFIG - PUSH_CONFIG] = sizeof(struct push_config),
        [PUSH_CREDENTIALS - PUSH_CONFIG] = sizeof(struct aws_credentials),
        [PUSH_KEYGEN - PUSH_CONFIG] = sizeof(struct push_keygen),
        [PUSH_ATTEST - PUSH_CONFIG] = sizeof(struct push_attest),
        [PUSH_PING - PUSH_CONFIG] = sizeof(struct push_answer_state), /* zero */
        [PUSH_ANSWER_KEY - PUSH_CONFIG] = sizeof(struct push_answer_key),
        [PUSH_ANSWER_READY - PUSH_CONFIG] = sizeof(struct push_answer_ready),
        [PUSH_ANSWER_DOCUMENT - PUSH_CONFIG] = sizeof(struct push_answer_document),
        [PUSH_ANSWER_STATE - PUSH_CONFIG] = sizeof(struct push_answer_state),
        [PUSH_ANSWER_ERROR - PUSH_CONFIG] = sizeof(struct push_answer_error),
    };
    if (kind < PUSH_CONFIG || kind - PUSH_CONFIG >= sizeof sizes / sizeof sizes[0])
        return 0;
    return offsetof(struct push_frame, u) + sizes[kind - PUSH_CONFIG];
}

#define TERMINATED(array) (memchr((array), '\0', sizeof(array)) != NULL)

static bool is_printable(const char *text)
{
    for (const char *p = text; *p != '\0'; p++)
        if (*p <= ' ' || *p > '~')
            return false;
    return true;
}

bool push_credentials_are_sound(const struct aws_credentials *c)
{
    return TERMINATED(c->key_id) && TERMINATED(c->secret_key) && TERMINATED(c->session_token) &&
           is_printable(c->key_id) && is_printable(c->secret_key) &&
           is_printable(c->session_token) && c->expires_s >= 0;
}

static bool keygen_is_sound(const struct push_keygen *k)
{
    return kms_place_is_sound(&k->place) && keygen_check_key_id(k->place.key_id, NULL) &&
           k->nonce_n >= PUSH_NONCE_MIN && k->nonce_n <= PUSH_NONCE_MAX;
}

static bool attest_is_sound(const struct push_attest *a)
{
    return a->nonce_n <= PUSH_NONCE_MAX && a->user_data_n <= PUSH_USER_DATA_MAX &&
           keygen_allows_user_data(bytes_of(a->user_data, a->user_data_n));
}

static bool config_is_sound(const struct push_config *c)
{
    return c->chains_n <= CONFIG_CHAINS_MAX && c->validators_n <= CONFIG_VALIDATORS_MAX &&
           c->is_verbose <= 1;
}

static bool document_is_sound(const struct push_answer_document *d)
{
    return d->document_n <= sizeof d->document && d->ciphertext_n <= sizeof d->ciphertext &&
           d->key.len <= PUBLIC_KEY_MAX;
}

static bool frame_is_sound(const struct push_frame *f)
{
    switch ((enum push_kind)f->kind) {
    case PUSH_CONFIG:
        return config_is_sound(&f->u.config);
    case PUSH_CREDENTIALS:
        return push_credentials_are_sound(&f->u.credentials);
    case PUSH_KEYGEN:
        return keygen_is_sound(&f->u.keygen);
    case PUSH_ATTEST:
        return attest_is_sound(&f->u.attest);
    case PUSH_ANSWER_KEY:
        return TERMINATED(f->u.key.chain_id) && TERMINATED(f->u.key.text) &&
               f->u.key.key.len <= PUBLIC_KEY_MAX;
    case PUSH_ANSWER_READY:
        return f->u.ready.keys_n <= CONFIG_CHAINS_MAX;
    case PUSH_ANSWER_DOCUMENT:
        return document_is_sound(&f->u.document);
    case PUSH_PING:
    case PUSH_ANSWER_STATE:
        return f->u.state.is_ready <= 1 && f->u.state.signer <= PUSH_SILENT &&
               f->u.state.session <= PUSH_SILENT;
    case PUSH_ANSWER_ERROR:
        return TERMINATED(f->u.error.text) && f->u.error.code <= PUSH_CODE_CONFIG;
    }
    return false;
}

/* Frames are few and small: only a receiver that does not read leaves no room for one. */
bool push_frame_send(int sock, const struct push_frame *frame)
{
    size_t n = frame_size(frame->kind);
    errno = n > 0 ? errno : EINVAL;
    return n > 0 && fd_send_msg_before(sock, frame, n, NULL, 0, clock_monotonic_us() + ROOM_US);
}

int push_frame_peek(int sock, uint32_t *ret_kind)
{
    ssize_t n;
    do
        n = recv(sock, ret_kind, sizeof *ret_kind, MSG_PEEK);
    while (n < 0 && errno == EINTR);
    if (n > 0 && n < (ssize_t)sizeof *ret_kind)
        *ret_kind = 0; /* of no kind: the receiver of control frames refuses it */
    return n > 0 ? 1 : (int)n;
}

int push_frame_recv(int sock, struct push_frame *ret)
{
    size_t fds_n;
    uint32_t kind;
    int found = push_frame_peek(sock, &kind);
    if (found != 1)
        return found;
    if (kind < PUSH_CONFIG) {
        found = control_recv(sock, &ret->u.control, NULL, 0, &fds_n);
        ret->kind = kind;
        return found;
    }
    ssize_t n = fd_recv_msg(sock, ret, sizeof *ret, NULL, 0, &fds_n);
    if (n >= 0 && (size_t)n == frame_size(kind) && frame_is_sound(ret))
        return 1;
    secret_wipe(ret, sizeof *ret);
    errno = n < 0 ? errno : EPROTO;
    return -1;
}

void push_frame_fail(int sock, enum push_code code, const char *fmt, ...)
{
    struct push_frame frame = {.kind = PUSH_ANSWER_ERROR, .u.error.code = code};
    va_list args;
    va_start(args, fmt);
    vsnprintf(frame.u.error.text, sizeof frame.u.error.text, fmt, args);
    va_end(args);
    (void)!push_frame_send(sock, &frame);
}
