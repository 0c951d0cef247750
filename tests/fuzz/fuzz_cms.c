/* Envelopes for a known key: whatever comes, the content stays within its bounds. */
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../aws/recipient_key.h"
#include "aws/aws.h"
#include "aws/cms_impl.h"

enum { CAP = 256 };

static struct recipient *the_recipient(void)
{
    static struct recipient *r;
    struct err err;
    if (r != NULL)
        return r;
    BIO *bio = BIO_new_mem_buf(recipient_key_pem, -1);
    if (!aws_start(&err) ||
        !recipient_from(&r, PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL), &err))
        abort();
    BIO_free(bio);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t out[CAP + 1];
    struct err err = {0};
    size_t n = 0;
    memset(out, 0xee, sizeof out);
    bool ok = recipient_open(the_recipient(), bytes_of(data, size), out, CAP, &n, &err);
    if (out[CAP] != 0xee || (ok && (n == 0 || n > CAP)) || (!ok && err.text[0] == '\0'))
        abort();
    return 0;
}
