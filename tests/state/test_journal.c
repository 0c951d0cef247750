/* The state file: its form, what opening it does, and what happens when a call fails. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "state/journal.h"

static const char chain_id[] = "journal-1";
static const struct public_key key = {.type = KEY_ED25519, .len = 32, .bytes = {1, 2, 3}};
static const struct public_key other_key = {.type = KEY_SECP256K1, .len = 33, .bytes = {2, 9}};
static char folder[] = "/tmp/tmkms-journal-XXXXXX";
static char path[64];

static struct watermark mark_at(int64_t height)
{
    struct watermark m = {.last = {.height = height, .round = 2, .step = STEP_PREVOTE}};
    m.last.timestamp.seconds = 1700000000;
    m.last.block_id.parts_total = 3;
    m.last.block_id.hash_len = m.last.block_id.parts_hash_len = HASH_LEN;
    memset(m.last.block_id.hash, 0xAB, HASH_LEN);
    memset(m.last.block_id.parts_hash, 0xCD, HASH_LEN);
    return m;
}

static struct record record_at(uint64_t sequence, int64_t height)
{
    struct record r = {.sequence = sequence, .key = key, .mark = mark_at(height)};
    memcpy(r.chain_id, chain_id, sizeof chain_id);
    return r;
}

/* ---- calls, counted and made to fail ---- */

static struct {
    off_t written_at;
    bool write_fails, write_is_short, sync_fails;
    char order[64]; /* w, s, f: the calls in their order */
} calls;

static void note(char what)
{
    size_t n = strlen(calls.order);
    if (n + 1 < sizeof calls.order)
        calls.order[n] = what;
}

/* The record that counts while a call is under way must still be the one before. */
static const struct state *watched;
static int64_t watched_height;

static ssize_t counting_pread(void *ctx, int fd, void *buf, size_t n, off_t at)
{
    (void)ctx;
    return pread(fd, buf, n, at);
}

static ssize_t counting_pwrite(void *ctx, int fd, const void *buf, size_t n, off_t at)
{
    (void)ctx;
    note('w');
    calls.written_at = at;
    assert_int_equal(n, SLOT_SIZE);
    assert_int_equal((uintptr_t)buf % SLOT_SIZE, 0);
    if (calls.write_fails) {
        errno = ENOSPC;
        return -1;
    }
    return pwrite(fd, buf, calls.write_is_short ? 100 : n, at);
}

static int counting_fdatasync(void *ctx, int fd)
{
    (void)ctx;
    note('s');
    if (watched != NULL)
        assert_int_equal(durable_watermark(state_current(watched))->last.height, watched_height);
    if (calls.sync_fails) {
        errno = EIO;
        return -1;
    }
    return fdatasync(fd);
}

static int counting_fstat(void *ctx, int fd, struct stat *st)
{
    (void)ctx;
    note('f');
    return fstat(fd, st);
}

static int counting_lstat(void *ctx, const char *name, struct stat *st)
{
    (void)ctx;
    note('l');
    return lstat(name, st);
}

static const struct state_io counting_io = {
    counting_pread, counting_pwrite, counting_fdatasync, counting_fstat, counting_lstat, NULL};

/* ---- files ---- */

static void put_file(const void *content, size_t n)
{
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0 && write(fd, content, n) == (ssize_t)n);
    close(fd);
}

static void get_file(uint8_t raw[JOURNAL_SIZE])
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && read(fd, raw, JOURNAL_SIZE) == JOURNAL_SIZE);
    close(fd);
}

/* A file with these two records at their own places; sequence 0 and -1 may be given as wanted. */
static void put_slots(const struct record *at0, const struct record *at1)
{
    uint8_t raw[JOURNAL_SIZE];
    slot_render(at0, raw);
    slot_render(at1, raw + SLOT_SIZE);
    put_file(raw, sizeof raw);
}

static void rot(off_t at)
{
    int fd = open(path, O_RDWR);
    uint8_t b = 0;
    assert_true(fd >= 0 && pread(fd, &b, 1, at) == 1);
    b ^= 1;
    assert_int_equal(pwrite(fd, &b, 1, at), 1);
    close(fd);
}

