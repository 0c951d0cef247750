#include <stdlib.h>
#include <strings.h>

#include "base/log.h"
#include "cli/command.h"
#include "monitor/monitor.h"
#include "tmkms-version.h"

/* RUST_LOG as far as a single word goes; -v wins over it. */
static void set_level(bool verbose)
{
    static const struct {
        const char *name;
        enum log_level level;
    } levels[] = {{"error", LOG_ERROR}, {"warn", LOG_WARN}, {"info", LOG_INFO},
        {"debug", LOG_DEBUG}, {"trace", LOG_DEBUG}};
    const char *wanted = getenv("RUST_LOG");
    bool is_known = wanted == NULL || wanted[0] == '\0';
    for (size_t i = 0; !is_known && i < sizeof levels / sizeof levels[0]; i++) {
        is_known = strcasecmp(wanted, levels[i].name) == 0;
        if (is_known)
            log_set_level(levels[i].level);
    }
    if (verbose)
        log_set_level(LOG_DEBUG);
    if (!is_known)
        log_line(LOG_WARN, "tmkms::commands::start",
            "RUST_LOG=%.100s is not understood; it may be error, warn, info, debug or trace, for "
            "the "
            "whole program",
            wanted);
}

static int run(const struct command *self, int argc, char **argv)
{
    const char *config = NULL;
    bool verbose = false;
    const struct command_flag flags[] = {
        {.letter = 'c', .name = "config", .value = &config},
        {.letter = 'v', .name = "verbose", .is_set = &verbose},
        {0},
    };
    int exit_code = command_flags_only(self, flags, argc, argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    set_level(verbose);
    log_line(LOG_INFO, "tmkms::commands::start", "tmkms %s starting up...", TMKMS_VERSION);
    struct problems problems = {0};
    exit_code = monitor_run(config_path(config), &problems);
    for (size_t i = 0; i < problems.n; i++)
        if (!problems.list[i].is_warning)
            exit_code = command_failed("%s", problems.list[i].text);
    problems_free(&problems);
    return exit_code;
}

const struct command command_start = {
    .name = "start",
    .summary = "Sign for the validators in the configuration",
    .help =
        "Sign for the validators in the configuration, until SIGTERM or SIGINT.\n"
        "SIGHUP reads the configuration again.\n"
        "Exit code 3: a state file was deleted, moved, replaced or could not be written. Look "
        "what\n"
        "is there before you start it again; a service manager must not.\n"
        "\n"
        "Usage: tmkms start [-c PATH] [-v]\n"
        "\n"
        "  -c, --config PATH   the configuration (else $TMKMS_CONFIG_FILE, else ./tmkms.toml)\n"
        "  -v, --verbose       log more, as RUST_LOG=debug does\n"
        "\n"
        "RUST_LOG may be error, warn, info (the default), debug or trace (the same as debug).\n",
    .run = run,
};
