/* PID 1 of an enclave, started as an ordinary process with the software NSM and sockets in place of vsock: it comes up,
 * answers, and says why it ends. This program is also its children. */
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../nitro/push_rig.h"
#include "enclave/boot.h"
#include "enclave/heartbeat.h"
#include "enclave/last_words.h"
#include "enclave/roles.h"
#include "run.h"

enum { SECONDS = 1000, PATIENCE_MS = 20 * SECONDS };

static struct err err;
static struct {
    char root[64];
    struct vsock vsock;
    pid_t pid;
    int heartbeats, log; /* listeners of the parent */
} rig;

static void put_file(const char *path, const char *content)
{
    char full[160];
    snprintf(full, sizeof full, "%s%s", rig.root, path);
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(content, f);
    fclose(f);
}

static void make_folders(void)
{
    static const char *const folders[] = {
        "/proc", "/sys", "/sys/class", "/sys/class/misc", "/sys/class/misc/hw_random"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        char full[160];
        snprintf(full, sizeof full, "%s%s", rig.root, folders[i]);
        assert_int_equal(mkdir(full, 0700), 0);
    }
    put_file("/sys/class/misc/hw_random/rng_current", "nsm-hwrng\n");
}

static int enter(void **state)
{
    (void)state;
    unsetenv("TMKMS_SIM_DEBUG");
    memset(&rig, 0, sizeof rig);
    snprintf(rig.root, sizeof rig.root, "/tmp/tmkms-test-boot-XXXXXX");
    assert_non_null(mkdtemp(rig.root));
    snprintf(rig.vsock.uds, sizeof rig.vsock.uds, "%s/v", rig.root);
    make_folders();
    rig.heartbeats = vsock_listen_parent(&rig.vsock, HEARTBEAT_PORT, &err);
    rig.log = vsock_listen_parent(&rig.vsock, LAST_WORDS_PORT, &err);
    assert_true(rig.heartbeats >= 0 && rig.log >= 0);
    return 0;
}

static int exit_code(void)
{
    int status;
    for (unsigned ms = 0; ms < PATIENCE_MS; ms += 5) {
        if (waitpid(rig.pid, &status, WNOHANG) == rig.pid) {
            rig.pid = 0;
            return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        }
        usleep(5000);
    }
    return -1000;
}

static int leave(void **state)
{
    (void)state;
    struct run_result r;
    const char *const argv[] = {"/bin/rm", "-rf", rig.root, NULL};
    if (rig.pid > 0) {
        kill(-rig.pid, SIGKILL);
        exit_code();
    }
    close(rig.heartbeats);
    close(rig.log);
    run_in(&r, NULL, argv);
    return 0;
}

/* PID 1 leads a process group, so that nothing of it outlives a test that failed. */
static void start(const char *cmdline)
{
    put_file("/proc/cmdline", cmdline);
    struct boot_options options = {.root = rig.root, .vsock = rig.vsock};
    rig.pid = fork();
    assert_true(rig.pid >= 0);
    if (rig.pid > 0)
        return;
    setpgid(0, 0);
    close(rig.heartbeats);
    close(rig.log);
    _exit(boot_run(&options));
}

static int accept_soon(int listener)
{
    assert_true(fd_wait(listener, POLLIN, rig_in_ms(PATIENCE_MS)));
    int fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    return fd;
}

static void answer_heartbeat(void)
{
    uint8_t b = 0;
    int fd = accept_soon(rig.heartbeats);
    assert_true(fd_read_before(fd, &b, 1, rig_in_ms(PATIENCE_MS)));
    assert_int_equal(b, HEARTBEAT_BYTE);
    assert_true(fd_write_before(fd, &b, 1, rig_in_ms(PATIENCE_MS)));
    close(fd);
}

static int dial(void)
{
    int fd = vsock_dial_guest(&rig.vsock, 0, PUSH_PORT, rig_in_ms(PATIENCE_MS), &err);
    if (fd < 0)
        fail_msg("%s", err.text);
    return fd;
}

static json_t *ask(const char *request, unsigned ms)
{
    json_t *message = json_loads(request, 0, NULL);
    int fd = dial();
    json_t *answer = push_ask(fd, message, rig_in_ms(ms), NULL, &err);
    close(fd);
    json_decref(message);
    return answer;
}

static void expect_ping(const char *name, const char *value)
{
    json_t *answer = ask("{\"op\":\"ping\"}", 2 * SECONDS);
    if (answer == NULL)
        fail_msg("%s", err.text);
    assert_string_equal(json_string_value(json_object_get(answer, name)), value);
    json_decref(answer);
}

