/* No machine: the enclave's side as a local process with the software NSM. It confines itself as a signer does on a
 * host. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "nitro/push.h"
#include "parent/machine_impl.h"

/* In the environment of this process, which starts one enclave in its life. */
static bool set_environment(const struct machine_options *o, struct err *err)
{
    return ((o->role[0] == '\0' || setenv("TMKMS_SIM_ROLE", o->role, 1) == 0) &&
               (o->instance[0] == '\0' || setenv("TMKMS_SIM_INSTANCE", o->instance, 1) == 0) &&
               (!o->is_debug || setenv("TMKMS_SIM_DEBUG", "1", 1) == 0)) ||
           err_errno(err, "cannot set the environment");
}

static bool start_program(struct machine *m, int console, struct err *err)
{
    char port[16];
    snprintf(port, sizeof port, "%" PRIu32, m->options.port != 0 ? m->options.port : PUSH_PORT);
    const char *const argv[] = {m->tool, "nitro", "start", "-p", port, "--vsock-uds", m->place.uds,
        m->options.is_debug ? "-v" : NULL, NULL};
    return set_environment(&m->options, err) &&
           process_start(&m->program, argv, console, console, err);
}

/* It makes the socket listen before it puts it in its place: where there is one, somebody listens. */
static bool start(struct machine *m, struct err *err)
{
    char folder[PROCESS_PATH_MAX];
    int console ATTR_CLEANUP(fd_close) = -1;
    if (!process_own_folder(folder, err) ||
        !process_find(m->tool, "TMKMS_SIM", "tmkms-sim", folder, err) ||
        !machine_choose_uds(m, err) || !machine_claim_uds(m, err))
        return false;
    machine_make_id(m, "i-simulated", clock_realtime_us());
    console =
        machine_open_log(m->place.console, sizeof m->place.console, m->kept, "console.log", err);
    return console >= 0 && start_program(m, console, err) &&
           machine_await_socket(m, m->place.uds, &m->program, err);
}

const struct machine_ops machine_simulated = {
    .start = start, .keep = machine_keep_processes, .stop = machine_stop_processes};
