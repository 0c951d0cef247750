/* tmkms nitro keygen: a consensus key that is made inside the enclave and leaves it only sealed. Nothing
 * is written before the enclave's document proves which image made the key, and under which KMS key. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "aws/credentials.h"
#include "base/fd.h"
#include "cli/nitro.h"
#include "cli/nitro_demand.h"
#include "cli/nitro_enclave.h"
#include "cli/nitro_place.h"
#include "crypto/encode.h"
#include "crypto/secret.h"
#include "nitro/keygen.h"
#include "sandbox/sandbox.h"

enum { NONCE_LEN = 32, OUT_PATH_MAX = 1024, BASE64_MAX = ATTESTATION_DOCUMENT_MAX / 3 * 4 + 8 };

struct keygen_args {
    struct enclave_options enclave;
    struct demand_options demand;
    struct place_options place;
    const char *kms_port, *prefix, *out;
};

/* What came back. */
struct made {
    struct bytes ciphertext, document;
    struct public_key key;
    const char *ciphertext_text; /* base64, borrowed from the answer */
    const char *document_text;
    uint8_t ciphertext_buf[KMS_BLOB_MAX], document_buf[ATTESTATION_DOCUMENT_MAX];
};

/* ---- where KMS is ----------------------------------------------------------------- */

static bool take_place(const struct keygen_args *a, struct kms_place *p, struct err *err)
{
    if (!keygen_check_key_id(a->place.key_id, err))
        return err_prefix(err, "--key-id");
    if (a->kms_port != NULL && !enclave_number(a->kms_port, 1, UINT32_MAX - 1, &p->vsock_port))
        return err_set(err, "--kms-port: '%.100s' is not a vsock port", a->kms_port);
    return place_from(p, &a->place, err);
}

static json_t *place_json(const struct kms_place *p)
{
    json_t *context = json_object();
    for (size_t at = 0, i = 0; i < p->context_n; i++) {
        const char *name = p->context + at, *value = name + strlen(name) + 1;
        json_object_set_new(context, name, json_string(value));
        at = (size_t)(value - p->context) + strlen(value) + 1;
    }
    return json_pack("{s:s, s:s, s:s, s:i, s:I, s:s, s:o}", "region", p->region, "key_id",
        p->key_id, "host", p->host, "port", (int)p->port, "vsock_port", (json_int_t)p->vsock_port,
        "root_pem", p->root_pem, "context", context);
}

/* ---- files ------------------------------------------------------------------------ */

/* Both names; "": no file is wanted. */
struct out_paths {
    char ciphertext[OUT_PATH_MAX], document[OUT_PATH_MAX];
};

static bool out_paths_from(const struct keygen_args *a, struct out_paths *ret, struct err *err)
{
    const char *stem = a->out != NULL ? a->out : a->prefix;
    *ret = (struct out_paths){0};
    if (stem == NULL)
        return true;
    if (strlen(stem) > OUT_PATH_MAX - 32)
        return err_set(err, "the path %.80s... is too long", stem);
    snprintf(ret->ciphertext, OUT_PATH_MAX, "%s%s", stem, a->out != NULL ? "" : ".ciphertext.b64");
    snprintf(ret->document, OUT_PATH_MAX, "%s.attestation.b64", stem);
    /* before the enclave is asked; the files are made only if they are still absent */
    const char *const paths[] = {ret->ciphertext, ret->document};
    for (size_t i = 0; i < 2; i++)
        if (access(paths[i], F_OK) == 0)
            return err_set(err, "%s exists already and is left as it is", paths[i]);
    return true;
}

static bool write_line(const char *path, const char *text, struct err *err)
{
    char line[BASE64_MAX + 2];
    if (path[0] == '\0')
        return true;
    int n = snprintf(line, sizeof line, "%s\n", text);
    return fd_create_durable(path, line, (size_t)n, false, err);
}

/* ---- the answer --------------------------------------------------------------------- */

