/* tmkms nitro verify, pcr3, pcr4 as processes; and what a release program must not contain. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "folder.h"
#include "link/vsock.h"
#include "nitro/document.h"
#include "nitro/nsm.h"
#include "nitro/push.h"
#include "run.h"

static const char real_file[] = VECTORS_DIR "/attestation_2026-02.b64";
static struct run_result r;

static void verify_prints_every_check(void **state)
{
    (void)state;
    RUN(&r, "nitro", "verify", "--at-document-time", "--nonce",
        "0123456789abcdef0123456789ABCDEF01234567", real_file);
    assert_int_equal(r.exit_code, 0);
    assert_contains(
        r.out, "  ok   form: COSE_Sign1, ES384, 4556 bytes, made at 2026-02-02T20:43:47Z");
    assert_contains(r.out, "  ok   chain: 5 certificates from the root of AWS");
    assert_contains(r.out, "  ok   signature");
    assert_contains(r.out, "  ok   nonce");
    assert_contains(r.out, "i-0340e0cb833504eb6-enc019c12d31f78864d");
    assert_contains(r.err, "--pcr0");
}

static void verify_refuses_an_old_document(void **state)
{
    (void)state;
    RUN(&r, "nitro", "verify", real_file);
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.out, "FAILED");
    assert_contains(r.err, "expired at 2026-02-");
    RUN(&r, "nitro", "verify", "--at-document-time", "--nonce", "00", real_file);
    assert_int_equal(r.exit_code, 1);
    RUN(&r, "nitro", "verify", "--at-document-time", "--max-age", "60", real_file);
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "seconds old");
}

static void verify_reads_bytes_and_hex(void **state)
{
    (void)state;
    char path[] = "/tmp/tmkms-test-verify-XXXXXX";
    static char hex[2 * REAL_LEN + 1];
    hex_lower(real_document(), hex);
    int fd = mkstemp(path);
    assert_true(fd >= 0 && fd_write_exact(fd, hex, 2 * REAL_LEN) && fd_write_exact(fd, "\n", 1));
    RUN(&r, "nitro", "verify", "--at-document-time", path);
    assert_int_equal(r.exit_code, 0);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, real_document().p, REAL_LEN, 0), REAL_LEN);
    RUN(&r, "nitro", "verify", "--at-document-time", path);
    assert_int_equal(r.exit_code, 0);
    assert_int_equal(pwrite(fd, "\xff", 1, REAL_LEN - 1), 1);
    RUN(&r, "nitro", "verify", "--at-document-time", path);
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "changed");
    close(fd);
    unlink(path);
}

static void verify_explains_wrong_usage(void **state)
{
    (void)state;
    RUN(&r, "nitro", "verify");
    assert_int_equal(r.exit_code, 2);
    RUN(&r, "nitro", "verify", "--pcr0", "12", real_file);
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "PCR0");
    RUN(&r, "nitro", "verify", "--max-age", "-5", real_file);
    assert_int_equal(r.exit_code, 1);
    RUN(&r, "nitro", "verify", "--root", "/dev/null", real_file);
    assert_contains(r.err, "PEM");
    RUN(&r, "nitro", "verify", "/nonexistent");
    assert_contains(r.err, "/nonexistent");
}

static void registers_are_printed(void **state)
{
    (void)state;
    RUN(&r, "nitro", "pcr4", "i-0123456789abcdef0");
    assert_int_equal(r.exit_code, 0);
    assert_string_equal(r.out, "d6432900ac1c343cb40286898792c55e962aef0cc35c4910c0c286145b51af19e78"
                               "2cb21cc31a042671d7dfbd398251c\n");
    RUN(&r, "nitro", "pcr3", "arn:aws:iam::123456789012:role/enclave");
    assert_string_equal(r.out, "b1fd651ff7878eaff12dd954c8af010570acf204ad3c60b3832e3e8f109f2ce9fa7"
                               "e9ee8b3e848a415da9e8d720d7158\n");
    RUN(&r, "nitro", "pcr3", "arn:aws:iam::123456789012:instance-profile/enclave");
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "role");
}

/* ---- attest ------------------------------------------------------------------------- */

static char dir[] = "/tmp/tmkms-test-attest-XXXXXX";
static char uds[64], root[64], out[64];

/* A guest that answers one request: with a document of the software NSM for the nonce that was asked for, or for
 * another one. */
