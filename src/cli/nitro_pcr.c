/* tmkms nitro pcr3, pcr4: registers that name the parent of an enclave. */
#include <stdio.h>

#include "aws/credentials.h"
#include "cli/nitro.h"
#include "nitro/pcr.h"

static int print_pcr(const uint8_t pcr[PCR_LEN])
{
    char hex[PCR_HEX_LEN + 1];
    hex_lower(bytes_of(pcr, PCR_LEN), hex);
    puts(hex);
    return EXIT_DONE;
}

int nitro_pcr3(const struct command *self, int argc, char **argv)
{
    struct err err;
    uint8_t pcr[PCR_LEN];
    const struct command_flag flags[] = {{0}};
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (argc != 1)
        return command_usage(self, "expected 1 argument, got %d", argc);
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
    char here[64];
    const struct command_flag flags[] = {{0}};
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (argc > 1)
        return command_usage(self, "expected at most 1 argument, got %d", argc);
    if (argc == 0 && !imds_get("instance-id", here, sizeof here, &err))
        return command_failed("this instance's id: %s", err.text);
    return pcr_of_instance(argc == 1 ? argv[0] : here, pcr, &err) ? print_pcr(pcr)
                                                                  : command_failed("%s", err.text);
}

const char nitro_pcr4_help[] =
    "Compute PCR4, which names the instance that started an enclave\n"
    "\n"
    "Usage: tmkms nitro pcr4 [INSTANCE_ID]\n"
    "\n"
    "The value is SHA-384 of 48 zero bytes and the id (i-0123456789abcdef0). Without an id it is\n"
    "that of the instance on which this runs, asked of its metadata service (IMDSv2).\n"
    "\n"
    "Options:\n"
    "  -h, --help  Print help\n";