static bool decode(struct bytes *ret, uint8_t *buf, size_t cap, const char *text)
{
    size_t n = 0;
    bool ok = base64_decode(bytes_of_text(text), buf, cap, &n) && n > 0;
    *ret = bytes_of(buf, n);
    return ok;
}

static bool take_answer(struct made *m, const json_t *answer, struct err *err)
{
    const char *hex = enclave_text(answer, "public_key");
    m->ciphertext_text = enclave_text(answer, "ciphertext");
    m->document_text = enclave_text(answer, "document");
    m->key = (struct public_key){.type = KEY_ED25519, .len = ED25519_SEED_LEN};
    return (decode(
                &m->ciphertext, m->ciphertext_buf, sizeof m->ciphertext_buf, m->ciphertext_text) &&
               decode(&m->document, m->document_buf, sizeof m->document_buf, m->document_text) &&
               hex_decode(hex, strlen(hex), m->key.bytes, m->key.len)) ||
           err_set(err, "the enclave's answer lacks a ciphertext, a public key or a document");
}

static void print_check(void *ctx, bool ok, const char *check)
{
    (void)ctx;
    fprintf(stderr, "%s %s\n", ok ? "  ok  " : "FAILED", check);
}

static bool verify(const struct made *m, const struct kms_place *place,
    const struct attestation_policy *policy, struct attestation *ret, struct err *err)
{
    uint8_t bound[KEYGEN_USER_DATA_LEN];
    if (!attestation_verify(ret, m->document, policy, print_check, NULL, err))
        return err_prefix(err, "the attestation document does not prove where the key was made");
    keygen_user_data(m->ciphertext, &m->key, place, bound);
    bool ok = bytes_equal(ret->user_data, bytes_of(bound, sizeof bound));
    print_check(NULL, ok, "binds this ciphertext, this public key and the KMS key asked for");
    return ok ||
           err_set(err, "the attestation document is for another key, another ciphertext or "
                        "another place: somebody on the way changed the request or the answer");
}

static void print_made(
    const struct made *m, const struct attestation *a, const struct keygen_args *args)
{
    char key[2 * PUBLIC_KEY_MAX + 1], pcr0[2 * PCR_LEN + 1];
    hex_lower(bytes_of(m->key.bytes, m->key.len), key);
    hex_lower(bytes_of(a->pcrs[0], PCR_LEN), pcr0);
    printf("encrypted_key_b64 = \"%s\"\npublic_key = \"%s\"\n", m->ciphertext_text, key);
    fflush(stdout);
    command_status(
        "Next", "put encrypted_key_b64 into [[providers.softsign]], public_key into [[chain]]");
    if (args->demand.pcrs[0] == NULL)
        command_warn("nobody said which image is right; the key was made by the one with PCR0 %s: "
                     "compare it yourself, or give --pcr0",
            pcr0);
    if (args->demand.root != NULL)
        command_warn("the document was checked against your root, not against that of AWS");
}

/* ---- the command -------------------------------------------------------------------- */

static json_t *make_request(
    const struct kms_place *place, const uint8_t nonce[NONCE_LEN], struct err *err)
{
    struct aws_credentials credentials = {0};
    char source[128], hex[2 * NONCE_LEN + 1];
    if (!credentials_find(&credentials, source, err)) {
        err_prefix(err, "no AWS credentials");
        return NULL;
    }
    command_status("Credentials", "from %s", source);
    hex_lower(bytes_of(nonce, NONCE_LEN), hex);
    json_t *request = json_pack("{s:s, s:o, s:o, s:s}", "op", "keygen", "kms", place_json(place),
        "credentials", enclave_credentials(&credentials), "nonce", hex);
    secret_wipe(&credentials, sizeof credentials);
    if (request == NULL)
        err_set(err, "what names the KMS key is not UTF-8");
    return request;
}

