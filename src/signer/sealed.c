#include "signer/sealed.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "aws/aws.h"
#include "aws/cms.h"
#include "base/fd.h"
#include "crypto/secret.h"
#include "keyring/keyring.h"
#include "nitro/keygen.h"

enum { PLAIN_MAX = 4096 }; /* KMS encrypts no more */

static struct recipient *recipient;
static int nsm = -1;

void sealed_set_nsm(int fd)
{
    fd_close(&nsm);
    nsm = fd;
}

static bool attest(struct control_document *ret, struct bytes user_data, struct bytes nonce,
    struct bytes public, struct err *err)
{
    static uint8_t buf[NSM_RESPONSE_MAX];
    struct bytes document;
    if (nsm < 0)
        return err_set(err, "there is no security module: this is no enclave");
    if (!nsm_attest(nsm, user_data, nonce, public, buf, &document, err))
        return false;
    if (document.n > sizeof ret->document)
        return err_set(err, "the attestation document is too long");
    memcpy(ret->document, document.p, document.n);
    ret->n = (uint32_t)document.n;
    return true;
}

bool sealed_document(struct control_document *ret, struct err *err)
{
    if (recipient == NULL && !recipient_new(&recipient, err))
        return false;
    return attest(ret, bytes_of(NULL, 0), bytes_of(NULL, 0), recipient_public_der(recipient), err);
}

/* The plaintext of the envelope in secret memory, for secret_free. */
static uint8_t *open_envelope(const uint8_t *envelope, size_t n, size_t *ret_n, struct err *err)
{
    uint8_t *plain = secret_alloc(PLAIN_MAX, err);
    if (plain == NULL)
        return NULL;
    if (recipient == NULL)
        err_set(err, "an envelope came before it was asked for");
    else if (recipient_open(recipient, bytes_of(envelope, n), plain, PLAIN_MAX, ret_n, err))
        return plain;
    secret_free(plain);
    return NULL;
}

bool sealed_open_key(struct signing_key **ret, const struct control_sealed *sealed, struct err *err)
{
    size_t n = 0;
    const struct config_chain *chain = &sealed->chain;
    uint8_t *plain = open_envelope(sealed->envelope, sealed->envelope_n, &n, err);
    /* What KMS sealed is a key file's content or the bare seed; only the rarer forms must be named. */
    enum key_file_format format =
        chain->key_format == KEY_FILE_BASE64 ? 0 : (enum key_file_format)chain->key_format;
    bool ok = plain != NULL && keyring_load_bytes(ret, bytes_of(plain, n),
                                   (enum key_type)chain->key_type, format, err);
    secret_free(plain);
    return ok || err_prefix(err, "the unsealed key");
}

int sealed_open_identity(const struct control_sealed *sealed, struct err *err)
{
    size_t n = 0;
    uint8_t *plain = open_envelope(sealed->envelope, sealed->envelope_n, &n, err);
    if (plain == NULL)
        return -1;
    int fd = memfd_create("identity", MFD_CLOEXEC);
    bool ok = fd >= 0 && fchmod(fd, 0600) == 0 && fd_write_exact(fd, plain, n);
    if (!ok)
        err_errno(err, "cannot hand the identity key over");
    secret_free(plain);
    if (!ok)
        fd_close(&fd);
    return fd;
}

bool sealed_keygen(
    struct control_keygen_done *ret, const struct control_keygen *keygen, struct err *err)
{
    size_t n = 0;
    struct signing_key *key = NULL;
    uint8_t *seed = open_envelope(keygen->envelope, keygen->envelope_n, &n, err);
    bool ok =
        seed != NULL && signing_key_create(&key, KEY_ED25519, PRIVATE_SEED, bytes_of(seed, n), err);
    secret_free(seed);
    if (!ok)
        return false;
    ret->key = *signing_key_public(key);
    signing_key_free(key);
    uint8_t user_data[KEYGEN_USER_DATA_LEN];
    keygen_user_data(
        bytes_of(keygen->ciphertext, keygen->ciphertext_n), &ret->key, &keygen->place, user_data);
    return attest(&ret->document, bytes_of(user_data, sizeof user_data),
        bytes_of(keygen->nonce, keygen->nonce_n), bytes_of(NULL, 0), err);
}
