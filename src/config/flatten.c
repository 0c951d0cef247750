#include "config/flatten.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/sealed.h"

/* The Rust program's words, which people search for. */
#define UNREGISTERED "unregistered chain: %.50s (add it to tmkms.toml's [[chain]] section)"

static struct raw_chain *find_chain(const struct raw *raw, const char *id)
{
    for (size_t i = 0; i < raw->chains_n; i++)
        if (strcmp(raw->chains[i].out.id, id) == 0)
            return &raw->chains[i];
    return NULL;
}

static const char *next_part(const char *path)
{
    for (;;) {
        if (path[0] == '/' && path[1] == '/')
            path++;
        else if (path[0] == '/' && path[1] == '.' && path[2] == '/')
            path += 2;
        else
            return path;
    }
}

static const char *past_dots(const char *path)
{
    while (path[0] == '.' && path[1] == '/') {
        path += 2;
        path += strspn(path, "/");
    }
    return path;
}

/* The same path as far as its letters tell: `./a//b` is `a/b`. Links are followed at open. */
static bool same_path(const char *a, const char *b)
{
    if (*a == '\0' || *b == '\0') /* not named at all */
        return false;
    a = past_dots(a);
    b = past_dots(b);
    for (;;) {
        a = next_part(a);
        b = next_part(b);
        if (*a != *b)
            return false;
        if (*a == '\0')
            return true;
        a++;
        b++;
    }
}

/* ---- chains ---- */

static void check_display(const struct raw *raw, const struct raw_chain *c)
{
    if (c->out.display != DISPLAY_BECH32)
        return;
    if (c->out.account_prefix[0] == '\0')
        complain(raw, &c->place, "key_format",
            "type \"bech32\" needs account_key_prefix; add it, for example \"cosmospub\"");
    if (c->out.consensus_prefix[0] == '\0')
        complain(raw, &c->place, "key_format",
            "type \"bech32\" needs consensus_key_prefix; add it, for example \"cosmosvalconspub\"");
}

enum { HOOK_ARGS_MAX = 64 };

static void pack_hook(const struct raw *raw, struct raw_chain *c)
{
    size_t used = 0;
    if (json_array_size(c->hook_cmd) > HOOK_ARGS_MAX) {
        complain(raw, &c->place, "state_hook", "cmd has more than %d parts; put it into a script",
            HOOK_ARGS_MAX);
        return;
    }
    for (size_t i = 0; i < json_array_size(c->hook_cmd); i++) {
        const char *arg = json_string_value(json_array_get(c->hook_cmd, i));
        size_t n = strlen(arg) + 1;
        if (n > sizeof c->out.hook_args - used) {
            complain(raw, &c->place, "state_hook",
                "cmd is longer than %zu characters; put it into a script", sizeof c->out.hook_args);
            return;
        }
        memcpy(c->out.hook_args + used, arg, n);
        used += n;
        c->out.hook_args_n++;
    }
}

static void check_against_earlier(const struct raw *raw, size_t index)
{
    const struct raw_chain *c = &raw->chains[index];
    for (size_t i = 0; i < index; i++) {
        const struct raw_chain *earlier = &raw->chains[i];
        if (strcmp(earlier->out.id, c->out.id) == 0) {
            complain(raw, &c->place, "id",
                "chain ID already registered: %s; remove one of the sections", c->out.id);
            return;
        }
        if (same_path(earlier->out.state_file, c->out.state_file))
            complain(raw, &c->place, "state_file",
                "%.300s is the state file of chain %s too; two chains in one file would forget "
                "what they "
                "signed, give each its own",
                c->out.state_file, earlier->out.id);
    }
}

