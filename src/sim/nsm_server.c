#include "sim/nsm_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/rand.h>

#include "base/clock.h"
#include "base/fd.h"
#include "nitro/cbor.h"
#include "nitro/pcr.h"
#include "sim/nsm_chain.h"

/* user_data and nonce: the stricter of the two limits in AWS's papers. */
enum { RANDOM_LEN = 256, DATA_MAX = 512, KEY_MAX = 1024 };

struct server {
    struct nsm_sim_options options;
    struct nsm_chain chain;
    uint8_t pcrs[PCR_COUNT][PCR_LEN];
    uint32_t locked; /* bit i: PCR i */
};

static void answer_error(struct writer *w, const char *name)
{
    w->n = 0;
    cbor_write_map(w, 1);
    cbor_write_text(w, "Error");
    cbor_write_text(w, name);
}

/* ---- registers ---------------------------------------------------------------------- */

/* Fields of a request, in any order; what is absent stays as it is. */
struct arguments {
    uint64_t index;
    struct bytes data, user_data, nonce, public_key;
};

static struct bytes read_optional(struct reader *r)
{
    if (cbor_peek(r) != CBOR_NULL)
        return cbor_read_bytes(r);
    cbor_read_null(r);
    return (struct bytes){0};
}

static struct arguments read_arguments(struct reader *r)
{
    struct arguments a = {.index = UINT64_MAX};
    struct cbor_list map = cbor_read_map(r);
    while (cbor_more(r, &map)) {
        struct bytes name = cbor_read_text(r);
        if (bytes_equal(name, bytes_of_text("index")) || bytes_equal(name, bytes_of_text("range")))
            a.index = cbor_read_uint(r);
        else if (bytes_equal(name, bytes_of_text("data")))
            a.data = cbor_read_bytes(r);
        else if (bytes_equal(name, bytes_of_text("user_data")))
            a.user_data = read_optional(r);
        else if (bytes_equal(name, bytes_of_text("nonce")))
            a.nonce = read_optional(r);
        else if (bytes_equal(name, bytes_of_text("public_key")))
            a.public_key = read_optional(r);
        else
            r->bad = true;
    }
    return a;
}

static void describe_pcr(struct server *s, const struct arguments *a, struct writer *w)
{
    if (a->index >= PCR_COUNT) {
        answer_error(w, "InvalidIndex");
        return;
    }
    cbor_write_map(w, 1);
    cbor_write_text(w, "DescribePCR");
    cbor_write_map(w, 2);
    cbor_write_text(w, "lock");
    cbor_write_bool(w, (s->locked >> a->index & 1) != 0);
    cbor_write_text(w, "data");
    cbor_write_bytes(w, bytes_of(s->pcrs[a->index], PCR_LEN));
}

/* Answers and returns false where the register cannot be changed. */
static bool is_open(const struct server *s, const struct arguments *a, struct writer *w)
{
    if (a->index >= PCR_COUNT)
        answer_error(w, "InvalidIndex");
    else if ((s->locked >> a->index & 1) != 0)
        answer_error(w, "ReadOnlyIndex");
    else
        return true;
    return false;
}

static void extend_pcr(struct server *s, const struct arguments *a, struct writer *w)
{
    if (!is_open(s, a, w))
        return;
    uint8_t *pcr = s->pcrs[a->index];
    pcr_extend(pcr, a->data, pcr);
    cbor_write_map(w, 1);
    cbor_write_text(w, "ExtendPCR");
    cbor_write_map(w, 1);
    cbor_write_text(w, "data");
    cbor_write_bytes(w, bytes_of(pcr, PCR_LEN));
}

static void lock_pcr(struct server *s, const struct arguments *a, struct writer *w)
{
    if (!is_open(s, a, w))
        return;
    s->locked |= 1u << a->index;
    cbor_write_text(w, "LockPCR");
}

static void lock_pcrs(struct server *s, const struct arguments *a, struct writer *w)
{
    if (a->index > PCR_COUNT) {
        answer_error(w, "InvalidIndex");
        return;
    }
    for (unsigned i = 0; i < a->index; i++)
        s->locked |= 1u << i;
    cbor_write_text(w, "LockPCRs");
}

/* ---- what has no arguments ---------------------------------------------------------- */

