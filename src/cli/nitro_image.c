#include "cli/nitro_image.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fd.h"
#include "cli/command.h"
#include "cli/json_print.h"

bool nitro_image_save(const char *path, const uint8_t *file, size_t file_n, struct err *err)
{
    struct stat st;
    if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return err_set(err, "%s is there already and is not a regular file", path);
    if (!fd_create_durable(path, file, file_n, true, err))
        return false;
    mode_t mask = umask(0);
    umask(mask);
    return chmod(path, 0644 & ~mask) == 0 ||
           err_errno(err, "cannot set the permissions of %s", path);
}

int nitro_json_print(json_t *json)
{
    bool ok = json_print(json, JSON_INDENT(2));
    json_decref(json);
    return ok ? EXIT_DONE : command_failed("the JSON cannot be written");
}

int64_t nitro_now_s(void)
{
    return (int64_t)(clock_realtime_us() / 1000000);
}
