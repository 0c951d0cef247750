/* serve: what becomes of one request: answered here, refused here, or handed to the signer; and how
 * the signer's answer reads on the wire. No I/O. */
#ifndef TMKMS_SESSION_SERVE_H
#define TMKMS_SESSION_SERVE_H

#include "base/bytes.h"
#include "base/err.h"
#include "ipc/control.h"
#include "ipc/request.h"
#include "privval/message.h"

enum serve_verdict {
    SERVE_REPLY = 1, /* answered here: ping, public key */
    SERVE_REFUSE,    /* answered here with an error; why says what was wrong */
    SERVE_SIGN,      /* sign and blob hold what the signer has to know */
    SERVE_CLOSE,     /* no request at all: the connection cannot go on; why says so */
};

struct serve {
    /* What is needed to judge, borrowed: */
    const struct config_validator *validator;
    const struct control_chain *chain;
    /* The request that was read; borrows from the frame. */
    struct request request;
};

/* serve_request reads one whole frame into s->request and decides. SERVE_REPLY and SERVE_REFUSE:
 * *ret_reply is the frame to send, borrowed from buf (REPLY_MAX bytes). SERVE_SIGN: *ret_sign and
 * its blob, borrowed from the frame. SERVE_REFUSE and SERVE_CLOSE: why. */
enum serve_verdict serve_request(struct serve *s, struct bytes frame, uint8_t buf[REPLY_MAX],
    struct bytes *ret_reply, struct sign_request *ret_sign, struct bytes ret_blob[2],
    struct err *why);

/* serve_reply turns the signer's answer to s->request into a frame, borrowed from buf. */
struct bytes serve_reply(
    const struct serve *s, const struct sign_reply *reply, uint8_t buf[REPLY_MAX]);

#endif
