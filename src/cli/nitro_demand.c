#include "cli/nitro_demand.h"

#include <fcntl.h>

#include "base/clock.h"
#include "base/fd.h"
#include "nitro/pcr.h"

/* The registers that can be demanded: those that a key policy names. */
static const struct {
    const char *flag, *name;
    unsigned index;
} demandable[] = {
    {"pcr0", "PCR0", 0},
    {"pcr1", "PCR1", 1},
    {"pcr2", "PCR2", 2},
    {"pcr3", "PCR3", 3},
    {"pcr4", "PCR4", 4},
    {"pcr8", "PCR8", 8},
    {"pcr16", "PCR16", 16},
};
_Static_assert(sizeof demandable / sizeof demandable[0] == DEMAND_PCRS_N, "one flag a register");

void demand_flags(struct demand_options *o, struct command_flag *flags)
{
    for (size_t i = 0; i < DEMAND_PCRS_N; i++)
        *flags++ = (struct command_flag){0, demandable[i].flag, &o->pcrs[i], NULL};
    *flags++ = (struct command_flag){0, "root", &o->root, NULL};
    *flags = (struct command_flag){0, "accept-debug", NULL, &o->accept_debug};
}

static bool read_root(const char *path, uint8_t *root, struct bytes *ret, struct err *err)
{
    uint8_t pem[DEMAND_ROOT_MAX];
    size_t n = 0, root_n = 0;
    int fd ATTR_CLEANUP(fd_close) = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "cannot open %s", path);
    if (!fd_read_all(fd, pem, sizeof pem, &n, err) ||
        !attestation_root_from_pem(bytes_of(pem, n), root, DEMAND_ROOT_MAX, &root_n, err))
        return err_prefix(err, "%s", path);
    *ret = bytes_of(root, root_n);
    return true;
}

bool demand_from(const struct demand_options *o, uint8_t root[DEMAND_ROOT_MAX],
    struct attestation_policy *ret, struct err *err)
{
    ret->now_s = (int64_t)(clock_realtime_us() / 1000000);
    ret->accept_debug = o->accept_debug;
    for (size_t i = 0; i < DEMAND_PCRS_N; i++) {
        unsigned index = demandable[i].index;
        if (o->pcrs[i] == NULL)
            continue;
        if (!pcr_from_hex(demandable[i].name, o->pcrs[i], ret->pcrs[index], err))
            return false;
        ret->pcrs_wanted |= 1U << index;
    }
    return o->root == NULL || read_root(o->root, root, &ret->root_der, err);
}
