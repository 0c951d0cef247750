#include "monitor/reload.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "monitor/config_child.h"

static const char log_name[] = "tmkms::monitor";

bool reload_add_validator(struct monitor *m, const struct config_validator *v, struct err *err)
{
    struct control msg = {.kind = CONTROL_VALIDATOR_ADD, .u.validator = *v};
    bool needs_identity = link_address_needs_identity(&v->address);
    int fd = needs_identity ? m->source->open_identity(m, v, err) : -1;
    if (needs_identity && fd < 0)
        return false;
    /* A session that has just died is told everything when it is started again. */
    (void)!core_send(m, &m->session, &msg, &fd, needs_identity ? 1 : 0);
    fd_close(&fd);
    return true;
}

bool reload_confirm_session(struct monitor *m, struct err *err)
{
    struct control end = {.kind = CONTROL_END};
    return (core_send(m, &m->session, &end, NULL, 0) ||
               err_errno(err, "cannot reach the session process")) &&
           core_await(m, &m->session, CONTROL_END, &end, err);
}

/* The structs are filled from zero by the configuration reader and cross the process border as
 * bytes: equal content is equal bytes. */
bool reload_has_validator(const struct config *c, const struct config_validator *v)
{
    for (size_t i = 0; i < c->validators_n; i++)
        if (memcmp(&c->validators[i], v, sizeof *v) == 0)
            return true;
    return false;
}

static bool keeps_key(const struct chain *old, const struct config_chain *c)
{
    return strcmp(old->config.key_file, c->key_file) == 0 && old->config.key_type == c->key_type &&
           old->config.key_format == c->key_format &&
           (c->expected_key.len == 0 || public_key_equal(&c->expected_key, &old->key));
}

/* One consensus key and one state file per chain for the life of the process: changing them takes a
 * restart. */
static bool keeps_keys(struct monitor *m, const struct config *next)
{
    bool ok = true;
    for (size_t i = 0; i < next->chains_n; i++) {
        const struct config_chain *c = &next->chains[i];
        const struct chain *old = chains_find(m, c->id);
        if (old == NULL)
            continue;
        if (strcmp(old->config.state_file, c->state_file) != 0 || !keeps_key(old, c)) {
            log_line(LOG_ERROR, log_name,
                "[%s] reload refused: the key or the state file of a running chain cannot change; "
                "restart tmkms",
                c->id);
            ok = false;
        }
    }
    return ok;
}

static void drop_validators(struct monitor *m, const struct config *next)
{
    for (size_t i = 0; i < m->config.validators_n; i++) {
        const struct config_validator *v = &m->config.validators[i];
        if (reload_has_validator(next, v))
            continue;
        struct control msg = {.kind = CONTROL_VALIDATOR_DROP, .u.validator = *v};
        log_line(LOG_INFO, log_name, "[%s@%s] validator dropped", v->chain_id, v->address.text);
        (void)!core_send(m, &m->session, &msg, NULL, 0);
    }
}

static void drop_chains(struct monitor *m, const struct config *next)
{
    for (size_t i = m->chains_n; i > 0; i--) {
        struct chain *c = &m->chains[i - 1];
        if (config_find_chain(next, c->config.id) != NULL)
            continue;
        log_line(LOG_INFO, log_name, "[%s] chain dropped", c->config.id);
        chains_drop(m, c);
    }
}

/* A changed policy goes to the signer, and the session gets a fresh channel with the new settings.
 */
static bool update_chain(
    struct monitor *m, struct chain *chain, const struct config_chain *c, struct err *err)
{
    if (memcmp(&chain->config, c, sizeof *c) == 0)
        return true;
    struct control msg = {.kind = CONTROL_CHAIN_UPDATE, .u.chain = *c};
    chain->config = *c;
    log_line(LOG_INFO, log_name, "[%s] chain changed", c->id);
    if (!core_send(m, &m->signer, &msg, NULL, 0))
        return err_errno(err, "cannot reach the signer process");
    return chains_connect(m, chain, err);
}

static bool add_or_update_chain(struct monitor *m, const struct config_chain *c, struct err *err)
{
    struct chain *old = chains_find(m, c->id);
    if (old != NULL)
        return update_chain(m, old, c, err);
    if (!chains_open(m, c, err))
        return false;
    log_line(LOG_INFO, log_name, "[%s] chain added", c->id);
    return chains_connect(m, &m->chains[m->chains_n - 1], err);
}

static void add_chains(struct monitor *m, const struct config *next)
{
    struct err err;
    for (size_t i = 0; i < next->chains_n && !m->stopping; i++)
        if (!add_or_update_chain(m, &next->chains[i], &err))
            log_line(LOG_ERROR, log_name, "reload: %s", err.text);
}

/* A validator of a chain that could not be added is left out too, and so tried again at the next
 * reload. */
static void add_validators(struct monitor *m, struct config *next)
{
    struct err err;
    size_t kept = 0;
    for (size_t i = 0; i < next->validators_n; i++) {
        struct config_validator v = next->validators[i];
        bool is_new = !reload_has_validator(&m->config, &v);
        bool ok = chains_find(m, v.chain_id) != NULL;
        if (ok && is_new) {
            ok = reload_add_validator(m, &v, &err);
            log_line(ok ? LOG_INFO : LOG_ERROR, log_name, "[%s@%s] %s", v.chain_id, v.address.text,
                ok ? "validator added" : err.text);
        }
        if (ok)
            next->validators[kept++] = v;
    }
    next->validators_n = kept;
}

bool reload_config(struct monitor *m)
{
    struct config next;
    struct problems problems = {0};
    log_line(LOG_INFO, log_name, "reading %s again", m->config_path);
    bool ok = config_child_read(m, &next, m->config_path, &problems);
    for (size_t i = 0; i < problems.n; i++)
        log_line(problems.list[i].is_warning ? LOG_WARN : LOG_ERROR, log_name, "%s",
            problems.list[i].text);
    problems_free(&problems);
    if (!ok && m->stopping)
        return false;
    if (!ok) {
        log_line(LOG_ERROR, log_name,
            "reload refused; everything goes on as before (`tmkms check` shows what is wrong)");
        return false;
    }
    if (!keeps_keys(m, &next)) {
        config_free(&next);
        return false;
    }
    drop_validators(m, &next);
    drop_chains(m, &next);
    add_chains(m, &next);
    add_validators(m, &next);
    config_free(&m->config);
    m->config = next;
    log_line(LOG_INFO, log_name, "reloaded: %zu chains, %zu validators", m->chains_n,
        m->config.validators_n);
    return true;
}
