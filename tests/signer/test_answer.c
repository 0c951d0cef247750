/* The signer's order of work on a real state file: guard, commit, token, sign. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "privval/sign_bytes.h"
#include "signer/answer.h"
#include "state/journal.h"

static const char chain_id[] = "answer-chain";

/* A disk whose next write or flush can be made to fail. */
static struct {
    bool fail_write, fail_flush;
    unsigned flushes;
} disk;

static ssize_t disk_pread(void *ctx, int fd, void *buf, size_t n, off_t at)
{
    (void)ctx;
    return pread(fd, buf, n, at);
}

static ssize_t disk_pwrite(void *ctx, int fd, const void *buf, size_t n, off_t at)
{
    (void)ctx;
    return disk.fail_write ? pwrite(fd, buf, n / 2, at) : pwrite(fd, buf, n, at);
}

static int disk_fdatasync(void *ctx, int fd)
{
    (void)ctx;
    disk.flushes++;
    return disk.fail_flush ? -1 : fdatasync(fd);
}

static int disk_fstat(void *ctx, int fd, struct stat *st)
{
    (void)ctx;
    return fstat(fd, st);
}

static int disk_lstat(void *ctx, const char *path, struct stat *st)
{
    (void)ctx;
    return lstat(path, st);
}

static const struct state_io io = {
    disk_pread, disk_pwrite, disk_fdatasync, disk_fstat, disk_lstat, NULL};

struct fixture {
    char folder[64], path[96];
    struct signing_key *key;
    struct signer_chain chain;
};

static void reopen(struct fixture *f)
{
    struct err err;
    int fd;
    state_close(f->chain.state);
    f->chain.state = NULL;
    if (!journal_open_file(&fd, f->path, NULL, &err) ||
        !journal_open(
            &f->chain.state, fd, f->path, chain_id, signing_key_public(f->key), &io, &err))
        fail_msg("%s", err.text);
}

static int setup(void **state)
{
    static struct fixture f;
    struct err err;
    memset(&f, 0, sizeof f);
    memset(&disk, 0, sizeof disk);
    uint8_t seed[32] = {7};
    if (!crypto_start(&err) ||
        !signing_key_create(&f.key, KEY_ED25519, PRIVATE_SEED, bytes_of(seed, 32), &err))
        return -1;
    snprintf(f.folder, sizeof f.folder, "/tmp/tmkms-answer-XXXXXX");
    if (mkdtemp(f.folder) == NULL)
        return -1;
    snprintf(f.path, sizeof f.path, "%s/state.json", f.folder);
    struct record rec = {.key = *signing_key_public(f.key)};
    snprintf(rec.chain_id, sizeof rec.chain_id, "%s", chain_id);
    if (!journal_create(f.path, &rec, &err))
        return -1;
    f.chain.key = f.key;
    snprintf(f.chain.id, sizeof f.chain.id, "%s", chain_id);
    f.chain.scratch = malloc(SIGNER_SCRATCH);
    reopen(&f);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    state_close(f->chain.state);
    signing_key_free(f->key);
    free(f->chain.scratch);
    unlink(f->path);
    rmdir(f->folder);
    return 0;
}

static struct sign_request vote(int64_t height, enum step step, uint8_t block)
{
    struct sign_request req = {.kind = SIGN_VOTE_OR_PROPOSAL};
    req.signable = (struct signable){.height = height, .step = step, .timestamp = {1700000000, 5}};
    if (step == STEP_PROPOSAL)
        req.signable.pol_round = -1;
    if (block != 0) {
        struct block_id *id = &req.signable.block_id;
        id->parts_total = 1;
        id->hash_len = id->parts_hash_len = HASH_LEN;
        memset(id->hash, block, HASH_LEN);
        memset(id->parts_hash, block, HASH_LEN);
    }
    return req;
}

static struct sign_reply ask_with(
    struct fixture *f, const struct sign_request *req, const char *blob)
{
    struct sign_reply reply;
    struct err err;
    struct sign_request sized = *req;
    sized.blob_n = (uint32_t)strlen(blob);
    if (!signer_answer(&f->chain, &sized, bytes_of_text(blob), &reply, &err))
        fail_msg("%s", err.text);
    return reply;
}

static struct sign_reply ask(struct fixture *f, const struct sign_request *req)
{
    return ask_with(f, req, "");
}

static void assert_signs(
    struct fixture *f, const struct signable *s, const struct sign_reply *reply)
{
    uint8_t buf[SIGN_BYTES_MAX];
    assert_true(public_key_verify(
        signing_key_public(f->key), sign_bytes(s, chain_id, buf), reply->signature));
}

