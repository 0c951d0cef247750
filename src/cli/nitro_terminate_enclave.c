/* tmkms nitro terminate-enclave: end what run-enclave started. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "cli/nitro.h"
#include "cli/nitro_image.h"
#include "parent/keeper.h"
#include "parent/kept.h"

static const char *text_of(const struct kept_seen *seen, const char *name)
{
    const char *text = json_string_value(json_object_get(seen->record, name));
    return text != NULL ? text : "";
}

/* The number is still the keeper's when it is asked again after the process was pinned down. */
static bool end_keeper(const struct kept_seen *seen, struct err *err)
{
    int fd ATTR_CLEANUP(fd_close) = (int)syscall(SYS_pidfd_open, seen->keeper, 0);
    if (kept_keeper(seen->name) != seen->keeper)
        return true;
    if (fd < 0 || syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0) != 0)
        return err_errno(err, "cannot end process %ld, which keeps the enclave %s",
            (long)seen->keeper, seen->name);
    return fd_wait(fd, POLLIN, clock_monotonic_us() + KEEPER_STOP_US) ||
           err_set(err,
               "process %ld, which keeps the enclave %s, does not end; `kill -9 %ld` ends it",
               (long)seen->keeper, seen->name, (long)seen->keeper);
}

static bool end(const struct kept_seen *seen, struct err *err)
{
    if (seen->keeper != 0)
        return end_keeper(seen, err);
    if (strcmp(text_of(seen, "Kind"), machine_kind_name(MACHINE_NITRO_CLI)) == 0 &&
        strcmp(text_of(seen, "State"), "ENDED") != 0 && !machine_end_abandoned(seen->name, err))
        return false;
    kept_clean(seen->name);
    return true;
}

struct wish {
    const char *id, *name;
    bool all;
};

static bool is_meant(const struct kept_seen *seen, const struct wish *w)
{
    return w->all || (w->name != NULL && strcmp(w->name, seen->name) == 0) ||
           (w->id != NULL && strcmp(w->id, text_of(seen, "EnclaveID")) == 0);
}

static int end_all(const struct wish *w)
{
    static struct kept_seen seen[KEPT_MAX];
    size_t n = 0;
    struct err err;
    bool ok = true;
    json_t *ended = json_array();
    if (!kept_list(seen, &n, &err)) {
        json_decref(ended);
        return command_failed("%s", err.text);
    }
    for (size_t i = 0; i < n; i++) {
        if (is_meant(&seen[i], w)) {
            if (end(&seen[i], &err))
                json_array_append_new(
                    ended, json_pack("{s:s, s:s, s:b}", "EnclaveName", seen[i].name, "EnclaveID",
                               text_of(&seen[i], "EnclaveID"), "Terminated", 1));
            else
                ok = command_failed("%s", err.text) == EXIT_DONE;
        }
        json_decref(seen[i].record);
    }
    bool none = json_array_size(ended) == 0;
    json_t *answer = w->all ? json_incref(ended) : json_incref(json_array_get(ended, 0));
    json_decref(ended);
    if (none && ok && !w->all)
        return command_failed("no enclave %s was started on this machine; `tmkms nitro "
                              "describe-enclaves` lists those that were",
            w->name != NULL ? w->name : w->id);
    int exit_code = answer != NULL ? nitro_json_print(answer) : EXIT_FAILED;
    return ok ? exit_code : EXIT_FAILED;
}

int nitro_terminate_enclave(const struct command *self, int argc, char **argv)
{
    struct wish w = {0};
    const struct command_flag flags[] = {
        {0, "enclave-id", &w.id, NULL},
        {0, "enclave-name", &w.name, NULL},
        {0, "all", NULL, &w.all},
        {0},
    };
    int exit_code = command_flags_only(self, flags, argc, argv);
    if (exit_code != COMMAND_GO_ON)
        return exit_code;
    if ((w.id != NULL) + (w.name != NULL) + w.all != 1)
        return command_usage(self, "which enclave? Give --enclave-name, --enclave-id or --all");
    return end_all(&w);
}

const char nitro_terminate_enclave_help[] =
    "End an enclave that `run-enclave` started\n"
    "\n"
    "It has ended, and nothing of it is left, when this command returns. One that `tmkms nitro "
    "run`\n"
    "keeps is started again by it.\n"
    "\n"
    "Usage: tmkms nitro terminate-enclave --enclave-name NAME|--enclave-id ID|--all\n"
    "\n"
    "Options:\n"
    "      --enclave-name NAME  The name that it was started with [of run-enclave: tmkms]\n"
    "      --enclave-id ID      As describe-enclaves shows it\n"
    "      --all                Every one that was started on this machine by this program\n"
    "  -h, --help               Print help\n";
