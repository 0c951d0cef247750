#include "fetch/fetch.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "crypto/secret.h"
#include "fetch/message.h"

enum {
    ROOM_US = 2000000
}; /* messages are few and small: only who does not read leaves no room for one */

/* ---- messages --------------------------------------------------------------------- */

/* 0: no such kind. */
static size_t size_of(uint32_t kind)
{
    const size_t head = offsetof(struct fetch_message, u);
    if (kind == FETCH_JOB)
        return head + sizeof(struct fetch_job);
    if (kind == FETCH_ANSWER)
        return head + sizeof(struct kms_answer);
    if (kind == FETCH_LINE)
        return head + FETCH_TEXT_MAX;
    return kind == FETCH_DIAL ? head : 0;
}

#define IS_TEXT(field) (memchr((field), '\0', sizeof(field)) != NULL)

static bool job_is_sound(const struct fetch_job *j)
{
    return j->request.op >= KMS_DECRYPT && j->request.op <= KMS_ENCRYPT &&
           j->request.blob_n <= KMS_BLOB_MAX &&
           j->request.document_n <= sizeof j->request.document &&
           kms_place_is_sound(&j->request.place) && IS_TEXT(j->credentials.key_id) &&
           IS_TEXT(j->credentials.secret_key) && IS_TEXT(j->credentials.session_token);
}

static bool answer_is_sound(const struct kms_answer *a)
{
    return a->ok <= 1 && a->envelope_n <= KMS_BLOB_MAX && a->ciphertext_n <= KMS_BLOB_MAX &&
           IS_TEXT(a->error);
}

static bool message_is_sound(const struct fetch_message *msg, size_t n, bool has_fd)
{
    if (n < sizeof msg->kind || n != size_of(msg->kind) || (has_fd && msg->kind != FETCH_LINE))
        return false;
    switch ((enum fetch_kind)msg->kind) {
    case FETCH_JOB:
        return job_is_sound(&msg->u.job);
    case FETCH_ANSWER:
        return answer_is_sound(&msg->u.answer);
    case FETCH_LINE:
        return IS_TEXT(msg->u.text);
    case FETCH_DIAL:
        return true;
    }
    return false;
}

bool fetch_send(int sock, const struct fetch_message *msg, int fd)
{
    return fd_send_msg_before(
        sock, msg, size_of(msg->kind), &fd, fd >= 0 ? 1 : 0, clock_monotonic_us() + ROOM_US);
}

int fetch_recv(int sock, struct fetch_message *ret, int *ret_fd)
{
    size_t fds_n = 0;
    *ret_fd = -1;
    ssize_t n = fd_recv_msg(sock, ret, sizeof *ret, ret_fd, 1, &fds_n);
    if (n == 0)
        return 0;
    if (n > 0 && message_is_sound(ret, (size_t)n, fds_n > 0))
        return 1;
    fd_close(ret_fd);
    errno = n > 0 ? EBADMSG : errno;
    return -1;
}

/* ---- the monitor's side ------------------------------------------------------------- */

bool fetch_start(int control, const struct fetch_job *job, struct err *err)
{
    struct fetch_message *msg = calloc(1, sizeof *msg);
    if (msg == NULL)
        return err_set(err, "out of memory");
    msg->kind = FETCH_JOB;
    msg->u.job = *job;
    bool ok =
        fetch_send(control, msg, -1) || err_errno(err, "cannot hand the fetch process its job");
    secret_wipe(msg, sizeof *msg);
    free(msg);
    return ok;
}

enum fetch_event fetch_feed(int control, struct kms_answer *ret)
{
    int fd;
    struct fetch_message *msg = malloc(sizeof *msg);
    enum fetch_event event = FETCH_ENDED;
    if (msg != NULL && fetch_recv(control, msg, &fd) == 1) {
        fd_close(&fd);
        if (msg->kind == FETCH_DIAL)
            event = FETCH_WANTS_LINE;
        if (msg->kind == FETCH_ANSWER) {
            event = FETCH_ANSWERED;
            *ret = msg->u.answer;
        }
    }
    free(msg);
    return event;
}

bool fetch_give_line(int control, int fd, const char *why)
{
    struct fetch_message *msg = calloc(1, sizeof *msg);
    if (msg == NULL)
        return false;
    msg->kind = FETCH_LINE;
    snprintf(msg->u.text, sizeof msg->u.text, "%s", why != NULL ? why : "no connection");
    bool ok = fetch_send(control, msg, fd);
    free(msg);
    return ok;
}