static void test_a_new_vote_is_flushed_then_signed(void **state)
{
    struct fixture *f = *state;
    struct sign_request req = vote(5, STEP_PREVOTE, 1);
    unsigned before = disk.flushes;
    struct sign_reply reply = ask(f, &req);
    assert_int_equal(reply.outcome, SIGN_DONE);
    assert_int_equal(disk.flushes, before + 1);
    assert_signs(f, &req.signable, &reply);
    assert_int_equal(reply.has_extension_signature, 0);
}

static void test_a_repeat_gets_the_stored_timestamp_also_after_a_restart(void **state)
{
    struct fixture *f = *state;
    struct sign_request first = vote(5, STEP_PREVOTE, 1), again = first;
    again.signable.timestamp.seconds += 9;
    struct sign_reply one = ask(f, &first);
    for (int life = 0; life < 2; life++) {
        struct sign_reply two = ask(f, &again);
        assert_int_equal(two.outcome, SIGN_REPEATED);
        assert_memory_equal(two.signature, one.signature, SIGNATURE_LEN);
        assert_int_equal(two.timestamp.seconds, first.signable.timestamp.seconds);
        reopen(f);
    }
}

static void test_a_conflict_is_refused_and_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct sign_request first = vote(5, STEP_PREVOTE, 1), other = vote(5, STEP_PREVOTE, 2);
    ask(f, &first);
    unsigned before = disk.flushes;
    struct sign_reply reply = ask(f, &other);
    assert_int_equal(reply.outcome, SIGN_DOUBLE);
    assert_true(strlen(reply.reason) > 10);
    assert_int_equal(disk.flushes, before);
    uint8_t none[SIGNATURE_LEN] = {0};
    assert_memory_equal(reply.signature, none, SIGNATURE_LEN);
    assert_int_equal(ask(f, &first).outcome, SIGN_REPEATED);
}

static void test_nothing_is_signed_when_the_disk_fails(void **state)
{
    struct fixture *f = *state;
    for (int what = 0; what < 2; what++) {
        struct sign_request req = vote(10 + what, STEP_PREVOTE, 1);
        struct sign_reply reply;
        struct err err;
        disk.fail_write = what == 0;
        disk.fail_flush = what == 1;
        assert_false(signer_answer(&f->chain, &req, bytes_of(NULL, 0), &reply, &err));
        uint8_t none[SIGNATURE_LEN] = {0};
        assert_memory_equal(reply.signature, none, SIGNATURE_LEN);
        disk.fail_write = disk.fail_flush = false;
        /* And never again with this store. */
        req.signable.height++;
        assert_false(signer_answer(&f->chain, &req, bytes_of(NULL, 0), &reply, &err));
        reopen(f);
    }
}

static void damage_older_slot(struct fixture *f)
{
    int fd = open(f->path, O_RDWR);
    struct journal_view view;
    struct err err;
    assert_true(journal_view(&view, fd, f->path, &io, &err));
    assert_int_equal(view.slot[view.newest].mark.last.height, 5);
    uint8_t hole[512] = {0};
    off_t older = (off_t)(1 - view.newest) * SLOT_SIZE;
    assert_int_equal(pwrite(fd, hole, sizeof hole, older), sizeof hole);
    close(fd);
}

static void test_a_damaged_slot_costs_one_height(void **state)
{
    struct fixture *f = *state;
    struct sign_request five = vote(5, STEP_PREVOTE, 1), six = vote(6, STEP_PREVOTE, 1),
                        seven = vote(7, STEP_PREVOTE, 1);
    ask(f, &five);
    damage_older_slot(f);
    reopen(f);
    assert_true(state_burns_first(f->chain.state));
    assert_int_equal(ask(f, &five).outcome, SIGN_REPEATED);
    struct sign_reply burnt = ask(f, &six);
    assert_int_equal(burnt.outcome, SIGN_REFUSED);
    assert_non_null(strstr(burnt.reason, "height 6"));
    assert_int_equal(ask(f, &six).outcome, SIGN_REFUSED);
    reopen(f);
    assert_int_equal(ask(f, &six).outcome, SIGN_REFUSED);
    assert_int_equal(ask(f, &seven).outcome, SIGN_DONE);
}

static void test_a_raised_floor_does_not_pay_for_a_damaged_slot(void **state)
{
    struct fixture *f = *state;
    struct sign_request five = vote(5, STEP_PREVOTE, 1), six = vote(6, STEP_PREVOTE, 1),
                        seven = vote(7, STEP_PREVOTE, 1);
    struct err err;
    ask(f, &five);
    damage_older_slot(f);
    reopen(f);
    assert_int_equal(state_raise_floor(f->chain.state, 3, &err), STATE_DURABLE);
    assert_true(state_burns_first(f->chain.state));
    reopen(f);
    assert_int_equal(durable_watermark(state_current(f->chain.state))->floor, 3);
    assert_true(state_burns_first(f->chain.state));
    assert_int_equal(ask(f, &six).outcome, SIGN_REFUSED);
    assert_int_equal(ask(f, &seven).outcome, SIGN_DONE);
}

