#include "ipc/child.h"

#include <malloc.h>
#include <signal.h>
#include <time.h>

#include "base/log.h"
#include "ipc/control.h"
#include "sandbox/sandbox.h"

bool child_start(struct err *err)
{
    log_set_output(CHILD_FD_LOG, true);
    tzset(); /* log lines carry the time, and the C library looks for the time zone's file once */
    /* One arena: a thread's own one would, when it shrinks, look into /proc, where the sandbox lets nobody look. */
    mallopt(M_ARENA_MAX, 1);
    static const int left_to_the_monitor[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
    for (unsigned i = 0; i < sizeof left_to_the_monitor / sizeof left_to_the_monitor[0]; i++)
        signal(left_to_the_monitor[i], SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    return sandbox_harden(true, err);
}
