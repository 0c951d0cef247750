/* tmkms nitro seal: a key file encrypted by KMS, for encrypted_key_b64. */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aws/aws.h"
#include "aws/credentials.h"
#include "aws/dial.h"
#include "base/clock.h"
#include "base/fd.h"
#include "cli/nitro.h"
#include "cli/nitro_place.h"
#include "crypto/encode.h"
#include "crypto/secret.h"
#include "keyring/key_file.h"
#include "sandbox/sandbox.h"

enum {
    PLAINTEXT_MAX = 4096, /* of KMS Encrypt */
    CALL_US = 30 * 1000000,
    TLS_PORT = 443,
    BASE64_MAX = (KMS_BLOB_MAX + 2) / 3 * 4 + 2,
};

const char nitro_seal_help[] =
    "Encrypt a private key with KMS, for encrypted_key_b64\n"
    "\n"
    "Prints what KMS gives back, as base64. `aws kms encrypt` makes the same. The credentials are "
    "those of the\n"
    "environment, of the AWS credentials file, or of the instance's role; they need kms:Encrypt on "
    "the key.\n"
    "\n"
    "Usage: tmkms nitro seal --key-id ARN [OPTIONS] KEYFILE\n"
    "\n"
    "Options:\n"
    "      --key-id ARN           The KMS key: its ARN, id, or alias/NAME\n"
    "      --region REGION        [default: the ARN's, $AWS_REGION, $AWS_DEFAULT_REGION, or this\n"
    "                             instance's]\n" PLACE_OPTIONS_HELP
    "  -o, --output FILE          Write there; an existing file is never replaced\n"
    "  -h, --help                 Print help\n";

struct arguments {
    struct place_options place;
    const char *output, *key_file;
};

/* The key must be one that the enclave will be able to read: found out here, not behind the envelope. */
static bool read_key(struct kms_request *req, const char *path, struct err *err)
{
    static const struct {
        enum key_file_format format;
        enum key_type type;
    } forms[] = {{KEY_FILE_BASE64, KEY_ED25519}, {KEY_FILE_RAW, KEY_ED25519}, {KEY_FILE_JSON, 0},
        {KEY_FILE_BASE64, KEY_SECP256K1}};
    size_t n = 0;
    int fd ATTR_CLEANUP(fd_close) = key_file_open(path, err);
    if (fd < 0 || !fd_read_all(fd, req->blob, PLAINTEXT_MAX, &n, err))
        return err_prefix(err, "key file %s", path);
    req->blob_n = (uint32_t)n;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct key_file *file;
        struct signing_key *key;
        if (key_file_parse(
                &file, &key, bytes_of(req->blob, n), forms[i].type, forms[i].format, err)) {
            secret_free(file);
            signing_key_free(key);
            return true;
        }
    }
    return err_set(err,
        "%s holds no private key that tmkms can read: neither base64 nor 32 raw bytes nor "
        "priv_validator_key.json",
        path);
}

/* ---- the call --------------------------------------------------------------------- */

static int dial(void *ctx, uint64_t deadline_us, struct err *err)
{
    const struct kms_place *place = ctx;
    char host[KMS_HOST_MAX];
    if (!kms_host(place, host, err))
        return -1;
    return dial_tcp(host, place->port != 0 ? place->port : TLS_PORT, deadline_us, err);
}

static bool call(struct kms_request *req, struct kms_answer *answer, struct err *err)
{
    struct aws_credentials credentials = {0};
    char source[128];
    if (!credentials_find(&credentials, source, err))
        return err_prefix(err, "no AWS credentials");
    bool ok = kms_call(req, &credentials, (int64_t)(clock_realtime_us() / 1000000U), dial,
        &req->place, clock_monotonic_us() + CALL_US, answer);
    secret_wipe(&credentials, sizeof credentials);
    return ok || err_set(err, "%s", answer->error);
}

static int print_blob(const struct kms_answer *answer, const char *output)
{
    char text[BASE64_MAX];
    struct err err;
    if (!base64_encode(bytes_of(answer->ciphertext, answer->ciphertext_n), text, sizeof text - 1))
        return command_failed("the ciphertext is too long");
    if (output == NULL) {
        printf("%s\n", text);
        return fflush(stdout) == 0 ? EXIT_DONE : command_failed("cannot write to standard output");
    }
    size_t n = strlen(text);
    text[n++] = '\n';
    if (!fd_create_durable(output, text, n, false, &err))
        return command_failed("%s", err.text);
    command_status("Sealed", "the key; encrypted_key_b64 is in %s", output);
    return EXIT_DONE;
}

/* ---- flags ------------------------------------------------------------------------ */

static int run(struct kms_request *req, struct kms_answer *answer, const struct arguments *args)
{
    struct err err;
    req->op = KMS_ENCRYPT;
    signal(SIGPIPE, SIG_IGN);
    bool ok = sandbox_harden(false, &err) && aws_start(&err) &&
              place_from(&req->place, &args->place, &err) && read_key(req, args->key_file, &err) &&
              call(req, answer, &err);
    return ok ? print_blob(answer, args->output) : command_failed("%s", err.text);
}

int nitro_seal(const struct command *self, int argc, char **argv)
{
    static struct arguments args;
    static struct kms_answer answer;
    struct err err;
    args = (struct arguments){0};
    const struct command_flag flags[] = {
        PLACE_FLAGS(args.place),
        {'o', "output", &args.output, NULL},
        {0},
    };
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (argc != 1)
        return command_usage(self, "expected 1 argument, the key file, got %d", argc);
    if (args.place.key_id == NULL)
        return command_usage(self, "--key-id is missing");
    args.key_file = argv[0];
    struct kms_request *req = NULL;
    if (!crypto_start(&err) || (req = secret_alloc(sizeof *req, &err)) == NULL)
        return command_failed("%s", err.text);
    exit_code = run(req, &answer, &args);
    secret_free(req);
    return exit_code;
}
