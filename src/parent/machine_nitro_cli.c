/* Enclaves through AWS's nitro-cli: one call each to start, look and end. The enclave belongs to a process of the
 * tool's own, so it lives on when its keeper is killed: the next start of that name ends it first. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "parent/machine_impl.h"

static const char log_name[] = "tmkms::keeper";

enum {
    CALL_US = 20000000,
    /* Both together within KEEPER_STOP_US. */
    RUN_GRACE_US = 5000000,
    END_US = 8000000,
    SEEK_US = 250000,
    /* While the tool's own process for the enclave lives, the list says little new, and one that misses the enclave may
     * be mistaken: the tool asks each such process, with deadlines of its own. */
    LOOK_US = 6000000,
    LOOK_AGAIN_US = 2000000,
    MISSES_MAX = 3,
    QUOTE_MAX = 400,
};

/* ---- the tool ---- */

/* What it says on failure: the first of its error codes and what follows, on one line. */
static void quote(const char *errors, char ret[QUOTE_MAX + 1])
{
    const char *from = strstr(errors, "[ E");
    size_t n = 0, all = strlen(errors);
    if (from == NULL)
        from = all > QUOTE_MAX ? errors + all - QUOTE_MAX : errors;
    for (; *from != '\0' && n < QUOTE_MAX; from++) {
        char c = isspace((unsigned char)*from) ? ' ' : *from;
        if (c != ' ' || (n > 0 && ret[n - 1] != ' '))
            ret[n++] = c >= 0x20 && c <= 0x7e ? c : '?';
    }
    while (n > 0 && ret[n - 1] == ' ')
        n--;
    ret[n] = '\0';
}

/* Its answer is JSON on standard output, perhaps behind lines for people. NULL and err; what it says on standard error
 * is in *said. */
static json_t *call(struct leash *l, const char *const *argv, uint64_t deadline_us,
    uint64_t grace_us, struct process_result *said, struct err *err)
{
    char words[QUOTE_MAX + 1];
    if (!process_run(l, argv, deadline_us, grace_us, said, err))
        return NULL;
    quote(said->errors, words);
    if (!said->is_success) {
        err_set(err, "nitro-cli %s failed (%s): %s", argv[1], said->end, words);
        return NULL;
    }
    const char *text = said->out;
    while (text != NULL && *text != '{' && *text != '[') {
        text = strchr(text, '\n');
        text = text != NULL ? text + 1 : NULL;
    }
    json_t *answer = text != NULL ? json_loads(text, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    if (answer == NULL)
        err_set(err, "nitro-cli %s printed no JSON: %.200s", argv[1], words);
    return answer;
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "";
}

static uint32_t number_of(const json_t *object, const char *name)
{
    json_int_t v = json_integer_value(json_object_get(object, name));
    return v > 0 && v < UINT32_MAX ? (uint32_t)v : 0;
}

static bool end_one(
    struct leash *l, const char *tool, const char *id, uint64_t deadline_us, struct err *err)
{
    static struct process_result said;
    const char *const argv[] = {tool, "terminate-enclave", "--enclave-id", id, NULL};
    json_t *answer = call(l, argv, deadline_us, 0, &said, err);
    json_decref(answer);
    return answer != NULL;
}

static json_t *describe(struct leash *l, const char *tool, uint64_t deadline_us, struct err *err)
{
    static struct process_result said;
    const char *const argv[] = {tool, "describe-enclaves", NULL};
    json_t *all = call(l, argv, deadline_us, 0, &said, err);
    if (all != NULL && !json_is_array(all)) {
        json_decref(all);
        err_set(err, "nitro-cli describe-enclaves printed no list");
        return NULL;
    }
    return all;
}

/* Only an enclave of this very name: whoever has the lock of the name knows that no keeper works for it. */
static bool end_by_name(struct leash *l, const char *tool, const char *name, bool is_stale,
    uint64_t deadline_us, bool *ret_found, struct err *err)
{
    json_t *all = describe(l, tool, deadline_us, err);
    bool ok = all != NULL;
    *ret_found = false;
    for (size_t i = 0; ok && i < json_array_size(all); i++) {
        const json_t *one = json_array_get(all, i);
        const char *id = text_of(one, "EnclaveID");
        if (strcmp(text_of(one, "EnclaveName"), name) != 0 || id[0] == '\0')
            continue;
        *ret_found = true;
        if (is_stale)
            log_line(LOG_WARN, log_name,
                "ending the enclave %s (%s), which an earlier run left behind", name, id);
        ok = end_one(l, tool, id, deadline_us, err);
    }
    json_decref(all);
    return ok;
}

bool machine_end_abandoned(const char *name, struct err *err)
{
    char tool[PROCESS_PATH_MAX];
    struct leash none = {.control = -1, .signals = -1};
    bool found;
    return process_find(tool, NULL, "nitro-cli", NULL, err) &&
           end_by_name(&none, tool, name, false, clock_monotonic_us() + CALL_US, &found, err);
}

/* ---- the start ---- */

/* What a person can do about a refused start. */
static const struct {
    const char *code, *words;
    bool is_busy;
} refusals[] = {
    {"E19",
        "is the instance launched with enclaves enabled, and the package of nitro-cli installed?",
        false},
    {"E22",
        "raise cpu_count in /etc/nitro_enclaves/allocator.yaml, then `systemctl restart "
        "nitro-enclaves-allocator`",
        true},
    {"E26", "an enclave needs four times its image: leave memory_mib out, or raise it", false},
    {"E27",
        "raise memory_mib in /etc/nitro_enclaves/allocator.yaml, then `systemctl restart "
        "nitro-enclaves-allocator`",
        true},
    {"E29", "another enclave may have the resources: `nitro-cli describe-enclaves` lists them",
        true},
    {"E36",
        "the image did not boot: is it for this kind of processor, its signing certificate still "
        "valid?",
        false},
    {"E39", "another enclave may be starting or ending", true},
    {"in use", "another enclave has the resources: `nitro-cli describe-enclaves` lists them", true},
};

static bool explain(struct machine *m, struct err *err)
{
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        if (strstr(err->text, refusals[i].code) == NULL)
            continue;
        size_t n = strlen(err->text);
        snprintf(err->text + n, sizeof err->text - n, " (%s)", refusals[i].words);
        m->is_busy = refusals[i].is_busy;
        break;
    }
    return false;
}

