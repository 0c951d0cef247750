#include "monitor/health.h"

#include "base/clock.h"

static void ask(struct child *c, uint64_t now)
{
    struct control ping = {.kind = CONTROL_PING};
    if (c->pid > 0 && c->control >= 0 && !c->is_asked && now - c->heard_us >= HEALTH_ASK_US)
        c->is_asked = control_send_now(c->control, &ping, NULL, 0);
}

void health_heard(struct child *c)
{
    c->is_asked = false;
    c->heard_us = clock_monotonic_us();
}

bool health_answers(const struct child *c)
{
    return c->role == NULL || clock_monotonic_us() - c->heard_us < HEALTH_PATIENCE_US;
}

bool health_is_good(const struct monitor *m)
{
    return health_answers(&m->signer) && health_answers(&m->session);
}

int health_timeout_ms(const struct monitor *m, int timeout_ms)
{
    uint64_t ping_ms = m->notify.ping_us / 1000 + 1;
    bool is_late = m->notify.ping_us != 0 && (timeout_ms < 0 || ping_ms < (uint64_t)timeout_ms);
    return is_late ? (int)ping_ms : timeout_ms;
}

void health_turn(struct monitor *m)
{
    uint64_t now = clock_monotonic_us();
    ask(&m->signer, now);
    ask(&m->session, now);
    if (health_is_good(m))
        notify_watchdog(&m->notify);
}
