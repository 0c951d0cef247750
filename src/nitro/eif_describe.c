#include "nitro/eif_describe.h"

#include <stdio.h>

#include "nitro/pcr.h"

enum { METADATA_MAX = 1 << 20 };

json_t *eif_describe_pcrs(const struct eif_pcrs *pcrs)
{
    char name[16], hex[PCR_HEX_LEN + 1];
    json_t *ret = json_object();
    json_object_set_new(ret, "HashAlgorithm", json_string("Sha384 { ... }"));
    for (unsigned i = 0; i < sizeof pcrs->values / sizeof pcrs->values[0]; i++) {
        if ((pcrs->present >> i & 1) == 0)
            continue;
        snprintf(name, sizeof name, "PCR%u", i);
        hex_lower(bytes_of(pcrs->values[i], PCR_LEN), hex);
        json_object_set_new(ret, name, json_string(hex));
    }
    return ret;
}

bool eif_describe_metadata(const struct eif *eif, json_t *ret)
{
    static const char *const names[] = {"ImageName", "ImageVersion"};
    json_t *root = eif->metadata.n <= METADATA_MAX
                       ? json_loadb((const char *)eif->metadata.p, eif->metadata.n, 0, NULL)
                       : NULL;
    if (!json_is_object(root)) {
        json_decref(root);
        return false;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (json_object_get(root, names[i]) != NULL)
            json_object_set(ret, names[i], json_object_get(root, names[i]));
    json_t *metadata = json_object();
    json_t *docker = json_object_get(root, "DockerInfo");
    json_object_update(metadata, json_object_get(root, "BuildMetadata"));
    json_object_set(metadata, "DockerInfo", docker != NULL ? docker : json_null());
    /* The user's own stand among ours there; they replace none. */
    json_object_update_missing(metadata, json_object_get(root, "CustomMetadata"));
    json_object_set_new(ret, "Metadata", metadata);
    json_decref(root);
    return true;
}
