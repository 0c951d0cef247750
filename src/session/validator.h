/* validator: one [[validator]] of the configuration and its connection.
 *
 *             channel to the signer           connected            handshake done
 *   PARKED ──────────────────────────► DIALLING ─────────► HANDSHAKE ────────────► OPEN
 *      ▲                                ▲    │                 │                    │
 *      │ chain lost or dropped            │    ▼ failed          ▼ failed, late       ▼ ended
 *      └──── from every state          WAITING ◄───────────────┴────────────────────┘
 *                                                            ENDED when reconnect = false
 *
 * OPEN serves one request at a time: while its answer is outstanding nothing more is read (bytes
 * that came already wait in the inbox), so a request's frame stays where it is until its reply has
 * been written. */
#ifndef TMKMS_SESSION_VALIDATOR_H
#define TMKMS_SESSION_VALIDATOR_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "config/config.h"
#include "crypto/key.h"
#include "link/secure.h"
#include "session/chain.h"
#include "session/dial.h"
#include "session/inbox.h"
#include "session/report.h"
#include "session/serve.h"

enum validator_state {
    VALIDATOR_PARKED,
    VALIDATOR_WAITING,
    VALIDATOR_DIALLING,
    VALIDATOR_HANDSHAKE,
    VALIDATOR_OPEN,
    VALIDATOR_ENDED,
};

struct validator {
    struct config_validator config;
    struct signing_key *identity; /* owned; NULL for unix */
    struct event_base *base;
    const struct session_timing *timing;
    struct chain *chain; /* NULL: unknown yet */
    enum validator_state state;
    bool leaving; /* dropped by the monitor: ends after the request it waits for */
    struct dial dial;
    struct event timer; /* WAITING: dial again; OPEN: go on with what is in the inbox */
    struct report report;

    /* The connection: HANDSHAKE and OPEN. */
    int fd;
    struct event readable, writable;
    bool is_reading; /* readable is registered */
    struct secure *secure;
    uint64_t deadline_us; /* 0: none */
    uint32_t served;      /* requests answered on this connection */
    struct inbox inbox;
    uint8_t *outbox; /* bytes for the socket: handshake, or one reply */
    size_t outbox_cap, outbox_n, outbox_sent;

    /* The request being served. */
    bool is_serving;
    bool is_partial; /* the inbox holds the beginning of the next one */
    size_t frame_n;  /* its length at the front of the inbox */
    uint64_t began_us;
    struct serve serve;
    struct chain_job job;
    bool is_waiting; /* for the signer */
    struct served outcome;
    struct err ended_why; /* ENDED */

    struct validator *next;
};

/* validator_new copies config and takes the identity over, borrows the rest; it starts PARKED. NULL:
 * no memory. */
struct validator *validator_new(const struct config_validator *config, struct signing_key *identity,
    struct event_base *base, struct evdns_base *dns, const struct vsock *vsock, int monitor,
    const struct session_timing *timing);
/* Closes and frees at once; must not wait for the signer. */
void validator_free(struct validator *v);

/* The chain's channel is there: dial (or go on, when the connection stands). */
void validator_start(struct validator *v, struct chain *chain);
/* Closes the connection and waits for validator_start. */
void validator_park(struct validator *v);
void validator_sweep(struct validator *v, uint64_t now_us);

#endif
