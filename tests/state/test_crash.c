/* Every crash state of the signer over a simulated disk.
 *
 * Lives of a process follow one another. In each, several nodes ask for every height, round and
 * step of a script, each wanting another block, and ask again. A life ends at every single I/O call
 * in every way the disk knows, followed by a plain restart or by a power loss with every
 * combination of unflushed sectors. The code under test is the real one from the request on: guard,
 * journal, token, signature.
 *
 * The oracle: for one height, round and step at most one sign-bytes is ever released, over all
 * lives.
 *
 * TMKMS_TEST_DEPTH=2 (a minute): smaller sectors, more torn states; 3 (an hour): both at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/log.h"
#include "crypto/hash.h"
#include "privval/sign_bytes.h"
#include "signer/answer.h"
#include "state/sim_disk.h"

static const char chain_id[] = "crash-1";

static const struct {
    int64_t height;
    int32_t round;
    enum step step;
} script[] = {
    {1, 0, STEP_PROPOSAL},
    {1, 0, STEP_PREVOTE},
    {1, 0, STEP_PRECOMMIT},
    {2, 0, STEP_PREVOTE},
    {2, 1, STEP_PREVOTE},
    {2, 1, STEP_PRECOMMIT},
    {3, 0, STEP_PROPOSAL},
    {3, 0, STEP_PREVOTE},
};
enum { SCRIPT = sizeof script / sizeof *script, NODES = 3, WORLDS_SEEN = 1 << 22 };

struct world {
    struct sim_disk disk;
    uint64_t released[SCRIPT]; /* fingerprint of the sign-bytes that left, 0: none */
    int lives;
};

static struct {
    long lives, crash_states, releases, repeats, refusals, burnt, failed_commits;
} count;
static uint64_t *seen; /* hashes of explored worlds; an open table */
static uint8_t scratch[SIGNER_SCRATCH];
static struct signing_key *key;

/* ---- the key ---- */

/* Linked in place of the real one: a fast stand-in that keeps what was signed. */
static uint8_t signed_bytes[SIGN_BYTES_MAX];
static size_t signed_n;

void __wrap_signing_key_sign(
    const struct signing_key *k, struct bytes msg, uint8_t sig[SIGNATURE_LEN]);
void __wrap_signing_key_sign(
    const struct signing_key *k, struct bytes msg, uint8_t sig[SIGNATURE_LEN])
{
    assert_ptr_equal(k, key);
    assert_true(msg.n > 0 && msg.n <= sizeof signed_bytes);
    memcpy(signed_bytes, msg.p, msg.n);
    signed_n = msg.n;
    sha256(msg, sig);
    sha256(bytes_of(sig, SHA256_LEN), sig + SHA256_LEN);
}

/* ---- one life ---- */

static struct signable wanted(int i, int node, int life)
{
    struct signable s = {
        .height = script[i].height, .round = script[i].round, .step = script[i].step};
    s.timestamp.seconds = 1000 + 10 * life + node;
    s.pol_round = s.step == STEP_PROPOSAL ? -1 : 0;
    if (node < 2 || s.step == STEP_PROPOSAL) {
        s.block_id.hash_len = s.block_id.parts_hash_len = HASH_LEN;
        s.block_id.parts_total = 1;
        memset(s.block_id.hash, 'A' + node, HASH_LEN);
        memset(s.block_id.parts_hash, 'P', HASH_LEN);
    }
    return s;
}

/* What left the signer: the sign-bytes of this very request with the answered timestamp, and never
 * others. */
static void check_release(
    struct world *w, int i, struct signable asked, const struct sign_reply *reply)
{
    uint8_t want[SIGN_BYTES_MAX], sum[SIGNATURE_LEN];
    asked.timestamp = reply->timestamp;
    struct bytes msg = sign_bytes(&asked, chain_id, want);
    sha256(msg, sum);
    if (!bytes_equal(msg, bytes_of(signed_bytes, signed_n)) ||
        memcmp(sum, reply->signature, SHA256_LEN) != 0)
        fail_msg("step %d of the script: other bytes were signed than were asked for", i);
    uint64_t fingerprint;
    memcpy(&fingerprint, sum, sizeof fingerprint);
    if (w->released[i] != 0 && w->released[i] != fingerprint)
        fail_msg("DOUBLE SIGN in life %d at %d/%d step %d", w->lives, (int)script[i].height,
            (int)script[i].round, (int)script[i].step);
    w->released[i] = fingerprint;
}

static void count_reply(const struct sign_reply *reply)
{
    if (reply->outcome == SIGN_DONE)
        count.releases++;
    else if (reply->outcome == SIGN_REPEATED)
        count.repeats++;
    else if (strstr(reply->reason, "invalid slot") != NULL)
        count.burnt++;
    else
        count.refusals++;
}

