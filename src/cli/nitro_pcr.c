/* tmkms nitro pcr, pcr3, pcr4: registers of files and certificates, and those that name the parent of an enclave. */
#include <stdio.h>

#include "aws/credentials.h"
#include "cli/nitro.h"
#include "cli/nitro_image.h"
#include "nitro/eif_sign.h"
#include "nitro/pcr.h"

static int print_pcr(const uint8_t pcr[PCR_LEN])
{
    char hex[PCR_HEX_LEN + 1];
    hex_lower(bytes_of(pcr, PCR_LEN), hex);
    puts(hex);
    return EXIT_DONE;
}

/* ---- pcr ------------------------------------------------------------------------------ */

static bool measure_file(const char *path, uint8_t ret[PCR_LEN], struct err *err)
{
    struct eif_file file = {0};
    uint8_t hash[PCR_LEN];
    if (!eif_part_open(&file, path, err))
        return false;
    sha384(file.content, hash);
    eif_file_close(&file);
    pcr_extend_zero(bytes_of(hash, sizeof hash), ret);
    return true;
}

static bool measure_certificate(const char *path, uint8_t ret[PCR_LEN], struct err *err)
{
    uint8_t der[EIF_CERTIFICATE_MAX];
    size_t n = 0;
    if (!eif_certificate_read(path, der, &n, err))
        return false;
    eif_certificate_measure(bytes_of(der, n), ret);
    return true;
}

int nitro_pcr(const struct command *self, int argc, char **argv)
{
    struct err err;
    uint8_t pcr[PCR_LEN];
    char hex[PCR_HEX_LEN + 1];
    const char *input = NULL, *certificate = NULL;
    const struct command_flag flags[] = {
        {0, "input", &input, NULL}, {0, "signing-certificate", &certificate, NULL}, {0}};
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (argc != 0 || (input == NULL) == (certificate == NULL))
        return command_usage(self, "one of --input FILE and --signing-certificate FILE is needed");
    bool ok = input != NULL ? measure_file(input, pcr, &err)
                            : measure_certificate(certificate, pcr, &err);
    if (!ok)
        return command_failed("%s", err.text);
    hex_lower(bytes_of(pcr, PCR_LEN), hex);
    return nitro_json_print(json_pack("{s:s}", input != NULL ? "PCR" : "PCR8", hex));
}

const char nitro_pcr_help[] =
    "Compute a register from a file or a signing certificate, as nitro-cli does\n"
    "\n"
    "Usage: tmkms nitro pcr (--input FILE | --signing-certificate FILE)\n"
    "\n"
    "A file is measured as the parts of an image are: SHA-384 of 48 zero bytes and the SHA-384 of\n"
    "its content. PCR3 and PCR4 are made otherwise: see `pcr3` and `pcr4`.\n"
    "\n"
    "Options:\n"
    "      --input FILE                Any file\n"
    "      --signing-certificate FILE  PEM: PCR8 of images that are signed with it\n"
    "  -h, --help                      Print help\n";

/* ---- pcr3, pcr4 ----------------------------------------------------------------------- */

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
