#include "monitor/preflight.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "keyring/keyring.h"
#include "monitor/core.h"
#include "monitor/machine_lock.h"
#include "state/journal_words.h"

struct flight {
    const struct config *config;
    const char *file;
    struct problems *problems;
    struct signing_key *
        *keys; /* loaded so far, kept: the limit on locked memory must suffice for all at once */
    size_t keys_n;
};

/* `FILE: [[chain]] "hub": state_file: text`. A macro, because the text is the caller's format. */
#define TELL(f, is_warning, section, label, key, fmt, ...)                                         \
    problems_add((f)->problems, is_warning, "%s: [[" section "]] \"%.100s\": " key ": " fmt,       \
        (f)->file, label, __VA_ARGS__)

static void folder_of(char out[PATH_MAX], const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    snprintf(out, PATH_MAX, "%s", dirname(copy));
}

/* Who may write into a folder can put another file in the place of ours. */
static bool folder_is_open(char out[PATH_MAX], const char *path)
{
    struct stat st;
    folder_of(out, path);
    return stat(out, &st) == 0 && (st.st_mode & S_IWOTH) != 0 && (st.st_mode & S_ISVTX) == 0;
}

/* ---- keys ---- */

static void check_key(struct flight *f, struct preflight_chain *ret, const struct config_chain *c)
{
    struct signing_key *key = NULL;
    struct err warning = {0}, err;
    char folder[PATH_MAX];
    if (access(c->key_file, F_OK) != 0 && errno == ENOENT) {
        TELL(f, false, "providers.softsign", c->key_file, "path",
            "there is no such file; make a key with `tmkms softsign keygen -t %s %s`, or bring one "
            "with "
            "`tmkms softsign import FILE %s`",
            c->key_type == KEY_ED25519 ? "consensus" : "account", c->key_file, c->key_file);
        return;
    }
    if (!keyring_load(&key, c->key_file, c->key_type, c->key_format, &warning, &err)) {
        TELL(f, false, "providers.softsign", c->key_file, "path", "%s", err.text);
        return;
    }
    ret->key = *signing_key_public(key);
    f->keys[f->keys_n++] = key;
    if (warning.text[0] != '\0')
        TELL(f, true, "providers.softsign", c->key_file, "path", "%s", warning.text);
    if (folder_is_open(folder, c->key_file))
        TELL(f, true, "providers.softsign", c->key_file, "path",
            "everybody can replace files in %.300s; repair it with `chmod o-w %.300s`", folder,
            folder);
}

static void free_keys(struct flight *f)
{
    while (f->keys_n > 0)
        signing_key_free(f->keys[--f->keys_n]);
}

/* ---- states ---- */

static void check_missing_state(const struct flight *f, const struct config_chain *c)
{
    char folder[PATH_MAX];
    folder_of(folder, c->state_file);
    if (access(folder, W_OK | X_OK) != 0)
        TELL(f, false, "chain", c->id, "state_file",
            "%.300s is missing, and user %ld cannot make it in the folder %.200s: %s; run the "
            "command as "
            "the user that runs tmkms, which must own that folder",
            c->state_file, (long)geteuid(), folder, strerror(errno));
    else
        TELL(f, false, "chain", c->id, "state_file",
            "%.200s is missing; for a key that has signed nothing yet make it with `tmkms state "
            "init "
            "-c %.200s --chain %s`; else bring its history with `tmkms state import -c %.200s "
            "--chain "
            "%s FILE`, or add `--height H` to init, " JOURNAL_SAFE_HEIGHT,
            c->state_file, f->file, c->id, f->file, c->id);
}

static void check_view(const struct flight *f, struct preflight_chain *ret,
    const struct config_chain *c, const struct journal_view *view)
{
    struct err err;
    char named[JOURNAL_NAMED_MAX];
    const struct public_key *key = ret->key.type != 0 ? &ret->key : NULL;
    snprintf(named, sizeof named, "-c %.400s --chain %s", f->file, c->id);
    if (!journal_view_check(view, c->state_file, named, c->id, key, &err)) {
        TELL(f, false, "chain", c->id, "state_file", "%s", err.text);
        return;
    }
    const struct watermark *mark = &view->slot[view->newest].mark;
    ret->has_state = true;
    ret->height = mark->last.height > mark->floor ? mark->last.height : mark->floor;
    if (!view->is_intact || view->slot[view->newest].burn_next)
        TELL(f, true, "chain", c->id, "state_file",
            "%.300s lost a record: the first height asked for will not be signed; `tmkms state "
            "repair "
            "-c %.200s --chain %s` shows and mends it, once tmkms is stopped",
            c->state_file, f->file, c->id);
}