/* false: the signer says that the process must end. */
static bool ask(struct world *w, struct signer_chain *chain, int i, int node)
{
    struct sign_request req = {.kind = SIGN_VOTE_OR_PROPOSAL, .skip_extension = 1};
    req.signable = wanted(i, node, w->lives);
    struct sign_reply reply;
    struct err err;
    if (!signer_answer(chain, &req, bytes_of(NULL, 0), &reply, &err))
        return false;
    if (w->disk.is_dead)
        return true; /* whatever it computed, it cannot have been sent */
    count_reply(&reply);
    if (reply.outcome == SIGN_DONE || reply.outcome == SIGN_REPEATED)
        check_release(w, i, req.signable, &reply);
    return true;
}

/* A store that failed makes no second try, however long it is asked. */
static void check_poison(struct world *w, struct signer_chain *chain)
{
    long calls = w->disk.calls;
    struct watermark next = {.floor = INT64_MAX};
    const struct durable *token = NULL;
    struct err err;
    for (int i = 0; i < 2; i++)
        assert_int_equal(state_commit(chain->state, &next, &token, &err), STATE_FAILED);
    assert_null(token);
    assert_int_equal(w->disk.calls, calls);
    count.failed_commits++;
}

static void serve(struct world *w, struct signer_chain *chain)
{
    for (int i = 0; i < SCRIPT && !w->disk.is_dead; i++) {
        for (int n = 0; n < 2 * NODES; n++) {
            if (ask(w, chain, i, (w->lives + n) % NODES))
                continue;
            if (!w->disk.is_dead)
                check_poison(w, chain);
            return;
        }
    }
}

/* A signer that survived everything is of use: of two new heights it signs at least one. */
static void check_liveness(struct signer_chain *chain)
{
    int done = 0;
    for (int64_t height = 8; height < 10; height++) {
        struct sign_request req = {.kind = SIGN_VOTE_OR_PROPOSAL, .signable = wanted(1, 0, 0)};
        req.signable.height = height;
        struct sign_reply reply;
        struct err err;
        assert_true(signer_answer(chain, &req, bytes_of(NULL, 0), &reply, &err));
        done += reply.outcome == SIGN_DONE;
    }
    assert_in_range(done, 1, 2);
}

static void live(struct world *w, enum sim_fault fault, long at, bool is_last)
{
    sim_disk_restart(&w->disk, fault, at);
    struct state_io io = sim_disk_io(&w->disk);
    struct signer_chain chain = {.key = key, .scratch = scratch};
    memcpy(chain.id, chain_id, sizeof chain_id);
    struct err err = {0};
    int fd = memfd_create("state", MFD_CLOEXEC);
    count.lives++;
    if (!journal_open(&chain.state, fd, "state", chain_id, signing_key_public(key), &io, &err)) {
        if (!w->disk.fault_hit)
            fail_msg("the state cannot be opened after a crash: %s", err.text);
        return;
    }
    serve(w, &chain);
    if (is_last)
        check_liveness(&chain);
    state_close(chain.state);
}

/* ---- all lives ---- */

static bool is_new(const struct world *w, int faults_left)
{
    uint64_t h = sim_disk_hash(&w->disk) ^ (uint64_t)(faults_left * NODES + w->lives % NODES + 1);
    for (int i = 0; i < SCRIPT; i++)
        h = (h ^ w->released[i]) * UINT64_C(0x9E3779B97F4A7C15) + (h >> 31);
    h |= 1;
    size_t at = h >> 20 & (WORLDS_SEEN - 1);
    while (seen[at] != 0 && seen[at] != h)
        at = (at + 1) & (WORLDS_SEEN - 1);
    bool is_new = seen[at] == 0;
    seen[at] = h;
    count.crash_states += is_new;
    assert_true(count.crash_states < WORLDS_SEEN / 2);
    return is_new;
}

static void explore(const struct world *from, int faults_left);

/* The process is gone: it starts again with the cache as it is, or after a power loss. */
static void explore_restarts(const struct world *from, int faults_left)
{
    struct world *w = malloc(sizeof *w);
    assert_non_null(w);
    *w = *from;
    w->lives++;
    explore(w, faults_left);
    for (long n = 0; sim_disk_power_loss(&w->disk, n); n++) {
        explore(w, faults_left);
        w->disk = from->disk;
    }
    free(w);
}

