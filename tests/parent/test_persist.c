/* The store on the parent, with real enclaves' links: restarts at every step, two enclaves, strangers. */
#include "persist_rig.h"

#include <poll.h>
#include <sys/socket.h>

#include "run.h"
#include "state/link_frame.h"

static struct rig rig;
static const char chain_id[] = "persist-1";

static int setup(void **state)
{
    (void)state;
    rig_init(&rig, chain_id);
    rig_start(&rig);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (rig.persist > 0)
        assert_int_equal(rig_stop(&rig, SIGTERM), 0);
    rig_end(&rig);
    return 0;
}

static struct state *enclave(void)
{
    struct state *s = NULL;
    struct err err;
    if (!rig_enclave(&rig, chain_id, &s, &err))
        fail_msg("%s", err.text);
    return s;
}

static enum state_outcome commit(struct state *s, int64_t height, struct err *err)
{
    const struct durable *token = NULL;
    struct watermark mark = rig_mark(height, 'A');
    enum state_outcome outcome = state_commit(s, &mark, &token, err);
    if (outcome == STATE_DURABLE)
        assert_int_equal(durable_watermark(token)->last.height, height);
    else
        assert_null(token);
    return outcome;
}

static void assert_commit(struct state *s, int64_t height)
{
    struct err err;
    if (commit(s, height, &err) != STATE_DURABLE)
        fail_msg("height %d: %s", (int)height, err.text);
    assert_int_equal(rig_file(&rig).mark.last.height, height);
}

static void records_are_in_the_file_when_acknowledged(void **state)
{
    (void)state;
    struct state *s = enclave();
    assert_int_equal(rig_file(&rig).link_sequence, 1); /* written again at open */
    for (int64_t h = 1; h <= 20; h++)
        assert_commit(s, h);
    assert_int_equal(rig_file(&rig).link_sequence, 21);
    state_close(s);
    s = enclave();
    assert_int_equal(durable_watermark(state_current(s))->last.height, 20);
    assert_commit(s, 21);
    state_close(s);
}

static void persist_restarts_between_any_two_records(void **state)
{
    (void)state;
    struct state *s = enclave();
    for (int64_t h = 1; h <= 6; h++) {
        assert_int_equal(rig_stop(&rig, h % 2 == 0 ? SIGKILL : SIGTERM), h % 2 == 0 ? -1 : 0);
        rig_start(&rig);
        assert_commit(s, h);
    }
    state_close(s);
}

/* A vote is not lost when persist comes back within the time of one commit. */
static void a_commit_waits_for_persist(void **state)
{
    (void)state;
    struct state *s = enclave();
    assert_commit(s, 1);
    rig_stop(&rig, SIGKILL);
    pid_t later = fork();
    assert_true(later >= 0);
    if (later == 0) {
        usleep(300000);
        int ready[2];
        if (pipe(ready) != 0)
            _exit(1);
        _exit(rig_persist_main(&rig, ready[1]));
    }
    rig.persist = later;
    assert_commit(s, 2);
    state_close(s);
}

static void without_persist_nothing_is_durable(void **state)
{
    (void)state;
    struct err err;
    struct state *s = enclave();
    assert_commit(s, 1);
    rig_stop(&rig, SIGKILL);
    uint64_t began = clock_monotonic_us();
    assert_int_equal(commit(s, 2, &err), STATE_PENDING);
    assert_in_range(clock_monotonic_us() - began, 2000000, 6000000);
    assert_int_equal(rig_file(&rig).mark.last.height, 1);
    rig_start(&rig);
    assert_int_equal(commit(s, 3, &err), STATE_PENDING); /* another record than the pending one */
    assert_non_null(strstr(err.text, "still waits"));
    assert_int_equal(state_settle(s, &err), STATE_DURABLE);
    assert_int_equal(durable_watermark(state_current(s))->last.height, 2);
    assert_commit(s, 3);
    state_close(s);
}

/* An idle enclave answers the probe as the signer's thread does. */
static pid_t start_idle_enclave(int ready)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    struct state *s;
    struct err err;
    if (!rig_enclave(&rig, chain_id, &s, &err) || write(ready, "r", 1) != 1)
        _exit(1);
    while (state_attention_fd(s) >= 0)
        if (fd_wait(state_attention_fd(s), POLLIN, rig_in_ms(10000)))
            state_attend(s);
    _exit(0);
}

