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
#include <sys/wait.h>
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

bool run_push_start(struct run *r, struct err *err)
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
    p->kill_at_us = clock_monotonic_us() + LIFE_US;
    r->watch.is_busy = true;
    return true;
}

/* ---- what it printed ---- */

/* Few lines, which pipes hold until the child has ended, but for hundreds of chains. */
static void take_output(int fd, struct evbuffer *text)
{
    while (evbuffer_get_length(text) < OUTPUT_MAX && evbuffer_read(text, fd, 65536) > 0)
        ;
}

void run_push_tick(struct run *r, uint64_t now_us)
{
    struct run_push *p = &r->push;
    if (p->pid == 0)
        return;
    take_output(p->out, p->out_text);
    take_output(p->errors, p->errors_text);
    if (now_us > p->kill_at_us)
        kill(p->pid, SIGKILL);
}

/* Its errors in one line; warnings go to the log as they are. */
static void read_words(struct run *r, char *out, size_t cap)
{
    static const char error[] = "error: ", warning[] = "warning: ";
    size_t n = 0;
    char *line;
    out[0] = '\0';
    while ((line = evbuffer_readln(r->push.errors_text, NULL, EVBUFFER_EOL_LF)) != NULL) {
        char words[2048];
        snprintf(words, sizeof words, "%s", line);
        free(line);
        run_config_name_file(&r->config, TEXT_FD, words, sizeof words);
        if (strncmp(words, warning, sizeof warning - 1) == 0 && r->phase != PHASE_READY)
            log_line(LOG_WARN, log_name, "%s", words + sizeof warning - 1);
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

static void finish(struct run *r, int status)
{
    char words[1024], why[64];
    take_output(r->push.out, r->push.out_text);
    take_output(r->push.errors, r->push.errors_text);
    read_words(r, words, sizeof words);
    json_t *answer = WIFEXITED(status) && WEXITSTATUS(status) == 0 ? read_answer(r) : NULL;
    if (answer == NULL && words[0] == '\0')
        snprintf(words, sizeof words, "`tmkms nitro push-config` ended with %s",
            child_end_text(status, why, sizeof why));
    r->push.pid = 0;
    run_push_stop(r);
    run_on_pushed(r, answer, words);
    json_decref(answer);
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
    r->watch.is_busy = false;
}