static bool open_as(
    struct state **s, const char *chain, const struct public_key *k, struct err *err)
{
    memset(&calls, 0, sizeof calls);
    int fd;
    return journal_open_file(&fd, path, NULL, err) &&
           journal_open(s, fd, path, chain, k, &counting_io, err);
}

static struct state *open_good(void)
{
    struct state *s = NULL;
    struct err err;
    if (!open_as(&s, chain_id, &key, &err))
        fail_msg("%s", err.text);
    return s;
}

static void assert_refused(const char *chain, const struct public_key *k, const char *word)
{
    struct state *s = NULL;
    struct err err;
    assert_false(open_as(&s, chain, k, &err));
    assert_null(s);
    if (strstr(err.text, word) == NULL || strstr(err.text, path) == NULL)
        fail_msg("no '%s' in: %s", word, err.text);
}

static void create_at(int64_t height)
{
    struct record r = record_at(0, height);
    struct err err;
    unlink(path);
    if (!journal_create(path, &r, &err))
        fail_msg("%s", err.text);
}

static int64_t current_height(const struct state *s)
{
    return durable_watermark(state_current(s))->last.height;
}

static void commit_good(struct state *s, int64_t height)
{
    struct watermark next = mark_at(height);
    const struct durable *token = NULL;
    struct err err;
    if (state_commit(s, &next, &token, &err) != STATE_DURABLE)
        fail_msg("%s", err.text);
    assert_int_equal(durable_watermark(token)->last.height, height);
}

/* ---- making ------------------------------------------------------------------------- */

static void records_that_no_signer_has_are_not_written(void **state)
{
    (void)state;
    struct err err;
    unlink(path);
    struct record bad[6];
    for (size_t i = 0; i < 6; i++)
        bad[i] = record_at(0, 5);
    memcpy(bad[0].chain_id, "a\"b", 4);
    bad[1].chain_id[0] = '\0';
    bad[2].key.len = 31;
    bad[3].mark.floor = -1;
    bad[4].mark.last.height = -1;
    bad[5].mark.last.step = STEP_NONE;
    for (size_t i = 0; i < 6; i++) {
        assert_false(journal_create(path, &bad[i], &err));
        assert_int_equal(access(path, F_OK), -1);
    }
}

/* ---- commits ---- */

static void a_commit_is_one_write_one_flush_one_look(void **state)
{
    (void)state;
    create_at(1);
    struct state *s = open_good();
    for (int64_t height = 2; height < 6; height++) {
        uint8_t before[JOURNAL_SIZE], after[JOURNAL_SIZE];
        get_file(before);
        memset(&calls, 0, sizeof calls);
        watched = s;
        watched_height = height - 1;
        size_t heap = mallinfo2().uordblks;
        commit_good(s, height);
        watched = NULL;
        assert_int_equal(mallinfo2().uordblks, heap);
        assert_string_equal(calls.order, "wsfl");
        assert_int_equal(calls.written_at, height % 2 * SLOT_SIZE); /* the older slot, in turn */
        get_file(after);
        size_t other = (size_t)((height + 1) % 2 * SLOT_SIZE);
        assert_memory_equal(before + other, after + other, SLOT_SIZE);
        assert_int_equal(current_height(s), height);
    }
    state_close(s);
    s = open_good();
    assert_int_equal(current_height(s), 5);
    assert_false(state_burns_first(s));
    assert_string_equal(durable_chain_id(state_current(s)), chain_id);
    state_close(s);
}

static void a_commit_never_lowers(void **state)
{
    (void)state;
    create_at(5);
    struct watermark lower[] = {mark_at(4), mark_at(5), {.floor = 4}};
    lower[1].last.block_id.hash[0] = 1;
    for (size_t i = 0; i < 3; i++) {
        struct state *s = open_good();
        const struct durable *token = NULL;
        struct err err;
        assert_int_equal(state_commit(s, &lower[i], &token, &err), STATE_FAILED);
        assert_int_equal(current_height(s), 5);
        state_close(s);
    }
}

/* After any failure: no token, the record that counts stays, no further I/O, whatever is asked. */
static void assert_dead_after_failure(struct state *s, const char *word)
{
    struct watermark next = mark_at(9);
    const struct durable *token = NULL;
    struct err err;
    assert_int_equal(state_commit(s, &next, &token, &err), STATE_FAILED);
    if (strstr(err.text, word) == NULL)
        fail_msg("no '%s' in: %s", word, err.text);
    assert_null(token);
    assert_int_equal(current_height(s), 8);
    memset(&calls, 0, sizeof calls);
    assert_int_equal(state_commit(s, &next, &token, &err), STATE_FAILED);
    assert_string_equal(calls.order, "");
    assert_null(token);
    state_close(s);
}

