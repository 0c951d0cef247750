/* tmkms state: make, show, bring, take and repair the files that remember what was signed. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/state_show.h"
#include "cli/state_target.h"
#include "state/exchange.h"
#include "state/journal.h"

/* ---- what several commands need -------------------------------------------------- */

static bool parse_height(const char *text, int64_t *ret)
{
    if (text == NULL || *text == '\0' || strspn(text, "0123456789") != strlen(text))
        return false;
    errno = 0;
    long long v = strtoll(text, NULL, 10);
    *ret = v;
    return errno == 0;
}

static int64_t highest(const struct watermark *mark)
{
    return mark->floor > mark->last.height ? mark->floor : mark->last.height;
}

/* The chain id may also stand as an argument before the others: `state export mychain-1`. */
static void chain_from_argument(struct state_options *o, int wanted, int *argc, char ***argv)
{
    if (*argc == wanted + 1 && o->chain == NULL) {
        o->chain = (*argv)[0];
        (*argc)--;
        (*argv)++;
    }
}

static const struct public_key *key_if_given(const struct state_target *t)
{
    return t->key.type != 0 ? &t->key : NULL;
}

static const char *chain_if_given(const struct state_target *t)
{
    return t->chain_id[0] != '\0' ? t->chain_id : NULL;
}

/* Opens, locks and reads; the signer must be stopped. */
static bool open_locked(
    int *fd, struct journal_view *view, const struct state_target *t, struct err *err)
{
    return journal_open_file(fd, t->path, t->named, err) && journal_lock(*fd, t->path, err) &&
           journal_view(view, *fd, t->path, &state_io_system, err);
}

static int done(const char *what, const struct state_target *t, const struct record *rec)
{
    char text[STATE_WORDS_MAX];
    state_words(&rec->mark, text);
    command_status(what, "state file %s for chain %s: %s", t->path, t->chain_id, text);
    return EXIT_DONE;
}

/* ---- init ------------------------------------------------------------------------ */

static int init_one(const struct state_target *t, void *ctx)
{
    struct record rec = {.key = t->key, .mark = {.floor = *(int64_t *)ctx}};
    struct err err;
    snprintf(rec.chain_id, sizeof rec.chain_id, "%s", t->chain_id);
    if (!journal_create(t->path, &rec, &err))
        return command_failed("chain %s: %s", t->chain_id, err.text);
    return done("Created", t, &rec);
}

static int run_init(const struct command *self, int argc, char **argv)
{
    struct state_options o = {0};
    const char *height_text = NULL;
    int64_t height = 0;
    const struct command_flag flags[] = {
        STATE_OPTION_FLAGS(o),
        {0, "height", &height_text, NULL},
        {0},
    };
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    chain_from_argument(&o, 0, &argc, &argv);
    if (argc != 0)
        return command_usage(self, "expected no arguments, got %d", argc);
    if (height_text != NULL && !parse_height(height_text, &height))
        return command_usage(self, "'%s' is not a height", height_text);
    return state_for_each(self, &o, STATE_NEED_IDENTITY, false, init_one, &height);
}

/* ---- show ------------------------------------------------------------------------ */

static int show_one(const struct state_target *t, void *ctx)
{
    struct journal_view view;
    struct err err;
    int fd = -1;
    bool ok = journal_open_file_readonly(&fd, t->path, t->named, &err) &&
              journal_view(&view, fd, t->path, &state_io_system, &err);
    char words[JOURNAL_HOLDER_MAX];
    long holder = ok ? journal_lock_holder(fd) : 0;
    bool is_held = ok && journal_holder_words(words, fd);
    fd_close(&fd);
    if (!ok ||
        !journal_view_check(&view, t->path, t->named, chain_if_given(t), key_if_given(t), &err))
        return command_failed("%s", err.text);
    if (*(bool *)ctx)
        state_show_json(t->path, &view, holder);
    else
        state_show_text(t->path, &view, is_held ? words : NULL);
    return EXIT_DONE;
}

static int run_show(const struct command *self, int argc, char **argv)
{
    struct state_options o = {0};
    bool as_json = false;
    const struct command_flag flags[] = {
        STATE_OPTION_FLAGS(o),
        {0, "json", NULL, &as_json},
        {0},
    };
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    chain_from_argument(&o, 0, &argc, &argv);
    if (argc != 0)
        return command_usage(self, "expected no arguments, got %d", argc);
    return state_for_each(self, &o, STATE_NEED_FILE, false, show_one, &as_json);
}

/* ---- import ---------------------------------------------------------------------- */

struct import {
    const char *file;
    enum exchange_format format;
    bool force;
};