static void describe_nsm(struct server *s, struct writer *w)
{
    cbor_write_map(w, 1);
    cbor_write_text(w, "DescribeNSM");
    cbor_write_map(w, 7);
    cbor_write_text(w, "version_major");
    cbor_write_uint(w, 1);
    cbor_write_text(w, "version_minor");
    cbor_write_uint(w, 0);
    cbor_write_text(w, "version_patch");
    cbor_write_uint(w, 0);
    cbor_write_text(w, "module_id");
    cbor_write_text(w, s->options.module_id);
    cbor_write_text(w, "max_pcrs");
    cbor_write_uint(w, PCR_COUNT);
    cbor_write_text(w, "locked_pcrs");
    cbor_write_array(w, (uint64_t)__builtin_popcount(s->locked));
    for (unsigned i = 0; i < PCR_COUNT; i++)
        if ((s->locked >> i & 1) != 0)
            cbor_write_uint(w, i);
    cbor_write_text(w, "digest");
    cbor_write_text(w, "SHA384");
}

static void get_random(struct writer *w)
{
    uint8_t random[RANDOM_LEN];
    if (RAND_bytes(random, sizeof random) != 1) {
        answer_error(w, "InternalError");
        return;
    }
    cbor_write_map(w, 1);
    cbor_write_text(w, "GetRandom");
    cbor_write_map(w, 1);
    cbor_write_text(w, "random");
    cbor_write_bytes(w, bytes_of(random, sizeof random));
}

/* ---- the document ------------------------------------------------------------------- */

static void write_optional(struct writer *w, const char *name, struct bytes value)
{
    cbor_write_text(w, name);
    if (value.n > 0)
        cbor_write_bytes(w, value);
    else
        cbor_write_null(w);
}

/* The order and the indefinite map of a document of February 2026. */
static void write_payload(
    struct server *s, const struct arguments *a, uint64_t now_ms, struct writer *w)
{
    const struct nsm_certificate *certificates = s->chain.certificates;
    cbor_write_open_map(w);
    cbor_write_text(w, "module_id");
    cbor_write_text(w, s->options.module_id);
    cbor_write_text(w, "digest");
    cbor_write_text(w, "SHA384");
    cbor_write_text(w, "timestamp");
    cbor_write_uint(w, now_ms);
    cbor_write_text(w, "pcrs");
    cbor_write_map(w, (uint64_t)__builtin_popcount(s->locked));
    for (unsigned i = 0; i < PCR_COUNT; i++) {
        if ((s->locked >> i & 1) == 0)
            continue;
        cbor_write_uint(w, i);
        cbor_write_bytes(w, bytes_of(s->pcrs[i], PCR_LEN));
    }
    cbor_write_text(w, "certificate");
    cbor_write_bytes(w, bytes_of(certificates[NSM_CHAIN_LEAF].der, certificates[NSM_CHAIN_LEAF].n));
    cbor_write_text(w, "cabundle");
    cbor_write_array(w, NSM_CHAIN_LEAF);
    for (int i = 0; i < NSM_CHAIN_LEAF; i++)
        cbor_write_bytes(w, bytes_of(certificates[i].der, certificates[i].n));
    write_optional(w, "public_key", a->public_key);
    write_optional(w, "user_data", a->user_data);
    write_optional(w, "nonce", a->nonce);
    cbor_write_break(w);
}

static bool write_document(struct server *s, struct bytes payload, struct writer *w)
{
    static const uint8_t header[] = {0xa1, 0x01, 0x38, 0x22}; /* {1: -35}: ES384 */
    uint8_t text[NSM_RESPONSE_MAX], signature[96];
    const struct bytes protected = bytes_of(header, sizeof header);
    struct writer t = writer_of(text, sizeof text);
    cbor_write_array(&t, 4);
    cbor_write_text(&t, "Signature1");
    cbor_write_bytes(&t, protected);
    cbor_write_bytes(&t, (struct bytes){0});
    cbor_write_bytes(&t, payload);
    if (t.bad || !nsm_chain_sign(&s->chain, written(&t), signature))
        return false;
    cbor_write_array(w, 4);
    cbor_write_bytes(w, protected);
    cbor_write_map(w, 0);
    cbor_write_bytes(w, payload);
    cbor_write_bytes(w, bytes_of(signature, sizeof signature));
    return !w->bad;
}

