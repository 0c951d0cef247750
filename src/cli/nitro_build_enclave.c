/* tmkms nitro build-enclave: an enclave image without Docker, the same bytes every time. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/nitro.h"
#include "cli/nitro_image.h"
#include "nitro/eif_describe.h"
#include "nitro/image.h"
#include "parent/machine.h"

/* https://reproducible-builds.org/specs/source-date-epoch/ */
static bool read_build_time(int64_t *ret, struct err *err)
{
    const char *text = getenv("SOURCE_DATE_EPOCH");
    char *end = NULL;
    if (text == NULL || text[0] == '\0')
        return true;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (strspn(text, "0123456789") != strlen(text) || errno != 0 || value > UINT32_MAX)
        return err_set(err, "SOURCE_DATE_EPOCH is '%s' and not a number of seconds", text);
    *ret = value;
    return true;
}

static void tell(const struct image *image, const char *path)
{
    command_status("Kernel", "%s: version %s, %zu bytes", image->kernel_path, image->kernel_version,
        image->eif.kernel.n);
    command_status(
        "Init", "%s: a ramdisk of %zu bytes", image->init_path, image->eif.ramdisks[0].n);
    command_status(
        "Cmdline", "%.*s", (int)image->eif.cmdline.n, (const char *)image->eif.cmdline.p);
    command_status("Image", "%s: %zu bytes%s; an enclave of it needs %u MiB of memory", path,
        image->file_n, image->eif.signature.n > 0 ? ", signed" : "",
        machine_memory_for(image->file_n));
}

static int build(const struct image_request *q, const char *output)
{
    struct image image = {0};
    struct err err;
    if (!image_build(&image, q, &err))
        return command_failed("%s", err.text);
    if (!nitro_image_save(output, image.file, image.file_n, &err)) {
        image_free(&image);
        return command_failed("%s", err.text);
    }
    tell(&image, output);
    if (q->is_debug)
        command_warn("this image also runs in debug mode, where its registers are zero and prove "
                     "nothing ('%s' is on its command line); it is for tests",
            IMAGE_DEBUG_WORD);
    json_t *json = json_object();
    json_object_set_new(json, "Measurements", eif_describe_pcrs(&image.pcrs));
    image_free(&image);
    return nitro_json_print(json);
}

int nitro_build_enclave(const struct command *self, int argc, char **argv)
{
    struct image_request q = {.now_s = nitro_now_s()};
    struct err err;
    const char *output = NULL;
    const struct command_flag flags[] = {
        {0, "kernel", &q.kernel, NULL},
        {0, "init", &q.init, NULL},
        {0, "nsm-module", &q.nsm_module, NULL},
        {0, "cmdline", &q.cmdline, NULL},
        {0, "name", &q.name, NULL},
        {0, "version", &q.version, NULL},
        {0, "metadata", &q.metadata, NULL},
        {0, "signing-certificate", &q.certificate, NULL},
        {0, "private-key", &q.key, NULL},
        {0, "debug", NULL, &q.is_debug},
        {0, "output-file", &output, NULL},
        {0},
    };
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (argc != 0)
        return command_usage(self, "expected no arguments, got %d", argc);
    if (output == NULL)
        return command_usage(self, "where to? --output-file FILE is needed");
    if ((q.certificate == NULL) != (q.key == NULL))
        return command_usage(self, "--signing-certificate and --private-key go together");
    if (!read_build_time(&q.build_time_s, &err))
        return command_failed("%s", err.text);
    return build(&q, output);
}

const char nitro_build_enclave_help[] =
    "Build the enclave image (EIF)\n"
    "\n"
    "Usage: tmkms nitro build-enclave [OPTIONS] --output-file FILE\n"
    "\n"
    "The image is a kernel and one ramdisk whose only program is tmkms-enclave. Prints its\n"
    "registers as nitro-cli does. The same kernel, program and options give the same bytes on any\n"
    "machine, at any time (but for the signature of a signed image, which is not measured).\n"
    "\n"
    "Parts:\n"
    "      --kernel FILE    bzImage, or an uncompressed arm64 Image [default: bzImage of the "
    "image\n"
    "                       folder: $TMKMS_IMAGE_DIR, or ../lib/tmkms beside this program]\n"
    "      --init FILE      Program to run as init [default: tmkms-enclave of the image folder]\n"
    "      --nsm-module FILE  The nsm.ko of a kernel that has the security module's driver as a\n"
    "                       module, as AWS's own up to 6.6\n"
    "      --cmdline TEXT   Kernel command line, measured [default: " IMAGE_CMDLINE "]\n"
    "      --debug          Append '" IMAGE_DEBUG_WORD
    "': the image also runs in debug mode, where\n"
    "                       its registers are zero. For tests\n"
    "\n"
    "Metadata, not measured (its time is $SOURCE_DATE_EPOCH, or 1970):\n"
    "      --name TEXT      Image name [default: tmkms]\n"
    "      --version TEXT   Image version [default: that of tmkms]\n"
    "      --metadata FILE  A JSON object of your own, up to 4096 bytes\n"
    "\n"
    "Signature:\n"
    "      --signing-certificate FILE  PEM, P-256, P-384 or P-521; measured as PCR8\n"
    "      --private-key FILE          Its key, PEM\n"
    "\n"
    "Options:\n"
    "      --output-file FILE  Where the image goes; replaced in one step\n"
    "  -h, --help              Print help\n";
