/* rig: a session in a child process, with the test as its monitor, its signers and its nodes.
 *
 * Everything is done step by step from one thread: the node asks, the signer takes, the signer
 * answers, the node receives; so each test fixes the order of events, also the unkind ones. */
#ifndef TMKMS_TESTS_SESSION_RIG_H
#define TMKMS_TESTS_SESSION_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/types.h>

#include "ipc/control.h"
#include "ipc/request.h"
#include "monitor/dial.h"
#include "node/node.h"
#include "session/session.h"

enum { WAIT_MS = 5000 };

struct rig {
    struct session_timing timing; /* may be changed before rig_start */
    char folder[64];
    pid_t pid;
    int control, log_fd;
    /* A thread answers the session's dials, as the monitor does; all else it says is for rig_heard. */
    bool dials_by_hand; /* set before rig_start: dials are for rig_heard too */
    pthread_t relay;
    pthread_mutex_t lock; /* guards monitor */
    struct monitor monitor;
    int heard[2];
    char *log; /* every line so far */
    size_t log_n;
    struct signing_key *consensus;
    uint8_t *blob; /* of the last signer_take */
};

/* cmocka's setup and teardown; teardown ends the session and checks that it ends with 0, at once.
 */
int rig_setup(void **state);
int rig_teardown(void **state);

void rig_start(struct rig *r, bool is_sandboxed);
/* Waits for the end of the session; its exit code, or -1 for a signal. */
int rig_wait_end(struct rig *r);

/* What the monitor says. rig_chain returns the signer's end of the channel. */
int rig_chain(struct rig *r, const char *chain_id);
int rig_chain_with(struct rig *r, const char *chain_id, bool sign_raw_bytes);
void rig_chain_drop(struct rig *r, const char *chain_id);
struct config_validator rig_validator(const char *chain_id, const char *address);
void rig_add(struct rig *r, const struct config_validator *v);
void rig_drop(struct rig *r, const struct config_validator *v);
/* The next message from the session; fails the test when none comes. */
void rig_heard(struct rig *r, struct control *ret);
/* The answer to a dial, by hand; fd: closed, -1: none. */
void rig_dialled(struct rig *r, uint32_t id, int fd, int os_error);
/* The monitor is gone. */
void rig_hang_up(struct rig *r);

/* Log lines: waits until the text has come at least times times. */
void rig_log_has(struct rig *r, const char *text, unsigned times);
unsigned rig_log_count(struct rig *r, const char *text);

/* The signer's end. */
void signer_take(struct rig *r, int channel, struct sign_request *ret);
bool signer_is_quiet(int channel, int ms);
/* Signs what was taken with the real key, so that node_check is content. */
void signer_sign(struct rig *r, int channel, const char *chain_id, const struct sign_request *req);
void signer_answer_with(int channel, enum sign_outcome outcome, const char *reason);

/* Nodes on unix sockets in the rig's folder. */
struct node_listener *rig_listen(struct rig *r, const char *name);
struct node_conn *rig_accept(struct node_listener *l);
struct node_request rig_request(enum node_kind kind, const char *chain_id);
struct node_request rig_vote(const char *chain_id, int64_t height, enum step step);
void rig_send(struct node_conn *c, enum wire_line line, const struct node_request *req);
void rig_receive(struct node_conn *c, enum wire_line line, struct node_reply *ret);
/* A ping goes through: the connection lives. */
void rig_pings(struct node_conn *c);
/* A whole vote goes through and passes the node's own checks. */
void rig_signs(
    struct rig *r, struct node_conn *c, int channel, const char *chain_id, int64_t height);
/* The session closes the connection within the time; nothing more is received. */
void rig_sees_close(struct node_conn *c);
uint64_t rig_deadline(uint32_t ms);

#endif
