/* tmkms-load: plays the nodes of many chains and measures the signer. tests/bench/bench.py drives
 * it.
 *
 *   tmkms-load floor FILE SECONDS       the floor: in-place 4 KiB pwrite + fdatasync
 *   tmkms-load hops SECONDS             a request and its answer between two processes: two hops
 *   tmkms-load nodes LINE ADDRESS...    one node for each address, chain ids bench-0, bench-1, ...
 *
 * `nodes` prints `address CHAIN ADDRESS` for each, waits until the signer has connected to all,
 * prints `ready`, and then takes commands from standard input, each answered by one line of JSON:
 *
 *   closed CHAINS SECONDS        throughput and latency, one request in flight for each chain
 *   open CHAINS SECONDS RATE     latency at RATE requests a second for each chain
 *   reconnect TIMES              from hanging up (still listening) to the first answer
 *   restart TIMES                from listening again, a second after everything was closed, to the
 * first answer
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "bench/load.h"

enum { TARGETS_MAX = 256, BLOCK = 4096, HOP_BYTES = 200, DOWN_US = 1000 * 1000 };

static struct target targets[TARGETS_MAX];
static unsigned targets_n;

/* ---- the floor ---- */

static int floor_run(const char *path, uint64_t duration_us)
{
    static uint8_t block[BLOCK] __attribute__((aligned(BLOCK)));
    struct samples samples;

    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || pwrite(fd, block, BLOCK, 0) != BLOCK ||
        pwrite(fd, block, BLOCK, BLOCK) != BLOCK || fsync(fd) != 0) {
        perror(path);
        return 1;
    }
    samples_init(&samples);
    uint64_t start = clock_monotonic_us();
    for (uint64_t now = start; now < start + duration_us;) {
        block[0]++;
        if (pwrite(fd, block, BLOCK, (off_t)(samples.n % 2) * BLOCK) != BLOCK ||
            fdatasync(fd) != 0) {
            perror(path);
            return 1;
        }
        uint64_t after = clock_monotonic_us();
        samples_add(&samples, after - now);
        now = after;
    }
    samples_print(&samples, "floor", clock_monotonic_us() - start);
    samples_free(&samples);
    fd_close(&fd);
    return 0;
}

/* ---- two hops over a unix socket ---- */

static int hops_answer(int fd)
{
    uint8_t message[HOP_BYTES];
    while (fd_read_exact(fd, message, sizeof message))
        if (!fd_write_exact(fd, message, sizeof message))
            return 1;
    return 0;
}

static int hops_run(uint64_t duration_us)
{
    int pair[2];
    uint8_t message[HOP_BYTES] = {0};
    struct samples samples;

    pid_t child = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 ? fork() : -1;
    if (child < 0) {
        perror("hops");
        return 1;
    }
    fd_close(child == 0 ? &pair[0] : &pair[1]);
    if (child == 0)
        _exit(hops_answer(pair[1]));
    samples_init(&samples);
    uint64_t start = clock_monotonic_us();
    for (uint64_t now = start; now < start + duration_us;) {
        if (!fd_write_exact(pair[0], message, sizeof message) ||
            !fd_read_exact(pair[0], message, sizeof message)) {
            perror("hops");
            return 1;
        }
        uint64_t after = clock_monotonic_us();
        samples_add(&samples, after - now);
        now = after;
    }
    samples_print(&samples, "hops", clock_monotonic_us() - start);
    samples_free(&samples);
    fd_close(&pair[0]);
    return 0;
}

/* ---- commands ---- */

static void run_load(unsigned chains, unsigned seconds, unsigned rate)
{
    struct samples samples;
    uint64_t duration_us = (uint64_t)seconds * 1000000;

    samples_init(&samples);
    uint64_t start = clock_monotonic_us();
    if (rate == 0)
        load_closed(targets, chains, duration_us, &samples);
    else
        load_open(targets, chains, rate, duration_us, &samples);
    samples_print(&samples, rate == 0 ? "closed" : "open", clock_monotonic_us() - start);
    samples_free(&samples);
}