static void check_open_state(const struct flight *f, struct preflight_chain *ret,
    const struct config_chain *c, int fd, const struct stat *st)
{
    struct journal_view view;
    struct err err;
    char folder[PATH_MAX];
    if (!journal_view(&view, fd, c->state_file, &state_io_system, &err)) {
        TELL(f, false, "chain", c->id, "state_file", "%s", err.text);
        return;
    }
    check_view(f, ret, c, &view);
    if ((st->st_mode & (S_IWGRP | S_IWOTH)) != 0)
        TELL(f, true, "chain", c->id, "state_file",
            "others can write to %.300s and make the signer forget what it signed; repair it with "
            "`chmod "
            "600 %.300s`",
            c->state_file, c->state_file);
    if (folder_is_open(folder, c->state_file))
        TELL(f, true, "chain", c->id, "state_file",
            "everybody can replace files in %.300s; repair it with `chmod o-w %.300s`", folder,
            folder);
    char holder[JOURNAL_HOLDER_MAX];
    if (journal_holder_words(holder, fd))
        TELL(f, true, "chain", c->id, "state_file",
            "%.300s is in use by %s. If that is the tmkms of this configuration, all is well: it "
            "signs; "
            "`tmkms start` would be refused until it is stopped",
            c->state_file, holder);
    else if (ret->key.type != 0 && !machine_lock_check(c->id, &ret->key, &err))
        TELL(f, false, "chain", c->id, "id", "%s", err.text);
}

/* Two names of one file: the configuration can only compare the names. */
struct seen_state {
    const char *chain_id;
    dev_t dev;
    ino_t ino;
};

static void check_state(const struct flight *f, struct preflight_chain *ret,
    const struct config_chain *c, struct seen_state *seen, size_t seen_n)
{
    struct err err;
    struct stat st;
    int fd ATTR_CLEANUP(fd_close) = -1;
    if (lstat(c->state_file, &st) != 0 && errno == ENOENT) {
        check_missing_state(f, c);
        return;
    }
    if (!journal_open_file(&fd, c->state_file, NULL, &err)) {
        TELL(f, false, "chain", c->id, "state_file", "%s", err.text);
        return;
    }
    if (fstat(fd, &st) != 0)
        return;
    check_open_state(f, ret, c, fd, &st);
    for (size_t i = 0; i < seen_n; i++)
        if (seen[i].chain_id != NULL && seen[i].dev == st.st_dev && seen[i].ino == st.st_ino)
            TELL(f, false, "chain", c->id, "state_file",
                "%.300s is the state file of chain %s under another name; each chain needs its own",
                c->state_file, seen[i].chain_id);
    seen[seen_n] = (struct seen_state){c->id, st.st_dev, st.st_ino};
}

/* ---- hooks ---- */

static void check_hook(const struct flight *f, const struct config_chain *c)
{
    /* Without a slash the command is looked for along PATH, when it runs. */
    if (c->hook_args_n == 0 || strchr(c->hook_args, '/') == NULL || access(c->hook_args, X_OK) == 0)
        return;
    TELL(f, !c->hook_fail_closed, "chain", c->id, "state_hook", "cmd: %.300s cannot be run: %s",
        c->hook_args, strerror(errno));
}

/* ---- validators ---- */

static bool identity_was_seen(const struct config *config, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (link_address_needs_identity(&config->validators[i].address) &&
            strcmp(config->validators[i].secret_key, config->validators[index].secret_key) == 0)
            return true;
    return false;
}

