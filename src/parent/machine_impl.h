/* machine_impl: what the kinds of machines share, and what each of them is to the keeper. */
#ifndef TMKMS_PARENT_MACHINE_IMPL_H
#define TMKMS_PARENT_MACHINE_IMPL_H

#include "parent/device.h"
#include "parent/kept.h"
#include "parent/leash.h"
#include "parent/machine.h"
#include "parent/process.h"

struct machine {
    struct machine_options options;
    struct machine_place place;
    struct leash *leash;
    const struct kept *kept;
    struct vsock vsock;
    bool is_busy; /* of a failed start: worth another try */
    uint64_t eif_size;
    uint64_t deadline_us; /* of the start */
    int heartbeat;        /* listener, -1: none */
    /* Each kind uses its own. */
    struct process program, backend;
    const struct device_ops *device;
    struct device_enclave enclave;
    char tool[PROCESS_PATH_MAX];
    int tool_process; /* pidfd of nitro-cli's process for the enclave; -1: none */
    bool was_tried, was_cut_off, has_complained;
    char log[MACHINE_PATH_MAX]; /* what local processes say besides the console; "": none */
};

/* machine_start: false when it does not run (err; m->is_busy), and nothing of it is left then. */
bool machine_start(struct machine *m, const struct machine_options *o, const struct kept *kept,
    struct leash *leash, struct err *err) ATTR_MUST_USE;
/* machine_keep waits until the enclave has ended (err says how) or the leash is cut. */
void machine_keep(struct machine *m, struct err *err);
void machine_stop(struct machine *m);

struct machine_ops {
    bool (*start)(struct machine *m, struct err *err);
    void (*keep)(struct machine *m, struct err *err);
    void (*stop)(struct machine *m); /* also after a start that failed half way */
};
extern const struct machine_ops machine_nitro_cli, machine_device, machine_qemu, machine_simulated;

/* ---- shared ---- */

/* Fills place.id: `INSTANCE-encNUMBER`. */
void machine_make_id(struct machine *m, const char *instance, uint64_t number);
/* The stand-in for vsock: what is asked for, else a socket in the enclave's folder. */
bool machine_choose_uds(struct machine *m, struct err *err) ATTR_MUST_USE;
/* machine_claim_uds: nobody listens there, and a stale socket is removed. From now on place.uds names it. */
bool machine_claim_uds(struct machine *m, struct err *err) ATTR_MUST_USE;
/* A fresh file for output, in the enclave's folder: -1 and err. */
int machine_open_log(
    char *ret_path, size_t cap, const struct kept *kept, const char *name, struct err *err);
/* Puts the last whole lines of a file behind what err says, with " | " between them. */
void machine_quote(const char *path, const char *whose, struct err *err);
/* Has one of the local processes ended? Then err says which, how, and what it said last. */
bool machine_process_ended(struct machine *m, struct err *err);
/* Waits until a socket is there. */
bool machine_await_socket(
    struct machine *m, const char *path, const struct process *of, struct err *err) ATTR_MUST_USE;
/* Waits until one of the local processes has ended, or the leash is cut. */
void machine_keep_processes(struct machine *m, struct err *err);
void machine_stop_processes(struct machine *m);

#endif
