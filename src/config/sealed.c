#include "config/sealed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- keys ---- */

/* The region becomes part of a host name. */
static bool is_region(const char *region)
{
    return region[strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-")] == '\0';
}

/* A value that was refused is not missing. */
static bool has(const struct raw_softsign *s, const char *key)
{
    return json_object_get(s->table, key) != NULL;
}

static void check_without_seal(const struct raw *raw, const struct raw_softsign *s)
{
    static const char *const keys[] = {"aws_region", "credentials", "kms_key_id",
        "encryption_context", "kms_endpoint", "kms_vsock_port", "kms_root_file", "kms_root_pem"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (has(s, keys[i]))
            complain_mildly(
                raw, &s->place, keys[i], "is of use only with encrypted_key_b64; remove it");
}

static void check_seal(const struct raw *raw, const struct raw_softsign *s)
{
    if (!has(s, "aws_region"))
        complain(raw, &s->place, "aws_region",
            "is missing; encrypted_key_b64 needs the region of its KMS key, for example "
            "\"ap-southeast-1\"");
    else if (!is_region(s->kms.region))
        complain(raw, &s->place, "aws_region",
            "\"%s\" is no region; write its short name, for example \"ap-southeast-1\"",
            s->kms.region);
    if (has(s, "kms_root_file") && has(s, "kms_root_pem"))
        complain(raw, &s->place, "kms_root_file", "stands beside kms_root_pem; remove one of them");
    if (raw->is_pushed && has(s, "kms_root_file"))
        complain(raw, &s->place, "kms_root_file",
            "the enclave sees no files of the host; push the configuration with `tmkms nitro "
            "push-config`, which reads the file");
}

void sealed_check_softsign(const struct raw *raw, const struct raw_softsign *s)
{
    bool is_sealed = has(s, "encrypted_key_b64"), is_file = has(s, "path");
    if (is_sealed && is_file)
        complain(raw, &s->place, "path",
            "stands beside encrypted_key_b64; a key is in one place, remove one of them");
    else if (is_sealed)
        check_seal(raw, s);
    else if (is_file)
        check_without_seal(raw, s);
    else
        complain(raw, &s->place, "path",
            "is missing; add it: the key file (or, for an enclave, encrypted_key_b64)");
}

static void fill_endpoint(
    const struct raw *raw, struct kms_place *kms, const struct raw_softsign *s)
{
    char text[sizeof s->endpoint + 8];
    struct link_address a;
    struct err err;
    if (s->endpoint[0] == '\0')
        return;
    if (strpbrk(s->endpoint, "/@[") != NULL) {
        complain(raw, &s->place, "kms_endpoint", "\"%.80s\" is not of the form host or host:port",
            s->endpoint);
        return;
    }
    bool has_port = strchr(s->endpoint, ':') != NULL;
    snprintf(text, sizeof text, "%s%s", s->endpoint, has_port ? "" : ":443");
    if (!link_address_parse(&a, text, &err)) {
        complain(raw, &s->place, "kms_endpoint", "%.600s", err.text);
        return;
    }
    memcpy(kms->host, a.host, sizeof kms->host);
    kms->port = a.port;
}

/* ---- encryption context ---- */

struct pair {
    const char *name, *value;
};

static int compare_pairs(const void *a, const void *b)
{
    return strcmp(((const struct pair *)a)->name, ((const struct pair *)b)->name);
}

enum { PAIRS_MAX = 32 };

/* Sorted, so that the order in the file changes nothing. */
static size_t take_pairs(struct pair out[PAIRS_MAX], const json_t *context)
{
    size_t n = 0;
    const char *name;
    json_t *item;
    json_object_foreach((json_t *)(uintptr_t)context, name, item)
    {
        if (n == PAIRS_MAX)
            return 0;
        out[n++] = (struct pair){name, json_string_value(item)};
    }
    qsort(out, n, sizeof *out, compare_pairs);
    return n;
}

/* NAME\0VALUE\0 ...; a place that the hash will take is counted with the hash's length. */
static bool pack_pairs(struct config_chain *c, const struct pair *pairs, size_t n)
{
    size_t at = 0, used = 0;
    for (size_t i = 0; i < n; i++) {
        bool is_measured = strcmp(pairs[i].value, CONFIG_CONTEXT_MEASURED) == 0;
        size_t name_n = strlen(pairs[i].name) + 1, value_n = strlen(pairs[i].value) + 1;
        used += name_n + (is_measured ? CONFIG_MEASURED_HEX + 1 : value_n);
        if (used > sizeof c->kms.context)
            return false;
        memcpy(c->kms.context + at, pairs[i].name, name_n);
        memcpy(c->kms.context + at + name_n, pairs[i].value, value_n);
        at += name_n + value_n;
        c->context_has_measured |= is_measured;
    }
    c->kms.context_n = (uint32_t)n;
    return true;
}

static void fill_context(
    const struct raw *raw, struct config_chain *c, const struct raw_softsign *s)
{
    struct pair pairs[PAIRS_MAX];
    if (s->context == NULL)
        return;
    size_t n = take_pairs(pairs, s->context);
    if (n == 0 || !pack_pairs(c, pairs, n))
        complain(raw, &s->place, "encryption_context",
            "is too long; at most %d pairs with %zu characters in all are allowed", PAIRS_MAX,
            sizeof c->kms.context);
}

void config_chain_kms(struct kms_place *ret, const struct config_chain *c,
    const char measured_hex[CONFIG_MEASURED_HEX + 1])
{
    memcpy(ret, &c->kms, sizeof *ret);
    memset(ret->context, 0, sizeof ret->context);
    const char *from = c->kms.context;
    size_t used = 0;
    for (uint32_t i = 0; i < 2 * c->kms.context_n; i++) {
        bool is_measured = i % 2 == 1 && strcmp(from, CONFIG_CONTEXT_MEASURED) == 0;
        int n = snprintf(ret->context + used, sizeof ret->context - used, "%s",
            is_measured ? measured_hex : from);
        used += (size_t)n + 1; /* fits: pack_pairs has counted */
        from += strlen(from) + 1;
    }
}

void sealed_fill_chain(const struct raw *raw, struct raw_chain *c, const struct raw_softsign *s)
{
    if (s->sealed.n == 0)
        return;
    struct config_chain *out = &c->out;
    out->sealed_n = s->sealed.n;
    memcpy(out->sealed, s->sealed.bytes, sizeof out->sealed);
    memcpy(&out->kms, &s->kms, sizeof out->kms);
    out->kms_root_is_file = has(s, "kms_root_file");
    fill_endpoint(raw, &out->kms, s);
    fill_context(raw, out, s);
}

/* ---- validators ---- */

static void finish_address(const struct raw *raw, struct raw_validator *v)
{
    struct link_address *a = &v->out.address;
    if (v->peer_id[0] != '\0') {
        a->has_peer_id = hex_decode(v->peer_id, strlen(v->peer_id), a->peer_id, PEER_ID_LEN);
        if (!a->has_peer_id)
            complain(raw, &v->place, "addr", "peer_id \"%s\" is not 40 hex digits", v->peer_id);
        if (!a->is_secret_connection)
            complain(raw, &v->place, "addr",
                "peer_id is checked on a secret connection only; add secret_connection = true, or "
                "remove it");
    }
    link_address_set_vsock(a);
}

void sealed_finish_validator(const struct raw *raw, struct raw_validator *v)
{
    if (v->out.address.vsock_port != 0)
        finish_address(raw, v);
    if (v->sealed.n == 0)
        return;
    v->out.sealed_n = v->sealed.n;
    memcpy(v->out.sealed, v->sealed.bytes, sizeof v->out.sealed);
    if (v->out.secret_key[0] != '\0')
        complain(raw, &v->place, "secret_key",
            "stands beside encrypted_secret_key_b64; remove one of them");
    for (size_t i = 0; i < raw->chains_n; i++)
        if (strcmp(raw->chains[i].out.id, v->out.chain_id) == 0 && raw->chains[i].out.sealed_n == 0)
            complain(raw, &v->place, "encrypted_secret_key_b64",
                "is opened as the key of chain %s is, but that one has no encrypted_key_b64",
                v->out.chain_id);
}

/* ---- ports ---- */

static bool is_state_port(const struct raw *raw, uint32_t port)
{
    for (size_t i = 0; i < raw->chains_n; i++)
        if (raw->chains[i].out.state_port == port)
            return true;
    return false;
}

static bool is_kms_port(const struct raw *raw, uint32_t port)
{
    for (size_t i = 0; i < raw->chains_n; i++)
        if (raw->chains[i].out.sealed_n > 0 && raw->chains[i].out.kms.vsock_port == port)
            return true;
    return false;
}

static void check_port(
    const struct raw *raw, const struct place *place, const char *key, uint32_t port)
{
    if (port == 0)
        return;
    if (is_state_port(raw, port))
        complain(
            raw, place, key, "%" PRIu32 " is a state_vsock_port too; choose another port", port);
    if (is_kms_port(raw, port))
        complain(raw, place, key, "%" PRIu32 " is the port of KMS too; choose another port", port);
    if (port == raw->enclave.log_port)
        complain(
            raw, place, key, "%" PRIu32 " is the log_vsock_port too; choose another port", port);
}

void sealed_check_ports(const struct raw *raw)
{
    for (size_t i = 0; i < raw->validators_n; i++)
        check_port(
            raw, &raw->validators[i].place, "addr", raw->validators[i].out.address.vsock_port);
    for (size_t i = 0; i < raw->chains_n; i++) {
        const struct config_chain *c = &raw->chains[i].out;
        if (c->state_port != 0 &&
            (c->state_port == raw->enclave.log_port || is_kms_port(raw, c->state_port)))
            complain(raw, &raw->chains[i].place, "state_vsock_port",
                "%" PRIu32 " is the port of the log or of KMS too; choose another port",
                c->state_port);
    }
}
