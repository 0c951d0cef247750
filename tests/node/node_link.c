/* The node's sockets: listen, accept one signer, handshake, send, receive. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "crypto/encode.h"
#include "link/secure.h"
#include "node.h"
#include "noise_responder.h"

enum { NOISE_PART_MAX = 65519, READ_MAX = 16384, SEND_SECONDS = 10 };

struct node_listener {
    int fd;
    enum link_kind kind;
    const struct signing_key *identity;
    char address[LINK_TEXT_MAX]; /* for the signer */
    char path[LINK_UNIX_PATH_MAX];
};

struct node_conn {
    int fd;
    enum link_kind kind;
    struct secure *secure;        /* unix, tcp: SecretConnection is the same on both sides */
    struct noise_responder noise; /* noise */
    uint8_t sealed[2 + 65535];    /* noise: the unfinished message */
    size_t sealed_n;
    bool closed;
    uint8_t plain[NODE_REPLY_MAX + READ_MAX + SECURE_HELD_MAX];
    size_t plain_n, plain_used; /* used: the frame handed out by the last node_receive */
};

struct signing_key *node_identity_new(const uint8_t *seed, struct err *err)
{
    uint8_t fresh[ED25519_SEED_LEN];
    struct signing_key *key = NULL;
    random_bytes(fresh, sizeof fresh);
    if (!signing_key_create(&key, KEY_ED25519, PRIVATE_SEED,
            bytes_of(seed != NULL ? seed : fresh, ED25519_SEED_LEN), err))
        return NULL;
    return key;
}

/* ---- listening ---- */

static bool listen_unix(struct node_listener *l, const char *path, struct err *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof a.sun_path)
        return err_set(err, "%s is too long for a unix socket", path);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    snprintf(l->path, sizeof l->path, "%s", path);
    snprintf(l->address, sizeof l->address, "unix://%s", path);
    unlink(path);
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (l->fd < 0 || bind(l->fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(l->fd, 16) != 0)
        return err_errno(err, "cannot listen on %s", path);
    return true;
}

/* The node's id as the signer's configuration writes it. */
static bool id_text(const struct node_listener *l, char *out, size_t cap)
{
    const struct public_key *key = signing_key_public(l->identity);
    uint8_t id[NOISE_PEER_LEN] = {0x00, 0x24, 0x08, 0x01, 0x12, 0x20}, hash[SHA256_LEN];
    memcpy(id + 6, key->bytes, 32);
    if (l->kind == LINK_NOISE)
        return base58_encode(bytes_of(id, sizeof id), out, cap);
    sha256(bytes_of(key->bytes, key->len), hash);
    hex_lower(bytes_of(hash, PEER_ID_LEN), out);
    return true;
}

static bool listen_ip(
    struct node_listener *l, const char *scheme, const char *host_port, struct err *err)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t a_n = sizeof a;
    char host[INET_ADDRSTRLEN] = "", id[2 * PEER_ID_LEN + 64];
    const char *colon = strrchr(host_port, ':');
    size_t host_n = colon != NULL ? (size_t)(colon - host_port) : sizeof host;
    if (host_n < sizeof host)
        memcpy(host, host_port, host_n);
    if (inet_pton(AF_INET, host, &a.sin_addr) != 1)
        return err_set(err, "%s://%s: expected %s://IPV4:PORT", scheme, host_port, scheme);
    a.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    if (l->fd < 0 || setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(l->fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(l->fd, 16) != 0 ||
        getsockname(l->fd, (struct sockaddr *)&a, &a_n) != 0)
        return err_errno(err, "cannot listen on %s://%s", scheme, host_port);
    if (!id_text(l, id, sizeof id))
        return err_set(err, "the node's id cannot be printed");
    snprintf(l->address, sizeof l->address, "%s://%s@%s:%u", scheme, id, host, ntohs(a.sin_port));
    return true;
}

struct node_listener *node_listen(
    const char *address, const struct signing_key *identity, struct err *err)
{
    struct node_listener *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->fd = -1;
    l->identity = identity;
    bool ok = false;
    if (strncmp(address, "unix://", 7) == 0) {
        l->kind = LINK_UNIX;
        ok = listen_unix(l, address + 7, err);
    } else if (identity == NULL) {
        err_set(err, "%s needs an identity", address);
    } else if (strncmp(address, "tcp://", 6) == 0) {
        l->kind = LINK_TCP;
        ok = listen_ip(l, "tcp", address + 6, err);
    } else if (strncmp(address, "noise://", 8) == 0) {
        l->kind = LINK_NOISE;
        ok = listen_ip(l, "noise", address + 8, err);
    } else {
        err_set(err, "%s: expected unix://PATH, tcp://IP:PORT or noise://IP:PORT", address);
    }
    if (ok)
        return l;
    node_unlisten(l);
    return NULL;
}

const char *node_address(const struct node_listener *l)
{
    return l->address;
}

int node_listener_fd(const struct node_listener *l)
{
    return l->fd;
}

