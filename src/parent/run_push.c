/* The configuration and credentials, brought into the enclave by this program's own command: it waits for the enclave
 * and for the metadata service, while our loop carries what the enclave needs meanwhile. */
#include <errno.h>
#include <event2/buffer.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "parent/run_impl.h"

static const char log_name[] = "tmkms::run";

enum {
    TEXT_FD = 3,
    ANSWER_S = 130,
    LIFE_US = 150000000,
    SLOW_US = 5000000, /* the enclave itself tries KMS for longer */
    OUTPUT_MAX = 1 << 20,
    ARGS_MAX = 20,
};

/* ---- the child ---- */

struct arguments {
    char text[RUN_TEXT_PATH_MAX], cid[16], port[16], log_port[16], timeout[16];
    const char *list[ARGS_MAX];
    size_t n;
};

static void add(struct arguments *a, const char *flag, const char *value)
{
    a->list[a->n++] = flag;
    if (value != NULL)
        a->list[a->n++] = value;
}

static void fill_arguments(struct arguments *a, const struct run *r)
{
    *a = (struct arguments){.list = {"tmkms", "nitro", "push-config", "--json"}, .n = 4};
    run_config_text_path(a->text, TEXT_FD);
    snprintf(a->port, sizeof a->port, "%" PRIu32, r->options->port);
    snprintf(a->cid, sizeof a->cid, "%" PRIu32, r->cid);
    snprintf(a->log_port, sizeof a->log_port, "%" PRIu32, r->config.log_port);
    snprintf(a->timeout, sizeof a->timeout, "%d", ANSWER_S);
    add(a, "-c", a->text);
    add(a, "-p", a->port);
    add(a, "--timeout", a->timeout);
    if (r->vsock.uds[0] != '\0')
        add(a, "--vsock-uds", r->vsock.uds);
    else
        add(a, "-i", a->cid);
    if (r->config.log_port != 0)
        add(a, "--log-port", a->log_port);
    if (r->options->is_verbose)
        add(a, "-v", NULL);
}

/* Between fork and exec. */
ATTR_NORETURN static void become(
    const struct arguments *a, int text, int out, int errors, pid_t parent)
{
    enum { ABOVE = 64 };
    char *argv[ARGS_MAX];
    int from[3] = {
        fcntl(out, F_DUPFD, ABOVE), fcntl(errors, F_DUPFD, ABOVE), fcntl(text, F_DUPFD, ABOVE)};
    int null = open("/dev/null", O_RDONLY);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    memcpy(argv, a->list, sizeof argv); /* execv takes no const, but changes nothing */
    if (getppid() == parent && dup2(null, STDIN_FILENO) >= 0 && dup2(from[0], STDOUT_FILENO) >= 0 &&
        dup2(from[1], STDERR_FILENO) >= 0 && dup2(from[2], TEXT_FD) >= 0 &&
        close_range(TEXT_FD + 1, ~0U, 0) == 0)
        execv("/proc/self/exe", argv);
    _exit(127);
}

