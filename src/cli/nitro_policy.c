/* tmkms nitro measure-config, kms-policy: what a key policy can demand, and the policy itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/json_print.h"
#include "cli/nitro.h"
#include "nitro/eif.h"
#include "nitro/measure.h"
#include "nitro/pcr.h"
#include "nitro/policy.h"

/* ---- the configuration --------------------------------------------------------------- */

static bool tell(struct problems *problems)
{
    bool ok = problems->errors_n == 0;
    for (size_t i = 0; i < problems->n; i++)
        if (!problems->list[i].is_warning)
            command_failed("%s", problems->list[i].text);
    problems_free(problems);
    return ok;
}

/* Through the tree, as a push reads it: the enclave measures the same. */
static bool read_config(struct config *ret, const char *path)
{
    struct problems problems = {0};
    json_t *tree = NULL;
    if (config_tree_read(&tree, path, &problems) && config_from_tree(ret, tree, path, &problems) &&
        !config_check_for(config_use(ret), ret, path, &problems))
        config_free(ret);
    json_decref(tree);
    return tell(&problems);
}

/* What measuring gives, in the forms that are printed. */
struct measured {
    char *text;
    char hash_hex[PCR_HEX_LEN + 1];
    uint8_t pcr16[PCR_LEN];
};

static bool measure(const struct config *config, struct measured *ret, struct err *err)
{
    uint8_t hash[PCR_LEN];
    if (!measure_config(config, hash, &ret->text, err))
        return false;
    hex_lower(bytes_of(hash, sizeof hash), ret->hash_hex);
    pcr_extend_zero(bytes_of(hash, sizeof hash), ret->pcr16);
    return true;
}

/* ---- measure-config ------------------------------------------------------------------ */

int nitro_measure_config(const struct command *self, int argc, char **argv)
{
    struct config config = {0};
    struct measured measured = {0};
    struct err err;
    const char *path = NULL;
    char pcr16[PCR_HEX_LEN + 1];
    const struct command_flag flags[] = {{'c', "config", &path, NULL}, {0}};
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (argc > 1 || (argc == 1 && path != NULL))
        return command_usage(self, "expected one configuration");
    if (!read_config(&config, config_path(argc == 1 ? argv[0] : path)))
        return EXIT_FAILED;
    bool ok = measure(&config, &measured, &err);
    config_free(&config);
    if (!ok)
        return command_failed("%s", err.text);
    hex_lower(bytes_of(measured.pcr16, PCR_LEN), pcr16);
    printf("hash   %s\nPCR16  %s\n\n%s", measured.hash_hex, pcr16, measured.text);
    free(measured.text);
    return EXIT_DONE;
}

const char nitro_measure_config_help[] =
    "Print what of a configuration an enclave measures\n"
    "\n"
    "Usage: tmkms nitro measure-config [FILE]\n"
    "\n"
    "The hash is SHA-384 of the text that is printed below it: chain ids, expected public keys,\n"
    "where the state and the keys are, limits, and how nodes prove who they are. The enclave\n"
    "extends PCR16 with the hash and locks it before it asks KMS for a key, so that a key policy\n"
    "can demand it. In the encryption context of a sealed key the value `@measured_config` stands\n"
    "for the hash. Ports, timeouts, credentials and the order of sections are not part of it.\n"
    "\n"
    "Options:\n"
    "  -c, --config FILE  Configuration [default: $TMKMS_CONFIG_FILE, or tmkms.toml]\n"
    "  -h, --help         Print help\n";

/* ---- kms-policy ---------------------------------------------------------------------- */

static const struct {
    const char *flag, *name;
    unsigned index;
} registers[] = {
    {"pcr0", "PCR0", 0}, {"pcr1", "PCR1", 1}, {"pcr2", "PCR2", 2}, {"pcr8", "PCR8", 8}};
enum { REGISTERS_N = sizeof registers / sizeof registers[0], IMAGES_MAX = 2 };

struct policy_args {
    const char *account, *role, *instance, *config, *admin;
    struct command_values eifs, pcrs[REGISTERS_N]; /* a second one: of the other image */
    bool is_debug;
};

