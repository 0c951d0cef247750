#include "bench/load.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/clock.h"
#include "base/fd.h"

enum { ANSWER_US = 10 * 1000 * 1000, CONNECT_US = 60 * 1000 * 1000, EVENTS_MAX = 256 };

ATTR_PRINTF(2, 3) ATTR_NORETURN static void give_up(const struct target *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "%s: ", t->chain_id);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

void target_listen(struct target *t)
{
    struct err err = {0};
    t->listener = node_listen(t->address, t->identity, &err);
    if (t->listener == NULL)
        give_up(t, "%s", err.text);
}

static struct node_reply ask(struct target *t, const struct node_request *request)
{
    struct node_reply reply = {0};
    struct err err = {0};
    if (!node_ask(t->conn, t->line, request, clock_monotonic_us() + ANSWER_US, &reply, &err))
        give_up(t, "%s", err.text);
    if (reply.is_error)
        give_up(t, "the signer refuses: %s", reply.error);
    return reply;
}

void target_accept(struct target *t)
{
    struct err err = {0};
    t->conn = node_accept(t->listener, clock_monotonic_us() + CONNECT_US, &err);
    if (t->conn == NULL)
        give_up(t, "%s", err.text);
    struct node_request request = {.kind = NODE_PUBKEY, .chain_id = t->chain_id};
    t->key = ask(t, &request).key;
}

void target_hang_up(struct target *t)
{
    node_hang_up(t->conn);
    t->conn = NULL;
}

/* The request that is next for this chain. */
static struct node_request next_request(struct target *t)
{
    t->step = t->step == STEP_PRECOMMIT ? STEP_PROPOSAL : (enum step)(t->step + 1);
    if (t->step == STEP_PROPOSAL)
        t->height++;
    return (struct node_request){
        .kind = t->step == STEP_PROPOSAL ? NODE_PROPOSAL : NODE_VOTE,
        .chain_id = t->chain_id,
        .signable = node_signable(t->height, 0, t->step),
    };
}

void target_check(struct target *t)
{
    struct err err = {0};
    struct node_request request = next_request(t);
    struct node_reply reply = ask(t, &request);
    if (!node_check(&request, &reply, &t->key, &err))
        give_up(t, "%s", err.text);
}

static void send_next(struct target *t, uint64_t due)
{
    uint8_t buf[NODE_REQUEST_OVERHEAD];
    struct err err = {0};
    struct node_request request = next_request(t);
    struct bytes frame = node_encode(t->line, &request, buf, sizeof buf);
    t->due = due;
    if (frame.n == 0 || !node_send(t->conn, frame, &err))
        give_up(t, "cannot send: %s", err.text);
}

static void take_reply(struct target *t, struct samples *ret)
{
    struct node_reply reply = {0};
    struct bytes frame;
    struct err err = {0};
    if (!node_receive(t->conn, &frame, clock_monotonic_us() + ANSWER_US, &err))
        give_up(t, "%s", err.text);
    samples_add(ret, clock_monotonic_us() - t->due);
    if (!node_decode(&reply, t->line, frame, &err))
        give_up(t, "%s", err.text);
    if (reply.is_error || !reply.has_signature)
        give_up(t, "the signer refuses: %s", reply.error);
    t->due = 0;
}

static int watch(struct target *targets, unsigned targets_n)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < targets_n; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &targets[i]};
        if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, node_fd(targets[i].conn), &event) != 0)
            give_up(&targets[i], "epoll: %s", strerror(errno));
    }
    return epoll;
}

static int wait_readable(int epoll, struct epoll_event *events, uint64_t until)
{
    uint64_t now = clock_monotonic_us();
    uint64_t left = until > now ? until - now : 0;
    struct timespec timeout = {
        .tv_sec = (time_t)(left / 1000000), .tv_nsec = (long)(left % 1000000) * 1000};
    int n = epoll_pwait2(epoll, events, EVENTS_MAX, &timeout, NULL);
    return n > 0 ? n : 0;
}

static unsigned in_flight(const struct target *targets, unsigned targets_n)
{
    unsigned n = 0;
    for (unsigned i = 0; i < targets_n; i++)
        n += targets[i].due != 0;
    return n;
}

static void drain(int epoll, struct target *targets, unsigned targets_n, struct samples *ret)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t until = clock_monotonic_us() + ANSWER_US;
    while (in_flight(targets, targets_n) > 0 && clock_monotonic_us() < until) {
        int n = wait_readable(epoll, events, until);
        for (int i = 0; i < n; i++)
            take_reply(events[i].data.ptr, ret);
    }
    for (unsigned i = 0; i < targets_n; i++) {
        if (targets[i].due != 0)
            give_up(&targets[i], "no answer");
    }
}

/* One chain: plain blocking calls, so that no wake-up of ours stands in the figure. */
static void closed_alone(struct target *t, uint64_t end, struct samples *ret)
{
    while (clock_monotonic_us() < end) {
        send_next(t, clock_monotonic_us());
        take_reply(t, ret);
    }
}

void load_closed(
    struct target *targets, unsigned targets_n, uint64_t duration_us, struct samples *ret)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t end = clock_monotonic_us() + duration_us;

    if (targets_n == 1) {
        closed_alone(&targets[0], end, ret);
        return;
    }
    int epoll = watch(targets, targets_n);
    for (unsigned i = 0; i < targets_n; i++)
        send_next(&targets[i], clock_monotonic_us());
    while (clock_monotonic_us() < end) {
        int n = wait_readable(epoll, events, end);
        for (int i = 0; i < n; i++) {
            take_reply(events[i].data.ptr, ret);
            send_next(events[i].data.ptr, clock_monotonic_us());
        }
    }
    drain(epoll, targets, targets_n, ret);
    fd_close(&epoll);
}

void load_open(struct target *targets, unsigned targets_n, unsigned rate, uint64_t duration_us,
    struct samples *ret)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t period = 1000000 / rate;
    uint64_t start = clock_monotonic_us();
    uint64_t *next = calloc(targets_n, sizeof *next);

    if (next == NULL)
        give_up(&targets[0], "out of memory");
    int epoll = watch(targets, targets_n);
    for (unsigned i = 0; i < targets_n; i++)
        next[i] = start + period * i / targets_n;
    for (uint64_t now = start; now < start + duration_us; now = clock_monotonic_us()) {
        uint64_t soonest = start + duration_us;
        for (unsigned i = 0; i < targets_n; i++) {
            if (targets[i].due == 0 && next[i] <= now) {
                send_next(&targets[i], next[i]);
                next[i] += period;
            }
            if (targets[i].due == 0 && next[i] < soonest)
                soonest = next[i];
        }
        int n = wait_readable(epoll, events, soonest);
        for (int i = 0; i < n; i++)
            take_reply(events[i].data.ptr, ret);
    }
    drain(epoll, targets, targets_n, ret);
    free(next);
    fd_close(&epoll);
}
