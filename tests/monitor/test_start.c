/* `tmkms start` as its operator sees it: real processes, real sockets, signals, crashes. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "crypto/encode.h"
#include "node.h"
#include "program.h"

enum { WAIT_MS = 8000 };

struct fixture {
    struct program p;
    struct node_listener *node;
    struct node_conn *conn;
    char address[128];
};

static uint64_t soon(void)
{
    return clock_monotonic_us() + WAIT_MS * 1000ULL;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err;
    program_init(&f->p);
    snprintf(f->address, sizeof f->address, "unix://%s/node.sock", f->p.folder);
    f->node = node_listen(f->address, NULL, &err);
    if (f->node == NULL)
        fail_msg("%s", err.text);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    node_hang_up(f->conn);
    node_unlisten(f->node);
    program_free(&f->p);
    free(f);
    return 0;
}

/* One chain "one" with one node on a unix socket. */
static void configure_one(struct fixture *f, const char *extra)
{
    program_chain(&f->p, "one", extra);
    program_provider(&f->p, "\"one\"");
    program_validator(&f->p, "one", f->address);
    program_write_config(&f->p);
}

static struct node_conn *accept_signer(struct node_listener *node)
{
    struct err err;
    struct node_conn *c = node_accept(node, soon(), &err);
    if (c == NULL)
        fail_msg("no signer came: %s", err.text);
    return c;
}

static struct node_reply ask(
    struct node_conn *c, const char *chain_id, int64_t height, enum step step)
{
    struct node_request req = {.kind = step == STEP_PROPOSAL ? NODE_PROPOSAL : NODE_VOTE,
        .chain_id = chain_id,
        .signable = node_signable(height, 0, step)};
    struct node_reply reply;
    struct err err;
    if (!node_ask(c, WIRE_P1, &req, soon(), &reply, &err))
        fail_msg("no reply: %s", err.text);
    return reply;
}

static void assert_signs(
    struct fixture *f, struct node_conn *c, const char *chain_id, int64_t height)
{
    for (enum step step = STEP_PROPOSAL; step <= STEP_PRECOMMIT; step++) {
        struct node_request req = {.kind = step == STEP_PROPOSAL ? NODE_PROPOSAL : NODE_VOTE,
            .chain_id = chain_id,
            .signable = node_signable(height, 0, step)};
        struct node_reply reply;
        struct err err;
        if (!node_ask(c, WIRE_P1, &req, soon(), &reply, &err) ||
            !node_check(&req, &reply, &f->p.key, &err))
            fail_msg("height %d step %d: %s", (int)height, step, err.text);
    }
}

/* The program's key as priv_validator_key.json, in the place of its key file. */
static void write_json_key(struct fixture *f)
{
    uint8_t private[64], address[ADDRESS_LEN];
    char private_text[96], public_text[64], hex[2 * ADDRESS_LEN + 1], json[512], path[128];
    struct err err;
    memcpy(private, f->p.seed, 32);
    memcpy(private + 32, f->p.key.bytes, 32);
    assert_true(base64_encode(bytes_of(private, 64), private_text, sizeof private_text));
    assert_true(base64_encode(bytes_of(f->p.key.bytes, 32), public_text, sizeof public_text));
    public_key_address(&f->p.key, address);
    hex_upper(bytes_of(address, sizeof address), hex);
    snprintf(json, sizeof json,
        "{\"address\":\"%s\",\"pub_key\":{\"type\":\"tendermint/PubKeyEd25519\",\"value\":\"%s\"},"
        "\"priv_key\":{\"type\":\"tendermint/PrivKeyEd25519\",\"value\":\"%s\"}}",
        hex, public_text, private_text);
    snprintf(path, sizeof path, "%s/signing.key", f->p.folder);
    assert_true(fd_create_durable(path, json, strlen(json), true, &err));
    char *at = strstr(f->p.config, "path = ");
    char changed[sizeof f->p.config];
    snprintf(changed, sizeof changed, "%.*skey_format = \"json\"\n%s", (int)(at - f->p.config),
        f->p.config, at);
    memcpy(f->p.config, changed, sizeof changed);
    program_write_config(&f->p);
}

static void start_and_accept(struct fixture *f)
{
    program_start(&f->p);
    f->conn = accept_signer(f->node);
}

/* ---- signing ---- */