static bool take_place(struct machine *m, const json_t *ran, struct err *err)
{
    struct machine_place *p = &m->place;
    const json_t *ids = json_object_get(ran, "CPUIDs");
    const char *id = text_of(ran, "EnclaveID");
    p->cid = number_of(ran, "EnclaveCID");
    if (p->cid == 0 || id[0] == '\0' || strlen(id) >= sizeof p->id ||
        strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(id))
        return err_set(err, "nitro-cli run-enclave did not say which enclave it started");
    snprintf(p->id, sizeof p->id, "%s", id);
    p->cpus = number_of(ran, "NumberOfCPUs");
    p->memory_mib = number_of(ran, "MemoryMiB");
    for (size_t i = 0; i < json_array_size(ids) && i < MACHINE_CPUS_MAX; i++)
        p->cpu_ids[p->cpu_ids_n++] = (uint32_t)json_integer_value(json_array_get(ids, i));
    /* The tool's process for this enclave ends with it: sooner known than by asking. */
    uint32_t pid = number_of(ran, "ProcessID");
    m->tool_process = pid > 1 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    return true;
}

static bool run(struct machine *m, struct err *err)
{
    static struct process_result said;
    const struct machine_options *o = &m->options;
    char cpus[16], memory[16], cid[16];
    snprintf(cpus, sizeof cpus, "%" PRIu32, o->cpus);
    snprintf(memory, sizeof memory, "%" PRIu32, o->memory_mib);
    snprintf(cid, sizeof cid, "%" PRIu32, o->cid);
    const char *argv[16] = {m->tool, "run-enclave", "--cpu-count", cpus, "--memory", memory,
        "--eif-path", o->eif, "--enclave-name", o->name};
    size_t n = 10;
    if (o->cid != 0) {
        argv[n++] = "--enclave-cid";
        argv[n++] = cid;
    }
    if (o->is_debug)
        argv[n++] = "--debug-mode";
    m->was_tried = true;
    json_t *ran = call(m->leash, argv, m->deadline_us, RUN_GRACE_US, &said, err);
    m->was_cut_off = said.end[0] == '\0';
    bool ok = ran != NULL ? take_place(m, ran, err) : explain(m, err);
    json_decref(ran);
    return ok && (!m->leash->is_cut || leash_failed(m->leash, "", err));
}

