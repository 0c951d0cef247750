/* persist_rig: `persist` in a process of its own behind the stand-in for vsock, and enclaves that use it. */
#ifndef TMKMS_TESTS_PERSIST_RIG_H
#define TMKMS_TESTS_PERSIST_RIG_H

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

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "folder.h"
#include "link/vsock.h"
#include "parent/persist.h"
#include "state/host_link.h"
#include "state/journal.h"

enum { RIG_PORT = 5000 };

struct rig {
    char folder[64], file[96];
    struct vsock vsock;
    struct public_key key;
    uint8_t mac_key[32];
    pid_t persist;
};

static inline uint64_t rig_in_ms(uint64_t ms)
{
    return clock_monotonic_us() + ms * 1000;
}

static inline int rig_persist_main(struct rig *r, int ready)
{
    static struct server s;
    struct err err;
    log_set_level(LOG_ERROR);
    if (!server_start(&s, &err))
        return 10;
    struct persist *p = persist_new(&s, 0, &err);
    if (persist_open(p, r->file, NULL, &err) != PERSIST_OPEN ||
        !persist_listen(p, vsock_listen_parent(&r->vsock, RIG_PORT, &err), &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 11;
    }
    if (write(ready, "r", 1) != 1)
        return 12;
    bool ok = server_run(&s);
    persist_free(p);
    server_stop(&s);
    return ok ? 0 : 1;
}

static inline void rig_start(struct rig *r)
{
    int ready[2];
    char c;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    r->persist = fork();
    assert_true(r->persist >= 0);
    if (r->persist == 0)
        _exit(rig_persist_main(r, ready[1]));
    close(ready[1]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
}

/* Returns the exit code, -1 after a kill. */
static inline int rig_stop(struct rig *r, int signal)
{
    int status;
    kill(r->persist, signal);
    assert_int_equal(waitpid(r->persist, &status, 0), r->persist);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline struct record rig_record(const struct rig *r, const char *chain_id)
{
    struct record rec = {.key = r->key};
    snprintf(rec.chain_id, sizeof rec.chain_id, "%s", chain_id);
    return rec;
}

/* A key's own memory does not survive a fork: only what is made from it is kept. */
static inline void rig_use_key(struct rig *r, uint8_t first_byte)
{
    struct err err;
    struct signing_key *key = NULL;
    uint8_t seed[32] = {first_byte};
    if (!crypto_start(&err) ||
        !signing_key_create(&key, KEY_ED25519, PRIVATE_SEED, bytes_of(seed, 32), &err))
        fail_msg("%s", err.text);
    r->key = *signing_key_public(key);
    signing_key_derive(key, bytes_of_text("test"), r->mac_key);
    signing_key_free(key);
}

static inline void rig_init(struct rig *r, const char *chain_id)
{
    struct err err;
    char path[96];
    memset(r, 0, sizeof *r);
    snprintf(r->folder, sizeof r->folder, "/tmp/tmkms-persist-XXXXXX");
    assert_non_null(mkdtemp(r->folder));
    snprintf(path, sizeof path, "%s/v", r->folder);
    snprintf(r->file, sizeof r->file, "%s/state.json", r->folder);
    rig_use_key(r, 5);
    struct record rec = rig_record(r, chain_id);
    if (!vsock_from(&r->vsock, path, &err) || !journal_create(r->file, &rec, &err))
        fail_msg("%s", err.text);
}

static inline void rig_end(struct rig *r)
{
    folder_remove(r->folder);
}

static inline int rig_dial(void *ctx, uint64_t deadline_us, struct err *err)
{
    struct rig *r = ctx;
    return vsock_dial_parent(&r->vsock, RIG_PORT, deadline_us, err);
}

static inline bool rig_enclave(
    struct rig *r, const char *chain_id, struct state **ret, struct err *err)
{
    return host_link_open(ret, chain_id, &r->key, r->mac_key, rig_dial, r, err);
}

static inline struct watermark rig_mark(int64_t height, uint8_t block)
{
    struct watermark mark = {.last = {.height = height, .step = STEP_PREVOTE}};
    mark.last.timestamp.seconds = 1000;
    struct block_id *id = &mark.last.block_id;
    id->hash_len = id->parts_hash_len = HASH_LEN;
    id->parts_total = 1;
    memset(id->hash, block, HASH_LEN);
    memset(id->parts_hash, block, HASH_LEN);
    return mark;
}

/* What the file says. */
static inline struct record rig_file(const struct rig *r)
{
    struct journal_view view;
    struct err err;
    int fd = open(r->file, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(journal_view(&view, fd, r->file, &state_io_system, &err));
    close(fd);
    assert_true(view.newest >= 0);
    return view.slot[view.newest];
}

#endif