static pid_t start_enclave(bool is_honest)
{
    struct err err;
    struct vsock v = {0};
    snprintf(v.uds, sizeof v.uds, "%s", uds);
    setenv("TMKMS_SIM_DIR", dir, 1);
    int nsm = nsm_open(&err), listener = vsock_listen_guest(&v, PUSH_PORT, &err);
    if (nsm < 0 || listener < 0)
        fail_msg("%s", err.text);
    pid_t pid = fork();
    if (pid != 0) {
        close(nsm);
        close(listener);
        return pid;
    }
    alarm(20);
    const struct bytes none = {0};
    uint8_t buf[NSM_RESPONSE_MAX], nonce[64];
    char base64[2 * NSM_RESPONSE_MAX];
    struct bytes document;
    uint64_t deadline = clock_monotonic_us() + 10000000;
    int fd = vsock_accept_guest(listener, &err);
    if (fd < 0 || !vsock_greet(&v, fd, PUSH_PORT, &err))
        _exit(1);
    json_t *request = push_read(fd, deadline, &err);
    const char *hex = json_string_value(json_object_get(request, "nonce"));
    if (hex == NULL || !hex_decode(hex, strlen(hex), nonce, strlen(hex) / 2))
        _exit(1);
    nonce[0] ^= is_honest ? 0 : 1;
    if (!nsm_attest(nsm, none, bytes_of(nonce, strlen(hex) / 2), none, buf, &document, &err) ||
        !base64_encode(document, base64, sizeof base64))
        _exit(1);
    json_t *answer = json_pack("{s:b, s:s}", "ok", 1, "document", base64);
    _exit(push_write(fd, answer, deadline, &err) ? 0 : 1);
}

static void stop_enclave(pid_t pid)
{
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    unlink(uds);
}

static void attest_brings_a_document_that_verifies(void **state)
{
    (void)state;
    static const char nonce[] = "00112233445566778899aabbccddeeff";
    pid_t pid = start_enclave(true);
    RUN(&r, "nitro", "attest", "--vsock-uds", uds, "--nonce", nonce, "-o", out);
    stop_enclave(pid);
    if (r.exit_code != 0)
        fail_msg("%s", r.err);
    assert_contains(r.err, nonce);
    RUN(&r, "nitro", "verify", "--root", root, "--nonce", nonce, "--max-age", "60", out);
    if (r.exit_code != 0)
        fail_msg("%s", r.err);
    assert_contains(r.err, "not against that of AWS");
    RUN(&r, "nitro", "verify", "--nonce", nonce, out);
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "expected root");
}

static void attest_makes_a_nonce(void **state)
{
    (void)state;
    pid_t pid = start_enclave(true);
    RUN(&r, "nitro", "attest", "--vsock-uds", uds);
    stop_enclave(pid);
    assert_int_equal(r.exit_code, 0);
    assert_true(strncmp(r.out, "hEShATgi", 8) == 0);
    const char *nonce = strstr(r.err, "--nonce ");
    assert_non_null(nonce);
    assert_int_equal(strspn(nonce + 8, "0123456789abcdef"), 64);
}

static void attest_refuses_a_replay(void **state)
{
    (void)state;
    pid_t pid = start_enclave(false);
    RUN(&r, "nitro", "attest", "--vsock-uds", uds);
    stop_enclave(pid);
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "replay");
    assert_string_equal(r.out, "");
    RUN(&r, "nitro", "attest", "--vsock-uds", uds, "--nonce", "0011");
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "16 to 64 bytes");
}

static int make_folder(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL)
        return 1;
    snprintf(uds, sizeof uds, "%s/vsock", dir);
    snprintf(root, sizeof root, "%s/root.pem", dir);
    snprintf(out, sizeof out, "%s/document", dir);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    folder_remove(dir);
    return 0;
}

/* ---- release programs --------------------------------------------------------------- */

static bool file_contains(const char *path, const char *text)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    void *all = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    assert_true(all != MAP_FAILED);
    bool found = memmem(all, (size_t)st.st_size, text, strlen(text)) != NULL;
    munmap(all, (size_t)st.st_size);
    close(fd);
    return found;
}

/* Symbols (neither program is stripped here) and strings. */
static void the_simulator_is_in_tmkms_sim_only(void **state)
{
    (void)state;
    static const char *const marks[] = {"nsm_server_start", "nsm_chain_load",
        "nsm_sim_options_default", "TMKMS_SIM_DIR", "test root, not AWS", "root-key.pem",
        "the software NSM"};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        if (!file_contains(TMKMS_SIM_BINARY, marks[i]))
            fail_msg(
                "tmkms-sim does not contain '%s': this test looks for the wrong thing", marks[i]);
        if (file_contains(TMKMS_BINARY, marks[i]))
            fail_msg("tmkms contains '%s' of the simulator", marks[i]);
    }
    assert_true(file_contains(TMKMS_BINARY, "/dev/nsm"));
    assert_false(file_contains(TMKMS_SIM_BINARY, "/dev/nsm"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verify_prints_every_check),
        cmocka_unit_test(verify_refuses_an_old_document),
        cmocka_unit_test(verify_reads_bytes_and_hex),
        cmocka_unit_test(verify_explains_wrong_usage),
        cmocka_unit_test(registers_are_printed),
        cmocka_unit_test(attest_brings_a_document_that_verifies),
        cmocka_unit_test(attest_makes_a_nonce),
        cmocka_unit_test(attest_refuses_a_replay),
        cmocka_unit_test(the_simulator_is_in_tmkms_sim_only),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
