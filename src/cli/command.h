/* command: one table of commands; each has a file of its own in this folder. */
#ifndef TMKMS_CLI_COMMAND_H
#define TMKMS_CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

/* Exit codes of every command: 0 done, 1 failed (the reason is on standard error), 2 wrong usage.
 */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct command {
    const char *name;
    const char *summary;       /* one line for the list */
    const char *help;          /* the whole help text; a command with sub-commands needs none */
    const struct command *sub; /* sub-commands, ended by a NULL name; then run is NULL */
    /* argv[0] is the command's own name. */
    int (*run)(const struct command *self, int argc, char **argv);
};

/* command_main finds the command that argv names in the tree under root, runs it and returns its
 * exit code. `--help`, `-h` and `help [command]` work at every level. */
int command_main(const struct command *root, int argc, char **argv);

/* The values of a flag that may be given several times, in their order, each with the letter of its
 * flag: flags that share a list (`-u` and `--tcp`) keep the order among themselves. */
enum { COMMAND_VALUES_MAX = 256 };
struct command_values {
    struct {
        char letter;
        const char *text;
    } list[COMMAND_VALUES_MAX];
    size_t n;
};

/* A flag of a command: `-x` and `--name` (either may be missing: 0, NULL). With value it takes an
 * argument, borrowed from argv; with values too, any number of times; otherwise is_set is set. */
struct command_flag {
    char letter;
    const char *name;
    const char **value;
    bool *is_set;
    struct command_values *values;
};

enum { COMMAND_GO_ON = -1 };

/* command_flags reads the flags (a table ended by {0}), which may stand before, between and behind
 * the arguments; then *argv and *argc are the arguments alone. Returns COMMAND_GO_ON, or the exit
 * code to return at once: `--help` was printed, or a flag is unknown or lacks its argument. */
int command_flags(const struct command *self, const struct command_flag *flags, int *argc,
    char ***argv) ATTR_MUST_USE;

/* command_flags_only is for a command without arguments: one that is left over is wrong usage. */
int command_flags_only(const struct command *self, const struct command_flag *flags, int argc,
    char **argv) ATTR_MUST_USE;

/* Wrong usage: prints the text to standard error, points at `--help` and returns EXIT_USAGE. */
int command_usage(const struct command *self, const char *fmt, ...) ATTR_PRINTF(2, 3);
/* "error: text" on standard error (coloured on a terminal only); returns EXIT_FAILED. */
int command_failed(const char *fmt, ...) ATTR_PRINTF(1, 2);
/* "warning: text" on standard error. */
void command_warn(const char *fmt, ...) ATTR_PRINTF(1, 2);
/* "   Generated text" on standard error: the word right-aligned in 12 columns, as the Rust tmkms
 * prints it. */
void command_status(const char *word, const char *fmt, ...) ATTR_PRINTF(2, 3);

extern const struct command command_init, command_start, command_version, command_softsign,
    command_pubkey, command_state, command_check, command_nitro;

#endif