static void attest(struct server *s, const struct arguments *a, struct writer *w)
{
    uint8_t payload[NSM_RESPONSE_MAX], document[NSM_RESPONSE_MAX];
    struct writer p = writer_of(payload, sizeof payload), d = writer_of(document, sizeof document);
    if (a->user_data.n > DATA_MAX || a->nonce.n > DATA_MAX || a->public_key.n > KEY_MAX) {
        answer_error(w, "InputTooLarge");
        return;
    }
    uint64_t now_ms = clock_realtime_us() / 1000 + (uint64_t)s->options.clock_offset_ms;
    if (!nsm_chain_renew(&s->chain, s->options.module_id, (int64_t)(now_ms / 1000), NULL)) {
        answer_error(w, "InternalError");
        return;
    }
    write_payload(s, a, now_ms, &p);
    if (p.bad || !write_document(s, written(&p), &d)) {
        answer_error(w, "InternalError");
        return;
    }
    cbor_write_map(w, 1);
    cbor_write_text(w, "Attestation");
    cbor_write_map(w, 1);
    cbor_write_text(w, "document");
    cbor_write_bytes(w, written(&d));
}

/* ---- requests ----------------------------------------------------------------------- */

static bool is(struct bytes name, const char *text)
{
    return bytes_equal(name, bytes_of_text(text));
}

static void answer_with_arguments(
    struct server *s, struct bytes name, const struct arguments *a, struct writer *w)
{
    if (is(name, "DescribePCR"))
        describe_pcr(s, a, w);
    else if (is(name, "ExtendPCR"))
        extend_pcr(s, a, w);
    else if (is(name, "LockPCR"))
        lock_pcr(s, a, w);
    else if (is(name, "LockPCRs"))
        lock_pcrs(s, a, w);
    else if (is(name, "Attestation"))
        attest(s, a, w);
    else
        answer_error(w, "InvalidOperation");
}

static void answer(struct server *s, struct bytes request, struct writer *w)
{
    struct reader r = reader_of(request);
    struct arguments a = {0};
    if (cbor_peek(&r) == CBOR_TEXT) {
        struct bytes name = cbor_read_text(&r);
        if (!reader_done(&r))
            answer_error(w, "InvalidArgument");
        else if (is(name, "DescribeNSM"))
            describe_nsm(s, w);
        else if (is(name, "GetRandom"))
            get_random(w);
        else
            answer_error(w, "InvalidOperation");
        return;
    }
    struct cbor_list map = cbor_read_map(&r);
    struct bytes name = {0};
    if (cbor_more(&r, &map)) {
        name = cbor_read_text(&r);
        a = read_arguments(&r);
    }
    if (cbor_more(&r, &map) || !reader_done(&r))
        answer_error(w, "InvalidArgument");
    else
        answer_with_arguments(s, name, &a, w);
}

/* ---- the process -------------------------------------------------------------------- */

static void serve(struct server *s, int fd)
{
    uint8_t request[NSM_REQUEST_MAX], response[NSM_RESPONSE_MAX];
    for (;;) {
        int reply ATTR_CLEANUP(fd_close) = -1;
        size_t fds_n = 0;
        ssize_t n = fd_recv_msg(fd, request, sizeof request, &reply, 1, &fds_n);
        if (n <= 0)
            return;
        if (fds_n != 1)
            continue;
        struct writer w = writer_of(response, sizeof response);
        answer(s, bytes_of(request, (size_t)n), &w);
        if (w.bad) {
            w.bad = false;
            answer_error(&w, "BufferTooSmall");
        }
        /* A client that went away meanwhile misses its answer, nothing else. */
        if (!fd_send_msg(reply, response, w.n, NULL, 0))
            continue;
    }
}

/* Only the server's end stays open: what the forking process holds (listeners, the client's end) must not live on
 * here. Standard error stays, for sanitizers. */
static void keep_only(int fd)
{
    dup2(fd, STDIN_FILENO);
    close(STDOUT_FILENO);
    close_range(STDERR_FILENO + 1, ~0u, 0);
}

int nsm_server_start(const struct nsm_sim_options *options, struct err *err)
{
    static struct server server;
    int pair[2] ATTR_CLEANUP(fd_close_pair) = {-1, -1};
    server = (struct server){.options = *options, .locked = (1u << NSM_SIM_BOOT_PCRS) - 1};
    memcpy(server.pcrs, options->pcrs, sizeof options->pcrs);
    if (!nsm_chain_load(&server.chain, options->dir, err))
        return -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        err_errno(err, "cannot make a socket for the software NSM");
        return -1;
    }
    /* Forked twice, so that the caller, which waits for children of its own, never hears of it. */
    pid_t child = fork();
    if (child == 0) {
        if (fork() != 0)
            _exit(0);
        keep_only(pair[1]);
        serve(&server, STDIN_FILENO);
        _exit(0);
    }
    nsm_chain_free(&server.chain);
    if (child < 0 || waitpid(child, NULL, 0) != child) {
        err_errno(err, "cannot start the software NSM");
        return -1;
    }
    int client = pair[0];
    pair[0] = -1;
    return client;
}
