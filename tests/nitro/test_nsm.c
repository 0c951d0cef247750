/* Requests to the Nitro Secure Module, answered by the software NSM, whose documents pass the verifier under its own
 * root and under no other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/pem.h>

#include "base/clock.h"
#include "base/fd.h"
#include "folder.h"
#include "nitro/attestation.h"
#include "nitro/nsm.h"
#include "nitro/pcr.h"
#include "run.h"
#include "sim/nsm_server.h"
#include "vectors.h"

static const struct bytes none;
static struct err err;
static char dir[] = "/tmp/tmkms-test-nsm-XXXXXX";

static struct nsm_sim_options options_in_folder(void)
{
    struct nsm_sim_options o;
    assert_true(nsm_sim_options_default(&o, &err));
    snprintf(o.dir, sizeof o.dir, "%s", dir);
    return o;
}

static int start(const struct nsm_sim_options *o)
{
    int fd = nsm_server_start(o, &err);
    if (fd < 0)
        fail_msg("%s", err.text);
    return fd;
}

static struct bytes root_der(void)
{
    static uint8_t der[1024];
    char path[sizeof dir + 16];
    uint8_t *p = der;
    snprintf(path, sizeof path, "%s/root.pem", dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    X509 *cert = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    assert_non_null(cert);
    int n = i2d_X509(cert, &p);
    assert_true(n > 0 && (size_t)n <= sizeof der);
    X509_free(cert);
    return bytes_of(der, (size_t)n);
}

static int64_t now_s(void)
{
    return (int64_t)(clock_realtime_us() / 1000000);
}

/* ---- registers ---------------------------------------------------------------------- */

static void boot_registers_are_locked(void **state)
{
    (void)state;
    struct nsm_sim_options o = options_in_folder();
    struct nsm_pcr pcr;
    uint8_t value[PCR_LEN];
    int fd = start(&o);
    for (unsigned i = 0; i < PCR_COUNT; i++) {
        assert_true(nsm_describe_pcr(fd, i, &pcr, &err));
        assert_int_equal(pcr.is_locked, i < 16);
        assert_memory_equal(pcr.value, i < 16 ? o.pcrs[i] : (uint8_t[PCR_LEN]){0}, PCR_LEN);
    }
    assert_false(nsm_describe_pcr(fd, PCR_COUNT, &pcr, &err));
    assert_contains(err.text, "InvalidIndex");
    assert_false(nsm_extend_pcr(fd, 0, bytes_of_text("x"), value, &err));
    assert_contains(err.text, "ReadOnlyIndex");
    assert_false(nsm_lock_pcr(fd, 15, &err));
    assert_contains(err.text, "locked");
    assert_false(nsm_lock_pcr(fd, PCR_COUNT, &err));
    close(fd);
}

static void register_16_is_extended_then_locked(void **state)
{
    (void)state;
    struct nsm_sim_options o = options_in_folder();
    struct nsm_pcr pcr;
    uint8_t value[PCR_LEN], want[PCR_LEN];
    int fd = start(&o);
    pcr_extend_zero(bytes_of_text("one"), want);
    assert_true(nsm_extend_pcr(fd, 16, bytes_of_text("one"), value, &err));
    assert_memory_equal(value, want, PCR_LEN);
    pcr_extend(want, bytes_of_text("two"), want);
    assert_true(nsm_extend_pcr(fd, 16, bytes_of_text("two"), value, &err));
    assert_memory_equal(value, want, PCR_LEN);
    assert_true(nsm_lock_pcr(fd, 16, &err));
    assert_false(nsm_lock_pcr(fd, 16, &err));
    assert_false(nsm_extend_pcr(fd, 16, bytes_of_text("three"), value, &err));
    assert_contains(err.text, "PCR16");
    assert_true(nsm_describe_pcr(fd, 16, &pcr, &err));
    assert_true(pcr.is_locked);
    assert_memory_equal(pcr.value, want, PCR_LEN);
    close(fd);
}

static void random_bytes_of_any_length(void **state)
{
    (void)state;
    struct nsm_sim_options o = options_in_folder();
    uint8_t a[1000] = {0}, b[1000] = {0};
    int fd = start(&o);
    assert_true(nsm_random(fd, a, 999, &err) && nsm_random(fd, b, 999, &err));
    assert_memory_not_equal(a, b, 999);
    assert_memory_not_equal(a, a + 256, 256);
    assert_int_equal(a[999], 0);
    close(fd);
}

/* ---- documents ---------------------------------------------------------------------- */