static void take(struct policy_request *q, unsigned i, const uint8_t pcr[PCR_LEN])
{
    memcpy(q->pcrs[i], pcr, PCR_LEN);
    q->pcrs_present |= 1u << i;
}

/* A register of an image, which may be the second. */
static void take_of(struct policy_request *q, size_t image, unsigned i, const uint8_t pcr[PCR_LEN])
{
    if (image == 0) {
        take(q, i, pcr);
        return;
    }
    memcpy(q->other[i], pcr, PCR_LEN);
    q->other_present |= 1u << i;
}

static bool take_image(struct policy_request *q, size_t image, const char *path, struct err *err)
{
    struct eif_file file = {0};
    struct eif eif;
    struct eif_pcrs pcrs;
    if (!eif_file_open(&file, path, err))
        return false;
    bool ok = eif_parse(&eif, file.content, err) && eif_measure(&eif, &pcrs, err);
    eif_file_close(&file);
    if (!ok)
        return err_prefix(err, "%s", path);
    for (unsigned i = 0; i < sizeof pcrs.values / sizeof pcrs.values[0]; i++)
        if ((pcrs.present >> i & 1) != 0)
            take_of(q, image, i, pcrs.values[i]);
    return true;
}

static bool take_images(struct policy_request *q, const struct policy_args *args, struct err *err)
{
    uint8_t pcr[PCR_LEN];
    for (size_t image = 0; image < args->eifs.n; image++)
        if (!take_image(q, image, args->eifs.list[image].text, err))
            return false;
    for (size_t i = 0; i < REGISTERS_N; i++) {
        for (size_t image = 0; image < args->pcrs[i].n; image++) {
            if (!pcr_from_hex(registers[i].name, args->pcrs[i].list[image].text, pcr, err))
                return false;
            take_of(q, image, registers[i].index, pcr);
        }
    }
    return true;
}

static bool take_args(struct policy_request *q, const struct policy_args *args, struct err *err)
{
    uint8_t pcr[PCR_LEN];
    q->account = args->account;
    q->role = args->role;
    q->admin = args->admin;
    q->is_debug = args->is_debug;
    if (!take_images(q, args, err))
        return false;
    if (args->instance == NULL)
        return true;
    if (!pcr_of_instance(args->instance, pcr, err))
        return false;
    take(q, 4, pcr);
    return true;
}

static int print_policy(const struct policy_request *q)
{
    struct err err;
    json_t *policy = policy_make(q, &err);
    if (policy == NULL)
        return command_failed("%s", err.text);
    bool ok = json_print(policy, JSON_INDENT(2));
    json_decref(policy);
    return ok ? EXIT_DONE : command_failed("the policy cannot be written");
}

static void warn(const struct policy_args *args)
{
    if (args->is_debug)
        command_warn(
            "THIS POLICY IS FOR TESTS. In debug mode every register is zero, whatever image "
            "runs: anyone who can start an enclave on an instance with the role %s, from ANY "
            "image, "
            "can open what this key encrypts, and its console is readable. Seal no key of value "
            "with it, and make a new KMS key for production",
            args->role);
    if (!args->is_debug && args->config == NULL)
        command_warn("without --config the enclave opens the key under any configuration that the "
                     "parent pushes");
    if (args->instance == NULL)
        command_warn("without --instance the image may run on any instance with the role, also on "
                     "several at a time");
}

static int with_config(struct policy_request *q, const char *path)
{
    struct config config = {0};
    struct measured measured = {0};
    struct err err;
    if (!read_config(&config, path))
        return EXIT_FAILED;
    int exit_code;
    if (measure(&config, &measured, &err)) {
        q->config = &config;
        q->measured_hex = measured.hash_hex;
        take(q, 16, measured.pcr16);
        exit_code = print_policy(q);
    } else {
        exit_code = command_failed("%s", err.text);
    }
    free(measured.text);
    config_free(&config);
    return exit_code;
}