static bool read_import(
    struct record *ret, const struct import *im, const struct state_target *t, struct err *err)
{
    uint8_t text[EXCHANGE_FILE_MAX];
    size_t n = 0;
    int fd = open(im->file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return err_errno(err, "cannot open %s", im->file);
    bool ok = fd_read_all(fd, text, sizeof text, &n, err) &&
              exchange_read(ret, im->format, bytes_of(text, n), t->chain_id, &t->key, err);
    fd_close(&fd);
    return ok || err_prefix(err, "cannot import %s", im->file);
}

/* Without --force the result refuses everything that the file or the import refuses. */
static bool merge(struct record *rec, const struct record *old, const struct state_target *t,
    bool force, struct err *err)
{
    char has[STATE_WORDS_MAX], gets[STATE_WORDS_MAX];
    bool lowers = !watermark_covers(&rec->mark, &old->mark);
    state_words(&old->mark, has);
    state_words(&rec->mark, gets);
    if (lowers && !force)
        return err_set(err,
            "the import would lower the state file %s, which is left as it is. It holds: %s. The "
            "import: %s. `--force` lowers it; that is safe only if the key signed nothing above "
            "the import",
            t->path, has, gets);
    if (lowers)
        command_warn("%s is lowered: from %s, to %s", t->path, has, gets);
    if (force)
        return true;
    rec->mark.floor = rec->mark.floor > old->mark.floor ? rec->mark.floor : old->mark.floor;
    rec->burn_next = rec->burn_next || old->burn_next;
    return true;
}

static bool import_over(
    struct record *rec, const struct state_target *t, bool force, int *fd, struct err *err)
{
    struct journal_view view;
    return open_locked(fd, &view, t, err) &&
           journal_view_check(&view, t->path, t->named, t->chain_id, &t->key, err) &&
           (view.is_intact || err_set(err,
                                  "a slot of the state file %s is damaged; mend it first with "
                                  "`tmkms state repair %s`",
                                  t->path, t->named)) &&
           merge(rec, &view.slot[view.newest], t, force, err) &&
           journal_replace(*fd, t->path, &view, rec, &state_io_system, err);
}

static int import_one(const struct state_target *t, void *ctx)
{
    const struct import *im = ctx;
    struct record rec;
    struct err err;
    if (!read_import(&rec, im, t, &err))
        return command_failed("%s", err.text);
    if (access(t->path, F_OK) != 0 && errno == ENOENT) {
        if (!journal_create(t->path, &rec, &err))
            return command_failed("%s", err.text);
        return done("Created", t, &rec);
    }
    int fd = -1;
    bool ok = import_over(&rec, t, im->force, &fd, &err);
    fd_close(&fd);
    return ok ? done("Imported", t, &rec) : command_failed("%s", err.text);
}

static int run_import(const struct command *self, int argc, char **argv)
{
    struct state_options o = {0};
    struct import im = {0};
    const char *format = NULL;
    const struct command_flag flags[] = {
        STATE_OPTION_FLAGS(o),
        {0, "format", &format, NULL},
        {0, "force", NULL, &im.force},
        {0},
    };
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    chain_from_argument(&o, 1, &argc, &argv);
    if (argc != 1)
        return command_usage(self, "expected the file to import, got %d arguments", argc);
    if (format != NULL && !exchange_format_parse(&im.format, format))
        return command_usage(self, "unknown format '%s'", format);
    im.file = argv[0];
    return state_for_each(self, &o, STATE_NEED_IDENTITY, true, import_one, &im);
}

/* ---- export ---------------------------------------------------------------------- */

static bool check_export(const struct journal_view *view, const struct state_target *t,
    enum exchange_format format, struct err *err)
{
    if (!view->is_intact)
        return err_set(err,
            "a slot of the state file %s is damaged; mend it first with `tmkms state repair %s`",
            t->path, t->named);
    return format == EXCHANGE_OWN || !view->slot[view->newest].burn_next ||
           err_set(err,
               "the state file %s still has a height to give up, which this format cannot say; "
               "raise it first with `tmkms state repair %s --height H`, " JOURNAL_SAFE_HEIGHT,
               t->path, t->named);
}

static int export_one(const struct state_target *t, void *ctx)
{
    const enum exchange_format *format = ctx;
    struct journal_view view;
    struct err err;
    int fd = -1;
    bool ok =
        open_locked(&fd, &view, t, &err) &&
        journal_view_check(&view, t->path, t->named, chain_if_given(t), key_if_given(t), &err) &&
        check_export(&view, t, *format, &err);
    fd_close(&fd);
    if (!ok)
        return command_failed("%s", err.text);
    uint8_t out[RECORD_LINE_MAX];
    struct bytes text = exchange_write(*format, &view.slot[view.newest], out);
    if (fwrite(text.p, 1, text.n, stdout) != text.n || fflush(stdout) != 0)
        return command_failed("cannot write to standard output: %s", strerror(errno));
    command_status("Exported", "%s; from now on only one of the two may sign", t->path);
    return EXIT_DONE;
}

static int run_export(const struct command *self, int argc, char **argv)
{
    struct state_options o = {0};
    const char *name = "interchange";
    enum exchange_format format;
    const struct command_flag flags[] = {
        STATE_OPTION_FLAGS(o),
        {0, "format", &name, NULL},
        {0},
    };
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    chain_from_argument(&o, 0, &argc, &argv);
    if (argc != 0)
        return command_usage(self, "expected no arguments, got %d", argc);
    if (!exchange_format_parse(&format, name))
        return command_usage(self, "unknown format '%s'", name);
    return state_for_each(self, &o, STATE_NEED_FILE, true, export_one, &format);
}

/* ---- repair ---------------------------------------------------------------------- */

struct repair {
    const char *height_text;
    int64_t height;
};

/* The record that will stand in both slots. Without a height from outside, what a damaged slot held stays
 * unknown: then the signer still gives up the first height it is asked for. */
static bool plan_repair(struct record *ret, const struct journal_view *view,
    const struct state_target *t, const struct repair *r, struct err *err)
{
    struct record rec = {.key = t->key};
    int64_t seen = 0;
    snprintf(rec.chain_id, sizeof rec.chain_id, "%s", t->chain_id);
    if (view->newest >= 0)
        rec = view->slot[view->newest];
    else if (r->height_text == NULL)
        return err_set(err,
            "no slot of the state file %s is readable: what was signed is not known. Say with "
            "`tmkms "
            "state repair %s --height H` above which height it may sign, " JOURNAL_SAFE_HEIGHT,
            t->path, t->named);
    for (int i = 0; i < 2; i++)
        if (view->form[i] == SLOT_VALID && highest(&view->slot[i].mark) > seen)
            seen = highest(&view->slot[i].mark);
    if (r->height_text != NULL && r->height < seen)
        return err_set(err,
            "height %" PRId64 " is below %" PRId64 ", the highest in the state file %s: a repair "
            "never lowers",
            r->height, seen, t->path);
    rec.mark = (struct watermark){.floor = r->height_text != NULL ? r->height : seen};
    rec.burn_next = r->height_text == NULL && (rec.burn_next || !view->is_intact);
    *ret = rec;
    return true;
}

/* Another program's file, another version's or another chain's is no damage. */
static bool may_repair(
    const struct journal_view *view, const struct state_target *t, struct err *err)
{
    bool other_version = view->form[0] == SLOT_OTHER_VERSION || view->form[1] == SLOT_OTHER_VERSION;
    if (!other_version && !view->looks_foreign && view->newest < 0)
        return true;
    struct journal_view judged = *view;
    judged.size = JOURNAL_SIZE; /* a wrong size is what we mend */
    return journal_view_check(&judged, t->path, t->named, chain_if_given(t), key_if_given(t), err);
}

static bool write_repair(int fd, const struct state_target *t, const struct journal_view *view,
    const struct record *rec, struct err *err)
{
    struct journal_view after;
    if (view->size > JOURNAL_SIZE && (ftruncate(fd, JOURNAL_SIZE) != 0 || fsync(fd) != 0))
        return err_errno(err, "cannot cut the state file %s to its size", t->path);
    return journal_replace(fd, t->path, view, rec, &state_io_system, err) &&
           journal_view(&after, fd, t->path, &state_io_system, err) &&
           (after.is_intact || err_set(err, "the state file %s is still damaged", t->path));
}

static int repair_locked(
    int fd, const struct journal_view *view, const struct state_target *t, const struct repair *r)
{
    struct record rec;
    struct err err;
    state_show_damage(t->path, view);
    bool owes = view->newest >= 0 && view->slot[view->newest].burn_next;
    if (view->is_intact && r->height_text == NULL) {
        command_status("Good", "nothing to repair in %s%s", t->path,
            owes ? "; the first height asked for will not be signed (or give --height)" : "");
        return EXIT_DONE;
    }
    if (!plan_repair(&rec, view, t, r, &err) || !write_repair(fd, t, view, &rec, &err))
        return command_failed("%s", err.text);
    command_status("Repaired", "state file %s for chain %s: signs above height %" PRId64 "%s",
        t->path, rec.chain_id, rec.mark.floor,
        rec.burn_next ? ", and not the first height asked for" : "");
    return EXIT_DONE;
}

static int repair_one(const struct state_target *t, void *ctx)
{
    struct journal_view view;
    struct err err;
    int fd = -1;
    bool ok = open_locked(&fd, &view, t, &err) && may_repair(&view, t, &err);
    if (ok && view.newest < 0 && (chain_if_given(t) == NULL || key_if_given(t) == NULL))
        ok = err_set(&err,
            "no slot of the state file %s is readable: say whose it is with `tmkms state repair %s "
            "--height H`",
            t->path, t->named);
    int exit_code = ok ? repair_locked(fd, &view, t, ctx) : command_failed("%s", err.text);
    fd_close(&fd);
    return exit_code;
}

static int run_repair(const struct command *self, int argc, char **argv)
{
    struct state_options o = {0};
    struct repair r = {0};
    const struct command_flag flags[] = {
        STATE_OPTION_FLAGS(o),
        {0, "height", &r.height_text, NULL},
        {0},
    };
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    chain_from_argument(&o, 0, &argc, &argv);
    if (argc != 0)
        return command_usage(self, "expected no arguments, got %d", argc);
    if (r.height_text != NULL && !parse_height(r.height_text, &r.height))
        return command_usage(self, "'%s' is not a height", r.height_text);
    enum state_need need = o.state_file != NULL ? STATE_NEED_FILE : STATE_NEED_IDENTITY;
    return state_for_each(self, &o, need, true, repair_one, &r);
}

/* ---- the table ------------------------------------------------------------------- */

static const struct command commands[] = {
    {
        .name = "init",
        .summary = "Make the state of a key that has not signed yet, or not above a height",
        .help = "Make the state of a key that has not signed yet, or not above a height\n"
                "\n"
                "Usage: tmkms state init [OPTIONS]\n"
                "\n"
                "An existing file is left alone. Without --chain: for every chain of the\n"
                "configuration. A key that signed before needs its history: `tmkms state import`,\n"
                "or --height H, which must be at least two above the latest committed height in\n"
                "the node's /status, read after the last signer has stopped, and not below any\n"
                "height in that signer's log.\n"
                "\n"
                "Options:\n"
                "      --height H         Sign nothing at or below this height [default: "
                "0]\n" STATE_OPTIONS_HELP,
        .run = run_init,
    },
    {
        .name = "show",
        .summary = "Print what was signed last; also while tmkms runs",
        .help = "Print what was signed last; also while tmkms runs\n"
                "\n"
                "Usage: tmkms state show [OPTIONS]\n"
                "\n"
                "Options:\n"
                "      --json             For scripts\n" STATE_OPTIONS_HELP,
        .run = run_show,
    },
    {
        .name = "import",
        .summary = "Bring the history of another signer",
        .help =
            "Bring the history of another signer\n"
            "\n"
            "Usage: tmkms state import [OPTIONS] FILE\n"
            "\n"
            "FILE is what `tmkms state export` printed, a state file of the Rust tmkms, or a\n"
            "priv_validator_state.json of CometBFT. Of the last two only the height is used:\n"
            "nothing at or below it is signed again. The other signer must be stopped for good.\n"
            "The state file is made, or raised; it is never lowered without --force.\n"
            "\n"
            "Options:\n"
            "      --format FORMAT    interchange, tmkms or cometbft [default: look at FILE]\n"
            "      --force            Lower the state, and print what is "
            "lowered\n" STATE_OPTIONS_HELP,
        .run = run_import,
    },
    {
        .name = "export",
        .summary = "Print the history for another machine or another signer",
        .help =
            "Print the history for another machine or another signer\n"
            "\n"
            "Usage: tmkms state export [OPTIONS]\n"
            "\n"
            "From then on only one of the two may sign.\n"
            "\n"
            "Options:\n"
            "      --format FORMAT    interchange: everything, for `tmkms state import`; tmkms\n"
            "                         (the Rust program) or cometbft: files that refuse\n"
            "                         everything up to the last height [default: "
            "interchange]\n" STATE_OPTIONS_HELP,
        .run = run_export,
    },
    {
        .name = "repair",
        .summary = "Show what is wrong with a state file, and mend it",
        .help =
            "Show what is wrong with a state file, and mend it\n"
            "\n"
            "Usage: tmkms state repair [OPTIONS]\n"
            "\n"
            "Nothing at or below the highest height in the file is signed again. What a damaged\n"
            "slot held is not known: the first height asked for is not signed either, unless\n"
            "--height H says above which height it may sign: at least two above the latest\n"
            "committed height in the node's /status, read after the last signer has stopped,\n"
            "and not below any height in that signer's log. A state is never lowered. A good\n"
            "one is raised to H.\n"
            "\n"
            "Options:\n"
            "      --height H         Sign nothing at or below this height\n" STATE_OPTIONS_HELP,
        .run = run_repair,
    },
    {0},
};

const struct command command_state = {
    .name = "state",
    .summary = "Make, show, bring, take or repair the record of what was signed",
    .sub = commands,
};
