/* message: what goes over the control socket of the fetch process (fetch.h tells who sends what). */
#ifndef TMKMS_FETCH_MESSAGE_H
#define TMKMS_FETCH_MESSAGE_H

#include "fetch/fetch.h"

enum fetch_kind { FETCH_JOB = 1, FETCH_DIAL, FETCH_LINE, FETCH_ANSWER };

enum { FETCH_TEXT_MAX = 512 };

struct fetch_message {
    uint32_t kind; /* enum fetch_kind */
    union {
        struct fetch_job job;
        struct kms_answer answer;
        char text[FETCH_TEXT_MAX];
    } u;
};

bool fetch_send(int sock, const struct fetch_message *msg, int fd) ATTR_MUST_USE;
/* One message that was checked. *ret_fd: the descriptor that came along, the caller's, or -1. 1; 0 at the end; -1. */
int fetch_recv(int sock, struct fetch_message *ret, int *ret_fd) ATTR_MUST_USE;

#endif
