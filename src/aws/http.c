#include "aws/http.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "aws/amazon_roots.h"
#include "aws/aws.h"
#include "base/clock.h"
#include "crypto/secret.h"

/* One connection: plain when ssl is NULL. outcome is what a failure means. */
struct stream {
    int fd;
    SSL *ssl;
    uint64_t deadline_us;
    enum http_outcome outcome;
    struct err *err;
};

static bool wait_for(struct stream *s, short events)
{
    for (;;) {
        uint64_t now = clock_monotonic_us();
        if (now >= s->deadline_us)
            return err_set(s->err, "no answer in time");
        uint64_t left_ms = (s->deadline_us - now) / 1000U + 1;
        struct pollfd p = {.fd = s->fd, .events = events};
        int n = poll(&p, 1, left_ms > 60000 ? 60000 : (int)left_ms);
        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR)
            return err_errno(s->err, "cannot wait for the connection");
    }
}

/* ---- TLS ------------------------------------------------------------------------- */

static bool add_roots(X509_STORE *store, const char *pem, struct err *err)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    unsigned roots_n = 0;
    bool ok = bio != NULL;
    for (X509 *root; ok && (root = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL; roots_n++) {
        ok = X509_STORE_add_cert(store, root) == 1;
        X509_free(root);
    }
    BIO_free(bio);
    ERR_clear_error();
    return (ok && roots_n > 0) || err_set(err, "the root certificate is not PEM");
}

static bool has_own_root(const struct http_tls *tls)
{
    return tls->root_pem != NULL && tls->root_pem[0] != '\0';
}

static bool add_trusted(X509_STORE *store, const struct http_tls *tls, struct err *err)
{
    bool ok = true;
    if (has_own_root(tls))
        return add_roots(store, tls->root_pem, err);
    for (size_t i = 0; ok && i < AMAZON_ROOTS_COUNT; i++)
        ok = add_roots(store, amazon_roots_pem[i], err);
    return ok;
}

static bool expect_host(X509_VERIFY_PARAM *param, SSL *ssl, const char *host)
{
    if (X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1)
        return true; /* an address: no server name indication (RFC 6066) */
    ERR_clear_error();
    char name[256]; /* OpenSSL's macro wants it writable */
    snprintf(name, sizeof name, "%s", host);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(param, host, 0) == 1 &&
           SSL_set_tlsext_host_name(ssl, name) == 1;
}

static SSL *tls_new(int fd, const struct http_tls *tls, struct err *err)
{
    SSL *ssl = NULL;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1) {
        err_set(err, "cannot set up TLS: %s", aws_openssl_reason());
    } else if (add_trusted(SSL_CTX_get_cert_store(ctx), tls, err)) {
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
        ssl = SSL_new(ctx);
        X509_VERIFY_PARAM *param = ssl != NULL ? SSL_get0_param(ssl) : NULL;
        if (ssl == NULL || !expect_host(param, ssl, tls->host) || SSL_set_fd(ssl, fd) != 1) {
            err_set(err, "cannot set up TLS: %s", aws_openssl_reason());
            SSL_free(ssl);
            ssl = NULL;
        } else {
            X509_VERIFY_PARAM_set_time(param, (time_t)tls->now_s);
            SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
        }
    }
    SSL_CTX_free(ctx); /* the SSL holds it */
    return ssl;
}

/* After a call of OpenSSL that returned ret <= 0: waits and returns true when it is to be called again. false with the
 * reason; *ret_closed (may be NULL) tells an end in order from a failure. */
static bool tls_again(struct stream *s, int ret, bool *ret_closed)
{
    switch (SSL_get_error(s->ssl, ret)) {
    case SSL_ERROR_WANT_READ:
        return wait_for(s, POLLIN);
    case SSL_ERROR_WANT_WRITE:
        return wait_for(s, POLLOUT);
    case SSL_ERROR_ZERO_RETURN:
        if (ret_closed != NULL)
            *ret_closed = true;
        return err_set(s->err, "the connection was closed");
    case SSL_ERROR_SYSCALL:
        return errno != 0 ? err_errno(s->err, "the connection broke")
                          : err_set(s->err, "the connection was cut off");
    default:
        return err_set(s->err, "TLS failed: %s", aws_openssl_reason());
    }
}