static void the_second_enclave_is_refused(void **state)
{
    (void)state;
    struct err err;
    int ready[2];
    char c;
    assert_int_equal(pipe(ready), 0);
    pid_t first = start_idle_enclave(ready[1]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    struct state *second = NULL;
    assert_false(rig_enclave(&rig, chain_id, &second, &err));
    assert_non_null(strstr(err.text, "another enclave holds the state of persist-1 and is alive"));
    assert_int_equal(rig_file(&rig).link_sequence, 1);

    kill(first, SIGSTOP); /* no sign of life: the successor takes over within its handshake */
    uint64_t began = clock_monotonic_us();
    second = enclave();
    assert_in_range(clock_monotonic_us() - began, 500000, 2000000);
    assert_commit(second, 1);
    kill(first, SIGCONT);
    int status;
    assert_int_equal(waitpid(first, &status, 0), first);
    assert_int_equal(status, 0); /* it saw its link end */
    assert_commit(second, 2);

    struct state *third = NULL; /* the second one does not attend: it is busy elsewhere for long */
    assert_true(rig_enclave(&rig, chain_id, &third, &err));
    assert_commit(third, 3);
    assert_int_equal(commit(second, 3, &err), STATE_PENDING);
    state_close(third);
    assert_int_equal(commit(second, 3, &err), STATE_PENDING);
    assert_non_null(strstr(err.text, "another enclave with this key wrote"));
    assert_int_equal(rig_file(&rig).mark.last.height, 3);
    state_close(second);
    close(ready[0]);
    close(ready[1]);
}

static void a_killed_enclave_makes_room_at_once(void **state)
{
    (void)state;
    int ready[2];
    char c;
    assert_int_equal(pipe(ready), 0);
    pid_t first = start_idle_enclave(ready[1]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    kill(first, SIGKILL);
    waitpid(first, NULL, 0);
    uint64_t began = clock_monotonic_us();
    struct state *s = enclave();
    assert_in_range(clock_monotonic_us() - began, 0, 900000);
    assert_commit(s, 1);
    state_close(s);
    close(ready[0]);
    close(ready[1]);
}

static void foreign_chains_and_keys_are_refused(void **state)
{
    (void)state;
    struct state *s = NULL;
    struct err err;
    assert_false(rig_enclave(&rig, "other-1", &s, &err));
    assert_non_null(strstr(err.text, "there is no state of chain other-1 here"));
    assert_non_null(strstr(err.text, "tmkms state init"));
    rig_use_key(&rig, 6);
    assert_false(rig_enclave(&rig, chain_id, &s, &err));
    assert_non_null(strstr(err.text, "another public key"));
}

/* ---- strangers: whoever reaches the port, in bytes ---- */

static bool ends(int fd)
{
    uint8_t buf[4096];
    uint64_t deadline_us = rig_in_ms(5000);
    while (fd_wait(fd, POLLIN, deadline_us)) {
        ssize_t n = recv(fd, buf, sizeof buf, 0);
        if (n <= 0)
            return true;
    }
    return false;
}

static void strangers_change_nothing(void **state)
{
    (void)state;
    struct err err;
    struct state *s = enclave();
    assert_commit(s, 1);
    uint8_t frame[LINK_FRAME_MAX], line[RECORD_LINE_MAX];
    struct link_frame hello = {.kind = LINK_HELLO, .key = rig.key};
    snprintf(hello.chain_id, sizeof hello.chain_id, "%s", chain_id);
    struct bytes whole = link_frame_write(&hello, frame);
    size_t tried = 0;
    for (size_t cut = 0; cut < whole.n; cut++, tried++) { /* every truncation */
        int fd = rig_dial(&rig, rig_in_ms(1000), &err);
        assert_true(fd_write_before(fd, whole.p, cut, rig_in_ms(1000)));
        shutdown(fd, SHUT_WR);
        assert_true(ends(fd));
        close(fd);
    }
    assert_true(tried > 50);
    /* A record without HELLO, one out of nowhere, nonsense. */
    struct record rec = rig_file(&rig);
    rec.link_sequence++;
    rec.mark.last.height = 100;
    struct link_frame f = link_frame_of_record(&rec, line);
    uint8_t other[LINK_FRAME_MAX];
    const struct bytes all[] = {link_frame_write(&f, other),
        bytes_of_text("GET / HTTP/1.1\r\n\r\n"), bytes_of("\0\0\0\0", 4),
        bytes_of("\377\377\377\377", 4), bytes_of("\1\0\0\0\3", 5)};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int fd = rig_dial(&rig, rig_in_ms(1000), &err);
        assert_true(fd_write_before(fd, all[i].p, all[i].n, rig_in_ms(1000)));
        assert_true(ends(fd));
        close(fd);
    }
    assert_int_equal(rig_file(&rig).mark.last.height, 1);
    assert_commit(s, 2); /* the enclave's link was not disturbed */
    state_close(s);
}

/* With HELLO said right, a record must still follow the one before. */
static void records_that_do_not_follow_are_refused(void **state)
{
    (void)state;
    struct err err;
    struct state *s = enclave();
    assert_commit(s, 5);
    state_close(s);
    const struct {
        uint64_t ahead;
        int64_t height;
        bool ok;
    } all[] = {{0, 6, false}, {2, 6, false}, {1, 4, false}, {1, 5, true}, {1, 6, true}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        uint8_t frame[LINK_FRAME_MAX], line[RECORD_LINE_MAX], head[LINK_HEAD + 1];
        struct link_frame hello = {.kind = LINK_HELLO, .key = rig.key, .boot = {(uint8_t)i}};
        snprintf(hello.chain_id, sizeof hello.chain_id, "%s", chain_id);
        struct bytes b = link_frame_write(&hello, frame);
        int fd = rig_dial(&rig, rig_in_ms(1000), &err);
        assert_true(fd_write_before(fd, b.p, b.n, rig_in_ms(1000)));
        assert_true(fd_read_before(fd, head, LINK_HEAD, rig_in_ms(3000)));
        uint8_t rest[LINK_FRAME_MAX];
        assert_true(fd_read_before(fd, rest, link_frame_length(head), rig_in_ms(3000)));
        assert_int_equal(rest[0], LINK_RECORD);

        struct record rec = rig_file(&rig);
        struct record before = rec;
        rec.link_sequence += all[i].ahead;
        rec.link_mac[0] ^= 1;
        rec.mark.last.height = all[i].height;
        struct link_frame f = link_frame_of_record(&rec, line);
        b = link_frame_write(&f, frame);
        assert_true(fd_write_before(fd, b.p, b.n, rig_in_ms(1000)));
        assert_true(fd_read_before(fd, head, LINK_HEAD + 1, rig_in_ms(3000)));
        assert_int_equal(head[LINK_HEAD], all[i].ok ? LINK_ACK : LINK_REFUSE);
        struct record after = rig_file(&rig);
        assert_int_equal(after.link_sequence, before.link_sequence + (all[i].ok ? 1 : 0));
        assert_int_equal(
            after.mark.last.height, all[i].ok ? all[i].height : before.mark.last.height);
        close(fd);
    }
    /* None of these was made by the enclave: its MAC says so. */
    assert_false(rig_enclave(&rig, chain_id, &s, &err));
    assert_non_null(strstr(err.text, "MAC"));
}

static void a_file_changed_under_the_enclave_stops_it(void **state)
{
    (void)state;
    struct err err;
    struct state *s = enclave();
    assert_commit(s, 1);
    uint8_t old[JOURNAL_SIZE];
    int fd = open(rig.file, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, old, sizeof old, 0), JOURNAL_SIZE);
    assert_commit(s, 2);
    assert_commit(s, 3);
    rig_stop(&rig, SIGKILL);
    assert_int_equal(pwrite(fd, old, sizeof old, 0), JOURNAL_SIZE); /* restored from a backup */
    close(fd);
    rig_start(&rig);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(commit(s, 4, &err), STATE_PENDING);
        assert_non_null(strstr(err.text, "older than"));
    }
    assert_int_equal(rig_file(&rig).mark.last.height, 1);
    state_close(s);
}