static void explore(const struct world *from, int faults_left)
{
    if (!is_new(from, faults_left))
        return;
    struct world *w = malloc(sizeof *w);
    assert_non_null(w);
    bool goes_on = faults_left > 0;
    for (long at = 0; goes_on; at++) {
        goes_on = false;
        for (enum sim_fault fault = SIM_DIE; fault <= SIM_SYNC_EIO; fault++) {
            *w = *from;
            live(w, fault, at, false);
            if (!w->disk.fault_hit)
                continue;
            goes_on = true;
            explore_restarts(w, faults_left - 1);
        }
    }
    *w = *from;
    live(w, SIM_NO_FAULT, 0, faults_left == 0);
    if (faults_left > 0)
        explore_restarts(w, faults_left - 1);
    free(w);
}

static void explore_all(int faults, size_t sector)
{
    struct record rec = {.key = *signing_key_public(key)};
    memcpy(rec.chain_id, chain_id, sizeof chain_id);
    uint8_t content[JOURNAL_SIZE];
    for (unsigned i = 0; i < 2; i++) {
        rec.sequence = i;
        slot_render(&rec, content + i * SLOT_SIZE);
    }
    struct world *w = calloc(1, sizeof *w);
    seen = calloc(WORLDS_SEEN, sizeof *seen);
    assert_true(w != NULL && seen != NULL);
    memset(&count, 0, sizeof count);
    sim_disk_init(&w->disk, content, sector);
    explore(w, faults);
    free(seen);
    free(w);
    print_message(
        "%d faults, sectors of %zu: %ld crash states, %ld lives, %ld released, %ld repeated, "
        "%ld refused, %ld burnt, %ld commits failed\n",
        faults, sector, count.crash_states, count.lives, count.releases, count.repeats,
        count.refusals, count.burnt, count.failed_commits);
    assert_true(count.crash_states > 1000 && count.lives > 4000 && count.releases > 10000);
    assert_true(count.repeats > 10000 && count.refusals > 10000);
    assert_true(count.burnt > 1000 && count.failed_commits > 1000);
}

static void at_most_one_sign_bytes_over_all_crashes(void **state)
{
    (void)state;
    const char *text = getenv("TMKMS_TEST_DEPTH");
    long depth = text != NULL ? strtol(text, NULL, 10) : 1;
    explore_all(3, 512);
    if (depth >= 2)
        explore_all(2, 128);
    if (depth >= 3)
        explore_all(3, 128);
}

/* ---- the commands ------------------------------------------------------------------------------- */

static struct record floor_record(uint64_t sequence, int64_t floor)
{
    struct record r = {
        .sequence = sequence, .key = *signing_key_public(key), .mark = {.floor = floor}};
    memcpy(r.chain_id, chain_id, sizeof chain_id);
    return r;
}

/* Wherever a replacement ends, the old record or the new one counts. */
static void a_replacement_is_whole_or_absent(void **state)
{
    (void)state;
    struct record older = floor_record(6, 60), newer = floor_record(7, 70),
                  wanted = floor_record(0, 90);
    uint8_t raw[JOURNAL_SIZE];
    slot_render(&older, raw);
    slot_render(&newer, raw + SLOT_SIZE);
    static struct sim_disk disk, after;
    struct state_io io = sim_disk_io(&disk), io_after = sim_disk_io(&after);
    int old_counts = 0, new_counts = 0;
    for (int at = 0; at < 6; at++) {
        for (enum sim_fault fault = SIM_DIE; fault <= SIM_SYNC_EIO; fault++) {
            struct journal_view view;
            struct err err;
            sim_disk_init(&disk, raw, 128);
            sim_disk_restart(&disk, fault, at);
            assert_true(journal_view(&view, -1, "state", &io, &err) && view.is_intact);
            bool ok = journal_replace(-1, "state", &view, &wanted, &io, &err);
            assert_int_equal(ok, !disk.fault_hit);
            after = disk;
            for (long n = 0; sim_disk_power_loss(&after, n); n++) {
                assert_true(journal_view(&view, -1, "state", &io_after, &err));
                assert_true(
                    journal_view_check(&view, "state", NULL, chain_id, signing_key_public(key), &err));
                int64_t height = view.slot[view.newest].mark.floor;
                assert_true(height == 90 || (height == 70 && !ok));
                *(height == 90 ? &new_counts : &old_counts) += 1;
                after = disk;
            }
        }
    }
    assert_true(old_counts > 10 && new_counts > 10);
}

static int set_up(void **state)
{
    (void)state;
    struct err err;
    uint8_t seed[ED25519_SEED_LEN] = {1};
    log_set_level(LOG_ERROR);
    if (!crypto_start(&err) ||
        !signing_key_create(&key, KEY_ED25519, PRIVATE_SEED, bytes_of(seed, sizeof seed), &err))
        fail_msg("%s", err.text);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    signing_key_free(key);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_most_one_sign_bytes_over_all_crashes),
        cmocka_unit_test(a_replacement_is_whole_or_absent),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
