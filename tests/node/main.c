/* tmkms-test-node: plays a validator node with one signer, height after height, and shows each
 * signature with its latency. Not a consensus engine: there is one validator and no block. Ends
 * with 1 on a bad or missing signature. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "node.h"

enum { SECOND = 1000000, SIGNER_WAIT = 60 * SECOND, REPLY_WAIT = 5 * SECOND };

struct options {
    const char *listen, *chain_id, *pubkey;
    enum wire_line line;
    long long blocks, interval_ms, height;
};

struct run {
    struct options o;
    struct signing_key *identity;
    struct node_listener *listener;
    struct node_conn *conn;
    struct public_key key; /* the signer's, once it told */
    uint64_t *micros;      /* latency of each signature */
    size_t micros_n, micros_cap;
    size_t refused;
};

static volatile sig_atomic_t stopped;

static void stop(int sig)
{
    (void)sig;
    stopped = 1;
}

/* ---- one exchange, over as many connections as it takes ---- */

static bool connect_signer(struct run *run, struct err *err)
{
    uint64_t deadline = clock_monotonic_us() + SIGNER_WAIT;
    printf("waiting for a signer on %s\n", node_address(run->listener));
    fflush(stdout);
    while (!stopped && clock_monotonic_us() < deadline) {
        run->conn = node_accept(run->listener, deadline, err);
        if (run->conn != NULL) {
            printf("signer connected\n");
            return true;
        }
        if (clock_monotonic_us() < deadline && !stopped)
            printf("a signer came and failed: %s\n", err->text);
    }
    return err_set(err, stopped ? "stopped" : "no signer came within a minute");
}

/* Asks again after each lost connection, as CometBFT does. micros is that of the exchange that
 * succeeded. */
static bool ask(struct run *run, const struct node_request *req, struct node_reply *reply,
    uint64_t *micros, struct err *err)
{
    while (!stopped) {
        if (run->conn == NULL && !connect_signer(run, err))
            return false;
        uint64_t start = clock_monotonic_us();
        if (node_ask(run->conn, run->o.line, req, start + REPLY_WAIT, reply, err)) {
            *micros = clock_monotonic_us() - start;
            return true;
        }
        if (!stopped)
            printf("connection lost: %s\n", err->text);
        node_hang_up(run->conn);
        run->conn = NULL;
    }
    return err_set(err, "stopped");
}

static bool ask_pubkey(struct run *run, struct err *err)
{
    struct node_request req = {.kind = NODE_PUBKEY, .chain_id = run->o.chain_id};
    struct node_reply reply;
    uint64_t micros;
    if (!ask(run, &req, &reply, &micros, err))
        return false;
    if (reply.is_error)
        return err_set(err, "the signer does not tell its public key: %s", reply.error);
    char hex[2 * PUBLIC_KEY_MAX + 1], want[2 * PUBLIC_KEY_MAX + 1] = "";
    uint8_t raw[PUBLIC_KEY_MAX];
    hex_lower(bytes_of(reply.key.bytes, reply.key.len), hex);
    if (run->o.pubkey != NULL && strlen(run->o.pubkey) == 2 * reply.key.len &&
        hex_decode(run->o.pubkey, strlen(run->o.pubkey), raw, reply.key.len))
        hex_lower(bytes_of(raw, reply.key.len), want);
    if (reply.key.len == 0 || (run->o.pubkey != NULL && strcmp(hex, want) != 0))
        return err_set(err, "the signer's public key is %s, not %s", hex, run->o.pubkey);
    run->key = reply.key;
    printf("public key %s\n", hex);
    return true;
}

static bool remember(struct run *run, uint64_t micros)
{
    if (run->micros_n == run->micros_cap) {
        size_t cap = run->micros_cap == 0 ? 1024 : 2 * run->micros_cap;
        uint64_t *grown = realloc(run->micros, cap * sizeof *grown);
        if (grown == NULL)
            return false;
        run->micros = grown;
        run->micros_cap = cap;
    }
    run->micros[run->micros_n++] = micros;
    return true;
}

static bool sign_step(struct run *run, long long height, enum step step, struct err *err)
{
    char extension[64];
    struct node_request req = {.kind = step == STEP_PROPOSAL ? NODE_PROPOSAL : NODE_VOTE,
        .chain_id = run->o.chain_id,
        .signable = node_signable(height, 0, step)};
    if (step == STEP_PRECOMMIT) {
        snprintf(extension, sizeof extension, "extension of height %lld", height);
        req.extension = bytes_of_text(extension);
    }
    struct node_reply reply;
    uint64_t micros;
    if (!ask(run, &req, &reply, &micros, err))
        return false;
    if (reply.kind == req.kind && reply.is_error) {
        printf("  %s %lld/0/%d REFUSED: %s", step_name(step), height, (int)step - 1, reply.error);
        run->refused++;
        return true;
    }
    if (!node_check(&req, &reply, &run->key, err))
        return false;
    printf("  %s %lld/0/%d %5" PRIu64 " us", step_name(step), height, (int)step - 1, micros);
    return remember(run, micros) || err_set(err, "no memory");
}