static void a_document_passes_under_its_own_root_only(void **state)
{
    (void)state;
    struct nsm_sim_options o = options_in_folder();
    uint8_t buf[NSM_RESPONSE_MAX], value[PCR_LEN];
    struct bytes document;
    struct attestation a;
    int fd = start(&o);
    struct attestation_policy policy = {.now_s = now_s(),
        .max_age_s = 60,
        .nonce = bytes_of_text("nonce"),
        .root_der = root_der(),
        .pcrs_wanted = 0xffff};
    memcpy(policy.pcrs, o.pcrs, sizeof o.pcrs);
    assert_true(nsm_attest(fd, bytes_of_text("data"), bytes_of_text("nonce"), bytes_of_text("key"),
        buf, &document, &err));
    if (!attestation_verify(&a, document, &policy, NULL, NULL, &err))
        fail_msg("%s", err.text);
    assert_true(bytes_equal(a.user_data, bytes_of_text("data")));
    assert_true(bytes_equal(a.public_key, bytes_of_text("key")));
    assert_int_equal(a.pcrs_present, 0xffff); /* 16 is not locked */
    assert_int_equal(a.cabundle_n, 4);
    policy.root_der = none;
    assert_false(attestation_verify(&a, document, &policy, NULL, NULL, &err));
    assert_contains(err.text, "expected root");
    assert_true(nsm_extend_pcr(fd, 16, bytes_of_text("x"), value, &err));
    assert_true(nsm_lock_pcr(fd, 16, &err));
    policy.root_der = root_der();
    policy.nonce = none;
    policy.pcrs_wanted = 1u << 16;
    memcpy(policy.pcrs[16], value, PCR_LEN);
    assert_true(nsm_attest(fd, none, none, none, buf, &document, &err));
    assert_true(attestation_verify(&a, document, &policy, NULL, NULL, &err));
    assert_int_equal(a.pcrs_present, 0x1ffff);
    assert_int_equal(a.nonce.n + a.user_data.n + a.public_key.n, 0);
    close(fd);
}

static void a_changed_byte_of_it_is_refused(void **state)
{
    (void)state;
    struct nsm_sim_options o = options_in_folder();
    uint8_t buf[NSM_RESPONSE_MAX], copy[NSM_RESPONSE_MAX];
    struct bytes document;
    struct attestation a;
    int fd = start(&o);
    const struct attestation_policy policy = {.now_s = now_s(), .root_der = root_der()};
    assert_true(nsm_attest(fd, none, none, none, buf, &document, &err));
    assert_true(attestation_verify(&a, document, &policy, NULL, NULL, &err));
    assert_true(document.n > 3000);
    for (size_t i = 0; i < document.n; i += 7) {
        memcpy(copy, document.p, document.n);
        copy[i] ^= 0x10;
        if (attestation_verify(&a, bytes_of(copy, document.n), &policy, NULL, NULL, &err))
            fail_msg("byte %zu", i);
    }
    close(fd);
}

static void two_servers_share_the_root_of_a_folder(void **state)
{
    (void)state;
    struct nsm_sim_options o = options_in_folder(), other = o;
    uint8_t buf[NSM_RESPONSE_MAX];
    struct bytes document;
    struct attestation a;
    other.dir[0] = '\0';
    int fds[] = {start(&o), start(&o), start(&other)};
    const struct attestation_policy policy = {.now_s = now_s(), .root_der = root_der()};
    for (int i = 0; i < 3; i++) {
        assert_true(nsm_attest(fds[i], none, none, none, buf, &document, &err));
        assert_int_equal(attestation_verify(&a, document, &policy, NULL, NULL, &err), i < 2);
        close(fds[i]);
    }
}

static void debug_mode_and_clock(void **state)
{
    (void)state;
    struct nsm_sim_options o = options_in_folder();
    uint8_t buf[NSM_RESPONSE_MAX];
    struct bytes document;
    struct attestation a;
    uint64_t ms = 0;
    memset(o.pcrs, 0, sizeof o.pcrs);
    o.clock_offset_ms = 7200000;
    int fd = start(&o);
    struct attestation_policy policy = {
        .now_s = now_s() + 7200, .max_age_s = 60, .root_der = root_der()};
    assert_true(nsm_time_ms(fd, &ms, &err));
    assert_in_range(ms / 1000, (uint64_t)now_s() + 7195, (uint64_t)now_s() + 7205);
    assert_true(nsm_attest(fd, none, none, none, buf, &document, &err));
    assert_false(attestation_verify(&a, document, &policy, NULL, NULL, &err));
    assert_contains(err.text, "debug mode");
    policy.accept_debug = true;
    assert_true(attestation_verify(&a, document, &policy, NULL, NULL, &err));
    policy.now_s = now_s(); /* the certificate begins in two hours */
    assert_false(attestation_verify(&a, document, &policy, NULL, NULL, &err));
    assert_contains(err.text, "begins at");
    close(fd);
}

