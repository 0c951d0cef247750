/* tmkms-enclave: what an enclave image holds besides its kernel. PID 1, and each of the processes that it starts. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "enclave/boot.h"
#include "enclave/roles.h"

int main(int argc, char **argv)
{
    static const struct boot_options machine = {.root = "", .is_machine = true};
    int code = roles_run(argc, argv);
    if (code >= 0)
        return code;
    if (getpid() != 1) {
        fputs("tmkms-enclave is the init of an enclave image; `tmkms nitro build-enclave` makes "
              "one.\n",
            stderr);
        return EXIT_FAILURE;
    }
    return boot_run(&machine);
}