static void test_it_signs_over_unix_tcp_and_noise(void **state)
{
    struct fixture *f = *state;
    struct err err;
    struct signing_key *id = node_identity_new(NULL, &err);
    struct node_listener *tcp = node_listen("tcp://127.0.0.1:0", id, &err);
    struct node_listener *noise = node_listen("noise://127.0.0.1:0", id, &err);
    assert_true(id != NULL && tcp != NULL && noise != NULL);
    program_chain(&f->p, "one", "");
    program_provider(&f->p, "\"one\"");
    program_validator(&f->p, "one", f->address);
    program_validator(&f->p, "one", node_address(tcp));
    program_validator(&f->p, "one", node_address(noise));
    program_write_config(&f->p);
    start_and_accept(f);
    assert_signs(f, f->conn, "one", 1);
    struct node_conn *over_tcp = accept_signer(tcp), *over_noise = accept_signer(noise);
    assert_signs(f, over_tcp, "one", 2);
    assert_signs(f, over_noise, "one", 3);
    /* Three nodes share one watermark. */
    assert_true(ask(f->conn, "one", 2, STEP_PREVOTE).is_error);
    assert_true(program_says(&f->p, "starting up...", WAIT_MS));
    assert_true(program_says(&f->p, "added consensus Ed25519 key: ", WAIT_MS));
    assert_true(program_says(&f->p, "connected to validator successfully", WAIT_MS));
    assert_true(program_says(&f->p, "signed Prevote:", WAIT_MS));
    node_hang_up(over_tcp);
    node_hang_up(over_noise);
    node_unlisten(tcp);
    node_unlisten(noise);
    signing_key_free(id);
}

/* ---- the processes ---- */

static void assert_status_line(pid_t pid, const char *line)
{
    char path[64], text[8192];
    size_t n = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_true(fd_read_all(fd, text, sizeof text - 1, &n, NULL));
    close(fd);
    text[n] = '\0';
    if (strstr(text, line) == NULL)
        fail_msg("%s lacks %s in:\n%s", path, line, text);
}

static void assert_status(pid_t pid, const char *name, const char *value)
{
    char line[96];
    snprintf(line, sizeof line, "\n%s:\t%s\n", name, value);
    assert_status_line(pid, line);
}

static unsigned count_descriptors(pid_t pid)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++) {
        char path[64];
        struct stat st;
        snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
        n += lstat(path, &st) == 0;
    }
    return n;
}

static void test_the_children_are_confined(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    start_and_accept(f);
    assert_signs(f, f->conn, "one", 1);
    pid_t signer = program_child(&f->p, "@signer"), session = program_child(&f->p, "@session");
    assert_true(signer > 0 && session > 0);
    pid_t both[] = {signer, session};
    for (int i = 0; i < 2; i++) {
        assert_status_line(both[i], "NoNewPrivs:\t1");
        assert_status_line(both[i], "Seccomp:\t2");
    }
    /* CAP_DAC_READ_SEARCH: to find the state file at its path. */
    const char *caps = getuid() == 0 ? "0000000000000004" : "0000000000000000";
    assert_status(signer, "CapPrm", caps);
    assert_status(signer, "CapEff", caps);
    assert_status(session, "CapPrm", "0000000000000000");
    assert_status(session, "CapEff", "0000000000000000");
    if (getuid() == 0) {
        assert_status(session, "Uid", "65534\t65534\t65534\t65534");
        assert_status(session, "Gid", "65534\t65534\t65534\t65534");
        assert_status(session, "Groups", " ");
    }
    /* The monitor keeps CAP_DAC_OVERRIDE, DAC_READ_SEARCH, KILL, SETGID, SETUID and SETPCAP. */
    assert_status_line(f->p.pid, "NoNewPrivs:\t1");
    assert_status_line(f->p.pid, "Seccomp:\t2");
    assert_status(f->p.pid, "CapInh", "0000000000000000");
    assert_status(f->p.pid, "CapPrm", getuid() == 0 ? "00000000000001e6" : "0000000000000000");
    assert_status(f->p.pid, "CapEff", getuid() == 0 ? "00000000000001e6" : "0000000000000000");
    if (getuid() == 0)
        assert_status(f->p.pid, "CapBnd", "00000000000001e6");
    assert_int_equal(program_child(&f->p, "@config"), 0);
    /* input, output, error, control, log, the state file, the channel */
    if (getuid() == 0) /* nobody else can see them */
        assert_int_equal(count_descriptors(signer), 7);
}