static bool open_pipes(int out[2], int errors[2])
{
    return pipe2(out, O_CLOEXEC) == 0 && pipe2(errors, O_CLOEXEC) == 0 &&
           fcntl(out[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(errors[0], F_SETFL, O_NONBLOCK) == 0;
}

static bool start_push(struct run *r, struct err *err)
{
    struct run_push *p = &r->push;
    struct arguments a;
    int out[2] ATTR_CLEANUP(fd_close_pair) = {-1, -1};
    int errors[2] ATTR_CLEANUP(fd_close_pair) = {-1, -1};
    fill_arguments(&a, r);
    p->out_text = evbuffer_new();
    p->errors_text = evbuffer_new();
    pid_t parent = getpid();
    pid_t pid = -1;
    if (p->out_text != NULL && p->errors_text != NULL && open_pipes(out, errors))
        pid = fork();
    if (pid == 0)
        become(&a, r->config.text, out[1], errors[1], parent);
    if (pid < 0) {
        err_errno(err, "cannot start the push");
        run_push_stop(r);
        return false;
    }
    p->pid = pid;
    p->out = out[0];
    p->errors = errors[0];
    out[0] = errors[0] = -1;
    p->since_us = clock_monotonic_us();
    r->pulse.is_busy = true;
    return true;
}

/* ---- what it printed ---- */

/* Few lines, which pipes hold until the child has ended, but for hundreds of chains. */
static void take_output(int fd, struct evbuffer *text)
{
    while (evbuffer_get_length(text) < OUTPUT_MAX && evbuffer_read(text, fd, 65536) > 0)
        ;
}

/* It asks for its states when it has its keys. */
static void tell_slow(struct run *r)
{
    const char *what = persist_was_asked(r->persist) ? "its state" : "KMS";
    log_line(LOG_WARN, log_name,
        "the enclave has its configuration for %d s and is not ready: it waits for %s, and goes on "
        "when that comes",
        SLOW_US / 1000000, what);
    notify_status(&r->notify, "not ready: the enclave waits for %s", what);
}

void run_push_tick(struct run *r, uint64_t now_us)
{
    struct run_push *p = &r->push;
    if (p->pid == 0)
        return;
    take_output(p->out, p->out_text);
    take_output(p->errors, p->errors_text);
    if (!p->is_slow_told && r->phase != PHASE_READY && now_us - p->since_us > SLOW_US) {
        p->is_slow_told = true;
        tell_slow(r);
    }
    if (now_us - p->since_us > LIFE_US)
        kill(p->pid, SIGKILL);
}

/* Its errors in one line. Its warnings were told when the configuration was read. */
static void read_words(struct run *r, char *out, size_t cap)
{
    static const char error[] = "error: ";
    size_t n = 0;
    char *line;
    out[0] = '\0';
    while ((line = evbuffer_readln(r->push.errors_text, NULL, EVBUFFER_EOL_LF)) != NULL) {
        char words[2048];
        snprintf(words, sizeof words, "%s", line);
        free(line);
        run_config_name_file(&r->config, TEXT_FD, words, sizeof words);
        if (strncmp(words, error, sizeof error - 1) != 0 || n >= cap)
            continue;
        int more = snprintf(out + n, cap - n, "%s%s", n > 0 ? "; " : "", words + sizeof error - 1);
        n += more > 0 ? (size_t)more : 0;
    }
}

static json_t *read_answer(struct run *r)
{
    size_t n = evbuffer_get_length(r->push.out_text);
    const char *text = (const char *)evbuffer_pullup(r->push.out_text, -1);
    json_t *answer = text != NULL ? json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (json_is_object(answer))
        return answer;
    json_decref(answer);
    return NULL;
}

/* ---- what follows ---- */

static const char *what_failed(const struct run *r)
{
    if (r->phase != PHASE_READY)
        return "the enclave does not take its configuration";
    return r->is_pushed_again ? "the configuration cannot be pushed again (the enclave signs on)"
                              : "the credentials cannot be renewed (the enclave signs on)";
}

/* The enclave needs none to sign, but to begin. */
static void tell_expiry(struct run *r)
{
    if (r->expires_s == 0 || (uint64_t)r->expires_s > clock_realtime_us() / 1000000)
        return;
    log_line(LOG_ERROR, log_name,
        "the credentials have expired: the enclave signs on, but another could not start");
    r->expires_s = 0;
}

static void push_failed(struct run *r, const char *words)
{
    uint64_t wait_us = backoff_next_us(&r->push_backoff);
    if (trouble_is_news(&r->push_trouble, words, clock_monotonic_us()))
        log_line(
            LOG_ERROR, log_name, "%s: %s; tried again until it can be done", what_failed(r), words);
    if (r->phase == PHASE_READY)
        tell_expiry(r);
    else
        notify_status(&r->notify, "not ready: %s", words);
    run_due_in(r->push_due, wait_us);
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "";
}

/* As they are printed everywhere else; operators look for these lines. */
static void log_keys(const json_t *answer)
{
    size_t i;
    const json_t *key;
    json_array_foreach(json_object_get(answer, "keys"), i, key)
    {
        bool is_ed25519 = strlen(text_of(key, "hex")) == 64;
        log_line(LOG_INFO, "tmkms::keyring", "[%s] [keyring:softsign] added consensus %s key: %s",
            text_of(key, "chain_id"), is_ed25519 ? "Ed25519" : "Secp256k1",
            text_of(key, "public_key"));
    }
}

static void log_renewal(const struct run *r, uint64_t in_us, const char *source)
{
    char until[32] = "";
    time_t at = (time_t)r->expires_s;
    struct tm tm;
    gmtime_r(&at, &tm);
    strftime(until, sizeof until, "%Y-%m-%dT%H:%M:%SZ", &tm);
    log_line(LOG_INFO, log_name,
        "the credentials (%s) last until %s and are renewed in %" PRIu64 " s", source, until,
        in_us / 1000000);
}

static void plan_renewal(struct run *r, const json_t *answer)
{
    const json_t *credentials = json_object_get(answer, "credentials");
    int64_t expires_s = json_integer_value(json_object_get(credentials, "expires"));
    uint32_t random = 0;
    evutil_secure_rng_get_bytes(&random, sizeof random);
    uint64_t in_us = renew_in_us(expires_s, clock_realtime_us(), random);
    bool is_news = expires_s != r->expires_s;
    r->expires_s = expires_s;
    if (expires_s != 0 && is_news)
        log_renewal(r, in_us, text_of(credentials, "source"));
    run_due_in(r->push_due, in_us);
}

static void become_ready(struct run *r, const json_t *answer)
{
    log_keys(answer);
    log_line(LOG_INFO, log_name, "ready: the enclave signs; measured config %s, PCR16 %s",
        text_of(answer, "measured_config"), text_of(answer, "pcr16"));
    r->starts_failed = 0;
    r->push.is_slow_told = false;
    r->start_trouble = (struct trouble){0};
    run_enter(r, PHASE_READY);
}

static void on_pushed(struct run *r, const json_t *answer, const char *words)
{
    if (answer == NULL) {
        push_failed(r, words);
        return;
    }
    if (r->push_trouble.words[0] != '\0' && r->phase == PHASE_READY)
        log_line(LOG_INFO, log_name, "the credentials are renewed again");
    r->push_trouble = (struct trouble){0};
    backoff_reset(&r->push_backoff);
    if (r->is_pushed_again)
        log_line(LOG_INFO, log_name, "%s is pushed again", r->config.file);
    r->is_pushed_again = false;
    if (r->phase != PHASE_READY)
        become_ready(r, answer);
    plan_renewal(r, answer);
}

/* ---- the end of the child ---- */

static void finish(struct run *r, int status)
{
    char words[1024], why[64];
    take_output(r->push.out, r->push.out_text);
    take_output(r->push.errors, r->push.errors_text);
    read_words(r, words, sizeof words);
    json_t *said = read_answer(r);
    json_t *answer = WIFEXITED(status) && WEXITSTATUS(status) == 0 ? said : NULL;
    bool is_foreign = answer == NULL && run_is_foreign(r, push_code_of(text_of(said, "code")));
    if (answer == NULL && words[0] == '\0')
        snprintf(words, sizeof words, "`tmkms nitro push-config` ended with %s",
            child_end_text(status, why, sizeof why));
    r->push.pid = 0;
    bool is_stale = r->push.is_stale;
    run_push_stop(r);
    if (is_foreign)
        run_on_foreign(r, words);
    else if (answer == NULL || !is_stale)
        on_pushed(r, answer, words);
    if (is_stale && !is_foreign)
        run_due_in(r->push_due, 0);
    else
        run_reloaded(r);
    json_decref(said);
}

void run_push_reap(struct run *r)
{
    int status;
    if (r->push.pid > 0 && waitpid(r->push.pid, &status, WNOHANG) == r->push.pid)
        finish(r, status);
}

void run_push_stop(struct run *r)
{
    struct run_push *p = &r->push;
    if (p->pid > 0) {
        kill(p->pid, SIGKILL);
        waitpid(p->pid, NULL, 0);
    }
    p->pid = 0;
    fd_close(&p->out);
    fd_close(&p->errors);
    if (p->out_text != NULL)
        evbuffer_free(p->out_text);
    if (p->errors_text != NULL)
        evbuffer_free(p->errors_text);
    p->out_text = p->errors_text = NULL;
    p->is_stale = false;
    if (r->pulse.is_busy)
        pulse_begin_again(&r->pulse, clock_monotonic_us());
    r->pulse.is_busy = false;
}

void run_push_due(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct run *r = arg;
    struct err err;
    if (r->is_stopping || r->push.pid != 0)
        return;
    if (!run_config_still_measures(&r->config, &err) || !start_push(r, &err)) {
        push_failed(r, err.text);
        run_reloaded(r);
    }
}
