#include "keyring/public_text.h"

#include <stdio.h>
#include <string.h>

#include "crypto/encode.h"

/* ---- prefixes ---- */

/* base: of accounts. Every other chain of the Cosmos SDK we know of has <base>valcons and
 * <base>valconspub. */
static const struct {
    const char *base, *address, *key;
} irregular[] = {
    {"cro", "crocnclcons", "crocnclconspub"},
    {"tcro", "tcrocnclcons", "tcrocnclconspub"},
    {"iaa", "ica", "icp"},
};

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), end_n = strlen(end);
    return n > end_n && strcmp(text + n - end_n, end) == 0;
}

static void set(
    struct public_prefix *ret, const char *stem, const char *address_end, const char *key_end)
{
    snprintf(ret->address, sizeof ret->address, "%s%s", stem, address_end);
    snprintf(ret->key, sizeof ret->key, "%s%s", stem, key_end);
}

static bool set_irregular(struct public_prefix *ret, const char *given, bool with_base)
{
    for (size_t i = 0; i < sizeof irregular / sizeof irregular[0]; i++) {
        if ((with_base && strcmp(given, irregular[i].base) == 0) ||
            strcmp(given, irregular[i].address) == 0 || strcmp(given, irregular[i].key) == 0) {
            snprintf(ret->address, sizeof ret->address, "%s", irregular[i].address);
            snprintf(ret->key, sizeof ret->key, "%s", irregular[i].key);
            return true;
        }
    }
    return false;
}

/* "...pub" and the same without "pub". */
static void set_from_key(struct public_prefix *ret, const char *key)
{
    set(ret, key, "", "");
    ret->address[strlen(ret->address) - strlen("pub")] = '\0';
}

bool public_prefix_from(
    struct public_prefix *ret, const char *given, bool is_account, struct err *err)
{
    char probe[PUBLIC_PREFIX_MAX * 2];
    enum { LONGEST_END = sizeof "valconspub" };
    if (strlen(given) + LONGEST_END > PUBLIC_PREFIX_MAX ||
        !bech32_encode(given, (struct bytes){0}, probe, sizeof probe))
        return err_set(err, "'%.100s' is no bech32 prefix: 1 to %d lower-case characters", given,
            PUBLIC_PREFIX_MAX - LONGEST_END);
    if (set_irregular(ret, given, !is_account))
        return true;
    if (ends_with(given, "pub"))
        set_from_key(ret, given);
    else if (ends_with(given, "cons") || is_account)
        set(ret, given, "", "pub");
    else
        set(ret, given, "valcons", "valconspub");
    return true;
}

void public_prefix_of_config(struct public_prefix *ret, const char *consensus_key_prefix)
{
    *ret = (struct public_prefix){0};
    if (set_irregular(ret, consensus_key_prefix, false))
        return;
    if (ends_with(consensus_key_prefix, "pub"))
        set_from_key(ret, consensus_key_prefix);
    else
        snprintf(ret->key, sizeof ret->key, "%s", consensus_key_prefix);
}

/* ---- forms ---- */

struct names {
    struct bytes amino; /* type and length */
    const char *cosmos, *comet;
};

static struct names names_of(const struct public_key *key)
{
    static const uint8_t ed25519[] = {0x16, 0x24, 0xde, 0x64, 32};
    static const uint8_t secp256k1[] = {0xeb, 0x5a, 0xe9, 0x87, 33};
    if (key->type == KEY_SECP256K1)
        return (struct names){bytes_of(secp256k1, sizeof secp256k1),
            "/cosmos.crypto.secp256k1.PubKey", "tendermint/PubKeySecp256k1"};
    return (struct names){bytes_of(ed25519, sizeof ed25519), "/cosmos.crypto.ed25519.PubKey",
        "tendermint/PubKeyEd25519"};
}

static bool text_json(char *out, struct bytes key, const char *type_name, const char *type,
    const char *name, struct err *err)
{
    char value[64];
    if (!base64_encode(key, value, sizeof value))
        return err_set(err, "not a public key");
    snprintf(out, PUBLIC_TEXT_MAX, "{\"%s\":\"%s\",\"%s\":\"%s\"}", type_name, type, name, value);
    return true;
}

static bool text_bech32(char *out, const char *hrp, struct bytes data, struct err *err)
{
    if (hrp[0] == '\0')
        return err_set(err, "the chain's prefix is not known");
    return bech32_encode(hrp, data, out, PUBLIC_TEXT_MAX) ||
           err_set(err, "'%.100s' is no bech32 prefix", hrp);
}

static bool text_key_bech32(
    char *out, const struct names *names, struct bytes key, const char *hrp, struct err *err)
{
    uint8_t raw[8 + PUBLIC_KEY_MAX];
    struct writer w = writer_of(raw, sizeof raw);
    write_bytes(&w, names->amino);
    write_bytes(&w, key);
    return text_bech32(out, hrp, written(&w), err);
}

bool public_text(char out[PUBLIC_TEXT_MAX], const struct public_key *key, enum public_form form,
    const struct public_prefix *prefix, struct err *err)
{
    struct bytes raw = bytes_of(key->bytes, key->len);
    struct names names = names_of(key);
    uint8_t address[ADDRESS_LEN];
    public_key_address(key, address);
    switch (form) {
    case PUBLIC_HEX:
        hex_upper(raw, out);
        return true;
    case PUBLIC_BASE64:
        return base64_encode(raw, out, PUBLIC_TEXT_MAX);
    case PUBLIC_BECH32:
        return text_key_bech32(out, &names, raw, prefix->key, err);
    case PUBLIC_COSMOS_JSON:
        return text_json(out, raw, "@type", names.cosmos, "key", err);
    case PUBLIC_COMET_JSON:
        return text_json(out, raw, "type", names.comet, "value", err);
    case PUBLIC_ADDRESS:
        hex_upper(bytes_of(address, sizeof address), out);
        return true;
    case PUBLIC_VALCONS:
        return text_bech32(out, prefix->address, bytes_of(address, sizeof address), err);
    }
    return err_set(err, "unknown form of a public key");
}

bool public_text_for_chain(char out[PUBLIC_TEXT_MAX], const struct public_key *key,
    const struct config_chain *chain, struct err *err)
{
    static const enum public_form forms[] = {[DISPLAY_BECH32] = PUBLIC_BECH32,
        [DISPLAY_COSMOS_JSON] = PUBLIC_COSMOS_JSON,
        [DISPLAY_HEX] = PUBLIC_HEX};
    struct public_prefix prefix;
    public_prefix_of_config(&prefix, chain->consensus_prefix);
    return public_text(out, key, forms[chain->display], &prefix, err);
}
