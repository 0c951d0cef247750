/* tmkms nitro describe-eif, sign-eif: enclave images as they are. */
#include <stdlib.h>

#include "cli/nitro.h"
#include "cli/nitro_image.h"
#include "nitro/eif_describe.h"
#include "nitro/eif_sign.h"
#include "nitro/eif_write.h"

/* ---- describe-eif -------------------------------------------------------------------- */

static bool describe_signature(
    const struct eif *eif, const struct eif_pcrs *pcrs, json_t *json, bool *ret_is_right)
{
    struct eif_signature signature;
    struct err err;
    if (!eif_signature_parse(&signature, eif->signature, &err))
        return command_failed("%s", err.text) == EXIT_DONE;
    struct bytes der = bytes_of(signature.certificate, signature.certificate_n);
    json_t *certificate = eif_certificate_describe(der, &err);
    if (certificate == NULL)
        return command_failed("%s", err.text) == EXIT_DONE;
    json_object_set_new(json, "SigningCertificate", certificate);
    *ret_is_right = eif_signature_check(eif, pcrs->values[0], &err);
    if (!*ret_is_right)
        command_failed("%s", err.text);
    if (!eif_certificate_is_valid(der, nitro_now_s(), &err))
        command_warn("%s", err.text);
    return true;
}

static int describe(const struct eif *eif, bool crc_is_right)
{
    struct eif_pcrs pcrs;
    struct err err;
    bool is_right = true;
    if (!eif_measure(eif, &pcrs, &err))
        return command_failed("%s", err.text);
    json_t *json = json_pack("{s:i, s:o, s:b}", "EifVersion", EIF_VERSION, "Measurements",
        eif_describe_pcrs(&pcrs), "IsSigned", eif->signature.n > 0);
    if (eif->signature.n > 0 && !describe_signature(eif, &pcrs, json, &is_right)) {
        json_decref(json);
        return EXIT_FAILED;
    }
    json_object_set_new(json, "CheckCRC", json_boolean(crc_is_right));
    if (eif->signature.n > 0)
        json_object_set_new(json, "SignatureCheck", json_boolean(is_right));
    if (!eif_describe_metadata(eif, json))
        command_warn("the metadata of the image cannot be read");
    if (!crc_is_right)
        command_failed("the image is damaged: its CRC is wrong");
    int exit_code = nitro_json_print(json);
    return crc_is_right && is_right ? exit_code : EXIT_FAILED;
}

int nitro_describe_eif(const struct command *self, int argc, char **argv)
{
    struct eif_file file = {0};
    struct eif eif;
    struct err err;
    const char *path = NULL;
    bool crc_is_right = false;
    const struct command_flag flags[] = {{0, "eif-path", &path, NULL}, {0}};
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (argc != 0 || path == NULL)
        return command_usage(self, "which image? --eif-path FILE is needed, and nothing else");
    if (!eif_file_open(&file, path, &err))
        return command_failed("%s", err.text);
    if (eif_read(&eif, file.content, &crc_is_right, &err))
        exit_code = describe(&eif, crc_is_right);
    else
        exit_code = command_failed("%s: %s", path, err.text);
    eif_file_close(&file);
    return exit_code;
}

const char nitro_describe_eif_help[] =
    "Print what an enclave image is, as nitro-cli does\n"
    "\n"
    "Usage: tmkms nitro describe-eif --eif-path FILE\n"
    "\n"
    "Measurements are computed from the file. Name, version and metadata are what somebody wrote\n"
    "into it: they are not measured. Exits with 1 when the CRC or the signature is wrong.\n"
    "\n"
    "Options:\n"
    "      --eif-path FILE  The image\n"
    "  -h, --help           Print help\n";

/* ---- sign-eif ------------------------------------------------------------------------ */

static bool sign(const char *path, const char *certificate, const char *key,
    struct eif_pcrs *ret_pcrs, struct err *err)
{
    struct eif_file file = {0};
    struct eif eif;
    uint8_t signature[EIF_SIGNATURE_MAX], *content = NULL;
    size_t content_n = 0;
    bool ok = eif_file_open(&file, path, err);
    if (!ok)
        return false;
    ok = (eif_parse(&eif, file.content, err) || err_prefix(err, "%s", path)) &&
         eif_sign(&eif, certificate, key, nitro_now_s(), signature, err) &&
         eif_measure(&eif, ret_pcrs, err) && eif_write(&eif, &content, &content_n, err) &&
         nitro_image_save(path, content, content_n, err);
    free(content);
    eif_file_close(&file);
    return ok;
}

int nitro_sign_eif(const struct command *self, int argc, char **argv)
{
    struct eif_pcrs pcrs;
    struct err err;
    const char *path = NULL, *certificate = NULL, *key = NULL;
    const struct command_flag flags[] = {
        {0, "eif-path", &path, NULL},
        {0, "signing-certificate", &certificate, NULL},
        {0, "private-key", &key, NULL},
        {0},
    };
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (argc != 0 || path == NULL || certificate == NULL || key == NULL)
        return command_usage(
            self, "--eif-path, --signing-certificate and --private-key are needed");
    if (!sign(path, certificate, key, &pcrs, &err))
        return command_failed("%s", err.text);
    json_t *json = json_object();
    json_object_set_new(json, "Measurements", eif_describe_pcrs(&pcrs));
    return nitro_json_print(json);
}

const char nitro_sign_eif_help[] =
    "Sign an enclave image, or sign it anew\n"
    "\n"
    "Usage: tmkms nitro sign-eif --eif-path FILE --signing-certificate FILE --private-key FILE\n"
    "\n"
    "The image is replaced in one step. PCR0, PCR1 and PCR2 stay; PCR8 is that of the\n"
    "certificate. The image can be signed elsewhere than where it is built.\n"
    "\n"
    "Options:\n"
    "      --eif-path FILE             The image\n"
    "      --signing-certificate FILE  PEM, P-256, P-384 or P-521; valid now\n"
    "      --private-key FILE          Its key, PEM, without a passphrase\n"
    "  -h, --help                      Print help\n";