static void a_failed_call_ends_the_store(void **state)
{
    (void)state;
    create_at(8);
    struct state *s = open_good();
    calls.write_fails = true;
    assert_dead_after_failure(s, "No space left");
    create_at(8);
    s = open_good();
    calls.write_is_short = true;
    assert_dead_after_failure(s, "only 100 of 4096");
    create_at(8);
    s = open_good();
    calls.sync_fails = true;
    assert_dead_after_failure(s, "cannot flush");
}

static void a_deleted_file_is_noticed(void **state)
{
    (void)state;
    create_at(8);
    struct state *s = open_good();
    unlink(path);
    assert_dead_after_failure(s, "was deleted, moved or replaced");

    char aside[80];
    snprintf(aside, sizeof aside, "%s.new", path);
    create_at(8);
    s = open_good();
    struct record r = record_at(0, 8);
    struct err err;
    assert_true(journal_create(aside, &r, &err));
    assert_int_equal(rename(aside, path), 0);
    assert_dead_after_failure(s, "tmkms state");
}

static void copy_file(const char *to)
{
    uint8_t raw[JOURNAL_SIZE];
    get_file(raw);
    int fd = open(to, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0 && write(fd, raw, sizeof raw) == (ssize_t)sizeof raw);
    close(fd);
}

/* What the signer holds open keeps a name in each case, so its link count says nothing. */
static void a_moved_file_is_noticed(void **state)
{
    (void)state;
    char aside[80], copy[80];
    snprintf(aside, sizeof aside, "%s.aside", path);
    snprintf(copy, sizeof copy, "%s.copy", path);
    for (int how = 0; how < 4; how++) {
        unlink(aside);
        create_at(8);
        struct state *s = open_good();
        copy_file(copy);
        if (how == 3) /* a backup by a second name, then another file in the first one's place */
            assert_int_equal(link(path, aside), 0);
        else
            assert_int_equal(rename(path, aside), 0);
        if (how == 1) /* `mv st st.bak; cp st.bak st` */
            assert_int_equal(link(copy, path), 0);
        if (how == 2) /* the very file, but only as long as the link is not pointed elsewhere */
            assert_int_equal(symlink(aside, path), 0);
        if (how == 3)
            assert_int_equal(rename(copy, path), 0);
        assert_dead_after_failure(s, "was deleted, moved or replaced while in use");
        unlink(path);
        unlink(copy);
    }
    unlink(aside);
}

static void a_second_name_does_no_harm(void **state)
{
    (void)state;
    char second[80];
    snprintf(second, sizeof second, "%s.link", path);
    create_at(8);
    assert_int_equal(link(path, second), 0);
    struct state *s = open_good();
    commit_good(s, 9);
    struct err err;
    int fd = -1;
    struct state *again = NULL;
    assert_true(journal_open_file(&fd, second, NULL, &err));
    assert_false(
        journal_open(&again, fd, second, chain_id, &key, NULL, &err)); /* one lock for both names */
    state_close(s);
    unlink(second);
}

/* ---- opening ---- */

static void the_newest_slot_is_written_again_at_open(void **state)
{
    (void)state;
    for (uint64_t newest = 6; newest < 8; newest++) {
        struct record a = record_at(6, 60),
                      b = record_at(newest == 7 ? 7 : 5, newest == 7 ? 70 : 50);
        uint8_t before[JOURNAL_SIZE], after[JOURNAL_SIZE];
        put_slots(&a, &b);
        get_file(before);
        struct state *s = open_good();
        assert_string_equal(calls.order, "fwsfl");
        assert_int_equal(calls.written_at, newest % 2 * SLOT_SIZE);
        get_file(after);
        assert_memory_equal(before, after, JOURNAL_SIZE);
        assert_int_equal(current_height(s), newest * 10);
        assert_false(state_burns_first(s));
        state_close(s);
    }
}