/* What the parent's log port hears last. */
static void expect_last_words(const char *words)
{
    char text[4096] = "";
    size_t n = 0;
    int fd = accept_soon(rig.log);
    while (n + 1 < sizeof text && fd_read_before(fd, text + n, 1, rig_in_ms(PATIENCE_MS)))
        n++;
    close(fd);
    assert_contains(text, "ERROR tmkms::enclave: the enclave ends: ");
    assert_contains(text, words);
}

/* ---- processes ---- */

static size_t children_of(pid_t pid, pid_t *ret, size_t cap)
{
    char path[64];
    size_t n = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return 0;
    while (n < cap && fscanf(f, "%d", &ret[n]) == 1)
        n++;
    fclose(f);
    return n;
}

/* The monitor is the one that has children. */
static pid_t monitor(void)
{
    pid_t all[8], unused[8];
    size_t n = children_of(rig.pid, all, 8);
    for (size_t i = 0; i < n; i++)
        if (children_of(all[i], unused, 8) > 0)
            return all[i];
    fail_msg("there is no monitor");
    return 0;
}

static pid_t signer(void)
{
    pid_t all[8];
    size_t n = children_of(monitor(), all, 8);
    for (size_t i = 0; i < n; i++) {
        char path[64], name[64] = "";
        snprintf(path, sizeof path, "/proc/%d/cmdline", (int)all[i]);
        FILE *f = fopen(path, "r");
        if (f == NULL)
            continue;
        size_t got = fread(name, 1, sizeof name - 1, f);
        fclose(f);
        if (memmem(name, got, "@signer", 7) != NULL)
            return all[i];
    }
    fail_msg("there is no signer");
    return 0;
}

/* ---- tests ---- */

static void boots_and_answers(void **state)
{
    (void)state;
    start("quiet reboot=k\n");
    answer_heartbeat();
    expect_ping("state", "waiting");
    expect_ping("signer", "alive");
    expect_ping("session", "none");
    json_t *answer =
        ask("{\"op\":\"attest\",\"nonce\":\"00112233445566778899aabbccddeeff\"}", PATIENCE_MS);
    assert_non_null(answer);
    json_decref(answer);
}

/* Whoever hears the heartbeat may push at once, before it is answered even. */
static void listens_before_the_heartbeat(void **state)
{
    (void)state;
    start("");
    assert_true(fd_wait(rig.heartbeats, POLLIN, rig_in_ms(PATIENCE_MS)));
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%s", rig.vsock.uds);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    close(fd);
}

static void dead_signer(void **state)
{
    (void)state;
    start("");
    answer_heartbeat();
    expect_ping("state", "waiting");
    assert_int_equal(kill(signer(), SIGKILL), 0);
    expect_last_words("its monitor ended (exit code 1): tmkms::monitor: the signer process ended "
                      "(signal 9 (Killed)), and tmkms with it");
    assert_int_equal(exit_code(), 1);
}

static void dead_monitor(void **state)
{
    (void)state;
    start("");
    answer_heartbeat();
    expect_ping("state", "waiting");
    assert_int_equal(kill(monitor(), SIGKILL), 0);
    expect_last_words("its monitor ended (signal 9 (Killed))");
    assert_int_equal(exit_code(), 1);
}

/* The processes besides the monitor: the watch, and the software NSM. */
static void dead_watch(void **state)
{
    (void)state;
    pid_t before[8], after[8];
    start("");
    answer_heartbeat();
    expect_ping("state", "waiting");
    size_t n = children_of(rig.pid, before, 8);
    assert_true(n >= 2);
    assert_int_equal(kill(before[0], SIGKILL), 0); /* the first that was started */
    for (unsigned ms = 0; ms < PATIENCE_MS; ms += 10) {
        if (children_of(rig.pid, after, 8) == n && after[0] != before[0])
            break;
        usleep(10000);
    }
    assert_int_equal(children_of(rig.pid, after, 8), n);
    assert_int_not_equal(after[0], before[0]);
    expect_ping("state", "waiting");
}

static void zero_registers(void **state)
{
    (void)state;
    setenv("TMKMS_SIM_DEBUG", "1", 1);
    start("tmkms.debug=0");
    answer_heartbeat();
    expect_last_words(
        "asking the security module: PCR0 is zero: this enclave was started in debug mode");
    assert_int_equal(exit_code(), 1);
}

static void zero_registers_of_a_debug_image(void **state)
{
    (void)state;
    setenv("TMKMS_SIM_DEBUG", "1", 1);
    start("tmkms.debug=1");
    answer_heartbeat();
    expect_ping("state", "waiting");
}

