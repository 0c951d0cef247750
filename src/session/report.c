#include "session/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

static const char log_session[] = "tmkms::session";
static const char log_client[] = "tmkms::client";

enum { LINES_A_MINUTE = 60, MINUTE_US = 60 * 1000 * 1000 };

void report_init(struct report *r, const struct config_validator *v, uint32_t every_ms)
{
    *r = (struct report){.every_ms = every_ms};
    snprintf(r->who, sizeof r->who, "%s@%s", v->chain_id, v->address.text);
}

/* A peer that provokes lines gets a bounded number of them. */
static bool may_say(const struct report *r, struct report_budget *b)
{
    uint64_t now = clock_monotonic_us();
    if (b->minute_us == 0 || now - b->minute_us >= MINUTE_US) {
        if (b->left_out > 0)
            log_line(LOG_WARN, log_session, "[%s] %u more lines about this validator were left out",
                r->who, b->left_out);
        *b = (struct report_budget){.minute_us = now};
    }
    if (b->lines < LINES_A_MINUTE) {
        b->lines++;
        return true;
    }
    b->left_out++;
    return false;
}

void report_identity(const struct config_validator *v, const struct signing_key *identity)
{
    char hex[2 * PUBLIC_KEY_MAX + 1];
    const struct public_key *key = signing_key_public(identity);
    hex_lower(bytes_of(key->bytes, key->len), hex);
    log_line(LOG_INFO, "tmkms::connection::tcp", "KMS node ID: PublicKey::Ed25519(%s)", hex);
    log_line(LOG_DEBUG, "tmkms::connection::tcp", "[%s@%s] this identity is used", v->chain_id,
        v->address.text);
}

void report_connected(struct report *r, const struct config_validator *v, const struct secure *s)
{
    /* A peer that accepts and hangs up would otherwise fill the log with good news. */
    if (r->said_connected || !may_say(r, &r->connection))
        return;
    r->said_connected = true;
    log_line(LOG_INFO, log_session, "[%s] connected to validator successfully", r->who);
    if (link_address_needs_identity(&v->address) && !secure_peer_is_verified(s))
        log_line(LOG_WARN, log_session, "[%s]: unverified validator peer ID! (%s)", r->who,
            secure_peer_id(s));
}

void report_failure(struct report *r, const char *why)
{
    uint64_t now = clock_monotonic_us();
    r->failures++;
    if (r->failures == 1) {
        r->first_failure_us = r->last_line_us = now;
        if (may_say(r, &r->connection))
            log_line(LOG_WARN, log_client, "[%s] %s", r->who, why);
        return;
    }
    if (now - r->last_line_us < (uint64_t)r->every_ms * 1000)
        return;
    r->last_line_us = now;
    log_line(LOG_WARN, log_client, "[%s] no connection after %u attempts in %" PRIu64 " s: %s",
        r->who, r->failures, (now - r->first_failure_us) / 1000000, why);
}

void report_works(struct report *r)
{
    if (r->failures > 0 && may_say(r, &r->connection))
        log_line(LOG_INFO, log_session, "[%s] the connection works again after %u failed attempts",
            r->who, r->failures);
    r->failures = 0;
    r->said_connected = true;
}

void report_ended(struct report *r, const char *why)
{
    r->said_connected = false;
    if (may_say(r, &r->connection))
        log_line(LOG_WARN, log_client, "[%s] %s", r->who, why);
}

/* ---- requests ---- */

enum { BLOCK_TEXT = 2 * HASH_LEN + 1 };

/* The first ten digits of the block's hash, as in the Rust tmkms. */
static void block_text(const struct block_id *id, char out[BLOCK_TEXT])
{
    enum { SHORT = 10 };
    if (id->hash_len != HASH_LEN) {
        snprintf(out, BLOCK_TEXT, "<nil>");
        return;
    }
    hex_upper(bytes_of(id->hash, HASH_LEN), out);
    out[SHORT] = '\0';
}

