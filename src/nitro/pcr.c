#include "nitro/pcr.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

/* OpenSSL's own failure here is lack of memory. */
void sha384_parts(const struct bytes *parts, size_t n, uint8_t ret[PCR_LEN])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha384(), NULL) == 1;
    for (size_t i = 0; ok && i < n; i++)
        ok = EVP_DigestUpdate(ctx, parts[i].p, parts[i].n) == 1;
    if (!ok || EVP_DigestFinal_ex(ctx, ret, NULL) != 1) {
        fprintf(stderr, "SHA-384 does not work\n");
        abort();
    }
    EVP_MD_CTX_free(ctx);
}

void sha384(struct bytes data, uint8_t ret[PCR_LEN])
{
    sha384_parts(&data, 1, ret);
}

void pcr_extend(const uint8_t old[PCR_LEN], struct bytes data, uint8_t ret[PCR_LEN])
{
    const struct bytes parts[] = {bytes_of(old, PCR_LEN), data};
    sha384_parts(parts, 2, ret);
}

void pcr_extend_zero(struct bytes data, uint8_t ret[PCR_LEN])
{
    static const uint8_t zero[PCR_LEN];
    pcr_extend(zero, data, ret);
}

bool arn_is_role(const char *arn)
{
    static const char service[] = ":iam::", kind[] = ":role/";
    if (strncmp(arn, "arn:aws", 7) != 0)
        return false;
    const char *p = arn + 4 + strcspn(arn + 4, ":");
    if (strncmp(p, service, strlen(service)) != 0)
        return false;
    p += strlen(service);
    size_t digits = strspn(p, "0123456789");
    if (digits != 12 || strncmp(p + digits, kind, strlen(kind)) != 0)
        return false;
    p += digits + strlen(kind);
    size_t name_n = strlen(p);
    for (size_t i = 0; i < name_n; i++)
        if (!isgraph((unsigned char)p[i]))
            return false;
    return name_n > 0 && p[name_n - 1] != '/';
}

bool pcr_of_role(const char *role_arn, uint8_t ret[PCR_LEN], struct err *err)
{
    if (strstr(role_arn, ":instance-profile/") != NULL)
        return err_set(err,
            "%s is an instance profile; PCR3 measures the role in it: "
            "arn:aws:iam::ACCOUNT:role/NAME",
            role_arn);
    if (strstr(role_arn, ":assumed-role/") != NULL)
        return err_set(err,
            "%s is a session of a role; PCR3 measures the role: "
            "arn:aws:iam::ACCOUNT:role/NAME",
            role_arn);
    if (!arn_is_role(role_arn))
        return err_set(err,
            "'%s' is not the ARN of a role, which looks like "
            "arn:aws:iam::123456789012:role/NAME",
            role_arn);
    pcr_extend_zero(bytes_of_text(role_arn), ret);
    return true;
}

bool pcr_of_instance(const char *instance_id, uint8_t ret[PCR_LEN], struct err *err)
{
    size_t n = strlen(instance_id);
    bool ok = (n == 10 || n == 19) && strncmp(instance_id, "i-", 2) == 0 &&
              strspn(instance_id + 2, "0123456789abcdef") == n - 2;
    if (!ok)
        return err_set(
            err, "'%s' is not an instance id, which looks like i-0123456789abcdef0", instance_id);
    pcr_extend_zero(bytes_of_text(instance_id), ret);
    return true;
}

bool pcr_from_hex(const char *what, const char *hex, uint8_t ret[PCR_LEN], struct err *err)
{
    const char *digits = strncmp(hex, "0x", 2) == 0 ? hex + 2 : hex;
    if (!hex_decode(digits, strlen(digits), ret, PCR_LEN))
        return err_set(err, "the value of %s is not %d hexadecimal digits", what, PCR_HEX_LEN);
    return true;
}

bool pcr_is_zero(const uint8_t pcr[PCR_LEN])
{
    static const uint8_t zero[PCR_LEN];
    return memcmp(pcr, zero, PCR_LEN) == 0;
}
