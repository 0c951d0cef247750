/* command: one table of commands; each has a file of its own in this folder. */
#ifndef TMKMS_CLI_COMMAND_H
#define TMKMS_CLI_COMMAND_H

/* Exit codes of every command: 0 done, 1 failed (the reason is on standard error), 2 wrong usage.
 */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct command {
    const char *name;
    const char *summary;       /* one line for the list */
    const char *help;          /* the whole help text */
    const struct command *sub; /* sub-commands, ended by a NULL name; then run is NULL */
    /* argv[0] is the command's own name. */
    int (*run)(const struct command *self, int argc, char **argv);
};

/* Wrong usage: prints the text to standard error, points at `--help` and returns EXIT_USAGE. */
int command_usage(const struct command *self, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* "error: text" on standard error (coloured on a terminal only); returns EXIT_FAILED. */
int command_failed(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void command_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "   Generated text" on standard error: the word right-aligned in 12 columns, as the Rust tmkms
 * prints it. */
void command_status(const char *word, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

extern const struct command command_init, command_start, command_version, command_softsign,
    command_pubkey, command_state, command_check;

#endif
