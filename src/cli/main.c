#include <string.h>

#include "cli/command.h"
#include "cli/role.h"

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
        return command_version.run(&command_version, argc - 1, argv + 1);
    return command_main(&root, argc, argv);
}
