#include "monitor/monitor.h"

#include <stdlib.h>

#include "base/log.h"
#include "ipc/child.h"
#include "monitor/chains.h"
#include "monitor/config_child.h"
#include "monitor/core.h"
#include "monitor/reload.h"
#include "sandbox/sandbox.h"

static const char log_name[] = "tmkms::monitor";

/* ---- what the service manager hears ---- */

static void open_notify(struct monitor *m)
{
    struct err err;
    if (!notify_open(&m->notify, &err))
        log_line(LOG_WARN, log_name, "the service manager is told nothing: %s", err.text);
}

static const char *plural(size_t n)
{
    return n == 1 ? "" : "s";
}

static void tell_ready(struct monitor *m, const char *more)
{
    notify_ready(&m->notify, "Signing for %zu chain%s, %zu validator%s%s", m->chains_n,
        plural(m->chains_n), m->config.validators_n, plural(m->config.validators_n), more);
}

/* Stays in sight after the end. */
static void tell_end(struct monitor *m, int code, const struct problems *problems)
{
    size_t i = 0;
    while (i < problems->n && problems->list[i].is_warning)
        i++;
    if (i < problems->n)
        notify_status(&m->notify, "Cannot start: %s", problems->list[i].text);
    else if (code == CHILD_EXIT_STATE)
        notify_status(
            &m->notify, "A state file cannot be trusted any more; look before you start again");
    notify_stopping(&m->notify);
}

static void reload(struct monitor *m)
{
    m->reload_wanted = false;
    notify_reloading(&m->notify);
    bool taken = reload_config(m);
    tell_ready(m, taken ? "" : "; the last reload was refused, the log says why");
}

/* ---- the life of the program ---- */

static int run_loop(struct monitor *m)
{
    bool was_running = true;
    tell_ready(m, "");
    while (!m->stopping) {
        core_turn(m, NULL, 0, m->session_due_us != 0 ? 50 : 1000);
        int code = m->stopping ? EXIT_SUCCESS : core_watch(m);
        if (code >= 0)
            return code;
        /* Until a dead session runs again there is nobody to be told. */
        bool runs = core_session_runs(m);
        if (m->reload_wanted && !m->stopping && runs)
            reload(m);
        else if (runs && !was_running)
            tell_ready(m, "");
        else if (!runs)
            notify_status(&m->notify, "Not signing: the session process is started again");
        was_running = runs;
    }
    return EXIT_SUCCESS;
}

static bool start_all(struct monitor *m, struct problems *problems)
{
    struct err err;
    if (!core_check_descriptors(&m->config, &err) ||
        !child_spawn(&m->signer, "@signer", NULL, -1, &err)) {
        problems_add(problems, false, "%s", err.text);
        return false;
    }
    for (size_t i = 0; i < m->config.chains_n && !m->stopping; i++)
        if (!chains_open(m, &m->config.chains[i], &err))
            problems_add(problems, false, "%s", err.text);
    if (problems->errors_n == 0 && !core_start_session(m, &err))
        problems_add(problems, false, "%s", err.text);
    return problems->errors_n == 0;
}

int monitor_run(const char *config_path, struct problems *problems)
{
    struct monitor m = {.config_path = config_path, .source = &chains_from_files};
    struct err err;
    bool ok = core_start(&m, &err);
    open_notify(&m);
    if (!ok || !sandbox_enter(SANDBOX_MONITOR, &err)) {
        problems_add(problems, false, "%s", err.text);
        core_stop(&m);
        return EXIT_FAILURE;
    }
    int code = EXIT_FAILURE;
    bool readable = config_child_read(&m, &m.config, config_path, problems);
    for (size_t i = 0; readable && i < problems->n; i++)
        log_line(LOG_WARN, log_name, "%s", problems->list[i].text);
    if (readable && start_all(&m, problems))
        code = run_loop(&m);
    else if (m.stopping) {
        problems_free(problems);
        code = EXIT_SUCCESS;
    }
    tell_end(&m, code, problems);
    core_stop(&m);
    if (code == EXIT_SUCCESS)
        log_line(LOG_INFO, "tmkms::commands::start", "Shutdown completed successfully");
    return code;
}
