#include "monitor/chains.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "monitor/hook.h"
#include "monitor/machine_lock.h"
#include "state/journal_words.h"

struct chain *chains_find(struct monitor *m, const char *id)
{
    for (size_t i = 0; i < m->chains_n; i++)
        if (strcmp(m->chains[i].config.id, id) == 0)
            return &m->chains[i];
    return NULL;
}

/* Links are common for secrets, and O_NONBLOCK keeps a fifo from holding us for ever. */
static bool open_key_file(const struct config_chain *c, int *ret, struct err *err)
{
    int fd = open(c->key_file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return err_set(err,
            "there is no key file %s (`tmkms softsign keygen -t %s %s` makes one, `tmkms softsign "
            "import FILE %s` brings one)",
            c->key_file, c->key_type == KEY_ED25519 ? "consensus" : "account", c->key_file,
            c->key_file);
    if (fd < 0)
        return err_errno(err, "user %ld cannot open the key file %s", (long)geteuid(), c->key_file);
    *ret = fd;
    return true;
}

static bool state_is_unshared(
    const struct monitor *m, struct chain *chain, int state_fd, struct err *err)
{
    struct stat st;
    if (fstat(state_fd, &st) != 0)
        return err_errno(err, "cannot look at %s", chain->config.state_file);
    for (size_t i = 0; i < m->chains_n; i++)
        if (m->chains[i].state_dev == st.st_dev && m->chains[i].state_ino == st.st_ino)
            return err_set(err,
                "%s is the state file of chain %s already; each chain needs its own",
                chain->config.state_file, m->chains[i].config.id);
    chain->state_dev = st.st_dev;
    chain->state_ino = st.st_ino;
    return true;
}

static bool hand_over_files(struct monitor *m, struct chain *chain, struct err *err)
{
    int fds[2] ATTR_CLEANUP(fd_close_pair) = {-1, -1};
    char named[JOURNAL_NAMED_MAX];
    snprintf(named, sizeof named, "-c %.400s --chain %s", m->config_path, chain->config.id);
    if (!open_key_file(&chain->config, &fds[0], err) ||
        !journal_open_file(&fds[1], chain->config.state_file, named, err) ||
        !state_is_unshared(m, chain, fds[1], err))
        return false;
    struct control add = {.kind = CONTROL_CHAIN_ADD, .u.chain = chain->config};
    return core_send(m, &m->signer, &add, fds, 2) ||
           err_errno(err, "cannot reach the signer process");
}

/* The identity key is opened here and read by the session, which opens nothing. */
static int open_identity_file(struct monitor *m, const struct config_validator *v, struct err *err)
{
    (void)m;
    int fd = open(v->secret_key, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        err_errno(err,
            "validator %s: cannot open its secret_key %s (`tmkms softsign keygen %s` makes one)",
            v->address.text, v->secret_key, v->secret_key);
    return fd;
}

const struct monitor_source chains_from_files = {
    .hand_over = hand_over_files, .open_identity = open_identity_file};

/* A late answer about another chain, whose opening was given up, is not about this one. */
static bool await_answer(struct monitor *m, const struct chain *chain, uint32_t kind,
    struct control *ret, struct err *err)
{
    while (core_await(m, &m->signer, kind, ret, err)) {
        const char *id = kind == CONTROL_CHAIN_READY ? ret->u.channel.id : ret->u.chain_id;
        if (strcmp(id, chain->config.id) == 0)
            return true;
    }
    return false;
}

static bool open_in_signer(struct monitor *m, struct chain *chain, struct err *err)
{
    struct control msg;
    if (!m->source->hand_over(m, chain, err) ||
        !await_answer(m, chain, CONTROL_CHAIN_READY, &msg, err))
        return false;
    chain->key = msg.u.channel.key;
    struct control go = {.kind = CONTROL_CHAIN_GO, .u.floor.hook_height = -1};
    snprintf(go.u.floor.id, sizeof go.u.floor.id, "%s", chain->config.id);
    if (!machine_lock_take(&chain->lock, chain->config.id, &chain->key, err) ||
        !hook_run(m, &chain->config, &go.u.floor.hook_height, err))
        return false;
    if (!core_send(m, &m->signer, &go, NULL, 0))
        return err_errno(err, "cannot reach the signer process");
    return await_answer(m, chain, CONTROL_CHAIN_OPEN, &msg, err);
}

static void tell_drop(struct monitor *m, struct child *child, const char *id)
{
    struct control drop = {.kind = CONTROL_CHAIN_DROP};
    snprintf(drop.u.chain_id, sizeof drop.u.chain_id, "%s", id);
    (void)!core_send(m, child, &drop, NULL, 0);
}

bool chains_open(struct monitor *m, const struct config_chain *config, struct err *err)
{
    struct chain chain = {.config = *config, .lock = -1};
    if (m->chains_n == CONFIG_CHAINS_MAX)
        return err_set(err, "more than %d chains", CONFIG_CHAINS_MAX);
    if (!open_in_signer(m, &chain, err)) {
        tell_drop(m, &m->signer, config->id);
        fd_close(&chain.lock);
        return err_prefix(err, "chain %s", config->id);
    }
    m->chains[m->chains_n++] = chain;
    return true;
}

void chains_drop(struct monitor *m, struct chain *chain)
{
    tell_drop(m, &m->session, chain->config.id);
    tell_drop(m, &m->signer, chain->config.id);
    fd_close(&chain->lock);
    *chain = m->chains[--m->chains_n];
}

bool chains_connect(struct monitor *m, const struct chain *chain, struct err *err)
{
    int pair[2] ATTR_CLEANUP(fd_close_pair) = {-1, -1};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return err_errno(err, "cannot make a socket pair");
    struct control to_signer = {.kind = CONTROL_CHANNEL};
    snprintf(to_signer.u.chain_id, sizeof to_signer.u.chain_id, "%s", chain->config.id);
    struct control to_session = {.kind = CONTROL_CHAIN_ADD_S,
        .u.channel = {.key = chain->key, .sign_raw_bytes = chain->config.sign_raw_bytes}};
    snprintf(to_session.u.channel.id, sizeof to_session.u.channel.id, "%s", chain->config.id);
    if (!core_send(m, &m->signer, &to_signer, &pair[0], 1))
        return err_errno(err, "cannot reach the signer process");
    /* A session that has just died is told everything when it is started again. */
    (void)!core_send(m, &m->session, &to_session, &pair[1], 1);
    return true;
}
