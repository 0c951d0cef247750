#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

void fd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void fd_close_pair(int (*pair)[2])
{
    fd_close(&(*pair)[0]);
    fd_close(&(*pair)[1]);
}

bool fd_read_all(int fd, void *buf, size_t cap, size_t *ret_n, struct err *err)
{
    size_t n = 0;
    for (;;) {
        uint8_t probe;
        ssize_t got = n < cap ? read(fd, (uint8_t *)buf + n, cap - n) : read(fd, &probe, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(err, "cannot read");
        if (got == 0)
            break;
        if (n == cap)
            return err_set(err, "longer than %zu bytes", cap);
        n += (size_t)got;
    }
    *ret_n = n;
    return true;
}

bool fd_read_exact(int fd, void *buf, size_t n)
{
    uint8_t *p = buf;
    while (n > 0) {
        ssize_t got = read(fd, p, n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = 0;
        if (got <= 0)
            return false;
        p += got;
        n -= (size_t)got;
    }
    return true;
}

bool fd_write_exact(int fd, const void *buf, size_t n)
{
    const uint8_t *p = buf;
    while (n > 0) {
        ssize_t put = write(fd, p, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        p += put;
        n -= (size_t)put;
    }
    return true;
}

bool fd_wait(int fd, short events, uint64_t deadline_us)
{
    for (;;) {
        uint64_t now = clock_monotonic_us();
        if (now >= deadline_us) {
            errno = ETIMEDOUT;
            return false;
        }
        uint64_t ms = (deadline_us - now + 999) / 1000;
        struct pollfd p = {.fd = fd, .events = events};
        int rc = poll(&p, 1, ms > INT_MAX ? INT_MAX : (int)ms);
        if (rc > 0)
            return true;
        if (rc < 0 && errno != EINTR)
            return false;
    }
}

bool fd_read_before(int fd, void *buf, size_t n, uint64_t deadline_us)
{
    uint8_t *p = buf;
    while (n > 0) {
        if (!fd_wait(fd, POLLIN, deadline_us))
            return false;
        ssize_t got = recv(fd, p, n, MSG_DONTWAIT);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got == 0)
            errno = 0;
        if (got <= 0)
            return false;
        p += got;
        n -= (size_t)got;
    }
    return true;
}

bool fd_write_before(int fd, const void *buf, size_t n, uint64_t deadline_us)
{
    const uint8_t *p = buf;
    while (n > 0) {
        ssize_t put = send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0 && errno == EAGAIN) {
            if (!fd_wait(fd, POLLOUT, deadline_us))
                return false;
            continue;
        }
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        p += put;
        n -= (size_t)put;
    }
    return true;
}

static bool sync_folder(const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool ok = fsync(fd) == 0;
    close(fd);
    return ok;
}

static bool fill_and_sync(int fd, const char *tmp, const void *content, size_t n, struct err *err)
{
    bool ok = fd_write_exact(fd, content, n) && fsync(fd) == 0;
    if (close(fd) != 0)
        ok = false;
    return ok || err_errno(err, "cannot write %s", tmp);
}

/* link() refuses an existing target, rename() replaces it: each is atomic. */
static bool put_in_place(const char *tmp, const char *path, bool replace, struct err *err)
{
    if (replace ? rename(tmp, path) == 0 : link(tmp, path) == 0)
        return true;
    if (errno == EEXIST)
        return err_set(err, "%s exists already and is left as it is", path);
    return err_errno(err, "cannot create %s", path);
}

/* In words about the file that is wanted and its folder: the temporary file's name helps nobody. */
static bool cannot_create(const char *path, struct err *err)
{
    char copy[PATH_MAX];
    int why = errno;
    snprintf(copy, sizeof copy, "%s", path);
    const char *folder = dirname(copy);
    if (why == ENOENT)
        return err_set(err, "cannot create %s: there is no folder %s (`mkdir -p %s` makes it)",
            path, folder, folder);
    if (why == EACCES)
        return err_set(err,
            "cannot create %s: user %ld may not write into the folder %s; run the command as its "
            "owner "
            "or give the folder to this user with `chown`",
            path, (long)geteuid(), folder);
    errno = why;
    return err_errno(err, "cannot create %s in the folder %s", path, folder);
}

bool fd_create_durable(
    const char *path, const void *content, size_t n, bool replace, struct err *err)
{
    char tmp[PATH_MAX];
    if (snprintf(tmp, sizeof tmp, "%s.%ld.tmp", path, (long)getpid()) >= (int)sizeof tmp)
        return err_set(err, "the path %.80s... is too long", path);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return cannot_create(path, err);
    bool ok = fill_and_sync(fd, tmp, content, n, err) && put_in_place(tmp, path, replace, err);
    if (!ok || !replace)
        unlink(tmp);
    if (ok && !sync_folder(path))
        return err_errno(err, "cannot sync the folder of %s", path);
    return ok;
}

static bool send_msg(
    int sock, const void *msg, size_t n, const int *fds, size_t fds_n, int more_flags)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
    } control = {0};
    struct iovec iov = {.iov_len = n};
    memcpy(&iov.iov_base, &msg, sizeof msg); /* sendmsg does not write to it */
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fds_n > FD_PASS_MAX) {
        errno = EINVAL;
        return false;
    }
    if (fds_n > 0) {
        mh.msg_control = control.buf;
        mh.msg_controllen = CMSG_SPACE(sizeof(int) * fds_n);
        struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * fds_n);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * fds_n);
    }
    ssize_t put;
    do
        put = sendmsg(sock, &mh, MSG_NOSIGNAL | more_flags);
    while (put < 0 && errno == EINTR);
    return put == (ssize_t)n;
}

bool fd_send_msg(int sock, const void *msg, size_t n, const int *fds, size_t fds_n)
{
    return send_msg(sock, msg, n, fds, fds_n, 0);
}

bool fd_send_msg_before(
    int sock, const void *msg, size_t n, const int *fds, size_t fds_n, uint64_t deadline_us)
{
    while (!send_msg(sock, msg, n, fds, fds_n, MSG_DONTWAIT)) {
        if (errno != EAGAIN)
            return false;
        if (deadline_us == 0 || !fd_wait(sock, POLLOUT, deadline_us)) {
            errno = EAGAIN;
            return false;
        }
    }
    return true;
}

ssize_t fd_recv_msg(int sock, void *msg, size_t cap, int *fds, size_t fds_max, size_t *ret_fds_n)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
    } control = {0};
    struct iovec iov = {.iov_base = msg, .iov_len = cap};
    struct msghdr mh = {.msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.buf,
        .msg_controllen = sizeof control.buf};
    ssize_t got;
    do
        got = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    *ret_fds_n = 0;
    if (got < 0)
        return got;
    bool fits = (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c != NULL; c = CMSG_NXTHDR(&mh, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
            if (fits && *ret_fds_n < fds_max)
                fds[(*ret_fds_n)++] = fd;
            else
                fd_close(&fd);
        }
    }
    if (!fits) {
        while (*ret_fds_n > 0)
            fd_close(&fds[--*ret_fds_n]);
        errno = EMSGSIZE;
        return -1;
    }
    return got;
}
