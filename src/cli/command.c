#include "cli/command.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/nearest.h"
#include "base/printable.h"

enum { DEPTH_MAX = 4, FLAGS_MAX = 32, TEXT_MAX = 8192 };

/* "tmkms softsign keygen": how the command that runs now was called, for messages. */
static char called[128];

static bool colours(void)
{
    const char *no = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    bool able = term != NULL && strcmp(term, "dumb") != 0;
    return able && (no == NULL || no[0] == '\0') && isatty(STDERR_FILENO);
}

ATTR_PRINTF(3, 0)
static void print_marked(const char *colour, const char *mark, const char *fmt, va_list args)
{
    char text[TEXT_MAX];
    vsnprintf(text, sizeof text, fmt, args);
    printable_make(text);
    if (colours())
        fprintf(stderr, "\033[1;%sm%s\033[0m %s\n", colour, mark, text);
    else
        fprintf(stderr, "%s %s\n", mark, text);
}

int command_failed(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    print_marked("31", "error:", fmt, args);
    va_end(args);
    return EXIT_FAILED;
}

void command_warn(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    print_marked("33", "warning:", fmt, args);
    va_end(args);
}

void command_status(const char *word, const char *fmt, ...)
{
    char aligned[64];
    snprintf(aligned, sizeof aligned, "%12s", word);
    va_list args;
    va_start(args, fmt);
    print_marked("32", aligned, fmt, args);
    va_end(args);
}

int command_usage(const struct command *self, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    print_marked("31", "error:", fmt, args);
    va_end(args);
    fprintf(stderr, "\nFor more information, try '%s --help'.\n",
        called[0] != '\0' ? called : self->name);
    return EXIT_USAGE;
}

static void print_list(const struct command *group, FILE *out)
{
    int width = (int)strlen("help");
    for (const struct command *c = group->sub; c->name != NULL; c++)
        width = (int)strlen(c->name) > width ? (int)strlen(c->name) : width;
    fprintf(out, "%s\n\nUsage: %s <COMMAND>\n\nCommands:\n", group->summary, called);
    for (const struct command *c = group->sub; c->name != NULL; c++)
        fprintf(out, "  %-*s  %s\n", width, c->name, c->summary);
    fprintf(out, "  %-*s  %s\n", width, "help", "Print this list or the help of a command");
    fprintf(out, "\nOptions:\n  -h, --help     Print help\n");
    if (strchr(called, ' ') == NULL)
        fprintf(out, "  -V, --version  Print the version\n");
}

static void print_help(const struct command *self, FILE *out)
{
    if (self->sub != NULL)
        print_list(self, out);
    else
        fputs(self->help, out);
}

static bool is_help(const char *arg)
{
    return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0;
}