/* The session has nobody's rights, the node's socket is open to its owner alone: the monitor connects. */
static void test_a_private_socket_is_dialled(void **state)
{
    struct fixture *f = *state;
    char path[128];
    configure_one(f, "");
    snprintf(path, sizeof path, "%s/node.sock", f->p.folder);
    assert_int_equal(chmod(path, 0600), 0);
    if (getuid() == 0)
        assert_int_equal(chown(path, 65533, 65533), 0);
    start_and_accept(f);
    assert_signs(f, f->conn, "one", 1);
    /* A node that hangs up is dialled again at once. */
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 20; i++) {
        node_hang_up(f->conn);
        uint64_t began = clock_monotonic_us();
        f->conn = accept_signer(f->node);
        uint64_t took = clock_monotonic_us() - began;
        best = took < best ? took : best;
        assert_signs(f, f->conn, "one", 2 + i);
    }
    assert_in_range(best, 0, 5000);
}

/* The monitor sleeps while signatures are made, and still nobody waits for a log line. */
static void test_log_lines_come_soon_and_together(void **state)
{
    struct fixture *f = *state;
    enum { VOTES = 600 };
    int pair[2], room = 1 << 20;
    char text[8192];
    unsigned writes = 0, lines = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    configure_one(f, "");
    f->p.output = pair[1];
    start_and_accept(f);
    for (int64_t height = 1; height <= VOTES; height++)
        assert_false(ask(f->conn, "one", height, STEP_PREVOTE).is_error);
    uint64_t best = UINT64_MAX;
    for (int64_t height = VOTES + 1; height <= VOTES + 5; height++) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "h/r/s %d/0/1", (int)height);
        usleep(30000);
        assert_false(ask(f->conn, "one", height, STEP_PREVOTE).is_error);
        uint64_t began = clock_monotonic_us();
        for (bool found = false; !found;) {
            struct pollfd p = {.fd = pair[0], .events = POLLIN};
            assert_int_equal(poll(&p, 1, WAIT_MS), 1);
            ssize_t n = recv(pair[0], text, sizeof text - 1, 0);
            assert_true(n > 0);
            text[n] = '\0';
            writes++;
            for (char *at = text; (at = strstr(at, "signed Prevote")) != NULL; at++)
                lines++;
            found = strstr(text, wanted) != NULL;
        }
        uint64_t took = clock_monotonic_us() - began;
        best = took < best ? took : best;
    }
    assert_int_equal(lines, VOTES + 5);
    assert_in_range(writes, 1, VOTES / 2);
    assert_in_range(best, 0, 20000);
    close(pair[0]);
    close(pair[1]);
}

static void test_sigterm_ends_everything_within_a_second(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    start_and_accept(f);
    assert_signs(f, f->conn, "one", 1);
    pid_t signer = program_child(&f->p, "@signer"), session = program_child(&f->p, "@session");
    kill(f->p.pid, SIGTERM);
    assert_int_equal(program_wait(&f->p, 1000), 0);
    assert_int_equal(kill(signer, 0), -1);
    assert_int_equal(kill(session, 0), -1);
    assert_true(program_says(&f->p, "Shutdown completed successfully", WAIT_MS));
}

static void test_the_children_die_with_a_killed_monitor(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    start_and_accept(f);
    pid_t signer = program_child(&f->p, "@signer");
    kill(f->p.pid, SIGKILL);
    assert_int_equal(program_wait(&f->p, 1000), 128 + SIGKILL);
    uint64_t end = soon();
    while (kill(signer, 0) == 0 && clock_monotonic_us() < end)
        usleep(1000);
    assert_int_equal(kill(signer, 0), -1);
    /* And nothing they held keeps the next one from starting. */
    node_hang_up(f->conn);
    start_and_accept(f);
    assert_signs(f, f->conn, "one", 1);
}

static void test_a_killed_session_is_started_again(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    start_and_accept(f);
    assert_signs(f, f->conn, "one", 1);
    kill(program_child(&f->p, "@session"), SIGKILL);
    node_hang_up(f->conn);
    f->conn = accept_signer(f->node);
    assert_signs(f, f->conn, "one", 2);
    assert_true(ask(f->conn, "one", 1, STEP_PREVOTE).is_error);
    assert_true(program_says(&f->p, "the session process ended (signal 9", WAIT_MS));
}

static void test_a_killed_signer_ends_the_program(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    start_and_accept(f);
    kill(program_child(&f->p, "@signer"), SIGKILL);
    assert_int_equal(program_wait(&f->p, WAIT_MS), 1);
    assert_true(program_says(&f->p, "the signer process ended (signal 9", WAIT_MS));
}

/* ---- one writer, fail closed ---- */

