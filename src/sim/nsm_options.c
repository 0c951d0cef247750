#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nitro/pcr.h"
#include "sim/nsm_server.h"

static const char default_role[] = "arn:aws:iam::123456789012:role/tmkms";
static const char default_instance[] = "i-0123456789abcdef0";

static const char *from_environment(const char *name, const char *otherwise)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? text : otherwise;
}

/* What PCR0, 1 and 2 are of an image of one ramdisk with this content. */
static void measure_image(struct nsm_sim_options *o)
{
    uint8_t hash[PCR_LEN];
    sha384(bytes_of_text("the image of tmkms-sim"), hash);
    pcr_extend_zero(bytes_of(hash, sizeof hash), o->pcrs[0]);
    memcpy(o->pcrs[1], o->pcrs[0], PCR_LEN);
    sha384((struct bytes){0}, hash);
    pcr_extend_zero(bytes_of(hash, sizeof hash), o->pcrs[2]);
}

static bool override(struct nsm_sim_options *o, unsigned i, struct err *err)
{
    char name[32];
    snprintf(name, sizeof name, "TMKMS_SIM_PCR%u", i);
    const char *hex = from_environment(name, NULL);
    return hex == NULL || pcr_from_hex(name, hex, o->pcrs[i], err);
}

bool nsm_sim_options_default(struct nsm_sim_options *ret, struct err *err)
{
    static const unsigned settable[] = {0, 1, 2, 3, 4, 8};
    struct nsm_sim_options o = {0};
    const char *instance = from_environment("TMKMS_SIM_INSTANCE", default_instance);
    const char *dir = from_environment("TMKMS_SIM_DIR", "");
    if (strlen(dir) >= sizeof o.dir)
        return err_set(err, "TMKMS_SIM_DIR is too long");
    snprintf(o.dir, sizeof o.dir, "%s", dir);
    snprintf(o.module_id, sizeof o.module_id, "%s-enc0123456789abcdef", instance);
    o.clock_offset_ms = strtoll(from_environment("TMKMS_SIM_CLOCK_OFFSET_MS", "0"), NULL, 10);
    measure_image(&o);
    if (!pcr_of_role(from_environment("TMKMS_SIM_ROLE", default_role), o.pcrs[3], err) ||
        !pcr_of_instance(instance, o.pcrs[4], err))
        return false;
    for (size_t i = 0; i < sizeof settable / sizeof settable[0]; i++)
        if (!override(&o, settable[i], err))
            return false;
    if (from_environment("TMKMS_SIM_DEBUG", NULL) != NULL)
        memset(o.pcrs, 0, sizeof o.pcrs);
    *ret = o;
    return true;
}
