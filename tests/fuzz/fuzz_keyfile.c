/* Key files: the first byte chooses type and format, the rest is the file. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "keyring/keyring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    struct err err, warning;
    struct signing_key *key = NULL;
    if (fd < 0) {
        fd = memfd_create("key", MFD_CLOEXEC);
        if (!crypto_start(&err) || fd < 0 || fchmod(fd, 0600) != 0)
            abort();
    }
    if (size < 1)
        return 0;
    enum key_type type = (enum key_type)(data[0] / 6 % 3);
    enum key_file_format format = (enum key_file_format)(data[0] % 6);
    if (ftruncate(fd, 0) != 0 || lseek(fd, 0, SEEK_SET) != 0 ||
        !fd_write_exact(fd, data + 1, size - 1))
        abort();
    if (keyring_load_fd(&key, fd, "key", type, format, &warning, &err)) {
        const struct public_key *public = signing_key_public(key);
        if (public->type == 0 || (type != 0 && public->type != type))
            abort();
    } else if (key != NULL) {
        abort();
    }
    signing_key_free(key);
    return 0;
}