static void test_extensions_are_signed_for_precommits_of_a_block_only(void **state)
{
    struct fixture *f = *state;
    uint8_t buf[256];
    struct sign_request req = vote(5, STEP_PRECOMMIT, 1);
    struct sign_reply reply = ask_with(f, &req, "");
    assert_int_equal(reply.has_extension_signature, 1);
    struct bytes msg =
        extension_sign_bytes(&req.signable, chain_id, bytes_of(NULL, 0), buf, sizeof buf);
    assert_true(public_key_verify(signing_key_public(f->key), msg, reply.extension_signature));

    reply = ask_with(f, &req, "changed"); /* a repeat signs the extension that came with it */
    assert_int_equal(reply.outcome, SIGN_REPEATED);
    msg = extension_sign_bytes(&req.signable, chain_id, bytes_of_text("changed"), buf, sizeof buf);
    assert_true(public_key_verify(signing_key_public(f->key), msg, reply.extension_signature));

    req = vote(6, STEP_PRECOMMIT, 1);
    req.skip_extension = 1;
    assert_int_equal(ask_with(f, &req, "").has_extension_signature, 0);
    req = vote(7, STEP_PRECOMMIT, 0);
    assert_int_equal(ask_with(f, &req, "x").outcome, SIGN_REFUSED);
    reply = ask_with(f, &req, "");
    assert_int_equal(reply.outcome, SIGN_DONE);
    assert_int_equal(reply.has_extension_signature, 0);
    req = vote(8, STEP_PREVOTE, 1);
    assert_int_equal(ask_with(f, &req, "x").outcome, SIGN_REFUSED);
    assert_int_equal(durable_watermark(state_current(f->chain.state))->last.height, 7);
}

static void test_raw_bytes_are_off_by_default_and_never_a_vote(void **state)
{
    struct fixture *f = *state;
    struct sign_request req = {.kind = SIGN_RAW_P2};
    assert_int_equal(ask_with(f, &req, "hello").outcome, SIGN_REFUSED);
    f->chain.sign_raw_bytes = true;
    struct sign_reply reply = ask_with(f, &req, "hello");
    assert_int_equal(reply.outcome, SIGN_DONE);
    assert_true(
        public_key_verify(signing_key_public(f->key), bytes_of_text("hello"), reply.signature));
    struct sign_request five = vote(5, STEP_PREVOTE, 1);
    uint8_t buf[SIGN_BYTES_MAX];
    struct bytes canonical = sign_bytes(&five.signable, chain_id, buf);
    struct err err;
    assert_true(signer_answer(&f->chain, &req, canonical, &reply, &err));
    assert_int_equal(reply.outcome, SIGN_REFUSED);
    req.kind = SIGN_RAW_CELESTIA;
    req.unique_id_n = 2;
    assert_int_equal(ask_with(f, &req, "helloid").outcome, SIGN_DONE);
    req.unique_id_n = 99;
    assert_int_equal(ask_with(f, &req, "helloid").outcome, SIGN_REFUSED);
}

static void test_nonsense_from_the_session_is_refused(void **state)
{
    struct fixture *f = *state;
    struct sign_request req = vote(5, STEP_PREVOTE, 1);
    req.kind = 77;
    assert_int_equal(ask(f, &req).outcome, SIGN_REFUSED);
    req = vote(5, STEP_NONE, 1);
    assert_int_equal(ask(f, &req).outcome, SIGN_REFUSED);
    req = vote(5, (enum step)9, 1);
    assert_int_equal(ask(f, &req).outcome, SIGN_REFUSED);
    req = vote(5, STEP_PREVOTE, 1);
    req.signable.block_id.hash_len = 31;
    assert_int_equal(ask(f, &req).outcome, SIGN_REFUSED);
    req = vote(0, STEP_PREVOTE, 1);
    assert_int_equal(ask(f, &req).outcome, SIGN_REFUSED);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_new_vote_is_flushed_then_signed),
        T(test_a_repeat_gets_the_stored_timestamp_also_after_a_restart),
        T(test_a_conflict_is_refused_and_changes_nothing),
        T(test_nothing_is_signed_when_the_disk_fails),
        T(test_a_damaged_slot_costs_one_height),
        T(test_a_raised_floor_does_not_pay_for_a_damaged_slot),
        T(test_extensions_are_signed_for_precommits_of_a_block_only),
        T(test_raw_bytes_are_off_by_default_and_never_a_vote),
        T(test_nonsense_from_the_session_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
