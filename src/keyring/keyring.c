#include "keyring/keyring.h"

#include "base/fd.h"
#include "crypto/secret.h"
#include "keyring/key_file.h"

bool keyring_load_fd(struct signing_key **ret, int fd, const char *path, enum key_type type,
    enum key_file_format format, struct err *warning, struct err *err)
{
    struct key_file *file = NULL;
    if (!key_file_read(&file, ret, fd, path, type, format, warning, err))
        return false;
    secret_free(file);
    return true;
}

bool keyring_load(struct signing_key **ret, const char *path, enum key_type type,
    enum key_file_format format, struct err *warning, struct err *err)
{
    int fd = key_file_open(path, err);
    if (fd < 0)
        return false;
    bool ok = keyring_load_fd(ret, fd, path, type, format, warning, err);
    fd_close(&fd);
    return ok;
}

bool keyring_load_bytes(struct signing_key **ret, struct bytes text, enum key_type type,
    enum key_file_format format, struct err *err)
{
    struct key_file *file = NULL;
    if (!key_file_parse(&file, ret, text, type, format, err))
        return false;
    secret_free(file);
    return true;
}
