/* tmkms nitro verify: an attestation document, checked in full. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/nitro.h"
#include "cli/nitro_demand.h"
#include "crypto/encode.h"
#include "nitro/attestation.h"
#include "nitro/pcr.h"

enum { FILE_MAX = 4 * ATTESTATION_DOCUMENT_MAX, NONCE_MAX = 1024 };

struct verify_args {
    struct demand_options demand;
    const char *nonce, *max_age;
    bool at_document_time;
};

/* What the policy borrows. */
struct verify_data {
    struct attestation_policy policy;
    uint8_t nonce[NONCE_MAX], root[DEMAND_ROOT_MAX];
};

/* ---- the file --------------------------------------------------------------------- */

/* "-": standard input. */
static bool read_file(const char *path, uint8_t *buf, size_t cap, size_t *ret_n, struct err *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "cannot open %s", path);
    bool ok = fd_read_all(fd, buf, cap, ret_n, err) || err_prefix(err, "%s", path);
    if (!is_stdin)
        fd_close(&fd);
    return ok;
}

/* The text without white space, in place. */
static size_t squeeze(uint8_t *text, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (!isspace(text[i]))
            text[kept++] = text[i];
    return kept;
}

/* A document begins with 0x84, or with its tag 0xd2; neither is a character of base64 or hex. */
static bool decode(uint8_t *buf, size_t n, uint8_t *out, struct bytes *ret, struct err *err)
{
    size_t out_n = 0;
    if (n > 0 && (buf[0] & 0x80) != 0) {
        *ret = bytes_of(buf, n);
        return true;
    }
    n = squeeze(buf, n);
    if (n % 2 == 0 && n / 2 <= FILE_MAX && hex_decode((const char *)buf, n, out, n / 2)) {
        *ret = bytes_of(out, n / 2);
        return true;
    }
    if (!base64_decode(bytes_of(buf, n), out, FILE_MAX, &out_n))
        return err_set(err, "not an attestation document: neither bytes, nor base64, nor hex");
    *ret = bytes_of(out, out_n);
    return true;
}

/* ---- the policy -------------------------------------------------------------------- */

static bool take_max_age(const char *text, struct attestation_policy *policy, struct err *err)
{
    char *end = NULL;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end != '\0' || errno != 0 || v == 0 || v > UINT32_MAX)
        return err_set(err, "'%s' is not a number of seconds", text);
    policy->max_age_s = (uint32_t)v;
    return true;
}

static bool take_args(const struct verify_args *args, struct verify_data *d, struct err *err)
{
    struct attestation_policy *policy = &d->policy;
    policy->at_document_time = args->at_document_time;
    if (!demand_from(&args->demand, d->root, policy, err))
        return false;
    if (args->nonce != NULL) {
        size_t n = strlen(args->nonce) / 2;
        if (n == 0 || n > NONCE_MAX || !hex_decode(args->nonce, strlen(args->nonce), d->nonce, n))
            return err_set(err, "the nonce must be hexadecimal digits, two a byte");
        policy->nonce = bytes_of(d->nonce, n);
    }
    return args->max_age == NULL || take_max_age(args->max_age, policy, err);
}

/* ---- what is printed --------------------------------------------------------------- */

static void print_check(void *ctx, bool ok, const char *check)
{
    (void)ctx;
    printf("%s %s\n", ok ? "  ok  " : "FAILED", check);
}

static void print_hex(const char *name, struct bytes value)
{
    static char hex[2 * ATTESTATION_DOCUMENT_MAX + 1];
    hex_lower(value, hex);
    printf("%-12s %s\n", name, value.n > 0 ? hex : "-");
}

/* Only for a document that passed. Registers that are zero say nothing and are left out. */
static void print_content(const struct attestation *a)
{
    char name[16];
    printf("\n%-12s ", "module");
    for (size_t i = 0; i < a->module_id.n; i++)
        putchar(isprint(a->module_id.p[i]) ? a->module_id.p[i] : '?');
    putchar('\n');
    for (unsigned i = 0; i < PCR_COUNT; i++) {
        if ((a->pcrs_present >> i & 1) == 0 || pcr_is_zero(a->pcrs[i]))
            continue;
        snprintf(name, sizeof name, "PCR%u", i);
        print_hex(name, bytes_of(a->pcrs[i], PCR_LEN));
    }
    print_hex("nonce", a->nonce);
    print_hex("user data", a->user_data);
    print_hex("public key", a->public_key);
}

static void warn_of_what_was_not_asked(const struct verify_args *args)
{
    if (args->demand.pcrs[0] == NULL)
        command_warn("nobody said which image is right: compare PCR0 yourself, or give --pcr0");
    if (args->nonce == NULL && args->max_age == NULL)
        command_warn(
            "neither --nonce nor --max-age was given: an old document that is replayed passes too");
    if (args->demand.root != NULL)
        command_warn("the document was checked against your root, not against that of AWS");
}

/* ---- the command ------------------------------------------------------------------- */

static int verify(const char *path, const struct verify_args *args)
{
    static struct verify_data data;
    static uint8_t buf[FILE_MAX], decoded[FILE_MAX];
    struct err err;
    struct bytes document;
    struct attestation a;
    size_t n = 0;
    if (!take_args(args, &data, &err) || !read_file(path, buf, sizeof buf, &n, &err) ||
        !decode(buf, n, decoded, &document, &err))
        return command_failed("%s", err.text);
    if (!attestation_verify(&a, document, &data.policy, print_check, NULL, &err)) {
        fflush(stdout);
        return command_failed("%s: %s", path, err.text);
    }
    print_content(&a);
    fflush(stdout);
    warn_of_what_was_not_asked(args);
    return EXIT_DONE;
}

int nitro_verify(const struct command *self, int argc, char **argv)
{
    struct verify_args args = {0};
    struct command_flag flags[DEMAND_FLAGS_N + 4] = {
        {0, "nonce", &args.nonce, NULL},
        {0, "max-age", &args.max_age, NULL},
        {0, "at-document-time", NULL, &args.at_document_time},
    };
    demand_flags(&args.demand, flags + 3);
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (argc != 1)
        return command_usage(self, "expected 1 argument, got %d", argc);
    return verify(argv[0], &args);
}

const char nitro_verify_help[] =
    "Check an attestation document of an enclave: its form, the chain of certificates to the root\n"
    "of AWS that is compiled in, the signature, that the enclave is no debug enclave, and what "
    "you\n"
    "demand. Every check is printed; the exit code is 0 when all of them passed\n"
    "\n"
    "Usage: tmkms nitro verify [OPTIONS] FILE\n"
    "\n"
    "FILE holds the document as it is, in base64 or in hex; `-` is standard input.\n"
    "\n"
    "Options:\n" DEMAND_OPTIONS_HELP
    "      --nonce HEX         Demand the nonce that you sent: the document is no replay\n"
    "      --max-age SECONDS   Demand that the document was made at most so long ago\n"
    "      --at-document-time  Check the certificates for the time at which the document says it\n"
    "                          was made, to read an archived one (they last three hours). A\n"
    "                          replayed document passes that, too\n"
    "  -h, --help              Print help\n";
