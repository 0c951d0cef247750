#include "signer/sign.h"

#include <stdlib.h>

#include "privval/sign_bytes.h"

void sign_durable(
    const struct signing_key *key, const struct durable *record, uint8_t sig[SIGNATURE_LEN])
{
    uint8_t buf[SIGN_BYTES_MAX];
    struct bytes msg = sign_bytes(&durable_watermark(record)->last, durable_chain_id(record), buf);
    if (msg.n == 0)
        abort(); /* the guard lets no such record through: an invariant is broken, do not sign */
    signing_key_sign(key, msg, sig);
}
