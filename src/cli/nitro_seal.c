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
    "      --region REGION        [default: the ARN's, $AWS_REGION, $AWS_DEFAULT_REGION, or this "
    "instance's]\n"
    "      --context NAME=VALUE   Encryption context, which the configuration repeats in "
    "encryption_context; may be\n"
    "                             given more than once\n"
    "      --endpoint HOST[:PORT] Where KMS is [default: kms.REGION.amazonaws.com:443]\n"
    "      --root FILE            PEM of the root that the endpoint's certificate must chain to "
    "[default: Amazon's]\n"
    "  -o, --output FILE          Write there; an existing file is never replaced\n"
    "  -h, --help                 Print help\n";

struct arguments {
    const char *key_id, *region, *endpoint, *root, *output, *key_file;
};

/* ---- where and with what ----------------------------------------------------------- */

static bool copy_text(char *out, size_t cap, const char *text, const char *what, struct err *err)
{
    size_t n = strlen(text);
    if (n >= cap)
        return err_set(err, "%s is too long", what);
    memcpy(out, text, n + 1);
    return true;
}

/* "arn:aws:kms:eu-west-1:123456789012:key/..." names its region. */
static bool region_of_arn(const char *arn, char out[KMS_REGION_MAX])
{
    const char *at = arn;
    if (strncmp(arn, "arn:", 4) != 0)
        return false;
    for (int colons = 0; colons < 3; colons++) {
        at = strchr(at, ':');
        if (at == NULL)
            return false;
        at++;
    }
    size_t n = strcspn(at, ":");
    if (n == 0 || n >= KMS_REGION_MAX)
        return false;
    snprintf(out, KMS_REGION_MAX, "%.*s", (int)n, at);
    return true;
}

static bool find_region(struct kms_place *place, const struct arguments *args, struct err *err)
{
    const char *env = getenv("AWS_REGION");
    if (env == NULL || env[0] == '\0')
        env = getenv("AWS_DEFAULT_REGION");
    if (args->region != NULL)
        return copy_text(place->region, sizeof place->region, args->region, "the region", err);
    if (region_of_arn(args->key_id, place->region))
        return true;
    if (env != NULL && env[0] != '\0')
        return copy_text(place->region, sizeof place->region, env, "the region", err);
    return imds_get("placement/region", place->region, sizeof place->region, err) ||
           err_prefix(err, "the region is not known; give --region, or the key's ARN");
}

/* HOST or HOST:PORT. */
static bool take_endpoint(struct kms_place *place, const char *text, struct err *err)
{
    const char *colon = strrchr(text, ':');
    size_t host_n = colon != NULL ? (size_t)(colon - text) : strlen(text);
    char *end = NULL;
    unsigned long port = colon != NULL ? strtoul(colon + 1, &end, 10) : TLS_PORT;
    if (host_n == 0 || host_n >= sizeof place->host || port == 0 || port > UINT16_MAX ||
        (end != NULL && *end != '\0'))
        return err_set(err, "--endpoint '%s' is not of the form HOST[:PORT]", text);
    snprintf(place->host, sizeof place->host, "%.*s", (int)host_n, text);
    place->port = (uint16_t)port;
    return true;
}

static bool read_root(struct kms_place *place, const char *path, struct err *err)
{
    size_t n = 0;
    int fd ATTR_CLEANUP(fd_close) = key_file_open(path, err);
    if (fd < 0 || !fd_read_all(fd, place->root_pem, sizeof place->root_pem - 1, &n, err))
        return err_prefix(err, "root certificate %s", path);
    place->root_pem[n] = '\0';
    return true;
}

static bool find_place(struct kms_place *place, const struct arguments *args, struct err *err)
{
    return copy_text(place->key_id, sizeof place->key_id, args->key_id, "--key-id", err) &&
           find_region(place, args, err) &&
           (args->endpoint == NULL || take_endpoint(place, args->endpoint, err)) &&
           (args->root == NULL || read_root(place, args->root, err));
}

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

static int seal(struct kms_request *req, struct kms_answer *answer, const struct arguments *args)
{
    struct err err;
    req->op = KMS_ENCRYPT;
    signal(SIGPIPE, SIG_IGN);
    bool ok = sandbox_harden(false, &err) && aws_start(&err) &&
              find_place(&req->place, args, &err) && read_key(req, args->key_file, &err) &&
              call(req, answer, &err);
    return ok ? print_blob(answer, args->output) : command_failed("%s", err.text);
}

/* ---- flags ------------------------------------------------------------------------ */

/* Takes every `--context NAME=VALUE` out of the arguments, since flags count once. */
static bool take_contexts(struct kms_place *place, int *argc, char **argv, const char **ret_bad)
{
    static const char flag[] = "--context";
    struct writer w = writer_of(place->context, sizeof place->context);
    int kept = 0;
    for (int i = 0; i < *argc; i++) {
        bool has_equals = strncmp(argv[i], "--context=", sizeof flag) == 0;
        if (!has_equals && strcmp(argv[i], flag) != 0) {
            argv[kept++] = argv[i];
            continue;
        }
        *ret_bad = has_equals ? argv[i] + sizeof flag : i + 1 < *argc ? argv[++i] : "";
        const char *equals = strchr(*ret_bad, '=');
        if (equals == NULL || equals == *ret_bad)
            return false;
        write_bytes(&w, bytes_of(*ret_bad, (size_t)(equals - *ret_bad)));
        write_u8(&w, '\0');
        write_text(&w, equals + 1);
        write_u8(&w, '\0');
        place->context_n++;
    }
    *argc = kept;
    return !w.bad;
}

static int run(const struct command *self, int argc, char **argv, struct kms_request *req,
    struct kms_answer *answer)
{
    struct arguments args = {0};
    const struct command_flag flags[] = {
        {0, "key-id", &args.key_id, NULL},
        {0, "region", &args.region, NULL},
        {0, "endpoint", &args.endpoint, NULL},
        {0, "root", &args.root, NULL},
        {'o', "output", &args.output, NULL},
        {0},
    };
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (argc != 1)
        return command_usage(self, "expected 1 argument, got %d", argc);
    if (args.key_id == NULL)
        return command_usage(self, "--key-id is missing");
    args.key_file = argv[0];
    return seal(req, answer, &args);
}

int nitro_seal(const struct command *self, int argc, char **argv)
{
    const char *bad_context = NULL;
    struct err err;
    if (!crypto_start(&err))
        return command_failed("%s", err.text);
    struct kms_request *req = secret_alloc(sizeof *req, &err);
    struct kms_answer *answer = calloc(1, sizeof *answer);
    int code = EXIT_FAILED;
    if (req == NULL || answer == NULL)
        command_failed("%s", req == NULL ? err.text : "out of memory");
    else if (!take_contexts(&req->place, &argc, argv, &bad_context))
        code = command_usage(
            self, "--context '%s' is not of the form NAME=VALUE, or too long", bad_context);
    else
        code = run(self, argc, argv, req, answer);
    secret_free(req);
    free(answer);
    return code;
}
