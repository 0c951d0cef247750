#include "config/public_key.h"

#include <string.h>

#include "base/bytes.h"
#include "crypto/encode.h"

enum { ED25519_LEN = 32, SECP256K1_LEN = 33, AMINO_LEN = 5, PREFIX_CAP = 84 };

static bool is_bare(const uint8_t *raw, size_t n)
{
    return n == ED25519_LEN || (n == SECP256K1_LEN && (raw[0] == 2 || raw[0] == 3));
}

static bool from_hex(const char *text, uint8_t raw[SECP256K1_LEN], size_t *ret_n)
{
    *ret_n = strlen(text) / 2;
    return *ret_n <= SECP256K1_LEN && hex_decode(text, strlen(text), raw, *ret_n) &&
           is_bare(raw, *ret_n);
}

static bool from_base64(const char *text, uint8_t raw[SECP256K1_LEN], size_t *ret_n)
{
    return base64_decode(bytes_of_text(text), raw, SECP256K1_LEN, ret_n) && is_bare(raw, *ret_n);
}

/* The type's prefix bytes and a length, then the key (Tendermint amino, crypto/encoding). */
static bool from_bech32(const char *text, uint8_t raw[SECP256K1_LEN], size_t *ret_n)
{
    static const uint8_t ed25519[AMINO_LEN] = {0x16, 0x24, 0xde, 0x64, ED25519_LEN};
    static const uint8_t secp256k1[AMINO_LEN] = {0xeb, 0x5a, 0xe9, 0x87, SECP256K1_LEN};
    char prefix[PREFIX_CAP];
    uint8_t data[AMINO_LEN + SECP256K1_LEN];
    size_t n;
    if (!bech32_decode(text, prefix, sizeof prefix, data, sizeof data, &n) || n <= AMINO_LEN)
        return false;
    *ret_n = n - AMINO_LEN;
    memcpy(raw, data + AMINO_LEN, *ret_n);
    const uint8_t *amino = *ret_n == ED25519_LEN ? ed25519 : secp256k1;
    return is_bare(raw, *ret_n) && memcmp(data, amino, AMINO_LEN) == 0;
}

bool public_key_parse(struct public_key *ret, const char *text, struct err *err)
{
    uint8_t raw[SECP256K1_LEN] = {0};
    size_t n = 0;
    if (!from_hex(text, raw, &n) && !from_base64(text, raw, &n) && !from_bech32(text, raw, &n))
        return err_set(err,
            "is no public key; write what `tmkms pubkey` prints: hex, base64, or bech32 with a "
            "prefix such as cosmosvalconspub");
    *ret = (struct public_key){0};
    ret->type = n == ED25519_LEN ? KEY_ED25519 : KEY_SECP256K1;
    ret->len = (uint32_t)n;
    memcpy(ret->bytes, raw, n);
    return true;
}