static bool start(struct machine *m, struct err *err)
{
    bool found;
    return process_find(m->tool, NULL, "nitro-cli", NULL, err) &&
           end_by_name(m->leash, m->tool, m->options.name, true, clock_monotonic_us() + CALL_US,
               &found, err) &&
           run(m, err);
}

/* ---- while it runs, and its end ---- */

enum look { LOOK_RUNS, LOOK_MISSED, LOOK_ENDED };

/* A tool that does not answer says nothing about the enclave: whoever uses it has other means to see that it hangs. */
static enum look look(struct machine *m)
{
    struct err why;
    json_t *all = describe(m->leash, m->tool, clock_monotonic_us() + CALL_US, &why);
    if (all == NULL) {
        if (!m->has_complained && !m->leash->is_cut)
            log_line(LOG_WARN, log_name, "cannot look after the enclave: %s", why.text);
        m->has_complained = true;
        return LOOK_RUNS;
    }
    enum look found = LOOK_MISSED;
    for (size_t i = 0; i < json_array_size(all) && found == LOOK_MISSED; i++) {
        const json_t *one = json_array_get(all, i);
        if (strcmp(text_of(one, "EnclaveID"), m->place.id) == 0)
            found = strcmp(text_of(one, "State"), "RUNNING") == 0 ? LOOK_RUNS : LOOK_ENDED;
    }
    json_decref(all);
    m->has_complained = false;
    return found;
}

static void keep(struct machine *m, struct err *err)
{
    for (unsigned misses = 0;;) {
        struct pollfd p = {.fd = m->tool_process, .events = POLLIN};
        bool is_soon = misses > 0 || m->has_complained || m->tool_process < 0;
        enum leash_event event =
            leash_wait(m->leash, &p, 1, clock_monotonic_us() + (is_soon ? LOOK_AGAIN_US : LOOK_US));
        if (event == LEASH_READY)
            fd_close(&m->tool_process); /* what it means, the tool says */
        enum look seen = event != LEASH_CUT ? look(m) : LOOK_RUNS;
        if (m->leash->is_cut) {
            leash_failed(m->leash, "", err);
            return;
        }
        misses = seen == LOOK_MISSED ? misses + 1 : 0;
        if (seen == LOOK_ENDED || (misses > 0 && m->tool_process < 0) || misses >= MISSES_MAX) {
            err_set(err, "nitro-cli shows the enclave %s no more", m->place.id);
            m->place.id[0] = '\0';
            return;
        }
    }
}

/* Told to end in the middle of a start, nobody knows yet what was started: then by name. The tool starts an enclave in
 * a process that outlives the call, and shows it when it runs: so it is sought until then. */
static bool end_unknown(
    struct machine *m, struct leash *none, uint64_t deadline_us, struct err *err)
{
    for (bool found;;) {
        bool ok = end_by_name(none, m->tool, m->options.name, false, deadline_us, &found, err);
        if (found || !m->was_cut_off)
            return ok;
        if (clock_monotonic_us() + SEEK_US >= deadline_us)
            return err_set(err, "nitro-cli was cut off in the middle of its start, and does not "
                                "show it; `nitro-cli describe-enclaves` may do so later");
        leash_wait(none, NULL, 0, clock_monotonic_us() + SEEK_US);
    }
}

static void stop(struct machine *m)
{
    struct leash none = {.control = -1, .signals = -1};
    struct err err;
    uint64_t deadline = clock_monotonic_us() + END_US;
    fd_close(&m->tool_process);
    if (!m->was_tried)
        return;
    bool ok = m->place.id[0] != '\0' ? end_one(&none, m->tool, m->place.id, deadline, &err)
                                     : end_unknown(m, &none, deadline, &err);
    if (!ok)
        log_line(LOG_ERROR, log_name, "the enclave may still run: %s", err.text);
    m->was_tried = false;
}

const struct machine_ops machine_nitro_cli = {.start = start, .keep = keep, .stop = stop};
