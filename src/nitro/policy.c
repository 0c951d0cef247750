#include "nitro/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nitro/pcr.h"

enum { ARN_MAX = 2048, CONDITION_NAME_MAX = 512, PCR16 = 16 };

#define TEXTS(...)                                                                                 \
    list_of((const char *const[]){__VA_ARGS__},                                                    \
        sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

/* ---- pieces: each result is put into its parent by the caller ----------------------- */

static json_t *list_of(const char *const *texts, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_string(texts[i]));
    return list;
}

static json_t *principal_of(const char *arn)
{
    return json_pack("{s:s}", "AWS", arn);
}

static json_t *statement(
    const char *sid, const char *effect, json_t *principal, json_t *actions, json_t *condition)
{
    json_t *s = json_pack("{s:s, s:s, s:o, s:o, s:s}", "Sid", sid, "Effect", effect, "Principal",
        principal, "Action", actions, "Resource", "*");
    if (condition != NULL)
        json_object_set_new(s, "Condition", condition);
    return s;
}

/* The partition (aws, aws-cn, aws-us-gov) is that of the role. */
static void account_root(const struct policy_request *q, char out[ARN_MAX])
{
    const char *partition = q->role + strlen("arn:");
    snprintf(
        out, ARN_MAX, "arn:%.*s:iam::%s:root", (int)strcspn(partition, ":"), partition, q->account);
}

/* ---- conditions --------------------------------------------------------------------- */

/* What a register must be: one value, or either of two. */
static json_t *values_of(const struct policy_request *q, unsigned i)
{
    static const uint8_t zero[PCR_LEN];
    char hex[PCR_HEX_LEN + 1], other[PCR_HEX_LEN + 1];
    hex_lower(bytes_of(q->is_debug ? zero : q->pcrs[i], PCR_LEN), hex);
    if (q->is_debug || (q->other_present >> i & 1) == 0)
        return json_string(hex);
    hex_lower(bytes_of(q->other[i], PCR_LEN), other);
    return strcmp(hex, other) == 0 ? json_string(hex) : TEXTS(hex, other);
}

static json_t *registers(const struct policy_request *q, bool with_config)
{
    char name[64];
    json_t *conditions = json_object();
    uint32_t named = q->pcrs_present | 1;
    if (!with_config || q->is_debug)
        named &= ~(1u << PCR16);
    for (unsigned i = 0; i < PCR_COUNT; i++) {
        if ((named >> i & 1) == 0)
            continue;
        snprintf(name, sizeof name, "kms:RecipientAttestation:PCR%u", i);
        json_object_set_new(conditions, name, values_of(q, i));
    }
    return conditions;
}

/* The value of a name in a context, or NULL. */
static const char *context_value(const struct kms_place *kms, const char *name)
{
    const char *p = kms->context;
    for (uint32_t i = 0; i < kms->context_n; i++) {
        const char *value = p + strlen(p) + 1;
        if (strcmp(p, name) == 0)
            return value;
        p = value + strlen(value) + 1;
    }
    return NULL;
}

static void add_once(json_t *list, const char *text)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), text) == 0)
            return;
    json_array_append_new(list, json_string(text));
}

/* Every value that sealed keys have for a name; NULL when one of them lacks it, and then no
 * condition can be made of it. */
static json_t *context_values(const struct policy_request *q, const char *name)
{
    json_t *values = json_array();
    for (size_t i = 0; i < q->config->chains_n; i++) {
        const struct config_chain *chain = &q->config->chains[i];
        struct kms_place kms;
        if (chain->sealed_n == 0)
            continue;
        config_chain_kms(&kms, chain, q->measured_hex);
        const char *value = context_value(&kms, name);
        if (value == NULL) {
            json_decref(values);
            return NULL;
        }
        add_once(values, value);
    }
    return values;
}

static const struct config_chain *first_sealed(const struct config *c)
{
    for (size_t i = 0; i < c->chains_n; i++)
        if (c->chains[i].sealed_n > 0)
            return &c->chains[i];
    return NULL;
}

/* NULL: no condition. */
static json_t *context(const struct policy_request *q)
{
    const struct config_chain *first = q->config != NULL ? first_sealed(q->config) : NULL;
    if (first == NULL)
        return NULL;
    json_t *conditions = json_object();
    const char *name = first->kms.context;
    for (uint32_t i = 0; i < first->kms.context_n; i++) {
        char key[CONDITION_NAME_MAX];
        json_t *values = context_values(q, name);
        int n = snprintf(key, sizeof key, "kms:EncryptionContext:%s", name);
        if (values != NULL && n > 0 && (size_t)n < sizeof key)
            json_object_set(conditions, key, values);
        json_decref(values);
        name += strlen(name) + 1;
        name += strlen(name) + 1;
    }
    if (json_object_size(conditions) > 0)
        return conditions;
    json_decref(conditions);
    return NULL;
}