void node_unlisten(struct node_listener *l)
{
    if (l == NULL)
        return;
    fd_close(&l->fd);
    if (l->path[0] != '\0')
        unlink(l->path);
    free(l);
}

/* ---- waiting ---- */

static bool wait_readable(int fd, uint64_t deadline, struct err *err)
{
    for (;;) {
        uint64_t now = clock_monotonic_us();
        if (now >= deadline)
            return err_set(err, "the signer did not answer in time");
        uint64_t ms = (deadline - now) / 1000 + 1;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int n = poll(&p, 1, ms > 60000 ? 60000 : (int)ms);
        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR)
            return err_errno(err, "poll");
        if (n < 0)
            return err_set(err, "interrupted");
    }
}

/* At most cap bytes, at least one. */
static bool read_some(struct node_conn *c, uint8_t *buf, size_t cap, size_t *ret_n,
    uint64_t deadline, struct err *err)
{
    if (!wait_readable(c->fd, deadline, err))
        return false;
    ssize_t n = recv(c->fd, buf, cap, 0);
    c->closed = n <= 0;
    if (n < 0)
        return err_errno(err, "reading from the signer");
    if (n == 0)
        return err_set(err, "the signer closed the connection");
    *ret_n = (size_t)n;
    return true;
}

static bool read_all(
    struct node_conn *c, uint8_t *buf, size_t n, uint64_t deadline, struct err *err)
{
    while (n > 0) {
        size_t got = 0;
        if (!read_some(c, buf, n, &got, deadline, err))
            return false;
        buf += got;
        n -= got;
    }
    return true;
}

static bool write_all(struct node_conn *c, struct bytes b, struct err *err)
{
    for (struct reader r = reader_of(b); r.n > 0;) {
        ssize_t n = send(c->fd, r.p, r.n, MSG_NOSIGNAL);
        if (n <= 0) {
            c->closed = true;
            return err_errno(err, "sending to the signer");
        }
        read_bytes(&r, (size_t)n);
    }
    return true;
}

/* ---- handshakes ---- */

static bool read_noise_message(
    struct node_conn *c, size_t cap, struct bytes *ret, uint64_t deadline, struct err *err)
{
    if (!read_all(c, c->sealed, 2, deadline, err))
        return false;
    size_t n = (size_t)(c->sealed[0] << 8 | c->sealed[1]);
    if (n > cap)
        return err_set(err, "a handshake message of %zu bytes", n);
    *ret = bytes_of(c->sealed + 2, n);
    return read_all(c, c->sealed + 2, n, deadline, err);
}

static bool handshake_noise(
    struct node_conn *c, const struct signing_key *identity, uint64_t deadline, struct err *err)
{
    uint8_t buf[2 + RESPONDER_MESSAGE2_MAX];
    struct writer message2 = writer_of(buf + 2, sizeof buf - 2);
    struct bytes in;
    random_bytes(c->noise.ephemeral, X25519_LEN);
    random_bytes(c->noise.fixed, X25519_LEN);
    c->noise.identity = identity;
    c->noise.sends_extensions = true;
    if (!read_noise_message(c, RESPONDER_MESSAGE2_MAX, &in, deadline, err) ||
        !noise_responder_answer(&c->noise, in, &message2, err))
        return false;
    buf[0] = (uint8_t)(message2.n >> 8);
    buf[1] = (uint8_t)message2.n;
    return write_all(c, bytes_of(buf, 2 + message2.n), err) &&
           read_noise_message(c, RESPONDER_MESSAGE2_MAX, &in, deadline, err) &&
           noise_responder_finish(&c->noise, in, err);
}

static bool handshake_secure(
    struct node_conn *c, const struct signing_key *identity, uint64_t deadline, struct err *err)
{
    struct link_address any = {.kind = c->kind, .text = "signer"};
    c->secure = secure_new(&any, identity, err);
    if (c->secure == NULL)
        return false;
    struct writer plain = writer_of(c->plain, sizeof c->plain);
    while (write_all(c, secure_output(c->secure), err)) {
        uint8_t buf[2048];
        size_t n;
        if (secure_state(c->secure) == SECURE_OPEN)
            return true;
        if (!read_some(c, buf, sizeof buf, &n, deadline, err) ||
            !secure_input(c->secure, bytes_of(buf, n), &plain, err))
            return false;
        c->plain_n = plain.n;
    }
    return false;
}

static struct node_conn *conn_new(struct node_listener *l, uint64_t deadline, struct err *err)
{
    if (!wait_readable(l->fd, deadline, err))
        return NULL;
    struct node_conn *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->kind = l->kind;
    c->fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
    if (c->fd < 0) {
        err_errno(err, "accept");
        free(c);
        return NULL;
    }
    struct timeval patience = {.tv_sec = SEND_SECONDS};
    int on = 1;
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (l->kind != LINK_UNIX)
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return c;
}

struct node_conn *node_accept_raw(struct node_listener *l, uint64_t deadline, struct err *err)
{
    return conn_new(l, deadline, err);
}