static void run_reconnect(unsigned times)
{
    struct samples samples;

    samples_init(&samples);
    uint64_t start = clock_monotonic_us();
    for (unsigned i = 0; i < times; i++) {
        uint64_t closed = clock_monotonic_us();
        target_hang_up(&targets[0]);
        target_accept(&targets[0]);
        samples_add(&samples, clock_monotonic_us() - closed);
    }
    samples_print(&samples, "reconnect", clock_monotonic_us() - start);
    samples_free(&samples);
}

static void run_restart(unsigned times)
{
    struct samples samples;

    samples_init(&samples);
    uint64_t start = clock_monotonic_us();
    for (unsigned i = 0; i < times; i++) {
        target_hang_up(&targets[0]);
        node_unlisten(targets[0].listener);
        usleep(DOWN_US);
        target_listen(&targets[0]);
        uint64_t listens = clock_monotonic_us();
        target_accept(&targets[0]);
        samples_add(&samples, clock_monotonic_us() - listens);
    }
    samples_print(&samples, "restart", clock_monotonic_us() - start);
    samples_free(&samples);
}

/* false at a command that is not understood. */
static bool run_command(const char *line)
{
    unsigned chains = 0, seconds = 0, rate = 0, times = 0;

    if (sscanf(line, "closed %u %u", &chains, &seconds) == 2 && chains > 0 && chains <= targets_n)
        run_load(chains, seconds, 0);
    else if (sscanf(line, "open %u %u %u", &chains, &seconds, &rate) == 3 && chains > 0 &&
             chains <= targets_n && rate > 0)
        run_load(chains, seconds, rate);
    else if (sscanf(line, "reconnect %u", &times) == 1)
        run_reconnect(times);
    else if (sscanf(line, "restart %u", &times) == 1)
        run_restart(times);
    else
        return false;
    return true;
}

/* ---- nodes ---- */

static void open_targets(
    enum wire_line line, char **addresses, unsigned n, const struct signing_key *identity)
{
    for (unsigned i = 0; i < n; i++) {
        struct target *t = &targets[i];
        *t = (struct target){.line = line, .identity = identity};
        snprintf(t->chain_id, sizeof t->chain_id, "bench-%u", i);
        snprintf(t->address, sizeof t->address, "%s", addresses[i]);
        target_listen(t);
        printf("address %s %s\n", t->chain_id, node_address(t->listener));
    }
    targets_n = n;
    fflush(stdout);
}

static int nodes_run(enum wire_line line, char **addresses, unsigned n)
{
    char text[256];
    struct err err = {0};

    struct signing_key *identity = crypto_start(&err) ? node_identity_new(NULL, &err) : NULL;
    if (identity == NULL) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    open_targets(line, addresses, n, identity);
    for (unsigned i = 0; i < n; i++) {
        target_accept(&targets[i]);
        target_check(&targets[i]);
    }
    printf("ready\n");
    fflush(stdout);
    while (fgets(text, sizeof text, stdin) != NULL) {
        if (!run_command(text)) {
            fprintf(stderr, "not understood: %s", text);
            return 1;
        }
    }
    for (unsigned i = 0; i < n; i++) {
        target_hang_up(&targets[i]);
        node_unlisten(targets[i].listener);
    }
    signing_key_free(identity);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "floor") == 0)
        return floor_run(argv[2], (uint64_t)strtoul(argv[3], NULL, 10) * 1000000);
    if (argc == 3 && strcmp(argv[1], "hops") == 0)
        return hops_run((uint64_t)strtoul(argv[2], NULL, 10) * 1000000);
    if (argc >= 4 && argc - 3 <= TARGETS_MAX && strcmp(argv[1], "nodes") == 0)
        return nodes_run(
            strcmp(argv[2], "p2") == 0 ? WIRE_P2 : WIRE_P1, argv + 3, (unsigned)argc - 3);
    fprintf(
        stderr, "usage: %s floor FILE SECONDS | hops SECONDS | nodes p1|p2 ADDRESS...\n", argv[0]);
    return 2;
}
