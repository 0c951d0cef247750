#include "config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/flatten.h"

bool config_from_tree(
    struct config *ret, const json_t *tree, const char *name, struct problems *problems)
{
    *ret = (struct config){0};
    if (!json_is_object(tree)) {
        problems_add(problems, false, "%s: the configuration is no table", name);
        return false;
    }
    struct raw raw = {.file = name, .problems = problems, .is_pushed = true};
    walk_tree(&raw, tree);
    flatten(ret, &raw);
    raw_free(&raw);
    if (problems->errors_n > 0)
        config_free(ret);
    return problems->errors_n == 0;
}

/* ---- credentials ---- */

static bool copy_text(char *out, size_t cap, const json_t *table, const char *name)
{
    const json_t *value = json_object_get(table, name);
    const char *text = json_string_value(value);
    size_t n = json_string_length(value);
    if (value == NULL)
        return true;
    if (text == NULL || n == 0 || n >= cap || strlen(text) != n)
        return false;
    memcpy(out, text, n + 1);
    return true;
}

static bool take_one(struct aws_credentials *ret, json_t *softsign, struct err *err)
{
    struct aws_credentials here = {0};
    const json_t *table = json_object_get(softsign, "credentials");
    if (table == NULL)
        return true;
    bool ok = copy_text(here.key_id, sizeof here.key_id, table, "aws_key_id") &&
              copy_text(here.secret_key, sizeof here.secret_key, table, "aws_secret_key") &&
              copy_text(here.session_token, sizeof here.session_token, table, "aws_session_token");
    ok = ok && here.key_id[0] != '\0' && here.secret_key[0] != '\0';
    json_object_del(softsign, "credentials");
    if (!ok)
        err_set(err, "credentials: needs aws_key_id and aws_secret_key, each a string");
    else if (ret->key_id[0] != '\0' && memcmp(ret, &here, sizeof here) != 0)
        ok = err_set(err, "credentials: two sections have different ones; one enclave uses one");
    else
        memcpy(ret, &here, sizeof here);
    explicit_bzero(&here, sizeof here);
    return ok;
}

bool config_tree_take_credentials(struct aws_credentials *ret, json_t *tree, struct err *err)
{
    json_t *softsigns = json_object_get(json_object_get(tree, "providers"), "softsign");
    bool ok = true;
    *ret = (struct aws_credentials){0};
    for (size_t i = 0; i < json_array_size(softsigns); i++)
        ok = take_one(ret, json_array_get(softsigns, i), err) && ok;
    return ok;
}

/* ---- where it is used ---- */

static bool is_behind_vsock(const struct config_validator *v)
{
    return v->address.kind == LINK_VSOCK || v->sealed_n > 0;
}

enum config_use config_use(const struct config *c)
{
    for (size_t i = 0; i < c->chains_n; i++)
        if (c->chains[i].sealed_n > 0 || c->chains[i].state_port != 0)
            return CONFIG_ENCLAVE;
    for (size_t i = 0; i < c->validators_n; i++)
        if (is_behind_vsock(&c->validators[i]))
            return CONFIG_ENCLAVE;
    return CONFIG_HOST;
}

#define TELL(is_warning, section, label, key, text)                                                \
    problems_add(                                                                                  \
        problems, is_warning, "%s: [[" section "]] \"%.100s\": " key ": " text, name, label)

static void check_chain_on_host(
    const struct config_chain *c, const char *name, struct problems *problems)
{
    if (c->sealed_n > 0)
        TELL(false, "chain", c->id, "encrypted_key_b64",
            "is for the enclave (`tmkms nitro`), where KMS opens it; on a host name a key file "
            "with "
            "path");
    if (c->state_port != 0)
        TELL(false, "chain", c->id, "state_vsock_port",
            "is for the enclave (`tmkms nitro`); on a host name a state_file");
}

static void check_chain_in_enclave(
    const struct config_chain *c, const char *name, struct problems *problems)
{
    if (c->sealed_n == 0)
        TELL(false, "chain", c->id, "path",
            "the enclave sees no files of the host; seal the key (`tmkms nitro seal`) and write "
            "encrypted_key_b64");
    if (c->state_port == 0)
        TELL(false, "chain", c->id, "state_vsock_port",
            "is missing; the enclave sees no files of the host, add the port of `tmkms nitro "
            "persist`");
    if (c->hook_args_n > 0)
        TELL(false, "chain", c->id, "state_hook",
            "the enclave runs no commands; remove it, and set min_height instead");
    if (c->expected_key.type == 0)
        TELL(true, "chain", c->id, "public_key",
            "is missing: what KMS decrypts has no sender, so the parent could put another key in "
            "the place of yours and this enclave would sign with it; add the key that `tmkms "
            "pubkey` or `tmkms nitro keygen` printed");
}

static void check_validator_on_host(
    const struct config_validator *v, const char *name, struct problems *problems)
{
    if (v->address.kind == LINK_VSOCK)
        TELL(false, "validator", v->address.text, "addr",
            "a port without a host is for the enclave (`tmkms nitro`); on a host write "
            "unix:///path or tcp://host:port");
    else if (v->sealed_n > 0)
        TELL(false, "validator", v->address.text, "encrypted_secret_key_b64",
            "is for the enclave (`tmkms nitro`); on a host name a file with secret_key");
}

static void check_validator_in_enclave(
    const struct config_validator *v, const char *name, struct problems *problems)
{
    if (v->address.kind != LINK_VSOCK)
        TELL(false, "validator", v->address.text, "addr",
            "the enclave has no network; write { port = NUMBER }, and run `tmkms nitro proxy` for "
            "that port on the parent");
}

bool config_check_for(
    enum config_use use, const struct config *c, const char *name, struct problems *problems)
{
    for (size_t i = 0; i < c->chains_n; i++)
        if (use == CONFIG_HOST)
            check_chain_on_host(&c->chains[i], name, problems);
        else
            check_chain_in_enclave(&c->chains[i], name, problems);
    for (size_t i = 0; i < c->validators_n; i++)
        if (use == CONFIG_HOST)
            check_validator_on_host(&c->validators[i], name, problems);
        else
            check_validator_in_enclave(&c->validators[i], name, problems);
    return problems->errors_n == 0;
}

/* ---- the rest ---- */

void config_free(struct config *c)
{
    free(c->chains);
    free(c->validators);
    free(c->nodes);
    *c = (struct config){0};
}

const char *config_path(const char *from_command_line)
{
    if (from_command_line != NULL)
        return from_command_line;
    const char *from_environment = getenv("TMKMS_CONFIG_FILE");
    return from_environment != NULL && from_environment[0] != '\0' ? from_environment
                                                                   : "tmkms.toml";
}

const struct config_chain *config_find_chain(const struct config *c, const char *id)
{
    for (size_t i = 0; i < c->chains_n; i++)
        if (strcmp(c->chains[i].id, id) == 0)
            return &c->chains[i];
    return NULL;
}
