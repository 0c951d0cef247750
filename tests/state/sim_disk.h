/* sim_disk: a disk with a page cache under struct state_io, and every way in which it can fail.
 *
 * A write goes to the cache. Until a flush succeeds, each sector of the page may have reached the
 * platter or not, in any combination. A flush that fails marks the page clean: a later flush that
 * succeeds does not write it (as Linux does). A killed process leaves the cache; a power loss
 * leaves one combination of sectors. */
#ifndef TMKMS_TESTS_SIM_DISK_H
#define TMKMS_TESTS_SIM_DISK_H

#include "state/journal.h"

enum { SIM_VERSIONS = 12, SIM_SECTORS_MAX = JOURNAL_SIZE / 64 };

enum sim_fault {
    SIM_NO_FAULT,
    SIM_DIE,         /* the process ends before this call */
    SIM_WRITE_EIO,   /* nothing is written */
    SIM_WRITE_SHORT, /* one sector is written */
    SIM_SYNC_EIO,    /* pages are clean, and may have reached the platter or not */
};

struct sim_disk {
    uint8_t cache[JOURNAL_SIZE];
    uint8_t version[SIM_VERSIONS]
                   [JOURNAL_SIZE]; /* the whole file after each write that still matters */
    uint16_t
        may_hold[SIM_SECTORS_MAX]; /* versions that a sector of the platter may hold, a bit each */
    int current[2];                /* the version that is the cache's, of each page */
    bool dirty[2];
    size_t sector; /* bytes */
    /* one life of the process */
    long calls; /* of pwrite and fdatasync */
    enum sim_fault fault;
    long fault_at; /* the call that fails */
    bool fault_hit;
    bool is_dead; /* the process ended: nothing it does any more counts */
};

/* ret_io serves any descriptor; disk is its ctx and must outlive it. */
void sim_disk_init(struct sim_disk *d, const uint8_t content[JOURNAL_SIZE], size_t sector);
struct state_io sim_disk_io(struct sim_disk *d);

/* A new process starts, and fault happens at its n-th call. */
void sim_disk_restart(struct sim_disk *d, enum sim_fault fault, long n);

/* sim_disk_power_loss: the n-th of the combinations of what the platter holds; false: there are
 * fewer. A sector in flight may also come back as zeros. */
bool sim_disk_power_loss(struct sim_disk *d, long n);

uint64_t sim_disk_hash(const struct sim_disk *d);

#endif
