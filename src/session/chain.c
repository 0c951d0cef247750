#include "session/chain.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/fd.h"
#include "base/log.h"

static const char log_name[] = "tmkms::session";

static size_t job_size(const struct chain_job *job)
{
    return sizeof job->request + job->blob[0].n + job->blob[1].n;
}

/* What is left of a job after skip bytes, as pieces for sendmsg. */
static size_t job_pieces(const struct chain_job *job, size_t skip, struct iovec out[3])
{
    const struct bytes all[3] = {
        bytes_of(&job->request, sizeof job->request), job->blob[0], job->blob[1]};
    size_t n = 0;
    for (size_t i = 0; i < 3; i++) {
        size_t cut = skip < all[i].n ? skip : all[i].n;
        skip -= cut;
        if (cut == all[i].n)
            continue;
        const uint8_t *p = all[i].p + cut;
        memcpy(&out[n].iov_base, &p, sizeof p); /* sendmsg does not write to it */
        out[n++].iov_len = all[i].n - cut;
    }
    return n;
}

static struct chain_job *pop(struct chain *chain)
{
    struct chain_job *job = chain->first;
    chain->first = job->next;
    if (chain->first == NULL)
        chain->last = NULL;
    job->next = NULL;
    chain->sent = 0;
    chain->reply_n = 0;
    return job;
}

static void close_channel(struct chain *chain)
{
    if (chain->fd < 0)
        return;
    event_del(&chain->readable);
    event_del(&chain->writable);
    fd_close(&chain->fd);
}

void chain_detach(struct chain *chain)
{
    close_channel(chain);
    /* A done may submit nothing new: its connection is closed with it. */
    while (chain->first != NULL) {
        struct chain_job *job = pop(chain);
        job->done(job, NULL);
    }
}

static void lose(struct chain *chain, const char *why)
{
    log_line(LOG_WARN, log_name, "[%s] the signer is gone (%s); waiting for a new one",
        chain->facts.id, why);
    chain_detach(chain);
    chain->lost(chain);
}

/* Writes as much of the first job as the socket takes. One write an event: a large request is sent
 * in pieces, and the other connections have their turn in between. */
static void pump(struct chain *chain)
{
    struct chain_job *job = chain->first;
    if (job == NULL || chain->fd < 0 || chain->sent == job_size(job))
        return;
    struct iovec iov[3];
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = job_pieces(job, chain->sent, iov)};
    ssize_t put = sendmsg(chain->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put < 0 && errno != EAGAIN && errno != EINTR) {
        lose(chain, strerror(errno));
        return;
    }
    if (put > 0)
        chain->sent += (size_t)put;
    if (chain->sent < job_size(job))
        event_add(&chain->writable, NULL);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    pump(arg);
}

static bool reply_is_sound(const struct sign_reply *r)
{
    return r->outcome >= SIGN_DONE && r->outcome <= SIGN_DOUBLE &&
           r->has_extension_signature <= 1 && memchr(r->reason, '\0', sizeof r->reason) != NULL;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct chain *chain = arg;
    (void)what;
    size_t left = sizeof chain->reply - chain->reply_n;
    ssize_t got = recv(fd, (uint8_t *)&chain->reply + chain->reply_n, left, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        lose(chain, got == 0 ? "it closed the channel" : strerror(errno));
        return;
    }
    chain->reply_n += (size_t)got;
    if (chain->first == NULL || chain->sent < job_size(chain->first)) {
        lose(chain, "it answered a question that was not asked");
        return;
    }
    if (chain->reply_n < sizeof chain->reply)
        return;
    if (!reply_is_sound(&chain->reply)) {
        lose(chain, "its answer makes no sense");
        return;
    }
    struct chain_job *job = pop(chain);
    pump(chain); /* the next one's flush begins while this one's reply is written */
    job->done(job, &chain->reply);
}

void chain_attach(struct chain *chain, const struct control_chain *facts, int fd)
{
    close_channel(chain);
    chain->facts = *facts;
    chain->leaving = false;
    chain->fd = fd;
    event_assign(&chain->readable, chain->base, fd, EV_READ | EV_PERSIST, on_readable, chain);
    event_assign(&chain->writable, chain->base, fd, EV_WRITE, on_writable, chain);
    event_add(&chain->readable, NULL);
    if (chain->first != NULL && chain->sent > 0) {
        struct chain_job *job = pop(chain);
        job->done(job, NULL);
    }
    pump(chain);
}

void chain_submit(struct chain *chain, struct chain_job *job)
{
    job->next = NULL;
    if (chain->last != NULL)
        chain->last->next = job;
    else
        chain->first = job;
    chain->last = job;
    if (chain->first == job)
        pump(chain);
}