static void check_chain(const struct raw *raw, size_t index)
{
    struct raw_chain *c = &raw->chains[index];
    if (c->out.id[0] == '\0') /* complained about already */
        return;
    if (c->out.state_file[0] != '\0' && c->out.state_port != 0 && raw->is_pushed)
        complain(raw, &c->place, "state_file",
            "stands beside state_vsock_port, and is for the parent alone; push the configuration "
            "with "
            "`tmkms nitro push-config`, which leaves it out");
    if (c->out.state_file[0] == '\0' && c->out.state_port == 0)
        snprintf(
            c->out.state_file, sizeof c->out.state_file, "%s_priv_validator_state.json", c->out.id);
    check_display(raw, c);
    pack_hook(raw, c);
    check_against_earlier(raw, index);
}

/* ---- keys ---- */

static size_t times_named(const struct raw_softsign *s, const char *chain_id)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(s->chain_ids); i++)
        n += strcmp(json_string_value(json_array_get(s->chain_ids, i)), chain_id) == 0;
    return n;
}

static void check_softsign(const struct raw *raw, const struct raw_softsign *s)
{
    sealed_check_softsign(raw, s);
    bool is_expanded = s->key_format == KEY_FILE_EXPANDED64 || s->key_format == KEY_FILE_EXPANDED96;
    if (is_expanded && s->key_type == KEY_SECP256K1)
        complain(raw, &s->place, "key_format",
            "expanded keys are Ed25519 keys; write key_type = \"consensus\", or another "
            "key_format");
    for (size_t i = 0; i < json_array_size(s->chain_ids); i++) {
        const char *id = json_string_value(json_array_get(s->chain_ids, i));
        if (find_chain(raw, id) == NULL)
            complain(raw, &s->place, "chain_ids", UNREGISTERED, id);
    }
    for (size_t i = 0; i < raw->chains_n; i++)
        if (times_named(s, raw->chains[i].out.id) > 1)
            complain(raw, &s->place, "chain_ids", "names %s twice; once is enough",
                raw->chains[i].out.id);
}

static const char *words_of(const struct raw_softsign *s)
{
    return s->sealed.n > 0 ? "encrypted_key_b64" : s->path;
}

struct keys_found {
    const struct raw_softsign *first;
    size_t n;
};

static struct keys_found keys_of(
    const struct raw *raw, const struct raw_chain *c, enum key_type type)
{
    struct keys_found found = {0};
    for (size_t i = 0; i < raw->softsigns_n; i++) {
        const struct raw_softsign *s = &raw->softsigns[i];
        if (s->key_type != (uint32_t)type || times_named(s, c->out.id) == 0)
            continue;
        if (found.n++ == 0)
            found.first = s;
        else
            complain(raw, &s->place, "chain_ids",
                "chain %s has another %s key already%s%.200s; a validator has one, remove the "
                "chain from "
                "one of the sections",
                c->out.id, type == KEY_ED25519 ? "consensus" : "account",
                words_of(found.first)[0] != '\0' ? ": " : "", words_of(found.first));
    }
    return found;
}

/* A validator signs with one key: the consensus key, or the account key where there is no other. */
static void find_key(const struct raw *raw, struct raw_chain *c)
{
    struct keys_found consensus = keys_of(raw, c, KEY_ED25519);
    struct keys_found account = keys_of(raw, c, KEY_SECP256K1);
    const struct raw_softsign *key = consensus.n > 0 ? consensus.first : account.first;
    if (key == NULL) {
        if (!raw->has_unsupported)
            complain(raw, &c->place, NULL,
                "no key for this chain; name it in the chain_ids of a [[providers.softsign]] "
                "section");
        return;
    }
    if (consensus.n > 0 && account.n > 0)
        complain_mildly(raw, &account.first->place, "chain_ids",
            "the account key is not used for chain %s, which signs with its consensus key %.300s",
            c->out.id, words_of(key));
    memcpy(c->out.key_file, key->path, sizeof c->out.key_file);
    c->out.key_type = key->key_type;
    c->out.key_format = key->key_format;
    sealed_fill_chain(raw, c, key);
    const struct public_key *expected = &c->out.expected_key;
    if (expected->type != 0 && expected->type != key->key_type)
        complain(raw, &c->place, "public_key",
            "is a key of type %s, but the chain's key is of type %s",
            key_type_name((enum key_type)expected->type),
            key_type_name((enum key_type)key->key_type));
}