static bool play_height(struct run *run, long long height, struct err *err)
{
    static const enum step steps[] = {STEP_PROPOSAL, STEP_PREVOTE, STEP_PRECOMMIT};
    printf("block %lld ", height);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        if (!sign_step(run, height, steps[i], err)) {
            printf("\n");
            return false;
        }
    }
    printf("  (%zu signatures)\n", run->micros_n);
    fflush(stdout);
    return true;
}

static int by_size(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void print_summary(struct run *run)
{
    size_t n = run->micros_n;
    if (n == 0) {
        printf("0 signatures\n");
        return;
    }
    qsort(run->micros, n, sizeof run->micros[0], by_size);
    printf("%zu signatures, p50 %" PRIu64 " us, p99 %" PRIu64 " us, max %" PRIu64 " us\n", n,
        run->micros[(n - 1) / 2], run->micros[(n - 1) * 99 / 100], run->micros[n - 1]);
}

static bool play(struct run *run, struct err *err)
{
    run->identity = node_identity_new(NULL, err);
    if (run->identity == NULL)
        return false;
    run->listener = node_listen(run->o.listen, run->identity, err);
    if (run->listener == NULL || !ask_pubkey(run, err))
        return false;
    for (long long i = 0; !stopped && (run->o.blocks == 0 || i < run->o.blocks); i++) {
        if (!play_height(run, run->o.height + i, err))
            return false;
        struct timespec pause = {
            .tv_sec = run->o.interval_ms / 1000, .tv_nsec = run->o.interval_ms % 1000 * 1000000};
        nanosleep(&pause, NULL);
    }
    return run->refused == 0 || err_set(err, "%zu requests were refused", run->refused);
}

/* ---- command line ---- */

static int usage(void)
{
    fprintf(stderr,
        "usage: tmkms-test-node --listen ADDR --chain-id ID [--line p1|p2] [--blocks N]\n"
        "                       [--height N] [--interval-ms M] [--pubkey HEX]\n"
        "ADDR: unix://PATH, tcp://127.0.0.1:PORT or noise://127.0.0.1:PORT (port 0: a free one)\n"
        "--blocks 0 goes on until Ctrl-C; --height is the first one to be signed.\n");
    return 2;
}

static bool number(const char *text, long long min, long long *ret)
{
    char *end;
    errno = 0;
    *ret = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *ret >= min;
}

static bool parse(struct options *o, int argc, char **argv)
{
    static const struct option known[] = {{"listen", required_argument, NULL, 'l'},
        {"chain-id", required_argument, NULL, 'c'}, {"line", required_argument, NULL, 'w'},
        {"blocks", required_argument, NULL, 'b'}, {"height", required_argument, NULL, 'h'},
        {"interval-ms", required_argument, NULL, 'i'}, {"pubkey", required_argument, NULL, 'p'},
        {0}};
    *o = (struct options){.line = WIRE_P1, .blocks = 20, .interval_ms = 100, .height = 1};
    bool ok = true;
    for (int c; ok && (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (c == 'l')
            o->listen = optarg;
        else if (c == 'c')
            o->chain_id = optarg;
        else if (c == 'w' && (strcmp(optarg, "p1") == 0 || strcmp(optarg, "p2") == 0))
            o->line = optarg[1] == '1' ? WIRE_P1 : WIRE_P2;
        else if (c == 'b')
            ok = number(optarg, 0, &o->blocks);
        else if (c == 'h')
            ok = number(optarg, 1, &o->height);
        else if (c == 'i')
            ok = number(optarg, 0, &o->interval_ms);
        else if (c == 'p')
            o->pubkey = optarg;
        else
            ok = false;
    }
    return ok && optind == argc && o->listen != NULL && o->chain_id != NULL;
}

int main(int argc, char **argv)
{
    struct run run = {0};
    struct err err = {""};
    if (!parse(&run.o, argc, argv))
        return usage();
    struct sigaction on_stop = {.sa_handler = stop};
    sigaction(SIGINT, &on_stop, NULL);
    sigaction(SIGTERM, &on_stop, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    bool ok = crypto_start(&err) && play(&run, &err);
    print_summary(&run);
    node_hang_up(run.conn);
    node_unlisten(run.listener);
    signing_key_free(run.identity);
    free(run.micros);
    if (ok || stopped)
        return run.refused == 0 ? 0 : 1;
    fprintf(stderr, "error: %s\n", err.text);
    return 1;
}
