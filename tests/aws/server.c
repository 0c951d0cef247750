#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { REQUEST_MAX = 65536 };

/* ---- certificates ------------------------------------------------------------------ */

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(e);
    assert_int_equal(X509_add_ext(cert, e, -1), 1);
    X509_EXTENSION_free(e);
}

static X509 *certificate(
    const struct server *s, const char *name, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
    char san[256];
    X509 *c = X509_new();
    assert_non_null(c);
    X509_set_version(c, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c), issuer == NULL ? 1 : 2);
    ASN1_TIME_set(X509_getm_notBefore(c), (time_t)s->valid_from_s);
    ASN1_TIME_set(X509_getm_notAfter(c), (time_t)s->valid_to_s);
    X509_NAME_add_entry_by_txt(
        X509_get_subject_name(c), "CN", MBSTRING_ASC, (const uint8_t *)name, -1, -1, 0);
    X509_set_issuer_name(c, X509_get_subject_name(issuer != NULL ? issuer : c));
    X509_set_pubkey(c, key);
    add_extension(c, issuer != NULL ? issuer : c, NID_basic_constraints,
        issuer == NULL ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (issuer != NULL) {
        snprintf(san, sizeof san, "%s:%s", name[0] >= '0' && name[0] <= '9' ? "IP" : "DNS", name);
        add_extension(c, issuer, NID_subject_alt_name, san);
    }
    assert_true(X509_sign(c, issuer_key, EVP_sha256()) > 0);
    return c;
}

static SSL_CTX *make_context(struct server *s)
{
    EVP_PKEY *root_key = EVP_EC_gen("P-256"), *key = EVP_EC_gen("P-256");
    assert_true(root_key != NULL && key != NULL);
    X509 *root = certificate(s, "test root", root_key, NULL, root_key);
    X509 *leaf = certificate(s, s->host, key, root, root_key);
    BIO *pem = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509(pem, root), 1);
    int n = BIO_read(pem, s->root_pem, SERVER_PEM_MAX - 1);
    assert_true(n > 0);
    s->root_pem[n] = '\0';
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(ctx, leaf), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
    if (s->has_old_tls) {
        SSL_CTX_set_security_level(ctx, 0);
        SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
    }
    BIO_free(pem);
    X509_free(root);
    X509_free(leaf);
    EVP_PKEY_free(root_key);
    EVP_PKEY_free(key);
    return ctx;
}

/* ---- the process -------------------------------------------------------------------- */

static ssize_t get(SSL *ssl, int fd, char *buf, size_t n)
{
    return ssl != NULL ? SSL_read(ssl, buf, (int)n) : recv(fd, buf, n, 0);
}

static void put(SSL *ssl, int fd, const char *text, size_t n)
{
    if (ssl != NULL)
        SSL_write(ssl, text, (int)n);
    else
        (void)!send(fd, text, n, MSG_NOSIGNAL);
}

/* The head, then as much as Content-Length says. */
static size_t read_request(SSL *ssl, int fd, char *buf)
{
    size_t n = 0, want = SIZE_MAX;
    while (n < want && n < REQUEST_MAX - 1) {
        ssize_t got = get(ssl, fd, buf + n, REQUEST_MAX - 1 - n);
        if (got <= 0)
            return 0;
        n += (size_t)got;
        buf[n] = '\0';
        const char *end = strstr(buf, "\r\n\r\n"), *length = strstr(buf, "Content-Length: ");
        if (want == SIZE_MAX && end != NULL && length != NULL)
            want = (size_t)(end - buf) + 4 + strtoul(length + 16, NULL, 10);
    }
    return n;
}

static void serve(const struct server *s, SSL_CTX *ctx, int fd, size_t count, int requests)
{
    static char buf[REQUEST_MAX];
    SSL *ssl = NULL;
    if (ctx != NULL) {
        ssl = SSL_new(ctx);
        SSL_set_fd(ssl, fd);
        if (SSL_accept(ssl) != 1) {
            SSL_free(ssl);
            return;
        }
    }
    size_t n = read_request(ssl, fd, buf);
    if (n > 0)
        (void)!send(requests, buf, n, MSG_NOSIGNAL);
    const struct server_answer *a = &s->answers[count < s->answers_n ? count : s->answers_n - 1];
    if (a->stays_silent)
        pause();
    if (a->text != NULL && n > 0) {
        size_t left = strlen(a->text), step = a->is_dribbled ? 1 : left;
        for (const char *p = a->text; left > 0; p += step, left -= step)
            put(ssl, fd, p, step);
        if (ssl != NULL)
            SSL_shutdown(ssl);
    }
    SSL_free(ssl);
}

void server_start(struct server *s)
{
    int pair[2];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 16), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &size), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    SSL_CTX *ctx = s->host != NULL ? make_context(s) : NULL;
    s->port = ntohs(at.sin_port);
    s->requests = pair[0];
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_IGN);
        for (size_t count = 0;; count++) {
            int fd = accept(listener, NULL, NULL);
            serve(s, ctx, fd, count, pair[1]);
            close(fd);
        }
    }
    SSL_CTX_free(ctx);
    close(listener);
    close(pair[1]);
}

void server_stop(struct server *s)
{
    kill(s->pid, SIGKILL);
    assert_int_equal(waitpid(s->pid, NULL, 0), s->pid);
    close(s->requests);
}

void server_request(struct server *s, char *out, size_t cap)
{
    struct pollfd p = {.fd = s->requests, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 5000), 1);
    ssize_t n = recv(s->requests, out, cap - 1, 0);
    assert_true(n > 0);
    out[n] = '\0';
}

size_t server_requests_left(struct server *s)
{
    static char buf[REQUEST_MAX];
    size_t n = 0;
    while (recv(s->requests, buf, sizeof buf, MSG_DONTWAIT) > 0)
        n++;
    return n;
}

int server_dial(const struct server *s)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
        .sin_port = htons(s->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}