static void test_a_second_process_is_refused(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    start_and_accept(f);
    struct program second = f->p;
    snprintf(second.error_path, sizeof second.error_path, "%s/error2", f->p.folder);
    program_start(&second);
    assert_int_equal(program_wait(&second, WAIT_MS), 1);
    assert_true(program_says(&second, "another tmkms process", WAIT_MS));
    /* Also with a copy of the state under another name: the lock is on chain and key. */
    struct program third = f->p;
    char *at = strstr(f->p.config, "one.json"), command[256];
    assert_non_null(at);
    snprintf(third.config, sizeof third.config, "%.*scopy.json%s", (int)(at - f->p.config),
        f->p.config, at + strlen("one.json"));
    snprintf(third.error_path, sizeof third.error_path, "%s/error3", f->p.folder);
    snprintf(command, sizeof command, "cp %s/one.json %s/copy.json", f->p.folder, f->p.folder);
    assert_int_equal(system(command), 0);
    program_write_config(&third);
    program_start(&third);
    assert_int_equal(program_wait(&third, WAIT_MS), 1);
    assert_true(program_says(&third, "another tmkms process", WAIT_MS));
    assert_signs(f, f->conn, "one", 1);
}

static void test_a_missing_state_is_an_error_that_names_the_remedy(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    char path[128];
    snprintf(path, sizeof path, "%s/one.json", f->p.folder);
    unlink(path);
    program_start(&f->p);
    assert_int_equal(program_wait(&f->p, WAIT_MS), 1);
    assert_true(program_says(&f->p, "/tmkms.toml --chain one`", 0));
    assert_true(program_says(&f->p, "tmkms state init -c ", 0));
}

static void test_a_state_held_by_another_process_is_an_error_in_words(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    char path[128];
    snprintf(path, sizeof path, "%s/one.json", f->p.folder);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    program_start(&f->p);
    assert_int_equal(program_wait(&f->p, WAIT_MS), 1);
    close(fd);
    assert_true(program_says(&f->p, "is in use by another process", 0));
}

/* The key of CometBFT's own form goes through a JSON parser inside the signer's sandbox. */
static void test_a_json_key_signs(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    write_json_key(f);
    start_and_accept(f);
    assert_signs(f, f->conn, "one", 1);
}

static void test_two_names_of_one_state_file_are_refused(void **state)
{
    struct fixture *f = *state;
    program_chain(&f->p, "one", "");
    program_chain(&f->p, "two", "");
    program_provider(&f->p, "\"one\", \"two\"");
    program_validator(&f->p, "one", f->address);
    program_write_config(&f->p);
    char one[128], two[128];
    snprintf(one, sizeof one, "%s/one.json", f->p.folder);
    snprintf(two, sizeof two, "%s/two.json", f->p.folder);
    unlink(two);
    assert_int_equal(link(one, two), 0);
    program_start(&f->p);
    assert_int_equal(program_wait(&f->p, WAIT_MS), 1);
    assert_true(program_says(&f->p, "is the state file of chain one already", 0));
}

/* Exit code 3: not to be started again by a service manager. */
static void assert_ends_for_its_state(struct fixture *f, int64_t height, const char *words)
{
    struct node_request req = {
        .kind = NODE_VOTE, .chain_id = "one", .signable = node_signable(height, 0, STEP_PREVOTE)};
    struct node_reply reply;
    assert_false(node_ask(f->conn, WIRE_P1, &req, soon(), &reply, NULL) && !reply.is_error);
    assert_int_equal(program_wait(&f->p, WAIT_MS), 3);
    assert_true(program_says(&f->p, words, 0));
}

static void test_a_state_file_deleted_under_us_ends_the_program(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    start_and_accept(f);
    assert_signs(f, f->conn, "one", 1);
    char path[128];
    snprintf(path, sizeof path, "%s/one.json", f->p.folder);
    unlink(path);
    assert_ends_for_its_state(f, 2, "was deleted, moved or replaced");
}