static void a_failed_rewrite_at_open_is_an_error(void **state)
{
    (void)state;
    static const char *const words[] = {"No space left", "only 100", "cannot flush"};
    create_at(8);
    for (int i = 0; i < 3; i++) {
        struct state *s = NULL;
        struct err err;
        int fd;
        memset(&calls, 0, sizeof calls);
        calls.write_fails = i == 0;
        calls.write_is_short = i == 1;
        calls.sync_fails = i == 2;
        assert_true(journal_open_file(&fd, path, NULL, &err));
        assert_false(journal_open(&s, fd, path, chain_id, &key, &counting_io, &err));
        if (strstr(err.text, words[i]) == NULL)
            fail_msg("%s", err.text);
        create_at(8);
    }
}

/* Opens, and checks that the slot of this height counts, that the first height is to be burnt, and
 * that the log says so and names the command. */
static void assert_burns(int64_t height)
{
    int log = open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    assert_true(log >= 0);
    log_set_output(log, false);
    struct state *s = open_good();
    log_set_output(STDOUT_FILENO, false);
    char text[LOG_LINE_MAX + 1] = {0};
    assert_true(pread(log, text, LOG_LINE_MAX, 0) > 0);
    close(log);
    assert_non_null(strstr(text, "tmkms state repair"));
    assert_non_null(strstr(text, path));
    assert_int_equal(current_height(s), height);
    assert_true(state_burns_first(s));
    state_close(s);

    s = open_good(); /* not forgotten by a restart */
    assert_true(state_burns_first(s));
    struct watermark burnt = *durable_watermark(state_current(s));
    burnt.floor = height + 1;
    const struct durable *token;
    struct err err;
    assert_int_equal(state_commit(s, &burnt, &token, &err), STATE_DURABLE);
    assert_false(state_burns_first(s));
    state_close(s);

    s = open_good();
    assert_false(state_burns_first(s));
    assert_int_equal(durable_watermark(state_current(s))->floor, height + 1);
    state_close(s);
}

static void an_invalid_slot_burns_the_first_height(void **state)
{
    (void)state;
    struct record older = record_at(6, 60), newer = record_at(7, 70);
    put_slots(&older, &newer);
    rot(SLOT_SIZE + 100);
    assert_burns(60);
    put_slots(&older, &newer);
    rot(100);
    assert_burns(70);
    put_slots(&older, &newer);
    rot(SLOT_SIZE - 1); /* the newline */
    assert_burns(70);
}

static void sequence_numbers_that_do_not_follow_burn_too(void **state)
{
    (void)state;
    struct record old = record_at(4, 40), newer = record_at(7, 70), same_side = record_at(5, 50);
    put_slots(&old, &newer); /* 6 is missing */
    assert_burns(70);
    put_slots(&same_side, &newer); /* 5 stands where even numbers belong */
    assert_burns(70);
    struct record swapped = record_at(8, 80);
    put_slots(&old, &swapped);
    assert_burns(40);
}

static void a_height_owed_is_owed_until_the_next_commit(void **state)
{
    (void)state;
    struct record r = record_at(0, 5);
    struct err err;
    unlink(path);
    r.burn_next = true;
    assert_true(journal_create(path, &r, &err));
    assert_burns(5);
}

static void states_that_cannot_be_trusted_are_refused(void **state)
{
    (void)state;
    uint8_t raw[2 * JOURNAL_SIZE] = {0};
    create_at(5);
    get_file(raw);
    assert_refused("other-1", &key, "belongs to the chain journal-1, not to other-1");
    assert_refused("other-1", &key, "tmkms state init");
    assert_refused(chain_id, &other_key, "belongs to the public key 010203");
    assert_refused(chain_id, &other_key, "tmkms state init");

    put_file(raw, 0);
    assert_refused(chain_id, &key, "is empty");
    assert_refused(chain_id, &key, " --height H` makes it sign above H");
    put_file(raw, SLOT_SIZE);
    assert_refused(chain_id, &key, "has 4096 bytes");
    assert_refused(chain_id, &key, "tmkms state repair");
    put_file(raw, JOURNAL_SIZE + 1);
    assert_refused(chain_id, &key, "has 8193 bytes");
    put_file(raw + JOURNAL_SIZE, JOURNAL_SIZE);
    assert_refused(chain_id, &key, "both slots");
    assert_refused(chain_id, &key, " --height H` makes it sign above H");
    create_at(5);
    rot(0);
    rot(SLOT_SIZE);
    assert_refused(chain_id, &key, "both slots");

    static const char rust[] = "{\"height\":\"5\",\"round\":\"0\",\"step\":1,\"block_id\":null}";
    put_file(rust, strlen(rust));
    assert_refused(chain_id, &key, "tmkms state import");
}

