/* tmkms nitro verify-build: is this image the one that is built here? */
#include <stdio.h>

#include "cli/nitro.h"
#include "cli/nitro_image.h"
#include "nitro/eif_sign.h"
#include "nitro/image.h"
#include "nitro/pcr.h"

static void say(void *ctx, enum image_finding finding, const char *text)
{
    (void)ctx;
    switch (finding) {
    case IMAGE_SAME:
        command_status("same", "%s", text);
        return;
    case IMAGE_NOTE:
        command_status("note", "%s", text);
        return;
    case IMAGE_DIFFERS:
        command_failed("%s", text);
        return;
    }
}

static bool check_signature(const struct eif *given, const struct eif_pcrs *pcrs)
{
    struct err err;
    char hex[PCR_HEX_LEN + 1];
    if (given->signature.n == 0)
        return true;
    if (!eif_signature_check(given, pcrs->values[0], &err))
        return command_failed("%s", err.text) == EXIT_DONE;
    hex_lower(bytes_of(pcrs->values[8], PCR_LEN), hex);
    command_status("note", "signature: right, by the certificate of PCR8 %s", hex);
    return true;
}

/* True: all of them are the same. */
static bool print_pcrs(const struct eif_pcrs *given, const struct eif_pcrs *built)
{
    char hex[PCR_HEX_LEN + 1];
    bool are_same = true;
    for (unsigned i = 0; i < 3; i++) {
        hex_lower(bytes_of(given->values[i], PCR_LEN), hex);
        bool is_same =
            bytes_equal(bytes_of(given->values[i], PCR_LEN), bytes_of(built->values[i], PCR_LEN));
        printf("PCR%u %s %s\n", i, hex, is_same ? "same" : "differs");
        are_same = are_same && is_same;
    }
    return are_same;
}

static int compare(const struct eif *given, const struct image_request *q)
{
    struct image built = {0};
    struct eif_pcrs pcrs;
    struct err err;
    if (!eif_measure(given, &pcrs, &err) || !image_build(&built, q, &err))
        return command_failed("%s", err.text);
    bool is_built_so = image_compare(given, &built.eif, say, NULL);
    bool is_same = check_signature(given, &pcrs) && is_built_so;
    if (print_pcrs(&pcrs, &built.pcrs) && !is_built_so)
        command_failed("PCR0, PCR1 and PCR2 are equal, and it is another image all the same: they "
                       "are hashes of kernel, command line and ramdisk in one row, which do not "
                       "say where one ends and the next begins. A key policy cannot tell the two "
                       "apart; put no trust in where this file comes from");
    image_free(&built);
    return is_same && fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

int nitro_verify_build(const struct command *self, int argc, char **argv)
{
    struct image_request q = {.now_s = nitro_now_s()};
    struct eif_file file = {0};
    struct eif eif;
    struct err err;
    const struct command_flag flags[] = {
        {0, "kernel", &q.kernel, NULL},
        {0, "init", &q.init, NULL},
        {0, "nsm-module", &q.nsm_module, NULL},
        {0, "cmdline", &q.cmdline, NULL},
        {0, "debug", NULL, &q.is_debug},
        {0},
    };
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (argc != 1)
        return command_usage(self, "expected 1 argument, got %d", argc);
    if (!eif_file_open(&file, argv[0], &err))
        return command_failed("%s", err.text);
    if (eif_parse(&eif, file.content, &err))
        exit_code = compare(&eif, &q);
    else
        exit_code = command_failed("%s: %s", argv[0], err.text);
    eif_file_close(&file);
    return exit_code;
}

const char nitro_verify_build_help[] =
    "Build the image again and compare\n"
    "\n"
    "Usage: tmkms nitro verify-build [OPTIONS] FILE\n"
    "\n"
    "Exits with 0 when kernel, command line and ramdisk of the image, and so PCR0, PCR1 and PCR2,\n"
    "are those of one that is built from what is here; otherwise says what differs. Registers "
    "alone\n"
    "are no proof: they do not say where the kernel ends and the command line begins. Name, "
    "version\n"
    "and other metadata may differ: they are not measured. The signature of a signed image is\n"
    "checked.\n"
    "\n"
    "Options:\n"
    "      --kernel FILE   As for build-enclave\n"
    "      --init FILE     As for build-enclave\n"
    "      --nsm-module FILE  As for build-enclave\n"
    "      --cmdline TEXT  The command line that the image should have\n"
    "      --debug         It should be one for debug mode\n"
    "  -h, --help          Print help\n";
