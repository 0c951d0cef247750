/* The configuration as a TOML file. The enclave's program, which gets a tree, leaves this out. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "config/config.h"
#include "config/flatten.h"
#include "config/schema.h"
#include "config/toml.h"

static bool to_tree(json_t **ret_tree, json_t **ret_lines, struct bytes toml, const char *file,
    struct problems *problems)
{
    uint32_t line;
    struct err err;
    if (toml_parse(ret_tree, ret_lines, toml, &line, &err))
        return true;
    if (line > 0)
        problems_add(problems, false, "%s:%u: %s", file, line, err.text);
    else
        problems_add(problems, false, "%s: %s", file, err.text);
    return false;
}

static void parse(struct config *ret, struct bytes toml, const char *file,
    struct problems *problems, bool *ret_has_secret)
{
    json_t *tree, *lines;
    if (!to_tree(&tree, &lines, toml, file, problems))
        return;
    struct raw raw = {.file = file, .lines = lines, .problems = problems};
    walk_tree(&raw, tree);
    flatten(ret, &raw);
    *ret_has_secret = raw.has_secret;
    raw_free(&raw);
    json_decref(tree);
    json_decref(lines);
}

bool config_parse(
    struct config *ret, struct bytes toml, const char *file, struct problems *problems)
{
    bool has_secret;
    *ret = (struct config){0};
    parse(ret, toml, file, problems, &has_secret);
    if (problems->errors_n > 0)
        config_free(ret);
    return problems->errors_n == 0;
}

/* O_NONBLOCK: a fifo in this place must not hold the program up. */
static int open_regular(const char *file, struct err *err)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;
    if (fd < 0 && errno == EACCES)
        err_set(err,
            "cannot be opened by user %ld: %s; run the command as the owner of the file, or give "
            "the file to this user with `chown`",
            (long)geteuid(), strerror(EACCES));
    else if (fd < 0 || fstat(fd, &st) != 0)
        err_errno(err, "cannot be opened");
    else if (!S_ISREG(st.st_mode))
        err_set(err, "is no regular file");
    else
        return fd;
    fd_close(&fd);
    return -1;
}

int config_open(const char *file, struct err *err)
{
    struct err why;
    int fd = open_regular(file, &why);
    if (fd < 0)
        err_set(err, "%s: %s%s", file, why.text,
            access(file, F_OK) != 0 && errno == ENOENT
                ? "; name the file with -c PATH, or make one with `tmkms init DIR`"
                : "");
    return fd;
}

struct file_text {
    char *text;
    size_t n;
    bool is_open; /* others can read it */
};

/* The caller clears *ret, on failure too. */
static bool read_file(struct file_text *ret, int fd, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_errno(err, "cannot be looked at");
    ret->is_open = (st.st_mode & (S_IRWXG | S_IRWXO)) != 0;
    ret->text = malloc(CONFIG_FILE_MAX);
    if (ret->text == NULL)
        return err_set(err, "no memory");
    return fd_read_all(fd, ret->text, CONFIG_FILE_MAX, &ret->n, err);
}

static void clear_file(struct file_text *f)
{
    if (f->text != NULL)
        explicit_bzero(f->text, f->n);
    free(f->text);
}

static bool read_config_file(struct file_text *ret, const char *file, struct problems *problems)
{
    struct err err;
    int fd ATTR_CLEANUP(fd_close) = config_open(file, &err);
    if (fd >= 0 && read_file(ret, fd, &err))
        return true;
    if (fd >= 0)
        err_prefix(&err, "%s", file);
    problems_add(problems, false, "%s", err.text);
    return false;
}

bool config_read(struct config *ret, const char *file, struct problems *problems)
{
    bool ok = config_read_as_far(ret, file, problems);
    if (!ok)
        config_free(ret);
    return ok;
}

bool config_read_as_far(struct config *ret, const char *file, struct problems *problems)
{
    struct file_text f = {0};
    bool has_secret = false;
    *ret = (struct config){0};
    if (read_config_file(&f, file, problems))
        parse(ret, bytes_of(f.text, f.n), file, problems, &has_secret);
    if (has_secret && f.is_open)
        problems_add(problems, true,
            "%s: holds a password or credentials and others can read it; `chmod 600 %s`", file,
            file);
    clear_file(&f);
    return problems->errors_n == 0;
}

/* ---- for the enclave ---- */

/* kms_root_file to kms_root_pem in one [[providers.softsign]]. */
static bool inline_root(json_t *softsign, const char *file, struct problems *problems)
{
    const char *path = json_string_value(json_object_get(softsign, "kms_root_file"));
    struct file_text f = {0};
    struct err err;
    if (path == NULL)
        return true;
    int fd ATTR_CLEANUP(fd_close) = open_regular(path, &err);
    bool ok =
        (fd >= 0 && read_file(&f, fd, &err)) ||
        (problems_add(problems, false, "%s: kms_root_file %.300s %s", file, path, err.text), false);
    json_t *pem = ok ? json_stringn(f.text, f.n) : NULL;
    if (ok && pem == NULL)
        problems_add(
            problems, false, "%s: kms_root_file %.300s holds no text in PEM form", file, path);
    clear_file(&f);
    return pem != NULL && json_object_set_new(softsign, "kms_root_pem", pem) == 0 &&
           json_object_del(softsign, "kms_root_file") == 0;
}

/* Keys for the parent stand one table deep. */
static void leave_out_of_all(json_t *tree, const struct schema_key *key)
{
    json_t *tables = json_object_get(tree, key->table);
    json_object_del(tables, key->name);
    for (size_t i = 0; i < json_array_size(tables); i++)
        json_object_del(json_array_get(tables, i), key->name);
}

/* The enclave gets what it needs, and neither paths nor addresses of its parent. */
static void leave_out_parent(json_t *tree)
{
    for (const struct schema_key *k = schema_keys; k->name != NULL; k++)
        if (k->is_for_parent)
            leave_out_of_all(tree, k);
    json_t *chains = json_object_get(tree, "chain");
    for (size_t i = 0; i < json_array_size(chains); i++)
        if (json_object_get(json_array_get(chains, i), "state_vsock_port") != NULL)
            json_object_del(json_array_get(chains, i), "state_file");
}

bool config_tree_read(json_t **ret, const char *file, struct problems *problems)
{
    struct file_text f = {0};
    json_t *tree = NULL, *lines = NULL;
    bool ok = read_config_file(&f, file, problems) &&
              to_tree(&tree, &lines, bytes_of(f.text, f.n), file, problems);
    clear_file(&f);
    if (!ok)
        return false;
    json_decref(lines);
    leave_out_parent(tree);
    json_t *softsigns = json_object_get(json_object_get(tree, "providers"), "softsign");
    for (size_t i = 0; i < json_array_size(softsigns); i++)
        ok = inline_root(json_array_get(softsigns, i), file, problems) && ok;
    if (ok)
        *ret = tree;
    else
        json_decref(tree);
    return ok;
}