static void run_command(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void run_command(const char *fmt, ...)
{
    char command[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

static void test_the_unit_leaves_a_failed_state_alone(void **state)
{
    (void)state;
    run_command("grep -qx RestartPreventExitStatus=3 %s/../../packaging/systemd/tmkms.service",
        VECTORS_DIR);
}

/* A path relative to the working directory is looked at too: the signer keeps the monitor's. */
static void test_a_state_file_moved_under_us_ends_the_program(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    char folder[128];
    snprintf(folder, sizeof folder, "%s/", f->p.folder);
    char *at = strstr(f->p.config, folder), *rest;
    while (at != NULL && strncmp(at + strlen(folder), "one.json", 8) != 0)
        at = strstr(at + 1, folder);
    assert_non_null(at);
    rest = at + strlen(folder);
    memmove(at, rest, strlen(rest) + 1);
    program_write_config(&f->p);
    assert_int_equal(chdir(f->p.folder), 0);
    start_and_accept(f);
    assert_int_equal(chdir("/"), 0);
    assert_signs(f, f->conn, "one", 1);
    run_command("cd %s && mv one.json bak.json && cp bak.json one.json", f->p.folder);
    assert_ends_for_its_state(f, 2, "the state file one.json was deleted, moved or replaced");
}

/* Root without capabilities is somebody that this folder keeps out. */
static void test_the_state_may_be_in_a_folder_of_somebody_else(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    assert_int_equal(chmod(f->p.folder, 0700), 0);
    if (getuid() == 0)
        assert_int_equal(chown(f->p.folder, 65533, 65533), 0);
    start_and_accept(f);
    assert_signs(f, f->conn, "one", 1);
}

/* ---- reload ---- */

static void test_sighup_adds_and_drops_without_touching_the_rest(void **state)
{
    struct fixture *f = *state;
    struct err err;
    char address[128];
    configure_one(f, "");
    start_and_accept(f);
    assert_signs(f, f->conn, "one", 1);
    char before[sizeof f->p.config];
    memcpy(before, f->p.config, sizeof before);

    snprintf(address, sizeof address, "unix://%s/two.sock", f->p.folder);
    struct node_listener *node = node_listen(address, NULL, &err);
    assert_non_null(node);
    f->p.config[0] = '\0';
    program_chain(&f->p, "two", "");
    size_t used = strlen(f->p.config);
    snprintf(f->p.config + used, sizeof f->p.config - used, "%s", before);
    char *ids = strstr(f->p.config, "chain_ids = [\"one\"]");
    assert_non_null(ids);
    program_validator(&f->p, "two", address);
    char with_two[sizeof f->p.config];
    ids = strstr(f->p.config, "[\"one\"]");
    snprintf(with_two, sizeof with_two, "%.*s[\"one\", \"two\"]%s", (int)(ids - f->p.config),
        f->p.config, ids + strlen("[\"one\"]"));
    memcpy(f->p.config, with_two, sizeof with_two);
    program_write_config(&f->p);
    kill(f->p.pid, SIGHUP);
    struct node_conn *two = accept_signer(node);
    assert_signs(f, two, "two", 1);
    assert_signs(f, f->conn, "one", 2); /* the same connection as before */

    memcpy(f->p.config, before, sizeof before);
    program_write_config(&f->p);
    kill(f->p.pid, SIGHUP);
    assert_true(program_says(&f->p, "[two] chain dropped", WAIT_MS));
    struct bytes frame;
    assert_false(node_receive(two, &frame, soon(), &err));
    assert_true(node_closed_by_signer(two));
    assert_signs(f, f->conn, "one", 3);
    node_hang_up(two);
    node_unlisten(node);
}

static void configure_two(struct fixture *f, const char *second)
{
    f->p.config[0] = '\0';
    program_chain(&f->p, "one", "");
    program_chain(&f->p, "two", "");
    program_provider(&f->p, "\"one\", \"two\"");
    program_validator(&f->p, "one", f->address);
    program_validator(&f->p, "two", second);
}

/* The process knows better than the file what it has signed. */
static void test_a_dropped_chain_does_not_come_back_older(void **state)
{
    struct fixture *f = *state;
    struct err err;
    char address[128], both[sizeof f->p.config];
    snprintf(address, sizeof address, "unix://%s/two.sock", f->p.folder);
    struct node_listener *node = node_listen(address, NULL, &err);
    assert_non_null(node);
    configure_two(f, address);
    memcpy(both, f->p.config, sizeof both);
    program_write_config(&f->p);
    start_and_accept(f);
    struct node_conn *two = accept_signer(node);
    assert_signs(f, two, "two", 5);
    run_command("cp %s/two.json %s/old.json", f->p.folder, f->p.folder);
    assert_signs(f, two, "two", 6);

    char *at = strstr(f->p.config, "[[chain]]\nid = \"two\""),
         *end = strstr(f->p.config, "[[providers");
    assert_true(at != NULL && end != NULL);
    memmove(at, end, strlen(end) + 1);
    at = strstr(f->p.config, ", \"two\"");
    memmove(at, at + strlen(", \"two\""), strlen(at + strlen(", \"two\"")) + 1);
    at = strstr(strstr(f->p.config, "[[validator]]") + 1, "[[validator]]");
    *at = '\0';
    program_write_config(&f->p);
    kill(f->p.pid, SIGHUP);
    assert_true(program_says(&f->p, "[two] chain dropped", WAIT_MS));
    assert_true(program_says(&f->p, "reloaded: 1 chains", WAIT_MS));
    node_hang_up(two);
    run_command("cd %s && cp two.json new.json && cp old.json two.json", f->p.folder);
    memcpy(f->p.config, both, sizeof both);
    program_write_config(&f->p);
    kill(f->p.pid, SIGHUP);
    assert_true(
        program_says(&f->p, "the state is older than what this process has signed", WAIT_MS));
    assert_signs(f, f->conn, "one", 1);

    run_command("cd %s && cp new.json two.json", f->p.folder);
    kill(f->p.pid, SIGHUP);
    two = accept_signer(node);
    assert_true(ask(two, "two", 6, STEP_PREVOTE).is_error);
    assert_signs(f, two, "two", 7);
    node_hang_up(two);
    node_unlisten(node);
}

/* Adds chain "two" and its node; its state hook takes half a second, and says when it begins. */
static struct node_listener *add_two(struct fixture *f)
{
    struct err err;
    char address[128], hook[300];
    snprintf(address, sizeof address, "unix://%s/two.sock", f->p.folder);
    struct node_listener *node = node_listen(address, NULL, &err);
    assert_non_null(node);
    configure_two(f, address);
    snprintf(hook, sizeof hook,
        "state_hook = { cmd = [\"/bin/sh\", \"-c\", 'touch %s/began; sleep 0.5; echo "
        "{\\\"latest_block_height\\\": "
        "\\\"3\\\"}'], fail_closed = true }\n",
        f->p.folder);
    char *at = strstr(f->p.config, "[[providers"), rest[sizeof f->p.config];
    assert_non_null(at);
    memcpy(rest, at, strlen(at) + 1);
    snprintf(at, sizeof f->p.config - (size_t)(at - f->p.config), "%s%s", hook, rest);
    program_write_config(&f->p);
    return node;
}

static void expect_two(struct fixture *f, struct node_listener *node)
{
    struct node_conn *two = accept_signer(node);
    assert_signs(f, two, "two", 4);
    node_hang_up(two);
    node_unlisten(node);
}

/* The session dies while a reload is under way: what it was not told, the next one is. */
static void test_a_reload_survives_the_session(void **state)
{
    struct fixture *f = *state;
    char began[128];
    configure_one(f, "");
    start_and_accept(f);
    struct node_listener *node = add_two(f);
    pid_t session = program_child(&f->p, "@session");
    snprintf(began, sizeof began, "%s/began", f->p.folder);
    kill(f->p.pid, SIGHUP);
    for (uint64_t end = soon(); access(began, F_OK) != 0 && clock_monotonic_us() < end;)
        usleep(1000);
    kill(session, SIGKILL);
    expect_two(f, node);
}

/* More validators than its control socket has room for, while the session does not read. */
static void reload_with_a_stopped_session(struct fixture *f)
{
    enum { VALIDATORS = 200 };
    char path[128];
    snprintf(path, sizeof path, "%s/tmkms.toml", f->p.folder);
    FILE *file = fopen(path, "a");
    assert_non_null(file);
    for (int i = 0; i < VALIDATORS; i++)
        fprintf(file, "[[validator]]\nchain_id = \"one\"\naddr = \"unix://%s/none%d.sock\"\n",
            f->p.folder, i);
    assert_int_equal(fclose(file), 0);
    kill(program_child(&f->p, "@session"), SIGSTOP);
    kill(f->p.pid, SIGHUP);
    assert_true(program_says(&f->p, "none10.sock] validator added", WAIT_MS));
}

static void test_a_session_that_reads_nothing_is_replaced(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    start_and_accept(f);
    reload_with_a_stopped_session(f);
    assert_true(
        program_says(&f->p, "the session process takes no messages and is killed", WAIT_MS));
    node_hang_up(f->conn);
    f->conn = accept_signer(f->node);
    assert_signs(f, f->conn, "one", 1);
    assert_true(program_says(&f->p, "reloaded: 1 chains, 201 validators", WAIT_MS));
}

static void test_sigterm_ends_a_wait_for_the_session(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    start_and_accept(f);
    reload_with_a_stopped_session(f);
    usleep(200000);
    kill(f->p.pid, SIGTERM);
    assert_int_equal(program_wait(&f->p, 1500), 0);
}

/* Nobody is there to be told between the second death of a session and its third life. */
static void test_a_sighup_without_a_session_is_kept(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    start_and_accept(f);
    kill(program_child(&f->p, "@session"), SIGKILL);
    node_hang_up(f->conn);
    f->conn = accept_signer(f->node);
    assert_signs(f, f->conn, "one", 1);
    struct node_listener *node = add_two(f);
    kill(program_child(&f->p, "@session"), SIGKILL);
    usleep(50000);
    kill(f->p.pid, SIGHUP);
    expect_two(f, node);
}

static void test_a_bad_reload_changes_nothing(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    start_and_accept(f);
    char good[sizeof f->p.config];
    memcpy(good, f->p.config, sizeof good);
    snprintf(f->p.config, sizeof f->p.config, "[[chain]]\nid = 7\n");
    program_write_config(&f->p);
    kill(f->p.pid, SIGHUP);
    assert_true(program_says(&f->p, "reload refused; everything goes on as before", WAIT_MS));
    assert_signs(f, f->conn, "one", 1);
    /* Another state file for a running chain. */
    char *at = strstr(good, "one.json");
    snprintf(f->p.config, sizeof f->p.config, "%.*sother.json%s", (int)(at - good), good,
        at + strlen("one.json"));
    program_write_config(&f->p);
    kill(f->p.pid, SIGHUP);
    assert_true(program_says(&f->p, "reload refused: the key or the state file", WAIT_MS));
    assert_signs(f, f->conn, "one", 2);
}

/* The same files, but the configuration now expects another key than the one that runs. */
static void test_a_reload_for_another_key_is_refused(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    start_and_accept(f);
    struct public_key other = f->p.key;
    char hex[2 * PUBLIC_KEY_MAX + 1], changed[sizeof f->p.config];
    other.bytes[0] ^= 1;
    hex_lower(bytes_of(other.bytes, other.len), hex);
    char *at = strstr(f->p.config, "state_file");
    snprintf(changed, sizeof changed, "%.*spublic_key = \"%s\"\n%s", (int)(at - f->p.config),
        f->p.config, hex, at);
    memcpy(f->p.config, changed, sizeof changed);
    program_write_config(&f->p);
    kill(f->p.pid, SIGHUP);
    assert_true(program_says(&f->p, "reload refused: the key or the state file", WAIT_MS));
    assert_signs(f, f->conn, "one", 1);
}

static void test_sighup_changes_a_policy(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    start_and_accept(f);
    assert_signs(f, f->conn, "one", 1);
    char *at = strstr(f->p.config, "state_file");
    char changed[sizeof f->p.config];
    snprintf(changed, sizeof changed, "%.*smax_height_jump = 10\n%s", (int)(at - f->p.config),
        f->p.config, at);
    memcpy(f->p.config, changed, sizeof changed);
    program_write_config(&f->p);
    kill(f->p.pid, SIGHUP);
    assert_true(program_says(&f->p, "reloaded: 1 chains", WAIT_MS));
    node_hang_up(f->conn);
    f->conn = accept_signer(f->node);
    assert_true(ask(f->conn, "one", 1000, STEP_PREVOTE).is_error);
    assert_signs(f, f->conn, "one", 2);
}

/* ---- hooks ---- */

static void test_a_state_hook_raises_the_floor(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "state_hook = { cmd = [\"/bin/echo\", '{\"latest_block_height\": \"41\"}'], "
                     "fail_closed = true }");
    start_and_accept(f);
    assert_true(ask(f->conn, "one", 41, STEP_PREVOTE).is_error);
    assert_signs(f, f->conn, "one", 42);
}

static void test_a_failing_hook_closes_only_if_told_so(void **state)
{
    struct fixture *f = *state;
    configure_one(
        f, "state_hook = { cmd = [\"/bin/sleep\", \"60\"], timeout_secs = 1, fail_closed = true }");
    program_start(&f->p);
    assert_int_equal(program_wait(&f->p, WAIT_MS), 1);
    assert_true(program_says(&f->p, "did not answer within 1 s", 0));
    char *at = strstr(f->p.config, "fail_closed = true");
    memcpy(at, "fail_closed=false ", strlen("fail_closed = true"));
    program_write_config(&f->p);
    start_and_accept(f);
    assert_signs(f, f->conn, "one", 1);
}

static void test_sigterm_ends_a_hook(void **state)
{
    struct fixture *f = *state;
    char hook_line[256];
    snprintf(hook_line, sizeof hook_line,
        "state_hook = { cmd = [\"/bin/sh\", \"-c\", \"echo $$ >%s/hook.pid; sleep 60; true\"], "
        "timeout_secs = 60 }",
        f->p.folder);
    configure_one(f, hook_line);
    char path[128], text[32] = "";
    snprintf(path, sizeof path, "%s/hook.pid", f->p.folder);
    program_start(&f->p);
    size_t n = 0;
    for (uint64_t end = soon(); n == 0 && clock_monotonic_us() < end; usleep(1000)) {
        int fd = open(path, O_RDONLY);
        if (fd >= 0)
            assert_true(fd_read_all(fd, text, sizeof text - 1, &n, NULL));
        fd_close(&fd);
    }
    pid_t hook = (pid_t)strtol(text, NULL, 10);
    assert_true(hook > 1);
    kill(f->p.pid, SIGTERM);
    assert_int_equal(program_wait(&f->p, 1000), 0);
    uint64_t end = soon(); /* the shell and its sleep: one process group */
    while (kill(-hook, 0) == 0 && clock_monotonic_us() < end)
        usleep(1000);
    assert_int_equal(kill(-hook, 0), -1);
}

/* ---- what start cannot use ---- */

static void test_a_fifo_is_no_configuration(void **state)
{
    struct fixture *f = *state;
    char path[128];
    configure_one(f, "");
    snprintf(path, sizeof path, "%s/tmkms.toml", f->p.folder);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    program_start(&f->p);
    assert_int_equal(program_wait(&f->p, WAIT_MS), 1);
    assert_true(program_says(&f->p, "tmkms.toml: is no regular file", 0));
    assert_int_equal(unlink(path), 0);
    program_write_config(&f->p);
    start_and_accept(f);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    kill(f->p.pid, SIGHUP);
    assert_true(program_says(&f->p, "reload refused", WAIT_MS));
    assert_signs(f, f->conn, "one", 1);
}

static void test_an_unknown_log_level_is_told(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    setenv("RUST_LOG", "tmkms=debug", 1);
    start_and_accept(f);
    unsetenv("RUST_LOG");
    assert_true(program_says(&f->p, "RUST_LOG=tmkms=debug is not understood; it may be error,", WAIT_MS));
    assert_signs(f, f->conn, "one", 1);
}

static void test_too_few_descriptors_are_told(void **state)
{
    struct fixture *f = *state;
    configure_one(f, "");
    f->p.files_max = 60;
    program_start(&f->p);
    assert_int_equal(program_wait(&f->p, WAIT_MS), 1);
    assert_true(program_says(&f->p, "a process may open 60 files, and tmkms needs", 0));
    assert_true(program_says(&f->p, "LimitNOFILE=", 0));
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_it_signs_over_unix_tcp_and_noise),
        T(test_the_children_are_confined),
        T(test_a_private_socket_is_dialled),
        T(test_log_lines_come_soon_and_together),
        T(test_sigterm_ends_everything_within_a_second),
        T(test_the_children_die_with_a_killed_monitor),
        T(test_a_killed_session_is_started_again),
        T(test_a_killed_signer_ends_the_program),
        T(test_a_second_process_is_refused),
        T(test_a_missing_state_is_an_error_that_names_the_remedy),
        T(test_a_state_held_by_another_process_is_an_error_in_words),
        T(test_a_json_key_signs),
        T(test_two_names_of_one_state_file_are_refused),
        T(test_a_state_file_deleted_under_us_ends_the_program),
        T(test_the_unit_leaves_a_failed_state_alone),
        T(test_a_state_file_moved_under_us_ends_the_program),
        T(test_the_state_may_be_in_a_folder_of_somebody_else),
        T(test_sighup_adds_and_drops_without_touching_the_rest),
        T(test_a_dropped_chain_does_not_come_back_older),
        T(test_a_reload_survives_the_session),
        T(test_a_sighup_without_a_session_is_kept),
        T(test_a_session_that_reads_nothing_is_replaced),
        T(test_sigterm_ends_a_wait_for_the_session),
        T(test_a_bad_reload_changes_nothing),
        T(test_a_reload_for_another_key_is_refused),
        T(test_sighup_changes_a_policy),
        T(test_a_state_hook_raises_the_floor),
        T(test_a_failing_hook_closes_only_if_told_so),
        T(test_sigterm_ends_a_hook),
        T(test_a_fifo_is_no_configuration),
        T(test_an_unknown_log_level_is_told),
        T(test_too_few_descriptors_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
