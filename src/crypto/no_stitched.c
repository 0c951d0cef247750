/* OpenSSL's ciphers that are AES-CBC and HMAC in one, for TLS 1.2 and older, with 120 kB of their own assembler. The
 * image has these in their place and says what OpenSSL itself says on a processor without AES instructions: there are
 * none. TLS then negotiates what it prefers anyway (GCM, ChaCha20-Poly1305), and AES-CBC alone, which KMS's envelopes
 * use, is untouched. */
#include <openssl/evp.h>

/* Of the default provider (OpenSSL 3, providers/implementations/ciphers/cipher_aes_cbc_hmac_sha.h). */
int ossl_cipher_capable_aes_cbc_hmac_sha1(void);
int ossl_cipher_capable_aes_cbc_hmac_sha256(void);
const void *ossl_prov_cipher_hw_aes_cbc_hmac_sha1(void);
const void *ossl_prov_cipher_hw_aes_cbc_hmac_sha256(void);

int ossl_cipher_capable_aes_cbc_hmac_sha1(void)
{
    return 0;
}

int ossl_cipher_capable_aes_cbc_hmac_sha256(void)
{
    return 0;
}

const void *ossl_prov_cipher_hw_aes_cbc_hmac_sha1(void)
{
    return NULL;
}

const void *ossl_prov_cipher_hw_aes_cbc_hmac_sha256(void)
{
    return NULL;
}

const EVP_CIPHER *EVP_aes_128_cbc_hmac_sha1(void)
{
    return NULL;
}

const EVP_CIPHER *EVP_aes_256_cbc_hmac_sha1(void)
{
    return NULL;
}

const EVP_CIPHER *EVP_aes_128_cbc_hmac_sha256(void)
{
    return NULL;
}

const EVP_CIPHER *EVP_aes_256_cbc_hmac_sha256(void)
{
    return NULL;
}
