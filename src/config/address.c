#include "config/address.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "crypto/encode.h"

static const char expected_forms[] =
    "expected unix:///path, tcp://[ID@]host:port or noise://PEERID@ip:port";

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* One character of a path, percent-decoded; advances *text. -1: not a valid escape, or a control
 * character, which could end the path early or break a log line. */
static int path_char(const char **text)
{
    uint8_t c = (uint8_t) * *text;
    if (c == '%') {
        if (strnlen(*text, 3) < 3 || !hex_decode(*text + 1, 2, &c, 1))
            return -1;
        *text += 3;
    } else {
        *text += 1;
    }
    return c < 0x20 || c == 0x7f ? -1 : c;
}

static bool parse_unix(struct link_address *a, const char *text, struct err *err)
{
    const char *p = text + strlen("unix://");
    if (*p == '\0')
        return err_set(err, "the address %.300s has no path: expected unix:///path", text);
    if (*p == '@')
        return err_set(err,
            "the address %.300s is an abstract socket, which is not supported: expected "
            "unix:///path",
            text);
    size_t n = 0;
    while (*p != '\0') {
        int c = path_char(&p);
        if (c < 0)
            return err_set(err,
                "the path in %.300s holds a control character or a '%%' that is not followed by "
                "two hex digits",
                text);
        if (n == sizeof a->path - 1)
            return err_set(err,
                "the path in %.300s is too long: a unix socket's path has at most %zu bytes", text,
                sizeof a->path - 1);
        a->path[n++] = (char)c;
    }
    a->kind = LINK_UNIX;
    snprintf(a->text, sizeof a->text, "unix://%s", a->path);
    return true;
}

/* Decimal digits only, 1..65535. */
static bool parse_port(uint16_t *ret, const char *digits)
{
    uint32_t port = 0;
    size_t n = strlen(digits);
    if (n == 0 || n > 5)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (digits[i] < '0' || digits[i] > '9')
            return false;
        port = port * 10 + (uint32_t)(digits[i] - '0');
    }
    if (port == 0 || port > UINT16_MAX)
        return false;
    *ret = (uint16_t)port;
    return true;
}

static bool is_name(const char *host)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    return host[0] != '\0' && host[strspn(host, allowed)] == '\0';
}

static bool is_ip(int family, const char *host)
{
    uint8_t raw[16];
    return inet_pton(family, host, raw) == 1;
}

/* host:port, [v6]:port. text is the whole address, for messages. */
static bool parse_host_port(
    struct link_address *a, const char *part, const char *text, struct err *err)
{
    bool bracketed = *part == '[';
    const char *colon = bracketed ? strstr(part, "]:") : strchr(part, ':');
    if (colon == NULL)
        return err_set(err, "the address %.300s has no port: %s", text, expected_forms);
    const char *host = part + (bracketed ? 1 : 0);
    const char *port = colon + (bracketed ? 2 : 1);
    size_t host_n = (size_t)(colon - host);
    if (!bracketed && strchr(port, ':') != NULL)
        return err_set(err,
            "the host in %.300s has several colons: put an IPv6 address in brackets, "
            "[::1]:26658",
            text);
    if (host_n >= sizeof a->host)
        return err_set(err, "the host in %.300s is too long", text);
    memcpy(a->host, host, host_n);
    if (bracketed ? !is_ip(AF_INET6, a->host) : !is_name(a->host))
        return err_set(err, "the host \"%.80s\" in %.300s is no %s", a->host, text,
            bracketed ? "IPv6 address" : "host name or IP address");
    if (!parse_port(&a->port, port))
        return err_set(
            err, "the port \"%.20s\" in %.300s is not a number from 1 to 65535", port, text);
    return true;
}

/* An address as the Rust tmkms prints it: the id only when it was given. */
static void print_text(struct link_address *a, const char *scheme, const char *id)
{
    bool v6 = strchr(a->host, ':') != NULL;
    snprintf(a->text, sizeof a->text, "%s://%s%s%s%s%s:%u", scheme, id, *id == '\0' ? "" : "@",
        v6 ? "[" : "", a->host, v6 ? "]" : "", a->port);
}