static bool tls_handshake(struct stream *s, const struct http_tls *tls)
{
    for (;;) {
        errno = 0;
        ERR_clear_error();
        int done = SSL_connect(s->ssl);
        if (done == 1)
            return true;
        long verdict = SSL_get_verify_result(s->ssl);
        if (verdict != X509_V_OK) {
            s->outcome = HTTP_REFUSED;
            return err_set(s->err,
                "the certificate of %s is not accepted: %s (trusted are %s; it is judged at "
                "%lld seconds since 1970)",
                tls->host, X509_verify_cert_error_string(verdict),
                has_own_root(tls) ? "only the configured roots" : "only Amazon's roots",
                (long long)tls->now_s);
        }
        if (!tls_again(s, done, NULL))
            return err_prefix(s->err, "no TLS connection to %s", tls->host);
    }
}

/* ---- both ------------------------------------------------------------------------ */

/* At most n bytes; waits at least once for some. *ret_n is 0 at the end of the stream, in order. */
static bool read_some(struct stream *s, uint8_t *buf, size_t n, size_t *ret_n)
{
    for (;;) {
        errno = 0;
        bool closed = false;
        if (s->ssl != NULL) {
            ERR_clear_error();
            int got = SSL_read(s->ssl, buf, (int)n);
            if (got > 0) {
                *ret_n = (size_t)got;
                return true;
            }
            if (!tls_again(s, got, &closed) && !closed)
                return false;
        } else {
            ssize_t got = recv(s->fd, buf, n, 0);
            if (got > 0) {
                *ret_n = (size_t)got;
                return true;
            }
            closed = got == 0;
            if (got < 0 && errno != EAGAIN && errno != EINTR)
                return err_errno(s->err, "the connection broke");
            if (!closed && !wait_for(s, POLLIN))
                return false;
        }
        if (closed) {
            *ret_n = 0;
            return true;
        }
    }
}

static bool write_all(struct stream *s, struct bytes b)
{
    struct reader r = reader_of(b);
    while (r.n > 0) {
        errno = 0;
        ssize_t put;
        if (s->ssl != NULL) {
            ERR_clear_error();
            put = SSL_write(s->ssl, r.p, r.n > INT32_MAX ? INT32_MAX : (int)r.n);
            if (put <= 0 && !tls_again(s, (int)put, NULL))
                return false;
        } else {
            put = send(s->fd, r.p, r.n, MSG_NOSIGNAL);
            if (put < 0 && errno != EAGAIN && errno != EINTR)
                return err_errno(s->err, "the connection broke");
            if (put < 0 && !wait_for(s, POLLOUT))
                return false;
        }
        if (put > 0)
            read_bytes(&r, (size_t)put);
    }
    return true;
}

static bool send_request(struct stream *s, const struct http_request *req)
{
    char head[HTTP_HEADERS_MAX];
    int n = snprintf(head, sizeof head,
        "%s %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %zu\r\nConnection: close\r\n\r\n",
        req->method, req->path, req->host, req->headers != NULL ? req->headers : "", req->body.n);
    bool fits = n > 0 && (size_t)n < sizeof head;
    if (!fits)
        s->outcome = HTTP_REFUSED;
    bool ok = fits ? write_all(s, bytes_of(head, (size_t)n)) && write_all(s, req->body)
                   : err_set(s->err, "the request's headers are too long");
    secret_wipe(head, sizeof head); /* session tokens */
    return ok;
}

static bool read_answer(struct stream *s, struct http_answer *ret)
{
    uint8_t buf[4096];
    size_t n = 0;
    bool wants_more = true;
    while (wants_more) {
        if (!read_some(s, buf, sizeof buf, &n))
            return false;
        wants_more = n > 0 && http_answer_feed(ret, bytes_of(buf, n));
        if (n == 0)
            http_answer_close(ret);
    }
    if (ret->state == HTTP_DONE)
        return true;
    if (n > 0) /* not cut short: it is wrong, and will be again */
        s->outcome = HTTP_REFUSED;
    return err_set(s->err, "%s", ret->why);
}

enum http_outcome http_call(int fd, const struct http_tls *tls, const struct http_request *req,
    uint64_t deadline_us, struct http_answer *ret, struct err *err)
{
    struct stream s = {.fd = fd, .deadline_us = deadline_us, .outcome = HTTP_BROKEN, .err = err};
    *ret = (struct http_answer){0};
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        err_errno(err, "cannot use the connection");
        return HTTP_BROKEN;
    }
    if (tls != NULL && (s.ssl = tls_new(fd, tls, err)) == NULL)
        return HTTP_REFUSED;
    bool ok =
        (tls == NULL || tls_handshake(&s, tls)) && send_request(&s, req) && read_answer(&s, ret);
    SSL_free(s.ssl);
    return ok ? HTTP_ANSWERED : s.outcome;
}
