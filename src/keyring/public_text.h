/* public_text: a public key in the forms that people and chains want it in. */
#ifndef TMKMS_KEYRING_PUBLIC_TEXT_H
#define TMKMS_KEYRING_PUBLIC_TEXT_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"
#include "config/config.h"
#include "crypto/key.h"

enum public_form {
    PUBLIC_HEX,         /* upper case, as the Rust tmkms logs it */
    PUBLIC_BASE64,      /* as in genesis files */
    PUBLIC_BECH32,      /* amino type prefix and key: cosmosvalconspub1zcjduepq... */
    PUBLIC_COSMOS_JSON, /* {"@type":"/cosmos.crypto.ed25519.PubKey","key":"..."}, Cosmos SDK 0.43
                           and later */
    PUBLIC_COMET_JSON,  /* {"type":"tendermint/PubKeyEd25519","value":"..."}, as in genesis files */
    PUBLIC_ADDRESS,     /* 40 upper-case hexadecimal digits */
    PUBLIC_VALCONS,     /* the address in bech32: cosmosvalcons1... */
};

enum { PUBLIC_TEXT_MAX = 256, PUBLIC_PREFIX_MAX = 84 };

/* The human-readable parts of a chain; "": not known. */
struct public_prefix {
    char key[PUBLIC_PREFIX_MAX];     /* cosmosvalconspub */
    char address[PUBLIC_PREFIX_MAX]; /* cosmosvalcons */
};

/* public_prefix_from completes what a person gives: a whole prefix of keys ("...pub") or of
 * addresses
 * ("...cons"), or a chain's base prefix ("cosmos"), from which the names of consensus keys follow,
 * or those of account keys. The chains that name them otherwise (Crypto.org, IRISnet) are known. */
bool public_prefix_from(
    struct public_prefix *ret, const char *given, bool is_account, struct err *err) ATTR_MUST_USE;

/* public_prefix_of_config: consensus_key_prefix is printed as it stands there; address may stay
 * unknown. */
void public_prefix_of_config(struct public_prefix *ret, const char *consensus_key_prefix);

/* public_text_for_chain: the form that the chain's key_format asks for. */
bool public_text_for_chain(char out[PUBLIC_TEXT_MAX], const struct public_key *key,
    const struct config_chain *chain, struct err *err) ATTR_MUST_USE;

/* Never fails for the forms without a prefix. */
bool public_text(char out[PUBLIC_TEXT_MAX], const struct public_key *key, enum public_form form,
    const struct public_prefix *prefix, struct err *err) ATTR_MUST_USE;

#endif
