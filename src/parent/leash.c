#include "parent/leash.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

bool leash_open(struct leash *ret, int control, struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return err_errno(err, "cannot block signals");
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return err_errno(err, "cannot make a signalfd");
    *ret = (struct leash){.control = control, .signals = fd};
    return true;
}

void leash_close(struct leash *l)
{
    fd_close(&l->signals);
}

/* Nothing is said on the control socket after the start; whatever comes is dropped. */
static bool has_ended(int control)
{
    char dropped[1];
    ssize_t n = recv(control, dropped, sizeof dropped, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static void look(struct leash *l, const struct pollfd *control, const struct pollfd *signals)
{
    struct signalfd_siginfo info;
    if (signals->revents != 0 && read(l->signals, &info, sizeof info) == (ssize_t)sizeof info)
        l->is_cut = l->by_signal = true;
    if (control->revents != 0 && has_ended(l->control))
        l->is_cut = true;
}

enum leash_event leash_wait(struct leash *l, struct pollfd *p, size_t n, uint64_t deadline_us)
{
    struct pollfd all[LEASH_FDS_MAX + 2];
    while (!l->is_cut) {
        uint64_t now = clock_monotonic_us();
        uint64_t ms = now < deadline_us ? (deadline_us - now) / 1000 + 1 : 0;
        for (size_t i = 0; i < n; i++)
            all[i] = p[i];
        all[n] = (struct pollfd){.fd = l->control, .events = POLLIN};
        all[n + 1] = (struct pollfd){.fd = l->signals, .events = POLLIN};
        int ready = poll(all, n + 2, ms > INT_MAX ? INT_MAX : (int)ms);
        if (ready > 0) {
            look(l, &all[n], &all[n + 1]);
            for (size_t i = 0; i < n; i++)
                p[i].revents = all[i].revents;
            for (size_t i = 0; i < n && !l->is_cut; i++)
                if (p[i].revents != 0)
                    return LEASH_READY;
        } else if (clock_monotonic_us() >= deadline_us) {
            return LEASH_LATE;
        }
    }
    return LEASH_CUT;
}

bool leash_failed(const struct leash *l, const char *what, struct err *err)
{
    return err_set(err, "%s", l->is_cut ? "told to end" : what);
}
