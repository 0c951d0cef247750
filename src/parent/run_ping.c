#include "parent/run_ping.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"

static const char question[] = "{\"op\":\"ping\"}";

/* ---- what is said ---- */

static void say_request(struct ping_talk *t)
{
    size_t n = sizeof question - 1;
    push_header_write(t->request, (uint32_t)n);
    memcpy(t->request + PUSH_HEADER_LEN, question, n);
    t->say = bytes_of(t->request, PUSH_HEADER_LEN + n);
}

void ping_talk_start(struct ping_talk *t, const struct vsock *v, uint32_t port)
{
    *t = (struct ping_talk){0};
    if (v->uds[0] == '\0') {
        say_request(t);
        return;
    }
    t->port = port;
    int n = snprintf(t->hello, sizeof t->hello, "CONNECT %" PRIu32 "\n", port);
    t->say = bytes_of(t->hello, (size_t)n);
}

/* "OK <number>\n" */
static enum ping_answer hear_hello(struct ping_talk *t, struct err *err)
{
    if (t->in[t->in_n - 1] == '\n' && t->in_n > 3 && memcmp(t->in, "OK ", 3) == 0) {
        t->port = 0;
        t->in_n = 0;
        say_request(t);
        return PING_MORE;
    }
    if (t->in[t->in_n - 1] != '\n' && t->in_n < PING_HELLO_MAX)
        return PING_MORE;
    err_set(err, "the stand-in for vsock answers what is no OK");
    return PING_FAILED;
}

static bool is_silent(const json_t *answer, const char *who)
{
    const char *word = json_string_value(json_object_get(answer, who));
    return word != NULL && strcmp(word, "silent") == 0;
}

static enum ping_answer read_answer(struct bytes text, struct err *err)
{
    json_t *answer = push_parse(text, err);
    if (answer == NULL)
        return PING_FAILED;
    const char *state = json_string_value(json_object_get(answer, "state"));
    enum ping_answer ret = PING_FAILED;
    if (json_is_true(json_object_get(answer, "ok")) && state != NULL && strcmp(state, "ready") == 0)
        ret =
            is_silent(answer, "signer") || is_silent(answer, "session") ? PING_SILENT : PING_READY;
    else if (json_is_true(json_object_get(answer, "ok")) && state != NULL &&
             strcmp(state, "waiting") == 0)
        ret = PING_WAITING;
    else
        err_set(err, "its answer is not that to a ping");
    json_decref(answer);
    return ret;
}

static enum ping_answer hear_byte(struct ping_talk *t, uint8_t byte, struct err *err)
{
    uint32_t n = 0;
    t->in[t->in_n++] = byte;
    if (t->port != 0)
        return hear_hello(t, err);
    if (t->in_n < PUSH_HEADER_LEN)
        return PING_MORE;
    if (!push_header_read(&n, t->in, err))
        return PING_FAILED;
    if (n > PING_ANSWER_MAX) {
        err_set(err, "its answer to a ping has %" PRIu32 " bytes", n);
        return PING_FAILED;
    }
    if (t->in_n < PUSH_HEADER_LEN + n)
        return PING_MORE;
    return read_answer(bytes_of(t->in + PUSH_HEADER_LEN, n), err);
}

enum ping_answer ping_talk_hear(struct ping_talk *t, struct bytes in, struct err *err)
{
    enum ping_answer answer = PING_MORE;
    for (size_t i = 0; i < in.n && answer == PING_MORE; i++)
        answer = hear_byte(t, in.p[i], err);
    return answer;
}

/* ---- a question ---- */

void ping_stop(struct ping *p)
{
    if (p->readable != NULL)
        event_free(p->readable);
    if (p->writable != NULL)
        event_free(p->writable);
    p->readable = p->writable = NULL;
    fd_close(&p->fd);
}

static void end(struct ping *p, enum ping_answer answer, const struct err *why)
{
    ping_stop(p);
    p->done(p->ctx, answer, why);
}

static void fail(struct ping *p, const char *what)
{
    struct err err;
    err_errno(&err, "%s", what);
    end(p, PING_FAILED, &err);
}

/* The few bytes that are said fit into any socket. */
static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct ping *p = arg;
    int failed = 0;
    socklen_t n = sizeof failed;
    if (getsockopt((int)fd, SOL_SOCKET, SO_ERROR, &failed, &n) != 0 || (errno = failed) != 0) {
        fail(p, "it does not listen");
        return;
    }
    ssize_t put = send((int)fd, p->talk.say.p, p->talk.say.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0 && (errno == EAGAIN || errno == EINTR)) {
        event_add(p->writable, NULL);
        return;
    }
    if (put != (ssize_t)p->talk.say.n) {
        fail(p, "it takes no question");
        return;
    }
    p->talk.say = bytes_of(NULL, 0);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct ping *p = arg;
    struct err err;
    uint8_t buf[PING_ANSWER_MAX];
    ssize_t got = recv((int)fd, buf, sizeof buf, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got < 0) {
        fail(p, "its connection broke");
        return;
    }
    if (got == 0) {
        err_set(&err, "it ended the connection");
        end(p, PING_FAILED, &err);
        return;
    }
    enum ping_answer answer = ping_talk_hear(&p->talk, bytes_of(buf, (size_t)got), &err);
    if (answer != PING_MORE)
        end(p, answer, answer == PING_FAILED ? &err : NULL);
    else if (p->talk.say.n > 0)
        event_add(p->writable, NULL);
}

bool ping_ask(struct ping *p, struct event_base *base, const struct vsock *v, uint32_t cid,
    uint32_t port, struct err *err)
{
    ping_talk_start(&p->talk, v, port);
    p->fd = vsock_dial_guest_start(v, cid, port, err);
    if (p->fd < 0)
        return false;
    p->readable = event_new(base, p->fd, EV_READ | EV_PERSIST, on_readable, p);
    p->writable = event_new(base, p->fd, EV_WRITE, on_writable, p);
    if (p->readable != NULL && p->writable != NULL && event_add(p->readable, NULL) == 0 &&
        event_add(p->writable, NULL) == 0)
        return true;
    ping_stop(p);
    return err_set(err, "out of memory");
}
