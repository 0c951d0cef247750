#include "session/validator.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "crypto/aead.h"

enum {
    READ_MAX = 16384,  /* bytes read for one event */
    BATCH_MAX = 16,    /* requests answered for one event */
    OUTBOX_MIN = 4096, /* every handshake message fits */
};

static void go_on(struct validator *v);

static uint64_t in_ms(uint64_t ms)
{
    return clock_monotonic_us() + ms * 1000;
}

static uint64_t idle_ms(const struct validator *v)
{
    return (uint64_t)v->config.timeout_secs * v->timing->idle_unit_ms;
}

/* ---- the end of a connection, and the next one ---- */

static void hang_up(struct validator *v)
{
    dial_stop(&v->dial);
    event_del(&v->timer);
    if (v->fd >= 0) {
        event_del(&v->readable);
        event_del(&v->writable);
    }
    fd_close(&v->fd);
    secure_free(v->secure);
    v->secure = NULL;
    inbox_clear(&v->inbox);
    v->outbox_n = v->outbox_sent = 0;
    v->deadline_us = 0;
    v->is_reading = v->is_serving = v->is_partial = false;
}

/* Not dropped, and its chain has a signer. */
static bool has_work(const struct validator *v)
{
    return !v->leaving && v->chain != NULL && v->chain->fd >= 0 && !v->chain->leaving;
}

static void dial_in(struct validator *v, uint32_t ms)
{
    if (!has_work(v)) {
        v->state = VALIDATOR_PARKED;
        return;
    }
    v->state = VALIDATOR_WAITING;
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    event_add(&v->timer, &tv);
}

static uint32_t redial_pause(const struct validator *v)
{
    uint32_t r;
    random_bytes(&r, sizeof r);
    return v->timing->redial_min_ms + r % (v->timing->redial_max_ms - v->timing->redial_min_ms + 1);
}

/* The dial or the connection failed. A node that was there a moment ago is dialled again at once:
 * it may be waiting for its signer. No limit is needed on that: each turn costs the peer as much as
 * us. */
