#include "cli/role.h"

#include <string.h>

#include "base/log.h"
#include "enclave/push_child.h"
#include "fetch/fetch.h"
#include "monitor/config_child.h"
#include "parent/keeper.h"
#include "session/session.h"
#include "signer/signer.h"

int role_run(int argc, char **argv)
{
    if (argc < 3 || argv[1][0] != '@')
        return -1;
    if (strcmp(argv[2], "-v") == 0)
        log_set_level(LOG_DEBUG);
    if (strcmp(argv[1], "@signer") == 0)
        return signer_main();
    if (strcmp(argv[1], "@session") == 0)
        return session_main();
    if (strcmp(argv[1], "@config") == 0)
        return config_child_main(argc > 3 ? argv[3] : "tmkms.toml");
    if (strcmp(argv[1], "@fetch") == 0)
        return fetch_main();
    if (strcmp(argv[1], "@keeper") == 0)
        return keeper_main();
    if (strcmp(argv[1], "@push") == 0)
        return push_child_main(argc > 3 ? argv[3] : "");
    return -1;
}
