#include "monitor/monitor.h"

#include <stdlib.h>

#include "base/log.h"
#include "monitor/chains.h"
#include "monitor/config_child.h"
#include "monitor/core.h"
#include "monitor/reload.h"
#include "sandbox/sandbox.h"

static const char log_name[] = "tmkms::monitor";

static int run_loop(struct monitor *m)
{
    while (!m->stopping) {
        core_turn(m, NULL, 0, m->session_due_us != 0 ? 50 : 1000);
        int code = m->stopping ? EXIT_SUCCESS : core_watch(m);
        if (code >= 0)
            return code;
        /* Until a dead session runs again there is nobody to be told. */
        if (m->reload_wanted && !m->stopping && core_session_runs(m)) {
            m->reload_wanted = false;
            reload_config(m);
        }
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
    if (!core_start(&m, &err) || !sandbox_enter(SANDBOX_MONITOR, &err)) {
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
    core_stop(&m);
    if (code == EXIT_SUCCESS)
        log_line(LOG_INFO, "tmkms::commands::start", "Shutdown completed successfully");
    return code;
}
