#include "cli/nitro_place.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "aws/credentials.h"
#include "base/bytes.h"
#include "base/fd.h"
#include "cli/nitro_enclave.h"
#include "nitro/keygen.h"

static bool copy(
    char *out, size_t cap, const char *text, size_t n, const char *what, struct err *err)
{
    if (n >= cap)
        return err_set(err, "%s: longer than %zu characters", what, cap - 1);
    memcpy(out, text, n);
    out[n] = '\0';
    return true;
}

const char *place_region_of_environment(void)
{
    static const char *const names[] = {"AWS_REGION", "AWS_DEFAULT_REGION"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *region = getenv(names[i]);
        if (region != NULL && region[0] != '\0')
            return region;
    }
    return NULL;
}

/* "arn:aws:kms:eu-west-1:123456789012:key/..." names its region. NULL: this is no ARN. */
static const char *region_of_arn(const char *key_id)
{
    const char *at = strncmp(key_id, "arn:", 4) == 0 ? key_id : NULL;
    for (int i = 0; at != NULL && i < 3; i++) {
        at = strchr(at, ':');
        at = at != NULL ? at + 1 : NULL;
    }
    return at != NULL && at[0] != ':' && at[0] != '\0' ? at : NULL;
}

static bool take_region(struct kms_place *p, const char *region, struct err *err)
{
    if (region == NULL)
        region = region_of_arn(p->key_id);
    if (region == NULL)
        region = place_region_of_environment();
    if (region != NULL)
        return copy(p->region, sizeof p->region, region, strcspn(region, ":"), "--region", err);
    return imds_get("placement/region", p->region, sizeof p->region, err) ||
           err_prefix(err, "the region is not known; give --region, or the key's ARN");
}

/* HOST or HOST:PORT, with or without https:// before it. */
static bool take_endpoint(struct kms_place *p, const char *text, struct err *err)
{
    static const char scheme[] = "https://";
    uint32_t port = 0;
    if (strncmp(text, scheme, sizeof scheme - 1) == 0)
        text += sizeof scheme - 1;
    size_t n = strcspn(text, ":/");
    bool has_port = text[n] == ':' && enclave_number(text + n + 1, 1, UINT16_MAX, &port);
    if (n == 0 || (text[n] != '\0' && !has_port))
        return err_set(err, "--endpoint: '%.100s' is not HOST or HOST:PORT", text);
    p->port = (uint16_t)port;
    return copy(p->host, sizeof p->host, text, n, "--endpoint", err);
}

static bool take_contexts(
    struct kms_place *p, const struct command_values *contexts, struct err *err)
{
    struct writer w = writer_of(p->context, sizeof p->context);
    for (size_t i = 0; i < contexts->n; i++) {
        const char *text = contexts->list[i].text, *equals = strchr(text, '=');
        if (equals == NULL || equals == text)
            return err_set(err, "--context: '%.100s' is not NAME=VALUE", text);
        write_bytes(&w, bytes_of(text, (size_t)(equals - text)));
        write_u8(&w, 0);
        write_text(&w, equals + 1);
        write_u8(&w, 0);
        p->context_n++;
    }
    return !w.bad || err_set(err, "--context: longer than %d characters", KMS_CONTEXT_MAX);
}

static bool take_root(struct kms_place *p, const char *path, struct err *err)
{
    size_t n = 0;
    int fd ATTR_CLEANUP(fd_close) = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_errno(err, "--kms-root: cannot open %s", path);
    if (!fd_read_all(fd, p->root_pem, sizeof p->root_pem - 1, &n, err))
        return err_prefix(err, "--kms-root %s", path);
    p->root_pem[n] = '\0';
    return true;
}

bool place_from(struct kms_place *ret, const struct place_options *o, struct err *err)
{
    return copy(ret->key_id, sizeof ret->key_id, o->key_id, strlen(o->key_id), "--key-id", err) &&
           take_region(ret, o->region, err) &&
           (o->endpoint == NULL || take_endpoint(ret, o->endpoint, err)) &&
           take_contexts(ret, &o->contexts, err) &&
           (o->kms_root == NULL || take_root(ret, o->kms_root, err)) &&
           (kms_place_is_sound(ret) ||
               err_set(err, "a control character in what names the KMS key"));
}