void link_address_set_vsock(struct link_address *a)
{
    char id[2 * PEER_ID_LEN + 1] = "";
    if (a->has_peer_id)
        hex_lower(bytes_of(a->peer_id, PEER_ID_LEN), id);
    a->kind = LINK_VSOCK;
    snprintf(a->text, sizeof a->text, "vsock://%s%sparent:%" PRIu32, id, a->has_peer_id ? "@" : "",
        a->vsock_port);
}

bool link_address_needs_identity(const struct link_address *a)
{
    switch ((enum link_kind)a->kind) {
    case LINK_UNIX:
        return false;
    case LINK_TCP:
    case LINK_NOISE:
        return true;
    case LINK_VSOCK:
        return a->is_secret_connection;
    }
    return false;
}

static bool parse_tcp(struct link_address *a, const char *text, struct err *err)
{
    const char *rest = starts_with(text, "tcp://") ? text + strlen("tcp://") : text;
    const char *at = strchr(rest, '@');
    char id[2 * PEER_ID_LEN + 1] = "";
    if (at != NULL) {
        if (!hex_decode(rest, (size_t)(at - rest), a->peer_id, PEER_ID_LEN))
            return err_set(err, "the peer id in %.300s is not 40 hex digits", text);
        a->has_peer_id = true;
        hex_lower(bytes_of(a->peer_id, PEER_ID_LEN), id);
        rest = at + 1;
    }
    if (!parse_host_port(a, rest, text, err))
        return false;
    a->kind = LINK_TCP;
    print_text(a, "tcp", id);
    return true;
}

/* libp2p's inline peer id: identity multihash of the protobuf public key (go-libp2p core/peer). Ids
 * of other keys are well formed, but no handshake of ours could ever match them. */
static bool parse_noise_peer(
    uint8_t out[NOISE_PEER_LEN], const char *id, size_t id_n, const char *text, struct err *err)
{
    static const uint8_t ed25519[] = {0x00, 0x24, 0x08, 0x01, 0x12, 0x20};
    uint8_t raw[NOISE_PEER_LEN] = {0};
    size_t raw_n = 0;
    if (id_n > 0 && base58_decode(id, id_n, raw, sizeof raw, &raw_n) && raw_n == sizeof raw &&
        bytes_equal(bytes_of(raw, sizeof ed25519), bytes_of(ed25519, sizeof ed25519))) {
        memcpy(out, raw, sizeof raw);
        return true;
    }
    return err_set(err,
        "the peer id in %.300s is not that of an Ed25519 node key (12D3KooW...); "
        "`cometbft show-node-id --libp2p` prints the node's",
        text);
}

static bool parse_noise(struct link_address *a, const char *text, struct err *err)
{
    const char *id = text + strlen("noise://");
    const char *at = strchr(id, '@');
    if (at == NULL)
        return err_set(err,
            "the address %.300s has no peer id: expected noise://PEERID@ip:port; "
            "`cometbft show-node-id --libp2p` prints the node's",
            text);
    if (!parse_noise_peer(a->noise_peer, id, (size_t)(at - id), text, err) ||
        !parse_host_port(a, at + 1, text, err))
        return false;
    if (!is_ip(AF_INET, a->host) && !is_ip(AF_INET6, a->host))
        return err_set(err, "the host \"%.80s\" in %.300s is a name: noise needs an IP address",
            a->host, text);
    char id_text[NOISE_PEER_LEN * 2];
    snprintf(id_text, sizeof id_text, "%.*s", (int)(at - id), id);
    a->kind = LINK_NOISE;
    print_text(a, "noise", id_text);
    return true;
}

bool link_address_parse(struct link_address *ret, const char *text, struct err *err)
{
    struct link_address a = {0};
    bool ok;
    if (starts_with(text, "unix://"))
        ok = parse_unix(&a, text, err);
    else if (starts_with(text, "noise://"))
        ok = parse_noise(&a, text, err);
    else if (starts_with(text, "tcp://") || strstr(text, "://") == NULL)
        ok = parse_tcp(&a, text, err);
    else
        ok = err_set(err, "the address %.300s has an unknown scheme: %s", text, expected_forms);
    if (ok)
        *ret = a;
    return ok;
}