static void check_identity(
    struct flight *f, const struct preflight_chain *chains, const struct config_validator *v)
{
    struct signing_key *key = NULL;
    struct err warning = {0}, err;
    const char *label = v->address.text;
    if (access(v->secret_key, F_OK) != 0 && errno == ENOENT) {
        TELL(f, false, "validator", label, "secret_key",
            "there is no file %.300s; make an identity key with `tmkms softsign keygen -t "
            "consensus "
            "%.300s`",
            v->secret_key, v->secret_key);
        return;
    }
    if (!keyring_load(&key, v->secret_key, KEY_ED25519, KEY_FILE_BASE64, &warning, &err)) {
        TELL(f, false, "validator", label, "secret_key", "%s", err.text);
        return;
    }
    if (warning.text[0] != '\0')
        TELL(f, true, "validator", label, "secret_key", "%s", warning.text);
    for (size_t i = 0; i < f->config->chains_n; i++)
        if (public_key_equal(&chains[i].key, signing_key_public(key)))
            TELL(f, true, "validator", label, "secret_key",
                "%.300s is the consensus key of chain %s; the process that talks to nodes should "
                "not "
                "hold it, make a key of its own with `tmkms softsign keygen -t consensus PATH`",
                v->secret_key, f->config->chains[i].id);
    f->keys[f->keys_n++] = key;
}

static void check_socket(const struct flight *f, const struct config_validator *v)
{
    struct stat st;
    char folder[PATH_MAX];
    const char *path = v->address.path;
    folder_of(folder, path);
    if (stat(path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode))
            TELL(f, true, "validator", v->address.text, "addr", "%s is no socket", path);
        else if (access(path, W_OK) != 0)
            TELL(f, true, "validator", v->address.text, "addr", "%s cannot be dialled: %s", path,
                strerror(errno));
    } else if (access(folder, X_OK) != 0) {
        TELL(f, true, "validator", v->address.text, "addr", "%s cannot be reached: %s", folder,
            strerror(errno));
    }
}

void preflight(struct preflight_chain *ret, const struct config *config, const char *file,
    struct problems *problems)
{
    struct flight f = {.config = config, .file = file, .problems = problems};
    struct err err;
    struct seen_state *seen = calloc(config->chains_n + 1, sizeof *seen);
    f.keys = calloc(config->chains_n + config->validators_n + 1, sizeof *f.keys);
    if (seen == NULL || f.keys == NULL)
        abort();
    if (!core_check_descriptors(config, &err))
        problems_add(problems, false, "%s: %s", file, err.text);
    for (size_t i = 0; i < config->chains_n; i++) {
        ret[i] = (struct preflight_chain){0};
        const struct config_chain *c = &config->chains[i];
        if (c->key_file[0] != '\0') /* "": the configuration has been complained about */
            check_key(&f, &ret[i], c);
        if (c->id[0] != '\0' && c->state_file[0] != '\0')
            check_state(&f, &ret[i], c, seen, i);
        check_hook(&f, c);
    }
    free(seen);
    free_keys(&f); /* the identity keys are another process's */
    for (size_t i = 0; i < config->validators_n; i++) {
        if (config->validators[i].address.kind == LINK_UNIX)
            check_socket(&f, &config->validators[i]);
        else if (link_address_needs_identity(&config->validators[i].address) &&
                 config->validators[i].secret_key[0] != '\0' && !identity_was_seen(config, i))
            check_identity(&f, ret, &config->validators[i]);
    }
    free_keys(&f);
    free(f.keys);
}

void preflight_parent(const struct config *config, const char *file, struct problems *problems)
{
    struct flight f = {.config = config, .file = file, .problems = problems};
    struct seen_state *seen = calloc(config->chains_n + 1, sizeof *seen);
    const char *eif = config->enclave.eif;
    if (seen == NULL)
        abort();
    for (size_t i = 0; i < config->chains_n; i++) {
        const struct config_chain *c = &config->chains[i];
        struct preflight_chain found = {.key = c->expected_key};
        if (c->id[0] == '\0' || c->state_file[0] == '\0')
            continue;
        if (access(c->state_file, F_OK) == 0)
            check_state(&f, &found, c, seen, i);
        else
            TELL(&f, true, "chain", c->id, "state_file",
                "%.200s is not on this machine; on the parent of the enclave `tmkms state init -c "
                "%.200s --chain %s` makes it, for a key that has signed nothing yet",
                c->state_file, file, c->id);
    }
    if (eif[0] != '\0' && access(eif, R_OK) != 0)
        problems_add(problems, true, "%s: [enclave]: eif: %.300s cannot be opened here: %s", file,
            eif, strerror(errno));
    free(seen);
}
