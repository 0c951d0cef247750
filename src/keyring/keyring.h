/* keyring: private keys from files. Formats as the Rust tmkms reads them, with its traps closed. */
#ifndef TMKMS_KEYRING_KEYRING_H
#define TMKMS_KEYRING_KEYRING_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"
#include "config/key_format.h"
#include "crypto/key.h"

/* keyring_load_fd reads a key from fd (at its start; not closed; at most 64 KiB). path is for
 * messages only. type is what the configuration expects; a JSON file of another type is an error.
 * Addresses and public keys inside a JSON file must match the private key. On success *warning is
 * "" or one sentence for the log (for example a file that others can read); a file that group or
 * others can write is an error. */
bool keyring_load_fd(struct signing_key **ret, int fd, const char *path, enum key_type type,
    enum key_file_format format, struct err *warning, struct err *err) ATTR_MUST_USE;

/* keyring_load opens path (no O_NOFOLLOW: links are common for secrets) and does the same. Both
 * functions take type 0: either type, as the file says (base64, raw: Ed25519), and format 0: json,
 * raw or base64, recognised by what the file holds. */
bool keyring_load(struct signing_key **ret, const char *path, enum key_type type,
    enum key_file_format format, struct err *warning, struct err *err) ATTR_MUST_USE;

/* keyring_load_bytes: the same for what is in memory (text: secret memory of the caller's), such as what
 * KMS unsealed. */
bool keyring_load_bytes(struct signing_key **ret, struct bytes text, enum key_type type,
    enum key_file_format format, struct err *err) ATTR_MUST_USE;

#endif