static const struct command *find(const struct command *group, const char *name)
{
    for (const struct command *c = group->sub; c->name != NULL; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

static int unknown_command(const struct command *group, const char *name)
{
    if (name[0] == '-')
        return command_usage(group, "unexpected argument '%s'", name);
    struct nearest near = {.asked = name};
    nearest_consider(&near, "help");
    for (const struct command *c = group->sub; c->name != NULL; c++)
        nearest_consider(&near, c->name);
    const char *meant = nearest_result(&near);
    if (meant != NULL)
        return command_usage(group, "there is no command '%s'; did you mean '%s'?", name, meant);
    return command_usage(group, "there is no command '%s'", name);
}

static void go_down(const char *name)
{
    size_t used = strlen(called);
    snprintf(called + used, sizeof called - used, "%s%s", used > 0 ? " " : "", name);
}

/* `help`, `help softsign`, `help softsign keygen`: the names behind `help` lead down from group. */
static int help_of(const struct command *group, int argc, char **argv)
{
    const struct command *self = group;
    for (int i = 0; i < argc && i < DEPTH_MAX && self->sub != NULL; i++) {
        const struct command *next = find(self, argv[i]);
        if (next == NULL)
            return unknown_command(self, argv[i]);
        self = next;
        go_down(self->name);
    }
    print_help(self, stdout);
    return EXIT_DONE;
}

int command_main(const struct command *root, int argc, char **argv)
{
    const struct command *self = root;
    called[0] = '\0';
    go_down(root->name);
    while (self->sub != NULL) {
        argc--;
        argv++;
        if (argc < 1) {
            print_help(self, stderr);
            return EXIT_USAGE;
        }
        if (is_help(argv[0]))
            return help_of(self, 0, NULL);
        if (strcmp(argv[0], "help") == 0)
            return help_of(self, argc - 1, argv + 1);
        const struct command *next = find(self, argv[0]);
        if (next == NULL)
            return unknown_command(self, argv[0]);
        self = next;
        go_down(self->name);
    }
    return self->run(self, argc, argv);
}

static int bad_flag(const struct command *self, const struct command_flag *flags, char **argv)
{
    const char *text = argv[optind - 1];
    bool is_long = strncmp(text, "--", 2) == 0;
    if (!is_long)
        return command_usage(self, "unexpected argument '-%c'", optopt);
    char name[NEAREST_NAME_MAX + 1];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(text + 2, "="), text + 2);
    struct nearest near = {.asked = name};
    for (const struct command_flag *f = flags; f->letter != 0 || f->name != NULL; f++) {
        if (f->name == NULL)
            continue;
        nearest_consider(&near, f->name);
        /* getopt_long reports a value behind a flag that takes none like an unknown flag. */
        if (strcmp(f->name, name) == 0)
            return command_usage(self, "'--%s' takes no value", name);
    }
    const char *meant = nearest_result(&near);
    if (meant != NULL)
        return command_usage(self, "unexpected argument '--%s'; did you mean '--%s'?", name, meant);
    return command_usage(self, "unexpected argument '--%s'", name);
}

/* getopt_long's own tables. A flag's value there is 256 + its index, whatever its letter. */
struct getopt_tables {
    char letters[2 * FLAGS_MAX + 4];
    struct option longs[FLAGS_MAX + 2];
    int flags_n;
};

enum { FLAG_BASE = 256, FLAG_HELP = FLAG_BASE + FLAGS_MAX };

static void fill_tables(struct getopt_tables *t, const struct command_flag *flags)
{
    size_t at = 0, longs = 0;
    t->letters[at++] = ':'; /* a missing argument is told from an unknown flag */
    t->letters[at++] = 'h';
    t->longs[longs++] = (struct option){"help", no_argument, NULL, FLAG_HELP};
    for (const struct command_flag *f = flags; f->letter != 0 || f->name != NULL; f++) {
        if (t->flags_n == FLAGS_MAX)
            abort();
        if (f->letter != 0)
            t->letters[at++] = f->letter;
        bool takes_value = f->value != NULL || f->values != NULL;
        if (f->letter != 0 && takes_value)
            t->letters[at++] = ':';
        int takes = takes_value ? required_argument : no_argument;
        if (f->name != NULL)
            t->longs[longs++] = (struct option){f->name, takes, NULL, FLAG_BASE + t->flags_n};
        t->flags_n++;
    }
}

static const struct command_flag *flag_of(const struct command_flag *flags, int flags_n, int opt)
{
    if (opt >= FLAG_BASE)
        return &flags[opt - FLAG_BASE];
    for (int i = 0; i < flags_n; i++)
        if (flags[i].letter == opt)
            return &flags[i];
    abort(); /* getopt_long returns only what the tables hold */
}

static void take_value(const struct command_flag *f)
{
    if (f->values != NULL) {
        f->values->list[f->values->n].letter = f->letter;
        f->values->list[f->values->n++].text = optarg;
    } else if (f->value != NULL) {
        *f->value = optarg;
    } else {
        *f->is_set = true;
    }
}

int command_flags(
    const struct command *self, const struct command_flag *flags, int *argc, char ***argv)
{
    struct getopt_tables t = {0};
    fill_tables(&t, flags);
    optind = 0; /* start anew (GNU) */
    opterr = 0;
    for (int opt; (opt = getopt_long(*argc, *argv, t.letters, t.longs, NULL)) != -1;) {
        if (opt == 'h' || opt == FLAG_HELP) {
            print_help(self, stdout);
            return EXIT_DONE;
        }
        if (opt == ':')
            return command_usage(self, "'%s' needs a value", (*argv)[optind - 1]);
        if (opt == '?')
            return bad_flag(self, flags, *argv);
        const struct command_flag *f = flag_of(flags, t.flags_n, opt);
        if (f->values != NULL && f->values->n == COMMAND_VALUES_MAX)
            return command_usage(
                self, "more than %d values of a kind: '%s'", COMMAND_VALUES_MAX, optarg);
        take_value(f);
    }
    *argc -= optind;
    *argv += optind;
    return COMMAND_GO_ON;
}

int command_flags_only(
    const struct command *self, const struct command_flag *flags, int argc, char **argv)
{
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code == COMMAND_GO_ON && argc > 0)
        return command_usage(self, "unexpected argument '%s'", argv[0]);
    return exit_code;
}