/* The command itself: two chains, two ports, and the file shown by the command for it. */
static void the_command_serves_several_chains(void **state)
{
    (void)state;
    static struct run_result r;
    char second[96];
    struct err err;
    snprintf(second, sizeof second, "%s/second.json", rig.folder);
    struct record rec = rig_record(&rig, "persist-2");
    assert_true(journal_create(second, &rec, &err));
    assert_int_equal(rig_stop(&rig, SIGTERM), 0);
    rig.persist = fork();
    assert_true(rig.persist >= 0);
    if (rig.persist == 0) {
        dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
        execl(TMKMS_BINARY, TMKMS_BINARY, "nitro", "persist", "-p", "5000", "-p", "5001", "-s",
            rig.file, "-s", second, "--chain", chain_id, "--vsock-uds", rig.vsock.uds, NULL);
        _exit(127);
    }
    struct state *one = enclave(), *two = NULL;
    if (!rig_enclave(&rig, "persist-2", &two, &err))
        fail_msg("%s", err.text);
    assert_commit(one, 11);
    assert_int_equal(commit(two, 22, &err), STATE_DURABLE);
    state_close(one);
    state_close(two);
    RUN(&r, "state", "show", "--state-file", second);
    assert_int_equal(r.exit_code, 0);
    assert_contains(r.out, "persist-2");
    assert_contains(r.out, "signs after the prevote at 22/0");
    RUN(&r, "nitro", "persist", "-p", "5002", "-s", second, "--vsock-uds", rig.vsock.uds);
    assert_int_equal(r.exit_code, 1);
    char words[64];
    snprintf(words, sizeof words, "in use by process %ld (`kill", (long)rig.persist);
    assert_contains(r.err, words);
}

int main(void)
{
#define WITH_PERSIST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_PERSIST(records_are_in_the_file_when_acknowledged),
        WITH_PERSIST(persist_restarts_between_any_two_records),
        WITH_PERSIST(a_commit_waits_for_persist),
        WITH_PERSIST(without_persist_nothing_is_durable),
        WITH_PERSIST(the_second_enclave_is_refused),
        WITH_PERSIST(a_killed_enclave_makes_room_at_once),
        WITH_PERSIST(foreign_chains_and_keys_are_refused),
        WITH_PERSIST(strangers_change_nothing),
        WITH_PERSIST(records_that_do_not_follow_are_refused),
        WITH_PERSIST(a_file_changed_under_the_enclave_stops_it),
        WITH_PERSIST(the_command_serves_several_chains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
