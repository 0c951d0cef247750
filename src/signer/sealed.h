/* sealed: keys that only this process can unseal. The signer makes an RSA key and has the security module attest its
 * public half; KMS answers with an envelope for it, which the keyless parts of the program carry here. */
#ifndef TMKMS_SIGNER_SEALED_H
#define TMKMS_SIGNER_SEALED_H

#include "ipc/control.h"

/* The security module's descriptor, taken over. */
void sealed_set_nsm(int fd);

/* A fresh document for the RSA key, which is made at the first call and kept for the life of the process. */
bool sealed_document(struct control_document *ret, struct err *err) ATTR_MUST_USE;

/* sealed_open_key: the consensus key in the envelope, in any of the forms of key files. The caller compares
 * its public key with the expected one: the envelope has no authenticity of its own. */
bool sealed_open_key(
    struct signing_key **ret, const struct control_sealed *sealed, struct err *err) ATTR_MUST_USE;

/* sealed_open_identity: a memory file with the key's content, -1 and err on failure. */
int sealed_open_identity(const struct control_sealed *sealed, struct err *err);

/* sealed_keygen: the envelope holds 32 fresh bytes, the seed; *ret has its public key and a document that binds
 * key, ciphertext and place (nitro/keygen.h). The seed is forgotten. */
bool sealed_keygen(struct control_keygen_done *ret, const struct control_keygen *keygen,
    struct err *err) ATTR_MUST_USE;

#endif
