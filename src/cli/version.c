#include <stdio.h>

#include "cli/command.h"
#include "tmkms-version.h"

static int run(const struct command *self, int argc, char **argv)
{
    const struct command_flag flags[] = {{0}};
    int exit_code = command_flags_only(self, flags, argc, argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    puts(TMKMS_VERSION);
    return EXIT_DONE;
}

const struct command command_version = {
    .name = "version",
    .summary = "Print the version",
    .help = "Print the version\n"
            "\n"
            "Usage: tmkms version\n",
    .run = run,
};
