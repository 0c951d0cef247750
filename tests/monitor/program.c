#include "program.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "crypto/encode.h"
#include "state/journal.h"

static void pause_ms(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

static void write_key(
    const struct program *p, const char *name, const uint8_t seed[ED25519_SEED_LEN])
{
    char text[64], path[128];
    struct err err;
    assert_true(base64_encode(bytes_of(seed, ED25519_SEED_LEN), text, sizeof text));
    snprintf(path, sizeof path, "%s/%s", p->folder, name);
    if (!fd_create_durable(path, text, strlen(text), true, &err))
        fail_msg("%s", err.text);
}

void program_init(struct program *p)
{
    struct err err;
    memset(p, 0, sizeof *p);
    assert_true(crypto_start(&err));
    snprintf(p->folder, sizeof p->folder, "/tmp/tmkms-start-XXXXXX");
    assert_non_null(mkdtemp(p->folder));
    snprintf(p->log_path, sizeof p->log_path, "%s/log", p->folder);
    snprintf(p->error_path, sizeof p->error_path, "%s/error", p->folder);
    static const uint8_t identity[ED25519_SEED_LEN] = {43};
    /* A key of our own: the lock of chain and key is the whole machine's, where another run may be at work. */
    pid_t pid = getpid();
    memcpy(p->seed, &pid, sizeof pid);
    write_key(p, "signing.key", p->seed);
    write_key(p, "identity.key", identity);
    struct signing_key *key;
    assert_true(signing_key_create(&key, KEY_ED25519, PRIVATE_SEED, bytes_of(p->seed, sizeof p->seed), &err));
    p->key = *signing_key_public(key);
    signing_key_free(key);
}

void program_free(struct program *p)
{
    if (p->pid > 0)
        kill(p->pid, SIGTERM);
    if (p->pid > 0 && program_wait(p, 3000) < 0) {
        kill(p->pid, SIGKILL);
        waitpid(p->pid, NULL, 0);
    }
    DIR *dir = opendir(p->folder);
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        char path[400];
        snprintf(path, sizeof path, "%s/%s", p->folder, e->d_name);
        unlink(path);
    }
    closedir(dir);
    rmdir(p->folder);
}

static void add(struct program *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct program *p, const char *fmt, ...)
{
    size_t n = strlen(p->config);
    va_list args;
    va_start(args, fmt);
    vsnprintf(p->config + n, sizeof p->config - n, fmt, args);
    va_end(args);
}

void program_state_init(struct program *p, const char *id)
{
    char path[160];
    struct err err;
    struct record rec = {.key = p->key};
    snprintf(rec.chain_id, sizeof rec.chain_id, "%s", id);
    snprintf(path, sizeof path, "%s/%s.json", p->folder, id);
    if (access(path, F_OK) != 0 && !journal_create(path, &rec, &err))
        fail_msg("%s", err.text);
}

void program_chain(struct program *p, const char *id, const char *extra)
{
    add(p, "[[chain]]\nid = \"%s\"\nkey_format = { type = \"hex\" }\nstate_file = \"%s/%s.json\"\n%s\n", id,
        p->folder, id, extra);
    program_state_init(p, id);
}

void program_validator(struct program *p, const char *chain_id, const char *address)
{
    add(p, "[[validator]]\naddr = \"%s\"\nchain_id = \"%s\"\n", address, chain_id);
    if (strncmp(address, "unix:", 5) != 0)
        add(p, "secret_key = \"%s/identity.key\"\n", p->folder);
}

void program_provider(struct program *p, const char *quoted_ids)
{
    add(p, "[[providers.softsign]]\nchain_ids = [%s]\npath = \"%s/signing.key\"\n", quoted_ids, p->folder);
}

void program_write_config(struct program *p)
{
    char path[128];
    struct err err;
    snprintf(path, sizeof path, "%s/tmkms.toml", p->folder);
    if (!fd_create_durable(path, p->config, strlen(p->config), true, &err))
        fail_msg("%s", err.text);
}

void program_start(struct program *p)
{
    char path[128];
    snprintf(path, sizeof path, "%s/tmkms.toml", p->folder);
    p->pid = fork();
    assert_true(p->pid >= 0);
    if (p->pid != 0)
        return;
    int log = open(p->log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    int error = open(p->error_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(p->output > 0 ? p->output : log, STDOUT_FILENO);
    dup2(error, STDERR_FILENO);
    struct rlimit limit = {.rlim_cur = p->files_max, .rlim_max = p->files_max};
    if (p->files_max == 0 || setrlimit(RLIMIT_NOFILE, &limit) == 0)
        execl(TMKMS_BINARY, "tmkms", "start", "-c", path, (char *)NULL);
    _exit(126);
}

int program_wait(struct program *p, int ms)
{
    for (uint64_t end = clock_monotonic_us() + (uint64_t)ms * 1000; clock_monotonic_us() < end; pause_ms(5)) {
        int status;
        if (waitpid(p->pid, &status, WNOHANG) == p->pid) {
            p->pid = 0;
            return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        }
    }
    return -1;
}

static bool file_holds(const char *path, const char *text)
{
    static char content[1 << 20];
    size_t n = 0;
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return false;
    bool ok = fd_read_all(fd, content, sizeof content - 1, &n, NULL);
    close(fd);
    content[n] = '\0';
    return ok && strstr(content, text) != NULL;
}

bool program_says(struct program *p, const char *text, int ms)
{
    for (uint64_t end = clock_monotonic_us() + (uint64_t)ms * 1000;; pause_ms(5)) {
        if (file_holds(p->log_path, text) || file_holds(p->error_path, text))
            return true;
        if (clock_monotonic_us() >= end)
            return false;
    }
}

pid_t program_child(struct program *p, const char *role)
{
    char path[64], list[512] = "";
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", p->pid, p->pid);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return 0;
    if (fgets(list, sizeof list, f) == NULL)
        list[0] = '\0';
    fclose(f);
    char *save = NULL;
    for (char *word = strtok_r(list, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
        char cmd[256] = "";
        snprintf(path, sizeof path, "/proc/%s/cmdline", word);
        f = fopen(path, "r");
        size_t n = f == NULL ? 0 : fread(cmd, 1, sizeof cmd - 1, f);
        if (f != NULL)
            fclose(f);
        if (n > 6 && strcmp(cmd + strlen(cmd) + 1, role) == 0)
            return (pid_t)strtol(word, NULL, 10);
    }
    return 0;
}
