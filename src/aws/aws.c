#include "aws/aws.h"

#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

/* Algorithms are looked up in tables that OpenSSL fills at their first use; what may look at the environment or at
 * files happens here. */
bool aws_start(struct err *err)
{
    const uint64_t options = OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_LOAD_CRYPTO_STRINGS |
                             OPENSSL_INIT_ADD_ALL_CIPHERS | OPENSSL_INIT_ADD_ALL_DIGESTS |
                             OPENSSL_INIT_LOAD_SSL_STRINGS;
    if (OPENSSL_init_crypto(options, NULL) != 1 || OPENSSL_init_ssl(options, NULL) != 1 ||
        RAND_status() != 1)
        return err_set(err, "OpenSSL does not start: %s", aws_openssl_reason());
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    bool ok = ctx != NULL;
    SSL_CTX_free(ctx);
    return ok || err_set(err, "OpenSSL has no TLS: %s", aws_openssl_reason());
}

const char *aws_openssl_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return reason != NULL ? reason : "no reason given";
}
