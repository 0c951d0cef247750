/* nitro_place: where KMS is and under which key it works, as the flags of several commands say it. */
#ifndef TMKMS_CLI_NITRO_PLACE_H
#define TMKMS_CLI_NITRO_PLACE_H

#include "aws/kms.h"
#include "cli/command.h"

/* Borrowed from argv. */
struct place_options {
    const char *key_id, *region, *endpoint, *kms_root;
    struct command_values contexts;
};
#define PLACE_FLAGS(o)                                                                             \
    {.name = "key-id", .value = &(o).key_id}, {.name = "region", .value = &(o).region},            \
        {.name = "endpoint", .value = &(o).endpoint},                                              \
        {.name = "kms-root", .value = &(o).kms_root},                                              \
    {                                                                                              \
        .name = "context", .values = &(o).contexts                                                 \
    }
enum { PLACE_FLAGS_N = 5 };
#define PLACE_OPTIONS_HELP                                                                         \
    "      --context NAME=VALUE   Encryption context, which the configuration repeats in\n"        \
    "                             encryption_context; may be given more than once\n"               \
    "      --endpoint HOST[:PORT] Where KMS is [default: kms.REGION.amazonaws.com:443]\n"          \
    "      --kms-root FILE        Root certificate that the endpoint's must chain to, as PEM\n"    \
    "                             [default: Amazon's]\n"

/* place_from fills everything but the vsock port. The region: --region, the ARN's, the environment's, or that of the
 * instance on which this runs. */
bool place_from(
    struct kms_place *ret, const struct place_options *o, struct err *err) ATTR_MUST_USE;

/* $AWS_REGION, $AWS_DEFAULT_REGION; NULL: neither says one. */
const char *place_region_of_environment(void);

#endif
