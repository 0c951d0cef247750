#include "keyring/key_json.h"

#include <jansson.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/encode.h"
#include "crypto/secret.h"

/* jansson copies the private key into a token buffer, a string value and what they outgrow. All of
 * that comes from the heap, so every block is wiped when it is freed. These are malloc's own blocks
 * and sizes: values made before the functions were set can still be freed by them. That is why they
 * stay set, which also keeps threads that load keys at the same time out of each other's way. (Its
 * reader also has the last five bytes of the text on the stack, which are closing brackets.) */
static void wipe_and_free(void *p)
{
    if (p == NULL)
        return;
    secret_wipe(p, malloc_usable_size(p));
    free(p);
}

/* Of jansson's message only the line is used: it quotes the file, and that may be the private key.
 */
static json_t *parse_text(struct bytes text, struct err *err)
{
    json_error_t why;
    json_set_alloc_funcs(malloc, wipe_and_free);
    json_t *root = json_loadb((const char *)text.p, text.n, JSON_REJECT_DUPLICATES, &why);
    int line = why.line;
    secret_wipe(&why, sizeof why);
    if (root == NULL)
        err_set(err, "not valid JSON (line %d)", line);
    return root;
}

static bool text_field(
    struct bytes *ret, const json_t *object, const char *of, const char *name, struct err *err)
{
    const json_t *value = json_object_get(object, name);
    const char *text = json_string_value(value);
    if (text == NULL)
        return err_set(err, "%s%s is missing or no text", of, name);
    *ret = bytes_of(text, json_string_length(value));
    return true;
}

static bool is_text(struct bytes a, const char *text)
{
    return bytes_equal(a, bytes_of_text(text));
}

struct key_names {
    enum key_type type;
    const char *public, *private;
};

static const struct key_names known[] = {
    {KEY_ED25519, "tendermint/PubKeyEd25519", "tendermint/PrivKeyEd25519"},
    {KEY_SECP256K1, "tendermint/PubKeySecp256k1", "tendermint/PrivKeySecp256k1"},
};

static bool key_type_of(
    enum key_type *ret, struct bytes public_type, struct bytes private_type, struct err *err)
{
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (!is_text(private_type, known[i].private))
            continue;
        if (!is_text(public_type, known[i].public))
            return err_set(err, "pub_key.type does not go with priv_key.type %s", known[i].private);
        *ret = known[i].type;
        return true;
    }
    return err_set(err, "the type of priv_key is not supported; tendermint/PrivKeyEd25519 and "
                        "tendermint/PrivKeySecp256k1 are");
}

static bool read_keys(struct key_json *k, const json_t *root, struct err *err)
{
    const json_t *public = json_object_get(root, "pub_key");
    const json_t *private = json_object_get(root, "priv_key");
    struct bytes public_type, private_type, public_value, private_value;
    size_t n = 0;
    if (!text_field(&public_type, public, "pub_key.", "type", err) ||
        !text_field(&public_value, public, "pub_key.", "value", err) ||
        !text_field(&private_type, private, "priv_key.", "type", err) ||
        !text_field(&private_value, private, "priv_key.", "value", err) ||
        !key_type_of(&k->type, public_type, private_type, err))
        return false;
    if (!base64_decode(public_value, k->public.bytes, PUBLIC_KEY_MAX, &n))
        return err_set(err, "pub_key.value is no base64 of a public key");
    k->public.type = k->type;
    k->public.len = (uint32_t)n;
    if (!base64_decode(private_value, k->private, sizeof k->private, &k->private_n))
        return err_set(err, "priv_key.value is no base64 of a private key");
    return true;
}

static bool read_address(struct key_json *k, const json_t *root, struct err *err)
{
    struct bytes address;
    if (!text_field(&address, root, "", "address", err))
        return false;
    return hex_decode((const char *)address.p, address.n, k->address, ADDRESS_LEN) ||
           err_set(err, "address is not 40 hexadecimal digits");
}

bool key_json_parse(struct key_json *ret, struct bytes text, struct err *err)
{
    json_t *root = parse_text(text, err);
    if (root == NULL)
        return false;
    bool ok = read_address(ret, root, err) && read_keys(ret, root, err);
    json_decref(root);
    return ok;
}
