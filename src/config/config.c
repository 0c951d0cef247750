#include "config/config.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "config/flatten.h"
#include "config/toml.h"
#include "config/walk.h"

enum { CONFIG_FILE_MAX = 4 * 1024 * 1024 };

/* jansson would open /dev/urandom for the seed of its hash tables; the sandbox forbids that. */
static void seed_tables(void)
{
    size_t seed = 1;
    (void)!getrandom(&seed, sizeof seed, GRND_NONBLOCK);
    json_object_seed(seed | 1); /* 0 would mean /dev/urandom */
}

static void parse(struct config *ret, struct bytes toml, const char *file,
    struct problems *problems, bool *ret_has_secret)
{
    json_t *tree, *lines;
    uint32_t line;
    struct err err;
    seed_tables();
    if (!toml_parse(&tree, &lines, toml, &line, &err)) {
        if (line > 0)
            problems_add(problems, false, "%s:%u: %s", file, line, err.text);
        else
            problems_add(problems, false, "%s: %s", file, err.text);
        return;
    }
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
    return problems->errors_n == 0;
}

/* The caller frees *ret_text, on failure too. */
static bool read_file(
    char **ret_text, size_t *ret_n, bool *ret_is_open, const char *file, struct err *err)
{
    int fd ATTR_CLEANUP(fd_close) = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return err_errno(err, "cannot be opened");
    *ret_is_open = (st.st_mode & (S_IRWXG | S_IRWXO)) != 0;
    *ret_text = malloc(CONFIG_FILE_MAX);
    if (*ret_text == NULL)
        return err_set(err, "no memory");
    return fd_read_all(fd, *ret_text, CONFIG_FILE_MAX, ret_n, err);
}

bool config_read(struct config *ret, const char *file, struct problems *problems)
{
    char *text = NULL;
    size_t n = 0;
    bool is_open = false, has_secret = false;
    struct err err;
    *ret = (struct config){0};
    if (!read_file(&text, &n, &is_open, file, &err))
        problems_add(problems, false,
            "%s: %s; name the file with -c PATH, or make one with `tmkms init DIR`", file,
            err.text);
    else
        parse(ret, bytes_of(text, n), file, problems, &has_secret);
    if (has_secret && is_open)
        problems_add(problems, true, "%s: holds a password and others can read it; `chmod 600 %s`",
            file, file);
    if (text != NULL)
        explicit_bzero(text, n);
    free(text);
    return problems->errors_n == 0;
}

void config_free(struct config *c)
{
    free(c->chains);
    free(c->validators);
    *c = (struct config){0};
}

const char *config_path(const char *from_command_line)
{
    if (from_command_line != NULL)
        return from_command_line;
    const char *from_environment = getenv("TMKMS_CONFIG_FILE");
    return from_environment != NULL && from_environment[0] != '\0' ? from_environment
                                                                   : "tmkms.toml";
}

const struct config_chain *config_find_chain(const struct config *c, const char *id)
{
    for (size_t i = 0; i < c->chains_n; i++)
        if (strcmp(c->chains[i].id, id) == 0)
            return &c->chains[i];
    return NULL;
}
