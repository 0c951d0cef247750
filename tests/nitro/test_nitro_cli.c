/* tmkms nitro verify, pcr3, pcr4 as processes; and what a release program must not contain. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "nitro/document.h"
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
        "nsm_sim_options_default", "TMKMS_SIM_", "test root, not AWS", "root-key.pem",
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
        cmocka_unit_test(the_simulator_is_in_tmkms_sim_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
