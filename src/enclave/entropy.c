#include "enclave/entropy.h"

#include <fcntl.h>
#include <linux/random.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "base/fd.h"
#include "enclave/machine_file.h"
#include "nitro/nsm.h"

enum { SEED_LEN = 256 }; /* one answer of the module */

bool entropy_is_from_nsm(const char *root)
{
    static const char wanted[] = "nsm-hwrng\n";
    char name[64];
    size_t n;
    return machine_file_read(
               root, "/sys/class/misc/hw_random/rng_current", name, sizeof name, &n, NULL) &&
           bytes_equal(bytes_of(name, n), bytes_of_text(wanted));
}

static bool is_seeded(void)
{
    uint8_t probe;
    return getrandom(&probe, sizeof probe, GRND_NONBLOCK) == sizeof probe;
}

/* Linux, include/uapi/linux/random.h: struct rand_pool_info, two numbers with the bytes behind them. */
static bool add_entropy(int device, const uint8_t seed[SEED_LEN], struct err *err)
{
    struct {
        int bits, bytes_n;
        uint8_t bytes[SEED_LEN];
    } pool = {.bits = 8 * SEED_LEN, .bytes_n = SEED_LEN};
    memcpy(pool.bytes, seed, SEED_LEN);
    bool ok =
        ioctl(device, RNDADDENTROPY, &pool) == 0 || err_errno(err, "the kernel takes no entropy");
    explicit_bzero(&pool, sizeof pool);
    return ok;
}

static bool seed_from_nsm(const char *root, int nsm, struct err *err)
{
    uint8_t seed[SEED_LEN];
    int device ATTR_CLEANUP(fd_close) = machine_file_open(root, "/dev/random", O_WRONLY, err);
    bool ok =
        device >= 0 && nsm_random(nsm, seed, sizeof seed, err) && add_entropy(device, seed, err);
    explicit_bzero(seed, sizeof seed);
    return ok;
}

bool entropy_start(const char *root, int nsm, struct err *err)
{
    if (entropy_is_from_nsm(root) && is_seeded())
        return true;
    if (!seed_from_nsm(root, nsm, err))
        return err_prefix(err, "there is no entropy");
    return is_seeded() || err_set(err, "there is no entropy: the kernel's generator is not ready");
}