/* A state file that is also a key file would be written over. */
static void check_overlap(const struct raw *raw, const struct raw_chain *c)
{
    const char *state = c->out.state_file;
    for (size_t i = 0; i < raw->softsigns_n; i++)
        if (same_path(raw->softsigns[i].path, state))
            complain(raw, &c->place, "state_file",
                "%.300s is a key file; give the state a file of its own", state);
    for (size_t i = 0; i < raw->validators_n; i++)
        if (same_path(raw->validators[i].out.secret_key, state))
            complain(raw, &c->place, "state_file",
                "%.300s is an identity key; give the state a file of its own", state);
}

/* ---- validators ---- */

enum { TIMEOUT_SANE_SECS = 5 };

static const char *identity_user(const struct raw_validator *v)
{
    if (v->out.address.kind == LINK_VSOCK)
        return "secret_connection";
    return v->out.address.kind == LINK_TCP ? "tcp" : "noise";
}

static void check_secret_key(const struct raw *raw, const struct raw_validator *v)
{
    bool is_needed = link_address_needs_identity(&v->out.address);
    if (is_needed && v->out.secret_key[0] == '\0' && v->sealed.n == 0)
        complain(raw, &v->place, "secret_key",
            "is missing; %s needs an identity key, make one with `tmkms softsign keygen -t "
            "consensus PATH` "
            "and name it here",
            identity_user(v));
    for (size_t i = 0; i < raw->softsigns_n && is_needed; i++)
        if (same_path(raw->softsigns[i].path, v->out.secret_key))
            complain(raw, &v->place, "secret_key",
                "%.300s is a consensus key, which the process that talks to nodes must not hold; "
                "make an "
                "identity key with `tmkms softsign keygen -t consensus PATH`",
                v->out.secret_key);
}

/* Where the parent leads a port of the enclave's. */
static void check_node(const struct raw *raw, size_t index)
{
    struct raw_validator *v = &raw->validators[index];
    struct err err;
    if (v->node_text[0] == '\0')
        return;
    if (v->out.address.kind != LINK_VSOCK)
        complain(raw, &v->place, "node",
            "is for an enclave, where addr is { port = NUMBER }; this addr is the node's own, "
            "remove one "
            "of them");
    else if (!link_address_parse(&v->node, v->node_text, &err))
        complain(raw, &v->place, "node", "%.700s", err.text);
    else if ((v->node.kind != LINK_UNIX && v->node.kind != LINK_TCP) || v->node.has_peer_id)
        complain(raw, &v->place, "node",
            "\"%.200s\" is not of the form unix:///path or tcp://host:port; who the node must be "
            "stands "
            "in addr (peer_id)",
            v->node_text);
}

static void check_enclave(const struct raw *raw)
{
    const struct place place = {.section = "[enclave]", .path = "enclave"};
    const struct config_enclave *e = &raw->enclave;
    if (e->cid > 0 && e->cid < 4)
        complain(raw, &place, "cid", "is %u; 1 to 3 are the machine's own, write 4 or more, or 0",
            e->cid);
    if (e->memory_mib > 0 && e->memory_mib < CONFIG_MEMORY_MIN_MIB)
        complain(raw, &place, "memory_mib", "is %u; an enclave has %d at least, or write 0",
            e->memory_mib, CONFIG_MEMORY_MIN_MIB);
    if (e->name[0] == '.' || e->name[0] == '-')
        complain(raw, &place, "name", "\"%s\" begins with a dot or a dash", e->name);
}