static void failed(struct validator *v, const char *fmt, ...) ATTR_PRINTF(2, 3);
static void failed(struct validator *v, const char *fmt, ...)
{
    char why[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    bool had_served = v->served > 0;
    hang_up(v);
    v->served = 0;
    if (had_served)
        report_ended(&v->report, why);
    else
        report_failure(&v->report, why);
    if (v->config.reconnect) {
        dial_in(v, had_served ? 0 : redial_pause(v));
    } else {
        v->state = v->leaving ? VALIDATOR_PARKED : VALIDATOR_ENDED;
        err_set(&v->ended_why, "client '%s' exited with error: %s", v->report.who, why);
    }
}

void validator_park(struct validator *v)
{
    hang_up(v);
    v->served = 0;
    if (v->state != VALIDATOR_ENDED)
        v->state = VALIDATOR_PARKED;
}

/* ---- writing ---- */

static void request_finished(struct validator *v)
{
    uint64_t now = clock_monotonic_us();
    v->is_serving = false;
    v->deadline_us = now + idle_ms(v) * 1000;
    if (v->served == 0)
        report_works(&v->report);
    v->served++;
    report_served(&v->report, &v->serve.request, &v->outcome, now - v->began_us);
    inbox_consume(&v->inbox, v->frame_n);
    if (!has_work(v))
        validator_park(v);
}

/* Sends what is in the outbox; what does not fit waits for the socket. */
static void flush(struct validator *v)
{
    size_t left = v->outbox_n - v->outbox_sent;
    ssize_t put = send(v->fd, v->outbox + v->outbox_sent, left, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put < 0 && errno != EAGAIN && errno != EINTR) {
        failed(v, "connection error: %s (os error %d)", strerror(errno), errno);
        return;
    }
    v->outbox_sent += put > 0 ? (size_t)put : 0;
    if (v->outbox_sent < v->outbox_n) {
        event_add(&v->writable, NULL);
        return;
    }
    v->outbox_n = v->outbox_sent = 0;
    if (v->is_serving)
        request_finished(v);
}

static void send_reply(struct validator *v, struct bytes plain)
{
    struct writer out = writer_of(v->outbox, v->outbox_cap);
    struct err err;
    if (plain.n == 0 || !secure_seal(v->secure, plain, &out, &err)) {
        failed(v, "internal error: a reply could not be written: %s",
            plain.n == 0 ? "empty" : err.text);
        return;
    }
    v->outbox_n = written(&out).n;
    v->deadline_us = in_ms(v->timing->write_ms);
    flush(v);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    flush(arg);
    go_on(arg);
}

/* ---- requests ---- */

static void on_answer(struct chain_job *job, const struct sign_reply *reply)
{
    struct validator *v = job->owner;
    v->is_waiting = false;
    if (reply == NULL) { /* the chain has said why */
        hang_up(v);
        v->served = 0;
        dial_in(v, redial_pause(v));
        return;
    }
    uint8_t buf[REPLY_MAX];
    v->outcome.how = SERVED_BY_SIGNER;
    v->outcome.reply = *reply;
    send_reply(v, serve_reply(&v->serve, reply, buf));
    go_on(v);
}

/* Starts on the frame at the front of the inbox. It may be answered, or the connection closed, on
 * return. */
static void serve_frame(struct validator *v, struct bytes frame)
{
    v->is_serving = true;
    v->is_partial = false;
    v->frame_n = frame.n;
    v->began_us = clock_monotonic_us();
    v->deadline_us = 0;
    v->serve.validator = &v->config;
    v->serve.chain = &v->chain->facts;
    uint8_t buf[REPLY_MAX];
    struct bytes reply;
    struct err *why = &v->outcome.why;
    switch (serve_request(&v->serve, frame, buf, &reply, &v->job.request, v->job.blob, why)) {
    case SERVE_REPLY:
        v->outcome.how = SERVED_HERE;
        send_reply(v, reply);
        return;
    case SERVE_REFUSE:
        v->outcome.how = SERVED_REFUSED_HERE;
        send_reply(v, reply);
        return;
    case SERVE_SIGN:
        v->is_waiting = true;
        chain_submit(v->chain, &v->job);
        return;
    case SERVE_CLOSE:
        failed(v, "connection error: %s", why->text);
        return;
    }
}

/* The next whole request in the inbox; empty: there is none (yet). */
static struct bytes next_frame(struct validator *v)
{
    struct bytes have = inbox_bytes(&v->inbox);
    long n = request_frame_len(have);
    if (n < 0) {
        failed(v, "connection error: malformed protocol message or over %d bytes", REQUEST_MAX);
        return (struct bytes){0};
    }
    if (n > 0 && (size_t)n <= have.n)
        return bytes_of(have.p, (size_t)n);
    if (!inbox_expect(&v->inbox, (size_t)n))
        failed(v, "out of memory");
    return (struct bytes){0};
}

/* A message must be complete within the time limit, counted from its first byte, however it
 * trickles in. */
static void watch_partial(struct validator *v)
{
    if (v->is_partial || inbox_bytes(&v->inbox).n == 0)
        return;
    v->is_partial = true;
    v->deadline_us = in_ms(idle_ms(v));
}

/* Serves what is in the inbox, a bounded number of requests, then lets the others have their turn.
 */
static void go_on(struct validator *v)
{
    static const struct timeval at_once = {0};
    for (int i = 0; v->state == VALIDATOR_OPEN && !v->is_serving && v->outbox_n == 0; i++) {
        struct bytes frame = next_frame(v);
        if (v->state != VALIDATOR_OPEN)
            return;
        if (frame.n == 0) {
            watch_partial(v);
            if (!v->is_reading)
                event_add(&v->readable, NULL);
            v->is_reading = true;
            return;
        }
        if (i == BATCH_MAX) {
            event_add(&v->timer, &at_once);
            return;
        }
        serve_frame(v, frame);
    }
}

/* ---- reading ---- */

static void opened(struct validator *v)
{
    v->state = VALIDATOR_OPEN;
    v->deadline_us = in_ms(idle_ms(v));
    report_connected(&v->report, &v->config, v->secure);
    go_on(v);
}

/* Sends what the handshake has to say, and notices its end. */
static void handshake_on(struct validator *v)
{
    struct bytes hello = secure_output(v->secure);
    if (hello.n > v->outbox_cap - v->outbox_n) {
        failed(v, "protocol error: the validator does not read the handshake");
        return;
    }
    if (hello.n > 0) {
        memcpy(v->outbox + v->outbox_n, hello.p, hello.n);
        v->outbox_n += hello.n;
        flush(v);
    }
    if (v->state == VALIDATOR_HANDSHAKE && secure_state(v->secure) == SECURE_OPEN)
        opened(v);
}

static void take(struct validator *v, struct bytes raw)
{
    static uint8_t plain[READ_MAX + SECURE_HELD_MAX];
    struct writer out = writer_of(plain, sizeof plain);
    struct err err;
    if (!secure_input(v->secure, raw, &out, &err)) {
        failed(v, "%s", err.text);
        return;
    }
    if (!inbox_append(&v->inbox, written(&out))) {
        failed(v, "out of memory");
        return;
    }
    if (v->state == VALIDATOR_HANDSHAKE)
        handshake_on(v);
    else
        go_on(v);
}

static bool is_busy(const struct validator *v)
{
    return v->state == VALIDATOR_OPEN &&
           (v->is_serving || v->outbox_n > 0 || event_pending(&v->timer, EV_TIMEOUT, NULL));
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct validator *v = arg;
    (void)what;
    /* One request at a time: the next bytes wait in the socket, and a hasty peer with them. */
    if (is_busy(v)) {
        event_del(&v->readable);
        v->is_reading = false;
        return;
    }
    static uint8_t raw[READ_MAX];
    ssize_t got = recv(fd, raw, sizeof raw, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    const char *kind = v->state == VALIDATOR_OPEN ? "connection" : "protocol";
    if (got == 0)
        failed(v, "%s error: the validator closed the connection", kind);
    else if (got < 0)
        failed(v, "%s error: %s (os error %d)", kind, strerror(errno), errno);
    else
        take(v, bytes_of(raw, (size_t)got));
}

/* ---- dialling ---- */

static bool make_outbox(struct validator *v)
{
    if (v->outbox != NULL)
        return true;
    size_t sealed = secure_sealed_max(REPLY_MAX);
    v->outbox_cap = sealed > OUTBOX_MIN ? sealed : OUTBOX_MIN;
    v->outbox = malloc(v->outbox_cap);
    return v->outbox != NULL;
}

static void on_dialled(struct dial *dial, int fd, const struct err *why)
{
    struct validator *v = dial->owner;
    struct err err;
    if (fd < 0) {
        failed(v, "%s", why->text);
        return;
    }
    v->fd = fd;
    event_assign(&v->readable, v->base, fd, EV_READ | EV_PERSIST, on_readable, v);
    event_assign(&v->writable, v->base, fd, EV_WRITE, on_writable, v);
    v->secure = make_outbox(v) ? secure_new(&v->config.address, v->identity, &err)
                               : (err_set(&err, "out of memory"), NULL);
    if (v->secure == NULL) {
        failed(v, "%s", err.text);
        return;
    }
    v->state = VALIDATOR_HANDSHAKE;
    v->deadline_us = in_ms(v->timing->handshake_ms);
    event_add(&v->readable, NULL);
    v->is_reading = true;
    handshake_on(v);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct validator *v = arg;
    (void)fd;
    (void)what;
    if (v->state == VALIDATOR_OPEN) {
        go_on(v);
        return;
    }
    v->state = VALIDATOR_DIALLING;
    dial_start(&v->dial);
}

/* ---- the monitor's side ---- */

struct validator *validator_new(const struct config_validator *config, struct signing_key *identity,
    struct event_base *base, struct evdns_base *dns, const struct vsock *vsock, int monitor,
    const struct session_timing *timing)
{
    struct validator *v = calloc(1, sizeof *v);
    if (v == NULL)
        return NULL;
    memcpy(&v->config, config,
        sizeof v->config); /* with its padding: CONTROL_VALIDATOR_DROP compares bytes */
    v->identity = identity;
    v->base = base;
    v->timing = timing;
    v->fd = -1;
    v->job.done = on_answer;
    v->job.owner = v;
    v->dial = (struct dial){.base = base,
        .dns = dns,
        .timing = timing,
        .vsock = vsock,
        .monitor = monitor,
        .to = &v->config.address,
        .done = on_dialled,
        .owner = v};
    dial_init(&v->dial);
    evtimer_assign(&v->timer, base, on_timer, v);
    report_init(&v->report, config, timing->report_ms);
    return v;
}

void validator_free(struct validator *v)
{
    hang_up(v);
    signing_key_free(v->identity);
    free(v->outbox);
    free(v);
}

void validator_start(struct validator *v, struct chain *chain)
{
    v->chain = chain;
    if (v->state == VALIDATOR_PARKED)
        dial_in(v, 0);
}

void validator_sweep(struct validator *v, uint64_t now_us)
{
    if (v->state == VALIDATOR_DIALLING)
        dial_sweep(&v->dial, now_us);
    if (v->deadline_us == 0 || now_us < v->deadline_us)
        return;
    if (v->state == VALIDATOR_HANDSHAKE)
        failed(v, "protocol error: no handshake within %u ms", v->timing->handshake_ms);
    else if (v->is_serving)
        failed(v, "connection error: the validator did not take a reply within %u ms",
            v->timing->write_ms);
    else
        failed(v, "connection error: no %s within %" PRIu64 " ms",
            v->is_partial ? "complete message" : "request", idle_ms(v));
}