static void no_entropy(void **state)
{
    (void)state;
    put_file("/sys/class/misc/hw_random/rng_current", "virtio_rng.0\n");
    start("");
    answer_heartbeat();
    expect_last_words("seeding the random generator: there is no entropy: cannot open /dev/random");
    assert_int_equal(exit_code(), 1);
}

static void bad_command_line(void **state)
{
    (void)state;
    start("tmkms.port=none");
    expect_last_words("reading the command line: the kernel's command line says tmkms.port=none");
    assert_int_equal(exit_code(), 1);
}

/* ---- a request in work ---- */

#define CREDENTIALS                                                                                \
    "{\"aws_key_id\":\"ASIA\",\"aws_secret_key\":\"s\",\"aws_session_token\":\"t\",\"expires\":"   \
    "99}"
#define KEYGEN                                                                                     \
    "{\"op\":\"keygen\",\"kms\":{\"region\":\"eu-west-1\",\"key_id\":"                             \
    "\"arn:aws:kms:eu-west-1:111122223333:key/1\"},\"credentials\":" CREDENTIALS                   \
    ",\"nonce\":\"00112233445566778899aabbccddeeff\"}"

/* Sends a request whose KMS takes the connection and never answers. The client, and KMS's end in *ret_kms. */
static int ask_deaf_kms(int *ret_kms)
{
    int kms = vsock_listen_parent(&rig.vsock, 8000, &err);
    assert_true(kms >= 0);
    json_t *message = json_loads(KEYGEN, 0, NULL);
    int client = dial();
    assert_true(push_write(client, message, rig_in_ms(SECONDS), &err));
    json_decref(message);
    *ret_kms = accept_soon(kms);
    close(kms);
    return client;
}

/* The client of a request hears at once that the signer is gone, and the machine ends. */
static void expect_dead_signer(int client)
{
    uint64_t before = clock_monotonic_us();
    json_t *answer = push_read(client, rig_in_ms(PATIENCE_MS), &err);
    if (answer == NULL)
        fail_msg("%s", err.text);
    assert_string_equal(json_string_value(json_object_get(answer, "error")),
        "the signer process ended (signal 9 (Killed))");
    assert_true(clock_monotonic_us() - before < 10 * SECONDS * 1000ULL);
    json_decref(answer);
    close(client);
    expect_last_words("the signer process ended");
    assert_int_equal(exit_code(), 1);
}

static void ping_beside_a_request(void **state)
{
    (void)state;
    int kms;
    start("");
    answer_heartbeat();
    int client = ask_deaf_kms(&kms);
    for (int i = 0; i < 20; i++)
        expect_ping("signer", "alive");
    assert_null(ask("{\"op\":\"attest\"}", 300)); /* others than a ping wait for their turn */
    expect_ping("signer", "alive");
    assert_int_equal(kill(signer(), SIGKILL), 0);
    expect_dead_signer(client);
    close(kms);
}

/* More clients than there is room for: the one in work keeps its place. */
static void crowd_beside_a_request(void **state)
{
    (void)state;
    enum { CROWD = 24 };
    int kms, strangers[CROWD];
    start("");
    answer_heartbeat();
    int client = ask_deaf_kms(&kms);
    for (int i = 0; i < CROWD; i++)
        strangers[i] = dial();
    expect_ping("state", "waiting");
    for (int i = 0; i < CROWD; i++)
        close(strangers[i]);
    assert_int_equal(kill(signer(), SIGKILL), 0);
    expect_dead_signer(client);
    close(kms);
}

static void stopped_signer(void **state)
{
    (void)state;
    start("");
    answer_heartbeat();
    expect_ping("signer", "alive");
    assert_int_equal(kill(signer(), SIGSTOP), 0);
    sleep(8);
    expect_ping("signer", "silent");
    assert_int_equal(kill(signer(), SIGCONT), 0);
    sleep(1);
    expect_ping("signer", "alive");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, enter, leave)

int main(int argc, char **argv)
{
    int code = argc > 1 ? roles_run(argc, argv) : -1;
    if (code >= 0)
        return code;
    const struct CMUnitTest tests[] = {
        TEST(boots_and_answers),
        TEST(listens_before_the_heartbeat),
        TEST(dead_signer),
        TEST(dead_monitor),
        TEST(dead_watch),
        TEST(zero_registers),
        TEST(zero_registers_of_a_debug_image),
        TEST(no_entropy),
        TEST(bad_command_line),
        TEST(ping_beside_a_request),
        TEST(crowd_beside_a_request),
        TEST(stopped_signer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
