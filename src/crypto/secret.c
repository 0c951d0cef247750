#include "crypto/secret.h"

#include <errno.h>
#include <sodium.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* sodium_malloc tries to lock its pages and goes on when it cannot; a key that may be swapped out
 * is not acceptable here, so the pages are locked once more and the answer is looked at. */
static bool lock_pages(void *p, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t slack = (uintptr_t)p % page;
    uint8_t *start = (uint8_t *)p - slack;
    return mlock(start, slack + n) == 0 && madvise(start, slack + n, MADV_DONTDUMP) == 0 &&
           madvise(start, slack + n, MADV_WIPEONFORK) == 0;
}

void *secret_alloc(size_t n, struct err *err)
{
    void *p = sodium_malloc(n);
    if (p == NULL) {
        err_errno(err, "cannot allocate %zu bytes of guarded memory for a key", n);
        return NULL;
    }
    if (!lock_pages(p, n)) {
        int why = errno;
        struct rlimit limit = {0};
        getrlimit(RLIMIT_MEMLOCK, &limit);
        sodium_free(p);
        errno = why;
        err_errno(err,
            "cannot lock memory for a key (RLIMIT_MEMLOCK is %llu bytes); raise the limit with "
            "`LimitMEMLOCK=16M` in the systemd unit or `ulimit -l`",
            (unsigned long long)limit.rlim_cur);
        return NULL;
    }
    sodium_memzero(p, n);
    return p;
}

bool secret_make_readonly(void *p, struct err *err)
{
    return sodium_mprotect_readonly(p) == 0 || err_errno(err, "cannot write-protect a key");
}

void secret_free(void *p)
{
    sodium_free(p);
}

void secret_wipe(void *p, size_t n)
{
    sodium_memzero(p, n);
}
