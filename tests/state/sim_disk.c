#include "state/sim_disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t sectors(const struct sim_disk *d)
{
    return JOURNAL_SIZE / d->sector;
}

static size_t page_of(const struct sim_disk *d, size_t sector)
{
    return sector * d->sector / SLOT_SIZE;
}

void sim_disk_init(struct sim_disk *d, const uint8_t content[JOURNAL_SIZE], size_t sector)
{
    memset(d, 0, sizeof *d);
    memcpy(d->cache, content, JOURNAL_SIZE);
    memcpy(d->version[0], content, JOURNAL_SIZE);
    d->sector = sector;
    for (size_t s = 0; s < sectors(d); s++)
        d->may_hold[s] = 1;
}

void sim_disk_restart(struct sim_disk *d, enum sim_fault fault, long n)
{
    d->calls = 0;
    d->fault = fault;
    d->fault_at = n;
    d->fault_hit = false;
    d->is_dead = false;
}

static int free_version(const struct sim_disk *d)
{
    unsigned used = 1u << d->current[0] | 1u << d->current[1];
    for (size_t s = 0; s < sectors(d); s++)
        used |= d->may_hold[s];
    for (int v = 0; v < SIM_VERSIONS; v++)
        if ((used & 1u << v) == 0)
            return v;
    abort(); /* more unflushed writes than any test makes */
}

static bool holds(const struct sim_disk *d, size_t s, const uint8_t *content)
{
    for (int v = 0; v < SIM_VERSIONS; v++)
        if ((d->may_hold[s] & 1u << v) != 0 &&
            memcmp(d->version[v] + s * d->sector, content, d->sector) == 0)
            return true;
    return false;
}

static void write_cache(struct sim_disk *d, const void *buf, size_t n, size_t at)
{
    size_t page = at / SLOT_SIZE;
    memcpy(d->cache + at, buf, n);
    int v = free_version(d);
    memcpy(d->version[v], d->cache, JOURNAL_SIZE);
    d->current[page] = v;
    d->dirty[page] = true;
    for (size_t s = 0; s < sectors(d); s++)
        if (page_of(d, s) == page && !holds(d, s, d->cache + s * d->sector))
            d->may_hold[s] = (uint16_t)(d->may_hold[s] | 1u << v);
}

/* Counts the call. true: this is the one that fails, in the way asked for. */
static bool fails_now(struct sim_disk *d, enum sim_fault fault)
{
    if (d->calls != d->fault_at || d->fault != fault)
        return false;
    d->fault_hit = true;
    return true;
}

static bool is_gone(struct sim_disk *d)
{
    if (fails_now(d, SIM_DIE))
        d->is_dead = true;
    errno = EIO;
    return d->is_dead;
}

static ssize_t sim_pread(void *ctx, int fd, void *buf, size_t n, off_t at)
{
    (void)fd;
    const struct sim_disk *d = ctx;
    memcpy(buf, d->cache + at, n);
    return (ssize_t)n;
}

static ssize_t sim_pwrite(void *ctx, int fd, const void *buf, size_t n, off_t at)
{
    (void)fd;
    struct sim_disk *d = ctx;
    if (is_gone(d))
        return -1;
    bool eio = fails_now(d, SIM_WRITE_EIO);
    bool cut = fails_now(d, SIM_WRITE_SHORT);
    d->calls++;
    if (eio)
        return -1;
    if (cut)
        n = d->sector;
    write_cache(d, buf, n, (size_t)at);
    return (ssize_t)n;
}

static int sim_fdatasync(void *ctx, int fd)
{
    (void)fd;
    struct sim_disk *d = ctx;
    if (is_gone(d))
        return -1;
    bool eio = fails_now(d, SIM_SYNC_EIO);
    d->calls++;
    for (size_t s = 0; s < sectors(d) && !eio; s++)
        if (d->dirty[page_of(d, s)])
            d->may_hold[s] = (uint16_t)(1u << d->current[page_of(d, s)]);
    d->dirty[0] = d->dirty[1] = false;
    return eio ? -1 : 0;
}

static int sim_fstat(void *ctx, int fd, struct stat *st)
{
    (void)ctx;
    (void)fd;
    *st = (struct stat){.st_mode = S_IFREG | 0600, .st_nlink = 1, .st_size = JOURNAL_SIZE};
    return 0;
}

static int sim_lstat(void *ctx, const char *path, struct stat *st)
{
    (void)path;
    return sim_fstat(ctx, -1, st);
}

struct state_io sim_disk_io(struct sim_disk *d)
{
    return (struct state_io){sim_pread, sim_pwrite, sim_fdatasync, sim_fstat, sim_lstat, d};
}

/* Puts the choice-th of the contents that sector s may have into out; false: there are fewer. */
static bool sector_choice(const struct sim_disk *d, size_t s, long choice, uint8_t *out)
{
    long seen = 0;
    for (int v = 0; v < SIM_VERSIONS; v++) {
        if ((d->may_hold[s] & 1u << v) == 0)
            continue;
        if (seen++ == choice) {
            memcpy(out, d->version[v] + s * d->sector, d->sector);
            return true;
        }
    }
    if (seen < 2 || choice > seen)
        return false;
    memset(out, 0, d->sector);
    return true;
}

static long choices(const struct sim_disk *d, size_t s)
{
    int n = __builtin_popcount(d->may_hold[s]);
    return n < 2 ? 1 : n + 1;
}

bool sim_disk_power_loss(struct sim_disk *d, long n)
{
    uint8_t content[JOURNAL_SIZE] = {0};
    for (size_t s = 0; s < sectors(d); s++) {
        long c = choices(d, s);
        if (!sector_choice(d, s, n % c, content + s * d->sector))
            abort();
        n /= c;
    }
    if (n > 0)
        return false;
    sim_disk_init(d, content, d->sector);
    return true;
}

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
    for (size_t i = 0; i < n; i += sizeof h) {
        uint64_t word;
        memcpy(&word, (const uint8_t *)p + i, sizeof word);
        h = (h ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        h ^= h >> 29;
    }
    return h;
}

/* Which version holds a content does not matter: each sector's contents are added up. */
uint64_t sim_disk_hash(const struct sim_disk *d)
{
    uint64_t h = mix(d->dirty[0] + 2u * d->dirty[1], d->cache, JOURNAL_SIZE);
    for (size_t s = 0; s < sectors(d); s++) {
        uint64_t sum = 0;
        for (int v = 0; v < SIM_VERSIONS && choices(d, s) > 1; v++)
            if ((d->may_hold[s] & 1u << v) != 0)
                sum += mix(s, d->version[v] + s * d->sector, d->sector);
        h = mix(h, &sum, sizeof sum);
    }
    return h;
}
