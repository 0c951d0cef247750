/* tmkms nitro pcr3, pcr4: registers that name the parent of an enclave. */
#include <stdio.h>

#include "cli/nitro.h"
#include "nitro/pcr.h"

static int print_pcr(const uint8_t pcr[PCR_LEN])
{
    char hex[PCR_HEX_LEN + 1];
    hex_lower(bytes_of(pcr, PCR_LEN), hex);
    puts(hex);
    return EXIT_DONE;
}

/* Reads no flags; exactly one argument. */
static int one_argument(const struct command *self, int *argc, char ***argv)
{
    const struct command_flag flags[] = {{0}};
    int exit_code = command_flags(self, flags, argc, argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (*argc != 1)
        return command_usage(self, "expected 1 argument, got %d", *argc);
    return COMMAND_GO_ON;
}

int nitro_pcr3(const struct command *self, int argc, char **argv)
{
    struct err err;
    uint8_t pcr[PCR_LEN];
    int exit_code = one_argument(self, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    return pcr_of_role(argv[0], pcr, &err) ? print_pcr(pcr) : command_failed("%s", err.text);
}

const char nitro_pcr3_help[] =
    "Compute PCR3, which names the IAM role of the instance that started an enclave\n"
    "\n"
    "Usage: tmkms nitro pcr3 ROLE_ARN\n"
    "\n"
    "ROLE_ARN is the role's own: arn:aws:iam::123456789012:role/NAME, not that of its instance\n"
    "profile. The value is SHA-384 of 48 zero bytes and the ARN.\n"
    "\n"
    "Options:\n"
    "  -h, --help  Print help\n";

int nitro_pcr4(const struct command *self, int argc, char **argv)
{
    struct err err;
    uint8_t pcr[PCR_LEN];
    int exit_code = one_argument(self, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    return pcr_of_instance(argv[0], pcr, &err) ? print_pcr(pcr) : command_failed("%s", err.text);
}

const char nitro_pcr4_help[] =
    "Compute PCR4, which names the instance that started an enclave\n"
    "\n"
    "Usage: tmkms nitro pcr4 INSTANCE_ID\n"
    "\n"
    "The value is SHA-384 of 48 zero bytes and the id (i-0123456789abcdef0).\n"
    "\n"
    "Options:\n"
    "  -h, --help  Print help\n";