static int check_usage(const struct command *self, const struct policy_args *args, int argc)
{
    if (argc != 0)
        return command_usage(self, "expected no arguments, got %d", argc);
    if (args->account == NULL || args->role == NULL)
        return command_usage(self, "--account and --role are needed");
    size_t pcrs_n = 0, most = args->eifs.n;
    for (size_t i = 0; i < REGISTERS_N; i++) {
        pcrs_n += args->pcrs[i].n;
        most = args->pcrs[i].n > most ? args->pcrs[i].n : most;
    }
    if (most > IMAGES_MAX)
        return command_usage(self, "a policy lets in one image, or two while they are exchanged");
    if (args->eifs.n > 0 && pcrs_n > 0)
        return command_usage(self, "--eif gives the registers; --pcr0 ... go without it");
    if (args->eifs.n == 0 && args->pcrs[0].n == 0 && !args->is_debug)
        return command_usage(self, "which image? --eif FILE or --pcr0 HEX is needed");
    return COMMAND_GO_ON;
}

int nitro_kms_policy(const struct command *self, int argc, char **argv)
{
    static struct policy_args args; /* some lists of values: too much for a stack */
    struct policy_request q = {0};
    struct err err;
    struct command_flag flags[REGISTERS_N + 8] = {
        {0, "account", &args.account, NULL},
        {0, "role", &args.role, NULL},
        {0, "eif", .values = &args.eifs},
        {0, "instance", &args.instance, NULL},
        {'c', "config", &args.config, NULL},
        {0, "admin", &args.admin, NULL},
        {0, "debug", NULL, &args.is_debug},
    };
    for (size_t i = 0; i < REGISTERS_N; i++)
        flags[7 + i] = (struct command_flag){0, registers[i].flag, .values = &args.pcrs[i]};
    int exit_code = command_flags(self, flags, &argc, &argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    exit_code = check_usage(self, &args, argc);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (!take_args(&q, &args, &err))
        return command_failed("%s", err.text);
    exit_code = args.config != NULL ? with_config(&q, args.config) : print_policy(&q);
    if (exit_code == EXIT_DONE)
        warn(&args);
    return exit_code;
}

const char nitro_kms_policy_help[] =
    "Print the policy of the KMS key that encrypts the consensus key\n"
    "\n"
    "Usage: tmkms nitro kms-policy --account ID --role ROLE_ARN (--eif FILE | --pcr0 HEX) "
    "[OPTIONS]\n"
    "\n"
    "With it KMS decrypts for nothing but an enclave with the registers that are named, on an\n"
    "instance with the role; nobody, the administrator included, gets plaintext any other way.\n"
    "The administrator can change the policy: he is trusted, and CloudTrail shows what he does.\n"
    "To use it: aws kms put-key-policy --key-id KEY --policy-name default --policy file://FILE\n"
    "\n"
    "Image:\n"
    "      --eif FILE       The enclave image: PCR0, PCR1, PCR2, and PCR8 of a signed one\n"
    "      --pcr0 HEX       Instead: the values that the build printed; also --pcr1, --pcr2, "
    "--pcr8\n"
    "                       Each twice while one image is exchanged for another: either is let in\n"
    "      --debug          For a debug enclave: zeros in place of every register. Any image "
    "passes;\n"
    "                       for tests only\n"
    "\n"
    "Options:\n"
    "      --account ID     The AWS account of the key, 12 digits\n"
    "      --role ARN       The role of the instance: arn:aws:iam::123456789012:role/NAME\n"
    "      --instance ID    Only this instance (PCR4), which also keeps a second one from "
    "starting\n"
    "  -c, --config FILE    Only this configuration: PCR16, which the enclave extends with the "
    "hash\n"
    "                       of its measured part (`measure-config` prints it), and the encryption\n"
    "                       context that the configuration gives. KMS takes a condition on any\n"
    "                       register that is locked, and tmkms locks PCR16. Making a key (keygen)\n"
    "                       comes before there is a configuration: it is not bound to PCR16\n"
    "      --admin ARN      Who administers the key and may encrypt with it [default: whom the\n"
    "                       account's IAM policies allow]\n"
    "  -h, --help           Print help\n";
