#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/role.h"

/* Who reads the output must not take an empty or a cut one for the whole (a full disk, a closed pipe). */
static int told(int exit_code)
{
    bool is_cut = ferror(stdout) != 0;
    int why = fclose(stdout) != 0 ? errno : 0;
    if (is_cut ||
        (why != 0 && why != EBADF)) /* EBADF: closed from the start, and nothing was written */
        return command_failed("cannot write to standard output: %s",
            why != 0 ? strerror(why) : "a part of it is missing");
    return exit_code;
}

int main(int argc, char **argv)
{
    int role = role_run(argc, argv); /* one of our own child processes */
    if (role >= 0)
        return role;
    const struct command commands[] = {
        command_init,
        command_start,
        command_check,
        command_softsign,
        command_pubkey,
        command_state,
        command_nitro,
        command_version,
        {0},
    };
    const struct command root = {
        .name = "tmkms",
        .summary = "Key management system for validators of Tendermint and CometBFT chains",
        .sub = commands,
    };
    if (argc > 1 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0))
        return told(command_version.run(&command_version, argc - 1, argv + 1));
    return told(command_main(&root, argc, argv));
}