static const char *message_name(const struct signable *s)
{
    switch (s->step) {
    case STEP_PROPOSAL:
        return "Proposal";
    case STEP_PREVOTE:
        return "Prevote";
    case STEP_PRECOMMIT:
        return "Precommit";
    case STEP_NONE:
        break;
    }
    return "message";
}

/* Scrapers know the steps as 0, 1, 2. */
static int step_number(const struct signable *s)
{
    return s->step == STEP_NONE ? 0 : (int)s->step - 1;
}

/* A repeated signature costs the peer nothing, so it can be asked for without end. */
static void say_signed(
    struct report *r, const struct request *q, const struct sign_reply *reply, uint64_t took_us)
{
    if (reply->outcome == SIGN_REPEATED && !may_say(r, &r->extra))
        return;
    uint64_t ms = took_us / 1000;
    const struct signable *s = &q->signable;
    char block[BLOCK_TEXT];
    block_text(&s->block_id, block);
    log_line(LOG_INFO, log_session,
        "[%s] signed %s:%s at h/r/s %" PRId64 "/%d/%d (%" PRIu64 " ms)%s", r->who, message_name(s),
        block, s->height, s->round, step_number(s), ms,
        reply->outcome == SIGN_REPEATED ? ", again" : "");
    if (reply->has_extension_signature)
        log_line(LOG_INFO, log_session, "[%s] signed vote extension (%" PRIu64 " ms)", r->who, ms);
    /* The line that people scrape knows whole milliseconds only. */
    log_line(LOG_DEBUG, log_session, "[%s] at h/r/s %" PRId64 "/%d/%d took %" PRIu64 " us", r->who,
        s->height, s->round, step_number(s), took_us);
}

/* The peer's own words: only what is printable, and not much of it. */
static void say_raw(struct report *r, const struct request *q, uint64_t ms)
{
    if (!may_say(r, &r->extra))
        return;
    char id[65];
    size_t n = q->unique_id.n < sizeof id - 1 ? q->unique_id.n : sizeof id - 1;
    for (size_t i = 0; i < n; i++)
        id[i] =
            q->unique_id.p[i] > 0x20 && q->unique_id.p[i] < 0x7f ? (char)q->unique_id.p[i] : '?';
    id[n] = '\0';
    log_line(LOG_INFO, log_session, "[%s] signed raw bytes: %s (%" PRIu64 " ms)", r->who, id, ms);
}

static bool has_position(const struct request *q)
{
    return q->kind == REQUEST_VOTE || q->kind == REQUEST_PROPOSAL;
}

static void say_refused(struct report *r, const struct request *q, bool is_double, const char *why)
{
    /* The attempt that matters is not hidden behind a flood of others. */
    if (!may_say(r, is_double ? &r->double_sign : &r->refusal))
        return;
    const struct signable *s = &q->signable;
    enum log_level level = is_double ? LOG_ERROR : LOG_WARN;
    const char *verb = is_double ? "attempted double sign" : "refused";
    if (has_position(q))
        log_line(level, log_session, "[%s] %s %s at h/r/s: %" PRId64 "/%d/%d (%s)", r->who, verb,
            message_name(s), s->height, s->round, step_number(s), why);
    else
        log_line(level, log_session, "[%s] %s a request (%s)", r->who, verb, why);
}

void report_served(
    struct report *r, const struct request *request, const struct served *served, uint64_t took_us)
{
    uint64_t ms = took_us / 1000;
    switch (served->how) {
    case SERVED_HERE:
        return;
    case SERVED_REFUSED_HERE:
        say_refused(r, request, false, served->why.text);
        return;
    case SERVED_BY_SIGNER:
        break;
    }
    switch ((enum sign_outcome)served->reply.outcome) {
    case SIGN_DONE:
    case SIGN_REPEATED:
        if (has_position(request))
            say_signed(r, request, &served->reply, took_us);
        else
            say_raw(r, request, ms);
        return;
    case SIGN_REFUSED:
    case SIGN_DOUBLE:
        say_refused(r, request, served->reply.outcome == SIGN_DOUBLE, served->reply.reason);
        return;
    }
}