struct node_conn *node_accept(struct node_listener *l, uint64_t deadline, struct err *err)
{
    struct node_conn *c = conn_new(l, deadline, err);
    if (c == NULL)
        return NULL;
    if (l->kind == LINK_NOISE ? handshake_noise(c, l->identity, deadline, err)
                              : handshake_secure(c, l->identity, deadline, err))
        return c;
    node_hang_up(c);
    return NULL;
}

void node_hang_up(struct node_conn *c)
{
    if (c == NULL)
        return;
    fd_close(&c->fd);
    secure_free(c->secure);
    free(c);
}

int node_fd(const struct node_conn *c)
{
    return c->fd;
}

bool node_closed_by_signer(const struct node_conn *c)
{
    return c->closed;
}

/* ---- data ---- */

static bool seal_noise(struct node_conn *c, struct bytes plain, struct writer *out)
{
    bool ok = true;
    for (struct reader r = reader_of(plain); ok && r.n > 0;) {
        struct bytes part = read_bytes(&r, r.n < NOISE_PART_MAX ? r.n : NOISE_PART_MAX);
        write_u16be(out, (uint16_t)(part.n + AEAD_TAG_LEN));
        uint8_t *room = out->buf + out->n;
        ok = out->cap - out->n >= part.n + AEAD_TAG_LEN &&
             aead_seal(&c->noise.to_signer, (struct bytes){0}, part, room);
        out->n += part.n + AEAD_TAG_LEN;
    }
    return ok;
}

bool node_send(struct node_conn *c, struct bytes plain, struct err *err)
{
    uint8_t small[8192], *large = NULL;
    size_t cap = secure_sealed_max(plain.n);
    if (cap > sizeof small && (large = malloc(cap)) == NULL)
        return err_set(err, "no memory");
    struct writer out = writer_of(large != NULL ? large : small, cap);
    bool ok = c->kind == LINK_NOISE ? seal_noise(c, plain, &out) || err_set(err, "cannot seal")
                                    : secure_seal(c->secure, plain, &out, err);
    ok = ok && write_all(c, written(&out), err);
    free(large);
    return ok;
}

/* Opens the noise messages that are whole in c->sealed. */
static bool open_noise(struct node_conn *c, struct writer *plain, struct err *err)
{
    size_t at = 0;
    while (c->sealed_n - at >= 2) {
        size_t n = (size_t)(c->sealed[at] << 8 | c->sealed[at + 1]);
        if (c->sealed_n - at - 2 < n)
            break;
        if (n < AEAD_TAG_LEN || plain->cap - plain->n < n ||
            !aead_open(&c->noise.from_signer, (struct bytes){0}, bytes_of(c->sealed + at + 2, n),
                plain->buf + plain->n))
            return err_set(err, "a noise message that cannot be opened");
        plain->n += n - AEAD_TAG_LEN;
        at += 2 + n;
    }
    memmove(c->sealed, c->sealed + at, c->sealed_n - at);
    c->sealed_n -= at;
    return true;
}

static bool receive_more(struct node_conn *c, uint64_t deadline, struct err *err)
{
    struct writer plain = writer_of(c->plain, sizeof c->plain);
    plain.n = c->plain_n;
    size_t n;
    bool ok;
    if (c->kind == LINK_NOISE) {
        if (!read_some(
                c, c->sealed + c->sealed_n, sizeof c->sealed - c->sealed_n, &n, deadline, err))
            return false;
        c->sealed_n += n;
        ok = open_noise(c, &plain, err);
    } else {
        uint8_t buf[READ_MAX];
        ok = read_some(c, buf, sizeof buf, &n, deadline, err) &&
             secure_input(c->secure, bytes_of(buf, n), &plain, err);
    }
    c->plain_n = plain.n;
    return ok;
}

/* Length of the frame at the start of plain with its prefix; 0: not all of the prefix is there. */
static size_t frame_length(struct bytes plain)
{
    size_t n = 0;
    for (size_t i = 0; i < plain.n && i < 4; i++) {
        n |= (size_t)(plain.p[i] & 0x7f) << (7 * i);
        if (plain.p[i] < 0x80)
            return n + i + 1;
    }
    return plain.n < 4 ? 0 : SIZE_MAX;
}

bool node_receive(struct node_conn *c, struct bytes *ret, uint64_t deadline, struct err *err)
{
    memmove(c->plain, c->plain + c->plain_used, c->plain_n - c->plain_used);
    c->plain_n -= c->plain_used;
    c->plain_used = 0;
    for (;;) {
        size_t n = frame_length(bytes_of(c->plain, c->plain_n));
        if (n > NODE_REPLY_MAX)
            return err_set(err,
                "the reply is longer than %d bytes: an older node would not read it",
                NODE_REPLY_MAX);
        if (n > 0 && n <= c->plain_n) {
            c->plain_used = n;
            *ret = bytes_of(c->plain, n);
            return true;
        }
        if (!receive_more(c, deadline, err))
            return false;
    }
}