static json_t *condition(const struct policy_request *q, bool with_config)
{
    json_t *c = json_object();
    json_t *by_context = with_config ? context(q) : NULL;
    json_object_set_new(c, "StringEqualsIgnoreCase", registers(q, with_config));
    if (by_context != NULL)
        json_object_set_new(c, "StringEquals", by_context);
    return c;
}

/* ---- statements --------------------------------------------------------------------- */

/* No kms:Create*: a grant would open the key past every condition. No kms:ReEncrypt* either. */
static json_t *administer(const char *admin)
{
    return statement("Administer", "Allow", principal_of(admin),
        TEXTS("kms:DescribeKey", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus",
            "kms:ListKeyPolicies", "kms:ListResourceTags", "kms:ListGrants", "kms:PutKeyPolicy",
            "kms:EnableKey", "kms:DisableKey", "kms:EnableKeyRotation", "kms:DisableKeyRotation",
            "kms:UpdateKeyDescription", "kms:CreateAlias", "kms:UpdateAlias", "kms:DeleteAlias",
            "kms:TagResource", "kms:UntagResource", "kms:RevokeGrant", "kms:ScheduleKeyDeletion",
            "kms:CancelKeyDeletion"),
        NULL);
}

/* Null is true where a request has no (valid) Recipient, and for ReEncrypt, which cannot have one. */
static json_t *never_in_clear(void)
{
    return statement("NeverInClear", "Deny", principal_of("*"),
        TEXTS("kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyPair", "kms:ReEncryptFrom"),
        json_pack("{s:{s:s}}", "Null", "kms:RecipientAttestation:ImageSha384", "true"));
}

/* A register that one of two images lacks would keep that one out. */
static bool check_images(const struct policy_request *q, struct err *err)
{
    enum { OF_IMAGES = 1u << 0 | 1u << 1 | 1u << 2 | 1u << 8 };
    if (q->is_debug)
        return true;
    if ((q->pcrs_present & 1) == 0 || pcr_is_zero(q->pcrs[0]) ||
        (q->other_present != 0 && pcr_is_zero(q->other[0])))
        return err_set(err, "a policy without PCR0, or with a PCR0 of zeros, does not say which "
                            "image may use the key; --debug makes one for debug enclaves");
    if (q->other_present != 0 && q->other_present != (q->pcrs_present & OF_IMAGES))
        return err_set(err, "the two images do not have the same registers (is one signed, and the "
                            "other not?); give only --pcr0 of each");
    return true;
}

static bool check(const struct policy_request *q, struct err *err)
{
    const char *at = arn_is_role(q->role) ? strstr(q->role, ":iam::") + strlen(":iam::") : NULL;
    if (strlen(q->account) != 12 || strspn(q->account, "0123456789") != 12)
        return err_set(err, "'%s' is not an AWS account: 12 digits", q->account);
    if (at == NULL)
        return err_set(err,
            "'%s' is not the ARN of a role, which looks like "
            "arn:aws:iam::123456789012:role/NAME",
            q->role);
    if (strlen(q->role) >= ARN_MAX)
        return err_set(err, "the ARN of the role is too long");
    if (q->admin != NULL && strncmp(q->admin, "arn:aws", 7) != 0)
        return err_set(err, "'%s' is not an ARN", q->admin);
    return check_images(q, err);
}

json_t *policy_make(const struct policy_request *q, struct err *err)
{
    char root[ARN_MAX];
    if (!check(q, err))
        return NULL;
    account_root(q, root);
    const char *admin = q->admin != NULL ? q->admin : root;
    json_t *policy = json_pack("{s:s, s:s, s:[o, o, o, o, o]}", "Version", "2012-10-17", "Id",
        q->is_debug ? "tmkms-debug-only" : "tmkms", "Statement", administer(admin),
        statement("Seal", "Allow", principal_of(admin), TEXTS("kms:Encrypt"), NULL),
        statement(
            "Unseal", "Allow", principal_of(q->role), TEXTS("kms:Decrypt"), condition(q, true)),
        statement("Keygen", "Allow", principal_of(q->role), TEXTS("kms:GenerateDataKey"),
            condition(q, false)),
        never_in_clear());
    if (policy == NULL)
        err_set(err, "the policy cannot be made: an ARN is no valid text, or memory ran out");
    return policy;
}
