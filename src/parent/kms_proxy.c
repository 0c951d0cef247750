#include "parent/kms_proxy.h"

#include <stdio.h>
#include <string.h>

#include "parent/proxy.h"

enum { REGION_MAX = 32, HTTPS = 443 };

static bool is_region(const char *text, size_t n)
{
    if (n < 1 || n > REGION_MAX || text[0] == '-' || text[n - 1] == '-')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!((text[i] >= 'a' && text[i] <= 'z') || (text[i] >= '0' && text[i] <= '9') ||
                text[i] == '-'))
            return false;
    return true;
}

static const char *domain_of(const char *region)
{
    return strncmp(region, "cn-", 3) == 0 ? "amazonaws.com.cn" : "amazonaws.com";
}

/* kms.REGION.amazonaws.com, kms-fips.REGION.amazonaws.com, those of China in their own domain. */
static bool is_kms(const struct link_address *a)
{
    static const char *const services[] = {"kms.", "kms-fips."};
    for (size_t i = 0; i < sizeof services / sizeof *services; i++) {
        size_t n = strlen(services[i]);
        if (strncmp(a->host, services[i], n) != 0)
            continue;
        const char *region = a->host + n;
        size_t region_n = strcspn(region, ".");
        return is_region(region, region_n) && region[region_n] == '.' && a->port == HTTPS &&
               strcmp(region + region_n + 1, domain_of(region)) == 0;
    }
    return false;
}

static bool is_listed(
    const struct link_address *a, const char *const *allow, size_t allow_n, struct err *err)
{
    for (size_t i = 0; i < allow_n; i++) {
        struct link_address listed;
        if (!proxy_address_tcp(&listed, allow[i], err))
            return false;
        if (listed.port == a->port && strcmp(listed.host, a->host) == 0)
            return true;
    }
    return err_set(err,
        "%s:%u is not on the list of hosts that an enclave may reach (KMS on port 443, and what "
        "--allow HOST:PORT adds)",
        a->host, a->port);
}

bool kms_proxy_target(struct link_address *ret, const char *region, const char *target,
    const char *const *allow, size_t allow_n, struct err *err)
{
    struct link_address a;
    char text[LINK_HOST_MAX];
    if (target == NULL && (region == NULL || !is_region(region, strlen(region))))
        return err_set(err, "'%.40s' is not an AWS region", region != NULL ? region : "");
    if (target == NULL)
        snprintf(text, sizeof text, "kms.%s.%s:%d", region, domain_of(region), HTTPS);
    if (!proxy_address_tcp(&a, target != NULL ? target : text, err))
        return false;
    if (!is_kms(&a) && !is_listed(&a, allow, allow_n, err))
        return false;
    *ret = a;
    return true;
}
