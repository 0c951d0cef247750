/* tmkms nitro describe-enclaves: what runs. */
#include <string.h>

#include "cli/nitro.h"
#include "cli/nitro_image.h"
#include "nitro/eif_describe.h"
#include "parent/kept.h"

/* Computed from the file, as nitro-cli does: no hardware says them to the parent. */
static void add_image(json_t *record, bool with_metadata)
{
    const char *path = json_string_value(json_object_get(record, "EifPath"));
    struct eif_file file = {0};
    struct eif eif;
    struct eif_pcrs pcrs;
    if (path == NULL || !eif_file_open(&file, path, NULL))
        return;
    if (eif_parse(&eif, file.content, NULL) && eif_measure(&eif, &pcrs, NULL)) {
        json_object_set_new(record, "Measurements", eif_describe_pcrs(&pcrs));
        if (eif_describe_metadata(&eif, record) && !with_metadata)
            json_object_del(record, "Metadata");
    }
    eif_file_close(&file);
}

/* What is to be shown of one; NULL: nothing. What a keeper that was killed left behind is removed. */
static json_t *look_at(const struct kept_seen *seen)
{
    json_t *record = seen->record;
    const char *state = json_string_value(json_object_get(record, "State"));
    const char *kind = json_string_value(json_object_get(record, "Kind"));
    if (record == NULL)
        return json_pack("{s:s, s:i, s:s}", "EnclaveName", seen->name, "ProcessID",
            (int)seen->keeper, "State", "STARTING");
    if (seen->keeper != 0 || (state != NULL && strcmp(state, "ENDED") == 0))
        return record;
    if (kind != NULL && strcmp(kind, machine_kind_name(MACHINE_NITRO_CLI)) == 0) {
        json_object_set_new(record, "State", json_string("ABANDONED"));
        return record;
    }
    kept_clean(seen->name);
    json_decref(record);
    return NULL;
}

int nitro_describe_enclaves(const struct command *self, int argc, char **argv)
{
    static struct kept_seen seen[KEPT_MAX];
    bool with_metadata = false;
    size_t n = 0;
    struct err err;
    const struct command_flag flags[] = {
        {0, "metadata", NULL, &with_metadata},
        {0},
    };
    int exit_code = command_flags_only(self, flags, argc, argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if (!kept_list(seen, &n, &err))
        return command_failed("%s", err.text);
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *record = look_at(&seen[i]);
        if (record == NULL)
            continue;
        add_image(record, with_metadata);
        json_array_append_new(all, record);
    }
    return nitro_json_print(all);
}

const char nitro_describe_enclaves_help[] =
    "Print what `run-enclave` and `run` started on this machine and runs, as nitro-cli does\n"
    "\n"
    "Measurements are computed from the image file. Other commands reach the enclave with VsockUds "
    "as\n"
    "their --vsock-uds; ConsoleFile is what it printed. State is STARTING, RUNNING, ENDED (and "
    "the\n"
    "Reason; until the next start of that name), or ABANDONED: nitro-cli runs it, but what kept "
    "it\n"
    "was killed.\n"
    "\n"
    "Usage: tmkms nitro describe-enclaves [--metadata]\n"
    "\n"
    "Options:\n"
    "      --metadata  With the metadata of the image\n"
    "  -h, --help      Print help\n";