static void check_twins(const struct raw *raw, size_t index)
{
    const struct raw_validator *v = &raw->validators[index];
    for (size_t i = 0; i < index; i++) {
        const struct raw_validator *earlier = &raw->validators[i];
        if (strcmp(earlier->out.address.text, v->out.address.text) != 0)
            continue;
        if (strcmp(earlier->out.chain_id, v->out.chain_id) == 0)
            complain(raw, &v->place, "addr",
                "this node of chain %s is named twice; remove one of the sections",
                v->out.chain_id);
        else
            complain_mildly(raw, &v->place, "addr",
                "a node serves one chain, but this address stands for %s and for %s",
                earlier->out.chain_id, v->out.chain_id);
        return;
    }
}

static void check_validator(const struct raw *raw, size_t index)
{
    const struct raw_validator *v = &raw->validators[index];
    if (v->out.chain_id[0] != '\0' && find_chain(raw, v->out.chain_id) == NULL)
        complain(raw, &v->place, "chain_id", UNREGISTERED, v->out.chain_id);
    if (v->out.address.kind == 0) /* complained about already */
        return;
    check_secret_key(raw, v);
    check_node(raw, index);
    check_twins(raw, index);
    if (v->out.timeout_secs > 0 && v->out.timeout_secs < TIMEOUT_SANE_SECS)
        complain_mildly(raw, &v->place, "timeout",
            "is %u seconds, but nodes ping every 3.3 seconds: the connection may break all the "
            "time; write "
            "%d or more",
            v->out.timeout_secs, TIMEOUT_SANE_SECS);
}

static void check_use(const struct raw *raw, const struct raw_chain *c)
{
    for (size_t i = 0; i < raw->validators_n; i++)
        if (strcmp(raw->validators[i].out.chain_id, c->out.id) == 0)
            return;
    complain_mildly(raw, &c->place, NULL,
        "no [[validator]] has this chain_id: nothing will be signed for it; add one");
}

/* ---- all of it ---- */

static void copy_out(struct config *ret, const struct raw *raw)
{
    struct config c = {
        .chains_n = raw->chains_n, .validators_n = raw->validators_n, .enclave = raw->enclave};
    c.chains = calloc(raw->chains_n + 1, sizeof *c.chains);
    c.validators = calloc(raw->validators_n + 1, sizeof *c.validators);
    c.nodes = calloc(raw->validators_n + 1, sizeof *c.nodes);
    if (c.chains == NULL || c.validators == NULL || c.nodes == NULL)
        abort();
    /* memcpy keeps the zeroed padding, so that equal chains are equal bytes. */
    for (size_t i = 0; i < c.chains_n; i++)
        memcpy(&c.chains[i], &raw->chains[i].out, sizeof c.chains[i]);
    for (size_t i = 0; i < c.validators_n; i++) {
        memcpy(&c.validators[i], &raw->validators[i].out, sizeof c.validators[i]);
        c.nodes[i] = raw->validators[i].node;
    }
    if (c.enclave.name[0] == '\0')
        memcpy(c.enclave.name, "tmkms", sizeof "tmkms");
    *ret = c;
}

void flatten(struct config *ret, struct raw *raw)
{
    for (size_t i = 0; i < raw->chains_n; i++)
        check_chain(raw, i);
    for (size_t i = 0; i < raw->softsigns_n; i++)
        check_softsign(raw, &raw->softsigns[i]);
    for (size_t i = 0; i < raw->chains_n; i++)
        if (find_chain(raw, raw->chains[i].out.id) == &raw->chains[i] &&
            raw->chains[i].out.id[0] != '\0')
            find_key(raw, &raw->chains[i]); /* a chain that stands there twice is told once */
    for (size_t i = 0; i < raw->validators_n; i++) {
        sealed_finish_validator(raw, &raw->validators[i]);
        check_validator(raw, i);
    }
    sealed_check_ports(raw);
    check_enclave(raw);
    for (size_t i = 0; i < raw->chains_n; i++) {
        if (raw->chains[i].out.id[0] == '\0')
            continue;
        check_overlap(raw, &raw->chains[i]);
        check_use(raw, &raw->chains[i]);
    }
    copy_out(ret, raw);
}
