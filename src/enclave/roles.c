#include "enclave/roles.h"

#include <string.h>

#include "base/log.h"
#include "enclave/push_child.h"
#include "fetch/fetch.h"
#include "session/session.h"
#include "signer/signer.h"

int roles_run(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*main)(void);
    } roles[] = {{"@signer", signer_main}, {"@session", session_main}, {"@fetch", fetch_main}};
    if (argc < 3)
        return -1;
    if (strcmp(argv[2], "-v") == 0)
        log_set_level(LOG_DEBUG);
    for (unsigned i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(argv[1], roles[i].name) == 0)
            return roles[i].main();
    if (strcmp(argv[1], "@push") == 0)
        return push_child_main(argc > 3 ? argv[3] : "");
    return -1;
}
