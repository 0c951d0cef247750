#include "monitor/machine_lock.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "crypto/hash.h"

struct name {
    struct sockaddr_un address;
    socklen_t n;
};

static struct name name_of(const char *chain_id, const struct public_key *key)
{
    uint8_t digest[SHA256_LEN];
    char hex[2 * SHA256_LEN + 1];
    struct name name = {.address.sun_family = AF_UNIX};
    char *path = name.address.sun_path + 1; /* after the zero that makes it abstract */
    sha256_2(bytes_of_text(chain_id), bytes_of(key->bytes, key->len), digest);
    hex_lower(bytes_of(digest, sizeof digest), hex);
    int n = snprintf(path, sizeof name.address.sun_path - 1, "tmkms-%s", hex);
    name.n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    return name;
}

static bool taken(const struct name *name, struct err *err)
{
    const char *words = name->address.sun_path + 1;
    return err_set(err,
        "another tmkms process on this machine signs for this chain with this key; stop it first. "
        "(Or another user has taken its lock, the socket @%s, to keep it from starting: `ss -xap | "
        "grep %.14s` as root names the process)",
        words, words);
}

bool machine_lock_take(
    int *ret_fd, const char *chain_id, const struct public_key *key, struct err *err)
{
    struct name name = name_of(chain_id, key);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(err, "cannot make a socket");
    if (bind(fd, (const struct sockaddr *)&name.address, name.n) == 0) {
        *ret_fd = fd;
        return true;
    }
    int why = errno;
    close(fd);
    errno = why;
    return why == EADDRINUSE ? taken(&name, err)
                             : err_errno(err, "cannot take the lock of the key");
}

/* Not by taking it: a signer that starts at this moment would be refused. */
bool machine_lock_check(const char *chain_id, const struct public_key *key, struct err *err)
{
    struct name name = name_of(chain_id, key);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(err, "cannot make a socket");
    bool is_free =
        connect(fd, (const struct sockaddr *)&name.address, name.n) != 0 && errno == ECONNREFUSED;
    close(fd);
    return is_free || taken(&name, err);
}
