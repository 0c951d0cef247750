/* key_file: a key file taken apart, for the keyring and for `softsign import`, which writes the
 * private bytes into another file. */
#ifndef TMKMS_KEYRING_KEY_FILE_H
#define TMKMS_KEYRING_KEY_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/err.h"
#include "config/key_format.h"
#include "crypto/key.h"

struct key_file {
    enum key_type type;
    enum private_form form;
    size_t n;
    uint8_t private[96]; /* n bytes: seed, scalar or expanded key, never with a public key behind a
                            seed */
};

/* key_file_read reads and checks the file as keyring_load_fd does. ret: in secret memory, for
 * secret_free. key: the same as a signing key, for signing_key_free. */
bool key_file_read(struct key_file **ret, struct signing_key **key, int fd, const char *path,
    enum key_type type, enum key_file_format format, struct err *warning,
    struct err *err) ATTR_MUST_USE;

/* key_file_write writes a seed or scalar as base64 without a line end, mode 0600, so that the file is
 * complete or absent after a power loss. replace: an existing file is replaced, else an error. */
bool key_file_write(
    const char *path, const uint8_t private[32], bool replace, struct err *err) ATTR_MUST_USE;
/* key_file_parse is key_file_read for the content of a file that is in memory (text: secret memory of the
 * caller's). */
bool key_file_parse(struct key_file **ret, struct signing_key **key, struct bytes text,
    enum key_type type, enum key_file_format format, struct err *err) ATTR_MUST_USE;

/* Opens a key file for key_file_read and keyring_load_fd; -1 and err. */
int key_file_open(const char *path, struct err *err) ATTR_MUST_USE;

#endif
