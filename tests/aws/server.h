/* server: a TLS (or plain) HTTP server for tests, in a process of its own: a root and a leaf made on the spot, answers
 * given as text, one a connection. */
#ifndef TMKMS_TESTS_AWS_SERVER_H
#define TMKMS_TESTS_AWS_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SERVER_ANSWERS_MAX = 8, SERVER_PEM_MAX = 4096 };

/* What the server does with a connection once it has read the request. */
struct server_answer {
    const char *text; /* NULL: closes without a word */
    bool stays_silent;
    bool is_dribbled; /* a byte at a time */
};

struct server {
    const char *host; /* of the leaf; NULL: no TLS */
    int64_t valid_from_s, valid_to_s;
    bool has_old_tls; /* TLS 1.1 at most */
    struct server_answer answers[SERVER_ANSWERS_MAX];
    size_t answers_n; /* the last one is repeated */
    /* Filled by server_start. */
    pid_t pid;
    uint16_t port;
    char root_pem[SERVER_PEM_MAX];
    int requests; /* what was asked, one datagram a request */
};

void server_start(struct server *s);
void server_stop(struct server *s);
/* The next request that was read, terminated by zero; fails the test after 5 s. */
void server_request(struct server *s, char *out, size_t cap);
/* How many requests have been read that server_request has not returned. */
size_t server_requests_left(struct server *s);
/* A connected descriptor. */
int server_dial(const struct server *s);

#endif
