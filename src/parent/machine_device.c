/* Enclaves of this program's own, through /dev/nitro_enclaves. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "nitro/eif.h"
#include "parent/heartbeat.h"
#include "parent/machine_impl.h"

/* As AWS's tool finds it, for the same form of enclave ids. */
static void instance_id(char *ret, size_t cap)
{
    size_t n = 0;
    int fd ATTR_CLEANUP(fd_close) =
        open("/sys/devices/virtual/dmi/id/board_asset_tag", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || !fd_read_all(fd, ret, cap - 1, &n, NULL))
        n = 0;
    ret[n] = '\0';
    ret[strspn(ret, "abcdefghijklmnopqrstuvwxyz0123456789-")] = '\0';
    if (ret[0] == '\0')
        snprintf(ret, cap, "i-unknown");
}

static bool prepare(struct machine *m, struct err *err)
{
    struct eif_file file = {0};
    if (!eif_file_open(&file, m->options.eif, err))
        return false;
    bool ok = device_prepare(&m->enclave, m->device, file.content, m->options.cpus,
        m->options.memory_mib, &m->is_busy, err);
    eif_file_close(&file);
    return ok;
}

static void fill_place(struct machine *m, uint32_t cid)
{
    char instance[MACHINE_INSTANCE_MAX];
    struct machine_place *p = &m->place;
    instance_id(instance, sizeof instance);
    machine_make_id(m, instance, m->enclave.slot);
    p->cid = cid;
    p->memory_mib = (uint32_t)(m->enclave.memory >> 20);
    p->cpu_ids_n = m->enclave.cpus_n;
    memcpy(p->cpu_ids, m->enclave.cpu_ids, sizeof p->cpu_ids);
}

/* The listener is there before the enclave is: its first word must not be lost. Another start on this parent gets the
 * port afterwards. */
static bool start(struct machine *m, struct err *err)
{
    uint32_t cid = m->options.cid;
    if (!prepare(m, err))
        return false;
    m->heartbeat = heartbeat_listen(m->leash, &m->vsock, m->deadline_us, err);
    if (m->heartbeat < 0) {
        m->is_busy = true;
        return false;
    }
    if (!device_boot(&m->enclave, &cid, m->options.is_debug == 1, &m->is_busy, err))
        return false;
    fill_place(m, cid);
    const int dying[2] = {m->enclave.fd, -1};
    const uint32_t peer = m->vsock.uds[0] == '\0' ? cid : 0;
    if (!heartbeat_await(m->leash, m->heartbeat, peer, dying, m->deadline_us, err)) {
        if (err->text[0] == '\0')
            err_set(err,
                "the enclave ended while it booted: is %s made for this kind of processor, and the "
                "certificate of its signature still valid?",
                m->options.eif);
        return false;
    }
    fd_close(&m->heartbeat);
    return true;
}

static void keep(struct machine *m, struct err *err)
{
    struct pollfd p = {.fd = m->enclave.fd, .events = POLLIN}; /* POLLHUP is always looked for */
    if (leash_wait(m->leash, &p, 1, UINT64_MAX) == LEASH_READY)
        err_set(err, "the enclave %s ended", m->place.id);
    else
        leash_failed(m->leash, "", err);
}

static void stop(struct machine *m)
{
    device_close(&m->enclave);
}

const struct machine_ops machine_device = {.start = start, .keep = keep, .stop = stop};
