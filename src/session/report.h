/* report: what the log says about one validator, in the words that operators of the Rust tmkms
 * scrape (reference: its src/session.rs, src/connection/tcp.rs). Lines that a peer can provoke at
 * will are limited, each kind by itself; those about new signatures are not. Nothing is logged before
 * the reply it speaks of is written. */
#ifndef TMKMS_SESSION_REPORT_H
#define TMKMS_SESSION_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "config/config.h"
#include "ipc/request.h"
#include "link/secure.h"
#include "privval/message.h"

/* How many lines a peer has provoked in the minute that began then. */
struct report_budget {
    uint64_t minute_us;
    uint32_t lines, left_out;
};

struct report {
    char who[CHAIN_ID_MAX + LINK_TEXT_MAX + 2]; /* "chain@address" */
    uint32_t every_ms;                          /* a failing validator is reported this often */
    /* Since the last connection that served a request: */
    uint32_t failures;
    uint64_t first_failure_us, last_line_us;
    bool said_connected;
    struct report_budget connection, refusal, double_sign;
    struct report_budget extra; /* repeated signatures, raw bytes */
};

/* How a request ended. */
struct served {
    enum { SERVED_HERE = 1, SERVED_REFUSED_HERE, SERVED_BY_SIGNER } how;
    struct sign_reply reply; /* SERVED_BY_SIGNER */
    struct err why;          /* SERVED_REFUSED_HERE */
};

void report_init(struct report *r, const struct config_validator *v, uint32_t every_ms);
void report_identity(const struct config_validator *v, const struct signing_key *identity);
void report_connected(struct report *r, const struct config_validator *v, const struct secure *s);
/* A dial, a handshake, or a connection that served nothing failed. */
void report_failure(struct report *r, const char *why);
/* The first request of a connection was answered: failures before it are over. */
void report_works(struct report *r);
/* A connection that had served requests ended. */
void report_ended(struct report *r, const char *why);
void report_served(
    struct report *r, const struct request *request, const struct served *served, uint64_t took_us);

#endif