/* One slot of another chain is enough: such a file was put together by hand. */
static void a_single_foreign_slot_is_refused(void **state)
{
    (void)state;
    struct record ours = record_at(7, 70), foreign = record_at(6, 60);
    memcpy(foreign.chain_id, "other-1", 8);
    put_slots(&foreign, &ours);
    assert_refused(chain_id, &key, "belongs to the chain other-1");
}

static void another_version_is_named_as_such(void **state)
{
    (void)state;
    static const char *const file = VECTORS_DIR "/../state/version-2.state";
    uint8_t raw[JOURNAL_SIZE];
    int fd = open(file, O_RDONLY);
    assert_true(fd >= 0 && read(fd, raw, sizeof raw) == sizeof raw);
    close(fd);
    put_file(raw, sizeof raw);
    assert_refused(chain_id, &key, "another version of tmkms");
    assert_refused(chain_id, &key, "tmkms state export");
}

static void what_is_not_a_file_is_refused(void **state)
{
    (void)state;
    unlink(path);
    assert_refused(chain_id, &key, "tmkms state init");
    assert_refused(chain_id, &key, "tmkms state import");
    assert_int_equal(symlink("elsewhere", path), 0);
    assert_refused(chain_id, &key, "symbolic link");
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_refused(chain_id, &key, "not a regular file");
    unlink(path);
}

static void one_writer(void **state)
{
    (void)state;
    create_at(5);
    struct state *s = open_good();
    char word[64];
    snprintf(word, sizeof word, "in use by process %ld", (long)getpid());
    assert_refused(chain_id, &key, "in use by another process");
    struct err err;
    int fd;
    assert_true(journal_open_file(&fd, path, NULL, &err));
    assert_false(journal_lock(fd, path, &err)); /* a command's: it may look up who */
    if (journal_lock_holder(fd) != 0)           /* some file systems hide it */
        assert_non_null(strstr(err.text, word));
    close(fd);
    pid_t pid = fork();
    if (pid == 0) {
        struct state *second = NULL;
        _exit(open_as(&second, chain_id, &key, &err) ? 1 : 0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    state_close(s);
    state_close(open_good()); /* the lock ends with the store */
}

/* ---- the commands' side ---- */

static void create_leaves_an_existing_file_alone(void **state)
{
    (void)state;
    create_at(5);
    struct record r = record_at(0, 1);
    struct err err;
    assert_false(journal_create(path, &r, &err));
    assert_non_null(strstr(err.text, "exists already"));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_size, JOURNAL_SIZE);
    struct state *s = open_good();
    assert_int_equal(current_height(s), 5);
    state_close(s);
}

static int set_up(void **state)
{
    (void)state;
    log_set_level(LOG_WARN);
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/state.json", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_that_no_signer_has_are_not_written),
        cmocka_unit_test(a_commit_is_one_write_one_flush_one_look),
        cmocka_unit_test(a_commit_never_lowers),
        cmocka_unit_test(a_failed_call_ends_the_store),
        cmocka_unit_test(a_deleted_file_is_noticed),
        cmocka_unit_test(a_moved_file_is_noticed),
        cmocka_unit_test(a_second_name_does_no_harm),
        cmocka_unit_test(the_newest_slot_is_written_again_at_open),
        cmocka_unit_test(a_failed_rewrite_at_open_is_an_error),
        cmocka_unit_test(an_invalid_slot_burns_the_first_height),
        cmocka_unit_test(sequence_numbers_that_do_not_follow_burn_too),
        cmocka_unit_test(a_height_owed_is_owed_until_the_next_commit),
        cmocka_unit_test(states_that_cannot_be_trusted_are_refused),
        cmocka_unit_test(a_single_foreign_slot_is_refused),
        cmocka_unit_test(another_version_is_named_as_such),
        cmocka_unit_test(what_is_not_a_file_is_refused),
        cmocka_unit_test(one_writer),
        cmocka_unit_test(create_leaves_an_existing_file_alone),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
