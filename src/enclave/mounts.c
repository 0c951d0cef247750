#include "enclave/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

bool mounts_make(struct err *err)
{
    static const struct {
        const char *kind, *at;
        unsigned long flags;
    } mounts[] = {
        {"devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC},
        {"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC},
        {"sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY},
    };
    for (unsigned i = 0; i < sizeof mounts / sizeof mounts[0]; i++)
        if (mount(mounts[i].kind, mounts[i].at, mounts[i].kind, mounts[i].flags, NULL) != 0 &&
            errno != EBUSY)
            return err_errno(err, "cannot mount %s on %s", mounts[i].kind, mounts[i].at);
    return true;
}

/* Without waiting: nothing here may hang because nobody reads a console. */
bool mounts_open_console(struct err *err)
{
    int fd = open("/dev/console", O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return err_errno(err, "cannot open /dev/console");
    for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
        if (fd != i && dup2(fd, i) < 0)
            return err_errno(err, "cannot use /dev/console");
    if (fd > STDERR_FILENO)
        close(fd);
    return true;
}
