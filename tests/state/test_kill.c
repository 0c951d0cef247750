/* kill -9 on a real disk: a child signs in a loop and tells what it released; it is killed at some
 * moment and the next child goes on from the same file. What was told is never contradicted, and
 * every life gets on. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/log.h"
#include "signer/answer.h"
#include "state/journal.h"

enum { LIVES = 60, STEPS_MAX = 200000 };

static const char chain_id[] = "kill-1";
static struct public_key public_key;
static uint8_t scratch[SIGNER_SCRATCH];

/* What the child sends over the pipe for each released signature. */
struct told {
    int64_t height;
    uint32_t step, repeated;
    uint8_t signature[SIGNATURE_LEN];
};

static uint8_t released[STEPS_MAX][SIGNATURE_LEN];
static bool is_released[STEPS_MAX];

static size_t index_of(int64_t height, uint32_t step)
{
    return (size_t)height * 2 + (step == STEP_PRECOMMIT);
}

static struct signing_key *new_key(void)
{
    struct signing_key *key = NULL;
    struct err err;
    uint8_t seed[ED25519_SEED_LEN] = {1};
    if (!crypto_start(&err) ||
        !signing_key_create(&key, KEY_ED25519, PRIVATE_SEED, bytes_of(seed, sizeof seed), &err))
        abort();
    return key;
}

/* Each life wants blocks of its own, from a few heights below the last one known. */
static void sign_forever(const char *path, int64_t from, uint8_t life, int pipe)
{
    /* A key of its own: a fork finds the memory of its parent's key wiped. */
    struct signer_chain chain = {.key = new_key(), .scratch = scratch};
    memcpy(chain.id, chain_id, sizeof chain_id);
    struct err err;
    int fd;
    if (!journal_open_file(&fd, path, NULL, &err) ||
        !journal_open(&chain.state, fd, path, chain_id, &public_key, NULL, &err))
        _exit(3);
    for (int64_t height = from;; height++) {
        for (enum step step = STEP_PREVOTE; step <= STEP_PRECOMMIT; step++) {
            struct sign_request req = {.kind = SIGN_VOTE_OR_PROPOSAL, .skip_extension = 1};
            req.signable = (struct signable){.height = height, .step = step};
            req.signable.timestamp.seconds = life;
            req.signable.block_id = (struct block_id){.parts_total = 1, .hash_len = HASH_LEN};
            req.signable.block_id.parts_hash_len = HASH_LEN;
            memset(req.signable.block_id.hash, life % 2 + 1, HASH_LEN);
            memset(req.signable.block_id.parts_hash, 1, HASH_LEN);
            struct sign_reply reply;
            if (!signer_answer(&chain, &req, bytes_of(NULL, 0), &reply, &err))
                _exit(4);
            struct told told = {.height = height, .step = step};
            told.repeated = reply.outcome == SIGN_REPEATED;
            memcpy(told.signature, reply.signature, SIGNATURE_LEN);
            if ((reply.outcome == SIGN_DONE || reply.outcome == SIGN_REPEATED) &&
                !fd_write_exact(pipe, &told, sizeof told))
                _exit(5);
        }
    }
}

/* Lets a child live for some time; *top is the highest height released so far. Returns what was
 * new. */
static long live(const char *path, int64_t *top, uint8_t life, useconds_t micros)
{
    int pipe_fds[2];
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        sign_forever(path, *top > 3 ? *top - 3 : 1, life, pipe_fds[1]);
    close(pipe_fds[1]);
    struct told told;
    long fresh = 0;
    bool is_killed = false;
    while (fd_read_exact(pipe_fds[0], &told, sizeof told)) {
        if (!is_killed) { /* it signs: from now on any moment may be its last */
            usleep(micros);
            kill(pid, SIGKILL);
            is_killed = true;
        }
        size_t i = index_of(told.height, told.step);
        assert_true(i < STEPS_MAX);
        if (is_released[i])
            assert_memory_equal(released[i], told.signature, SIGNATURE_LEN);
        fresh += !is_released[i];
        is_released[i] = true;
        memcpy(released[i], told.signature, SIGNATURE_LEN);
        *top = told.height > *top ? told.height : *top;
    }
    close(pipe_fds[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        fail_msg("life %d ended by itself with %d", life, WEXITSTATUS(status));
    return fresh;
}

static void what_left_is_never_contradicted(void **state)
{
    (void)state;
    /* The build folder is on a disk; /tmp may be memory. */
    char folder[] = "kill-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/state.json", folder);
    struct record rec = {.key = public_key};
    memcpy(rec.chain_id, chain_id, sizeof chain_id);
    struct err err;
    if (!journal_create(path, &rec, &err))
        fail_msg("%s", err.text);
    int64_t top = 0;
    long fresh = 0, lives_with_progress = 0;
    unsigned int seed = 7;
    for (uint8_t life = 1; life <= LIVES; life++) {
        long n = live(path, &top, life, (useconds_t)(rand_r(&seed) % 6000));
        fresh += n;
        lives_with_progress += n > 0;
    }
    print_message("%d kills, %ld signatures, height %ld\n", LIVES, fresh, (long)top);
    assert_int_equal(lives_with_progress, LIVES);
    unlink(path);
    rmdir(folder);
}

static int set_up(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    struct signing_key *key = new_key();
    public_key = *signing_key_public(key);
    signing_key_free(key);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_left_is_never_contradicted),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