static bool finish(const struct keygen_args *args, const json_t *answer,
    const struct kms_place *place, const struct attestation_policy *policy,
    const struct out_paths *paths, struct err *err)
{
    static struct made made;
    struct attestation attestation;
    if (!take_answer(&made, answer, err) || !verify(&made, place, policy, &attestation, err) ||
        !write_line(paths->document, made.document_text, err) ||
        !write_line(paths->ciphertext, made.ciphertext_text, err))
        return false;
    print_made(&made, &attestation, args);
    return true;
}

static int keygen(const struct keygen_args *args, const struct enclave *enclave)
{
    static struct attestation_policy policy;
    static uint8_t root[DEMAND_ROOT_MAX];
    uint8_t nonce[NONCE_LEN];
    struct kms_place place = {0};
    struct out_paths paths;
    struct err err;
    if (!crypto_start(&err) || !sandbox_harden(false, &err) ||
        !demand_from(&args->demand, root, &policy, &err) || !take_place(args, &place, &err) ||
        !out_paths_from(args, &paths, &err))
        return command_failed("%s", err.text);
    if (getrandom(nonce, sizeof nonce, 0) != sizeof nonce)
        return command_failed("no random bytes from the kernel");
    policy.nonce = bytes_of(nonce, sizeof nonce);
    json_t *request = make_request(&place, nonce, &err);
    json_t *answer = request != NULL ? enclave_ask(enclave, request, &err) : NULL;
    bool ok = answer != NULL && finish(args, answer, &place, &policy, &paths, &err);
    json_decref(request);
    json_decref(answer);
    return ok ? EXIT_DONE : command_failed("%s", err.text);
}

int nitro_keygen(const struct command *self, int argc, char **argv)
{
    enum { OWN_FLAGS_N = PLACE_FLAGS_N + 3 + ENCLAVE_FLAGS_N };
    static struct keygen_args args;
    struct enclave enclave;
    args = (struct keygen_args){0};
    struct command_flag flags[OWN_FLAGS_N + DEMAND_FLAGS_N + 1] = {
        PLACE_FLAGS(args.place),
        {0, "kms-port", &args.kms_port, NULL},
        {0, "output-prefix", &args.prefix, NULL},
        {'o', "output", &args.out, NULL},
        ENCLAVE_OPTION_FLAGS(args.enclave),
    };
    demand_flags(&args.demand, flags + OWN_FLAGS_N);
    int exit_code = command_flags_only(self, flags, argc, argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (args.place.key_id == NULL)
        return command_usage(self, "under which KMS key? Give its ARN with --key-id");
    if (args.out != NULL && args.prefix != NULL)
        return command_usage(self, "either --output or --output-prefix");
    exit_code = enclave_from(self, &args.enclave, &enclave);
    return exit_code != COMMAND_GO_ON ? exit_code : keygen(&args, &enclave);
}

const char nitro_keygen_help[] =
    "Have the enclave make a consensus key (Ed25519): KMS makes the seed and hands it to the "
    "enclave\n"
    "alone, sealed; what comes back is the ciphertext for encrypted_key_b64, the public key, and "
    "an\n"
    "attestation document that binds both, which is checked before anything is written or printed\n"
    "\n"
    "Usage: tmkms nitro keygen [OPTIONS] --key-id ARN\n"
    "\n"
    "Options:\n"
    "      --key-id ARN        The KMS key, by its ARN (a bare id or alias would mean the account "
    "of\n"
    "                          whoever's credentials are used)\n"
    "      --region REGION        [default: that of the ARN]\n" PLACE_OPTIONS_HELP
    "      --output-prefix P   Write P.ciphertext.b64 and P.attestation.b64\n"
    "  -o, --output FILE       Write the ciphertext to FILE and the document to\n"
    "                          FILE.attestation.b64. Existing files are never overwritten\n"
    "      --kms-port PORT     Vsock port of the KMS proxy on the parent [default: "
    "8000]\n" ENCLAVE_OPTIONS_HELP DEMAND_OPTIONS_HELP "  -h, --help              Print help\n";