static void arguments_have_limits(void **state)
{
    (void)state;
    static uint8_t big[NSM_REQUEST_MAX];
    struct nsm_sim_options o = options_in_folder();
    uint8_t buf[NSM_RESPONSE_MAX];
    struct bytes document;
    int fd = start(&o);
    assert_true(nsm_attest(
        fd, bytes_of(big, 512), bytes_of(big, 512), bytes_of(big, 1024), buf, &document, &err));
    assert_false(nsm_attest(fd, bytes_of(big, 513), none, none, buf, &document, &err));
    assert_contains(err.text, "InputTooLarge");
    assert_false(nsm_attest(fd, none, none, bytes_of(big, sizeof big), buf, &document, &err));
    assert_contains(err.text, "too long");
    close(fd);
}

/* ---- the client against others ------------------------------------------------------ */

/* Processes that share the descriptor never take each other's answers. */
static void the_descriptor_can_be_shared(void **state)
{
    (void)state;
    struct nsm_sim_options o = options_in_folder();
    int fd = start(&o);
    enum { CLIENTS = 4, ROUNDS = 200 };
    pid_t clients[CLIENTS];
    for (unsigned c = 0; c < CLIENTS; c++) {
        if ((clients[c] = fork()) != 0)
            continue;
        struct nsm_pcr pcr;
        for (unsigned i = 0; i < ROUNDS; i++)
            if (!nsm_describe_pcr(fd, c, &pcr, &err) || memcmp(pcr.value, o.pcrs[c], PCR_LEN) != 0)
                _exit(1);
        _exit(0);
    }
    for (unsigned c = 0; c < CLIENTS; c++) {
        int status = -1;
        assert_int_equal(waitpid(clients[c], &status, 0), clients[c]);
        assert_int_equal(status, 0);
    }
    close(fd);
}

/* A module that answers one request with these bytes. */
static bool describe_answered(const char *hex, struct nsm_pcr *pcr)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    pid_t module = fork();
    if (module == 0) {
        uint8_t request[NSM_REQUEST_MAX], raw[256];
        int reply = -1;
        size_t fds_n = 0;
        if (fd_recv_msg(pair[1], request, sizeof request, &reply, 1, &fds_n) <= 0)
            _exit(1);
        struct bytes answer = hex_into(hex, raw, sizeof raw);
        if (answer.n > 0 && !fd_send_msg(reply, answer.p, answer.n, NULL, 0))
            _exit(1);
        _exit(0);
    }
    close(pair[1]);
    bool ok = nsm_describe_pcr(pair[0], 0, pcr, &err);
    close(pair[0]);
    assert_int_equal(waitpid(module, NULL, 0), module);
    return ok;
}

#define DESCRIBE "6b4465736372696265504352"
#define ZEROS8 "0000000000000000"
#define ZEROS48 ZEROS8 ZEROS8 ZEROS8 ZEROS8 ZEROS8 ZEROS8

static void answers_are_read_with_care(void **state)
{
    (void)state;
    struct nsm_pcr pcr;
    assert_true(describe_answered("a1" DESCRIBE "a2646c6f636bf564646174615830" ZEROS48, &pcr));
    assert_true(pcr.is_locked);
    /* other order, indefinite, an unknown field, an array of integers */
    assert_true(describe_answered("bf" DESCRIBE "bf646461746198"
                                  "30" ZEROS48 "6178820102646c6f636bf4ffff",
        &pcr));
    assert_false(pcr.is_locked);
    static const char *const bad[] = {"", "00", "ff", "a0", "a1" DESCRIBE, "a1" DESCRIBE "a0",
        "6b4465736372696265504353", "a1" DESCRIBE "a1646c6f636bf5",
        "a1" DESCRIBE "a2646c6f636b0164646174615830" ZEROS48,
        "a1" DESCRIBE "a2646c6f636bf56464617461"
        "5828" ZEROS8 ZEROS8 ZEROS8 ZEROS8 ZEROS8,
        "a1674c6f636b504352a0"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(describe_answered(bad[i], &pcr));
    assert_false(describe_answered("a1654572726f726c496e76616c6964496e646578", &pcr));
    assert_contains(err.text, "InvalidIndex (there is no such register)");
    assert_false(describe_answered("a1654572726f726178", &pcr));
    assert_contains(err.text, "without a known name");
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    folder_remove(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boot_registers_are_locked),
        cmocka_unit_test(register_16_is_extended_then_locked),
        cmocka_unit_test(random_bytes_of_any_length),
        cmocka_unit_test(a_document_passes_under_its_own_root_only),
        cmocka_unit_test(a_changed_byte_of_it_is_refused),
        cmocka_unit_test(two_servers_share_the_root_of_a_folder),
        cmocka_unit_test(debug_mode_and_clock),
        cmocka_unit_test(arguments_have_limits),
        cmocka_unit_test(the_descriptor_can_be_shared),
        cmocka_unit_test(answers_are_read_with_care),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
