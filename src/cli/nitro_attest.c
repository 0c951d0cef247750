/* tmkms nitro attest: a fresh attestation document of a running enclave. */
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "cli/nitro.h"
#include "cli/nitro_enclave.h"
#include "crypto/aead.h"
#include "crypto/encode.h"
#include "crypto/key.h"
#include "enclave/push_frames.h"
#include "nitro/attestation.h"

enum { NONCE_LEN = 32, BASE64_MAX = 2 * NSM_DOCUMENT_MAX };

struct attest_args {
    const char *nonce, *user_data, *output;
};

/* The enclave has the same limits; here the message names the flag. */
static bool check_hex(const char *flag, const char *hex, size_t min, size_t max, struct err *err)
{
    uint8_t data[PUSH_USER_DATA_MAX];
    size_t n = strlen(hex) / 2;
    if (n >= min && n <= max && hex_decode(hex, strlen(hex), data, n))
        return true;
    return err_set(
        err, "--%s must be %zu to %zu bytes as hexadecimal digits, two a byte", flag, min, max);
}

static bool check_args(const struct attest_args *args, struct err *err)
{
    if (args->nonce != NULL &&
        !check_hex("nonce", args->nonce, PUSH_NONCE_MIN, PUSH_NONCE_MAX, err))
        return false;
    return args->user_data == NULL ||
           check_hex("user-data", args->user_data, 1, PUSH_USER_DATA_MAX, err);
}

/* The document answers this nonce and no other. Nothing else is believed of it here: that is what
 * `tmkms nitro verify` is for. */
static bool check_document(const char *base64, const char *nonce_hex, struct err *err)
{
    uint8_t document[NSM_DOCUMENT_MAX], nonce[PUSH_NONCE_MAX];
    size_t n = 0, nonce_n = strlen(nonce_hex) / 2;
    struct attestation a;
    if (!base64_decode(bytes_of_text(base64), document, sizeof document, &n) ||
        !hex_decode(nonce_hex, 2 * nonce_n, nonce, nonce_n))
        return err_set(err, "the enclave's answer holds no document");
    if (!attestation_parse(&a, bytes_of(document, n), err))
        return false;
    return bytes_equal(a.nonce, bytes_of(nonce, nonce_n)) ||
           err_set(err, "the enclave's document answers another nonce: it is a replay");
}

static bool write_document(const char *base64, const char *path, struct err *err)
{
    char text[BASE64_MAX + 2];
    int n = snprintf(text, sizeof text, "%s\n", base64);
    if ((size_t)n >= sizeof text)
        return err_set(err, "the enclave's answer is too long");
    if (path != NULL)
        return fd_create_durable(path, text, (size_t)n, true, err);
    return (fputs(text, stdout) >= 0 && fflush(stdout) == 0) ||
           err_errno(err, "cannot write the document");
}

static json_t *make_request(const struct attest_args *args, const char *nonce)
{
    json_t *request = json_pack("{s:s, s:s}", "op", "attest", "nonce", nonce);
    if (args->user_data != NULL)
        json_object_set_new(request, "user_data", json_string(args->user_data));
    return request;
}

static int attest(const struct enclave *enclave, const struct attest_args *args, const char *nonce)
{
    struct err err;
    json_t *request = make_request(args, nonce);
    json_t *answer = enclave_ask(enclave, request, &err);
    json_decref(request);
    if (answer == NULL)
        return command_failed("%s", err.text);
    const char *document = enclave_text(answer, "document");
    bool ok = check_document(document, nonce, &err) && write_document(document, args->output, &err);
    json_decref(answer);
    if (!ok)
        return command_failed("%s", err.text);
    command_status(
        "Next", "`tmkms nitro verify --nonce %s --pcr0 HEX FILE` checks the document", nonce);
    return EXIT_DONE;
}

int nitro_attest(const struct command *self, int argc, char **argv)
{
    struct enclave_options options = {0};
    struct enclave enclave;
    struct attest_args args = {0};
    struct err err;
    uint8_t random[NONCE_LEN];
    char random_hex[2 * NONCE_LEN + 1];
    const struct command_flag flags[] = {
        {0, "nonce", &args.nonce, NULL},
        {0, "user-data", &args.user_data, NULL},
        {'o', "output", &args.output, NULL},
        ENCLAVE_OPTION_FLAGS(options),
        {0},
    };
    int exit_code = command_flags_only(self, flags, argc, argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    exit_code = enclave_from(self, &options, &enclave);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (!check_args(&args, &err) || !crypto_start(&err))
        return command_failed("%s", err.text);
    random_bytes(random, sizeof random);
    hex_lower(bytes_of(random, sizeof random), random_hex);
    return attest(&enclave, &args, args.nonce != NULL ? args.nonce : random_hex);
}

const char nitro_attest_help[] =
    "Ask an enclave for an attestation document and print it in base64\n"
    "\n"
    "The document says which image runs (PCR0), under which configuration (PCR16, once one was\n"
    "pushed), on which instance (PCR4). This command only fetches it; `tmkms nitro verify` checks\n"
    "it, here or on any other machine.\n"
    "\n"
    "Usage: tmkms nitro attest [OPTIONS]\n"
    "\n"
    "Options:\n"
    "      --nonce HEX       16 to 64 bytes for the document, to show that it is fresh [default:\n"
    "                        32 random bytes, which are printed]\n"
    "      --user-data HEX   At most 512 bytes for the document\n"
    "  -o, --output FILE     Write the document there instead of standard "
    "output\n" ENCLAVE_OPTIONS_HELP "  -h, --help            Print help\n";
