/* push-config and keygen against an enclave that the test plays: what they send, what they print, and
 * what they refuse. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "../folder.h"
#include "../run.h"
#include "crypto/encode.h"
#include "link/vsock.h"
#include "nitro/keygen.h"
#include "nitro/nsm.h"
#include "push_rig.h"
#include "sim/nsm_server.h"

static struct run_result r;
static char dir[64];

static const char *in_dir(const char *name)
{
    static char path[8][128];
    static unsigned next;
    char *out = path[next++ % 8];
    snprintf(out, sizeof *path, "%s/%s", dir, name);
    return out;
}

static void write_file(const char *name, const char *text)
{
    int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_true(fd_write_exact(fd, text, strlen(text)));
    close(fd);
}

static const char config[] =
    "[[chain]]\nid = \"hub\"\nkey_format = { type = \"hex\" }\nstate_vsock_port = 6666\n"
    "[[validator]]\nchain_id = \"hub\"\naddr = { port = 5555 }\nprotocol_version = \"v0.34\"\n"
    "[[providers.softsign]]\nchain_ids = [\"hub\"]\nkey_type = \"consensus\"\n"
    "encrypted_key_b64 = \"AQIDBA==\"\naws_region = \"eu-west-1\"\n";
static const char static_credentials[] =
    "credentials = { aws_key_id = \"AKIAFILE\", aws_secret_key = \"file\", aws_session_token = "
    "\"tok\" }\n";

/* ---- the enclave that the test plays ---------------------------------------------- */

static struct {
    pthread_t thread;
    struct vsock vsock;
    int listener;
    /* makes the answer, the caller's; NULL: closes */
    json_t *(*answer)(const json_t *request);
    json_t *request; /* what came, for the test to look at */
} enclave;

static void *serve_one(void *arg)
{
    (void)arg;
    struct err err = {0};
    int fd = vsock_accept_guest(enclave.listener, &err);
    if (fd < 0 || !vsock_greet(&enclave.vsock, fd, PUSH_PORT, &err))
        return NULL;
    enclave.request = push_read(fd, rig_in_ms(5000), &err);
    json_t *answer = enclave.request != NULL ? enclave.answer(enclave.request) : NULL;
    if (answer != NULL && !push_write(fd, answer, rig_in_ms(5000), &err))
        fprintf(stderr, "answer: %s\n", err.text);
    json_decref(answer);
    close(fd);
    return NULL;
}

static void start_enclave(json_t *(*answer)(const json_t *request))
{
    struct err err;
    enclave.answer = answer;
    json_decref(enclave.request);
    enclave.request = NULL;
    assert_true(vsock_from(&enclave.vsock, in_dir("vsock"), &err));
    enclave.listener = vsock_listen_guest(&enclave.vsock, PUSH_PORT, &err);
    assert_true(enclave.listener >= 0);
    assert_int_equal(pthread_create(&enclave.thread, NULL, serve_one, NULL), 0);
}

static void end_enclave(void)
{
    pthread_join(enclave.thread, NULL);
    close(enclave.listener);
    unlink(in_dir("vsock"));
}

static const char *requested(const char *table, const char *name)
{
    const json_t *from = enclave.request;
    if (table != NULL)
        from = json_object_get(from, table);
    const char *text = json_string_value(json_object_get(from, name));
    assert_non_null(text);
    return text;
}

static int enter(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/tmkms-push-XXXXXX");
    assert_non_null(mkdtemp(dir));
    write_file("tmkms.toml", config);
    setenv("AWS_ACCESS_KEY_ID", "AKIAENV", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "env", 1);
    unsetenv("AWS_SESSION_TOKEN");
    unsetenv("TMKMS_VSOCK_UDS");
    return 0;
}

static int leave(void **state)
{
    (void)state;
    json_decref(enclave.request);
    enclave.request = NULL;
    folder_remove(dir);
    return 0;
}

/* ---- push-config ------------------------------------------------------------------ */

static json_t *say_ready(const json_t *request)
{
    (void)request;
    return json_pack("{s:b, s:s, s:[{s:s,s:s,s:s},{s:s,s:s,s:s}], s:s, s:s}", "ok", 1, "state",
        "ready", "keys", "chain_id", "hub", "public_key", "hubvalconspub1abc", "hex",
        "00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF", "chain_id", "zone",
        "public_key", "\x1b[31m", "hex", "02", "measured_config", "aa55", "pcr16", "55aa");
}

#define PUSH(...)                                                                                  \
    RUN(&r, "nitro", "push-config", "--vsock-uds", in_dir("vsock"), "-c", in_dir("tmkms.toml"),    \
        __VA_ARGS__)

static void ready_is_printed(void **state)
{
    (void)state;
    start_enclave(say_ready);
    PUSH("-v");
    end_enclave();
    assert_int_equal(r.exit_code, 0);
    assert_contains(r.out, "ready\n[hub] [keyring:softsign] added consensus Ed25519 key: "
                           "hubvalconspub1abc\n");
    assert_contains(r.out, "measured config: aa55\nPCR16: 55aa\n");
    assert_null(strchr(r.out, '\x1b'));
    assert_contains(r.err, "environment");
    assert_string_equal(requested(NULL, "op"), "config");
    assert_string_equal(requested("credentials", "aws_key_id"), "AKIAENV");
    assert_true(json_is_true(json_object_get(enclave.request, "verbose")));
    const json_t *tree = json_object_get(enclave.request, "config");
    const json_t *chain = json_array_get(json_object_get(tree, "chain"), 0);
    assert_int_equal(json_integer_value(json_object_get(chain, "state_vsock_port")), 6666);
}

/* Credentials in the file win, and travel once. */
static void credentials_of_the_file(void **state)
{
    (void)state;
    char text[2048];
    snprintf(text, sizeof text, "%s%s", config, static_credentials);
    write_file("tmkms.toml", text);
    start_enclave(say_ready);
    PUSH("-i", "15");
    end_enclave();
    assert_int_equal(r.exit_code, 0);
    assert_string_equal(requested("credentials", "aws_key_id"), "AKIAFILE");
    assert_string_equal(requested("credentials", "aws_session_token"), "tok");
    char *sent = json_dumps(json_object_get(enclave.request, "config"), 0);
    assert_null(strstr(sent, "AKIAFILE"));
    free(sent);
    assert_null(strstr(r.err, "AKIAFILE"));
}

static json_t *say_no(const json_t *request)
{
    (void)request;
    return json_pack("{s:b, s:s}", "ok", 0, "error", "AccessDeniedException: the key policy");
}

static json_t *say_nothing(const json_t *request)
{
    (void)request;
    return NULL;
}

static void refusal_is_printed(void **state)
{
    (void)state;
    start_enclave(say_no);
    PUSH("--timeout", "10");
    end_enclave();
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "error: AccessDeniedException: the key policy\n");
    assert_string_equal(r.out, "");
    start_enclave(say_nothing);
    PUSH("--timeout", "10");
    end_enclave();
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "no answer from the enclave");
}

static void nobody_listens(void **state)
{
    (void)state;
    PUSH("--timeout", "10");
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "the enclave does not listen");
    assert_contains(r.err, "tmkms nitro start -p 5050 --vsock-uds");
}

/* A silent enclave: the command ends at its time-out. */
static void enclave_that_never_answers(void **state)
{
    (void)state;
    struct err err;
    assert_true(vsock_from(&enclave.vsock, in_dir("vsock"), &err));
    int listener = vsock_listen_guest(&enclave.vsock, PUSH_PORT, &err);
    assert_true(listener >= 0);
    uint64_t before = clock_monotonic_us();
    PUSH("--timeout", "1");
    assert_true(clock_monotonic_us() - before < 5000000);
    assert_int_equal(r.exit_code, 1);
    close(listener);
    unlink(in_dir("vsock"));
}

/* Problems come all at once, and nothing is sent. */
static void bad_config_stays_here(void **state)
{
    (void)state;
    write_file("tmkms.toml", "[[chain]]\nid = \"hub\"\nstate_vsock_port = 0\nbogus = 1\n");
    PUSH("--timeout", "10");
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "bogus");
    assert_contains(r.err, "state_vsock_port");
    assert_contains(r.err, "nothing was sent");
    assert_null(strstr(r.err, "does not listen"));
}

static void flags(void **state)
{
    (void)state;
    RUN(&r, "nitro", "push-config", "-c", in_dir("tmkms.toml"));
    assert_int_equal(r.exit_code, 2);
    assert_contains(r.err, "describe-enclaves");
    RUN(&r, "nitro", "push-config", "-i", "x");
    assert_int_equal(r.exit_code, 2);
    RUN(&r, "nitro", "push-config", "-i", "15", "-p", "4294967296");
    assert_int_equal(r.exit_code, 2);
    /* the prototype's names, and the parts of the stand-in from the environment */
    setenv("TMKMS_VSOCK_UDS", in_dir("vsock"), 1);
    start_enclave(say_ready);
    RUN(&r, "nitro", "push-config", "--config", in_dir("tmkms.toml"), "--config_push_port", "5050",
        "--config_push_cid", "15", "--verbose");
    end_enclave();
    assert_int_equal(r.exit_code, 0);
}

/* ---- keygen ----------------------------------------------------------------------- */

#define ARN "arn:aws:kms:eu-west-1:111122223333:key/1"

static int nsm = -1;
static struct nsm_sim_options sim;
/* how the enclave lies */
enum lie { HONEST, OTHER_KEY, OTHER_CIPHERTEXT, OTHER_PLACE, OTHER_NONCE, PLAIN_ATTEST };
static enum lie lie;

static json_t *generate(const json_t *request)
{
    static uint8_t buf[NSM_RESPONSE_MAX];
    const json_t *kms = json_object_get(request, "kms");
    struct kms_place place = {0};
    struct public_key key = {KEY_ED25519, 32, {1, 2, 3}};
    struct bytes ciphertext = bytes_of_text("ciphertext"), document;
    uint8_t nonce[32], bound[KEYGEN_USER_DATA_LEN];
    struct err err;
    snprintf(
        place.region, sizeof place.region, "%s", json_string_value(json_object_get(kms, "region")));
    snprintf(
        place.key_id, sizeof place.key_id, "%s", json_string_value(json_object_get(kms, "key_id")));
    const char *name;
    json_t *value;
    char *end = place.context;
    json_object_foreach(json_object_get(kms, "context"), name, value)
    {
        end = stpcpy(end, name) + 1;
        end = stpcpy(end, json_string_value(value)) + 1;
        place.context_n++;
    }
    place.key_id[0] = lie == OTHER_PLACE ? 'x' : place.key_id[0];
    keygen_user_data(ciphertext, &key, &place, bound);
    const char *hex = json_string_value(json_object_get(request, "nonce"));
    if (hex == NULL || !hex_decode(hex, strlen(hex), nonce, sizeof nonce))
        return NULL;
    nonce[0] ^= lie == OTHER_NONCE;
    bound[0] ^= lie == PLAIN_ATTEST;
    if (!nsm_attest(nsm, bytes_of(bound, sizeof bound), bytes_of(nonce, sizeof nonce),
            bytes_of(NULL, 0), buf, &document, &err))
        return NULL;
    char text[NSM_RESPONSE_MAX * 2], key_hex[65];
    key.bytes[31] ^= lie == OTHER_KEY;
    hex_lower(bytes_of(key.bytes, 32), key_hex);
    if (!base64_encode(document, text, sizeof text))
        return NULL;
    return json_pack("{s:b, s:s, s:s, s:s}", "ok", 1, "ciphertext",
        lie == OTHER_CIPHERTEXT ? "Y2lwaGVydGV4VA==" : "Y2lwaGVydGV4dA==", "public_key", key_hex,
        "document", text);
}

static int enter_keygen(void **state)
{
    struct err err = {0};
    enter(state);
    lie = HONEST;
    assert_true(nsm_sim_options_default(&sim, &err));
    snprintf(sim.dir, sizeof sim.dir, "%s", dir);
    nsm = nsm_server_start(&sim, &err);
    if (nsm < 0)
        fail_msg("%s", err.text);
    return 0;
}

static int leave_keygen(void **state)
{
    close(nsm);
    return leave(state);
}

#define KEYGEN(...)                                                                                \
    do {                                                                                           \
        start_enclave(generate);                                                                   \
        RUN(&r, "nitro", "keygen", "--vsock-uds", in_dir("vsock"), "--key-id", ARN, "--root",      \
            in_dir("root.pem"), __VA_ARGS__);                                                      \
        end_enclave();                                                                             \
    } while (0)

static bool exists(const char *name)
{
    return access(in_dir(name), F_OK) == 0;
}

static void key_is_written(void **state)
{
    (void)state;
    char pcr0[97];
    hex_lower(bytes_of(sim.pcrs[0], PCR_LEN), pcr0);
    KEYGEN("--output-prefix", in_dir("hub"), "--pcr0", pcr0, "--context", "chain=hub",
        "--context", "note=a,b");
    if (r.exit_code != 0)
        fail_msg("%s", r.err);
    assert_string_equal(requested("kms", "region"), "eu-west-1");
    assert_contains(r.out,
        "encrypted_key_b64 = \"Y2lwaGVydGV4dA==\"\npublic_key = "
        "\"0102030000000000000000000000000000000000000000000000000000000000\"\n");
    assert_contains(r.err, "binds this ciphertext");
    char text[64] = {0};
    int fd = open(in_dir("hub.ciphertext.b64"), O_RDONLY | O_CLOEXEC);
    assert_true(read(fd, text, sizeof text - 1) > 0);
    close(fd);
    assert_string_equal(text, "Y2lwaGVydGV4dA==\n");
    struct stat st;
    assert_int_equal(stat(in_dir("hub.ciphertext.b64"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    /* the document that was kept can be checked again */
    RUN(&r, "nitro", "verify", "--root", in_dir("root.pem"), in_dir("hub.attestation.b64"));
    assert_int_equal(r.exit_code, 0);
}

static void existing_files_stay(void **state)
{
    (void)state;
    static const char *const names[] = {"hub.ciphertext.b64", "hub.attestation.b64"};
    for (size_t i = 0; i < 2; i++) {
        write_file(names[i], "precious");
        RUN(&r, "nitro", "keygen", "--vsock-uds", in_dir("vsock"), "--key-id", ARN,
            "--output-prefix", in_dir("hub"));
        assert_int_equal(r.exit_code, 1);
        assert_contains(r.err, "exists already");
        struct stat st;
        assert_int_equal(stat(in_dir(names[i]), &st), 0);
        assert_int_equal(st.st_size, 8);
        unlink(in_dir(names[i]));
    }
}

static void lies_are_found(void **state)
{
    (void)state;
    static const enum lie lies[] = {OTHER_KEY, OTHER_CIPHERTEXT, OTHER_PLACE, OTHER_NONCE, PLAIN_ATTEST};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        lie = lies[i];
        KEYGEN("--output-prefix", in_dir("hub"));
        assert_int_equal(r.exit_code, 1);
        assert_contains(r.err, "the attestation document");
        assert_string_equal(r.out, "");
        assert_false(exists("hub.ciphertext.b64") || exists("hub.attestation.b64"));
    }
}

static void other_image_and_other_root(void **state)
{
    (void)state;
    char other[97];
    memset(other, 'a', 96);
    other[96] = '\0';
    KEYGEN("-o", in_dir("key"), "--pcr0", other);
    assert_int_equal(r.exit_code, 1);
    assert_contains(r.err, "PCR0");
    assert_false(exists("key"));
    /* without --root the root of AWS is demanded */
    start_enclave(generate);
    RUN(&r, "nitro", "keygen", "--vsock-uds", in_dir("vsock"), "--key-id", ARN);
    end_enclave();
    assert_int_equal(r.exit_code, 1);
    assert_string_equal(r.out, "");
    KEYGEN("-o", in_dir("key"));
    assert_int_equal(r.exit_code, 0);
    assert_true(exists("key"));
    assert_contains(r.err, "nobody said which image is right");
}

static void keygen_usage(void **state)
{
    (void)state;
    static const struct {
        const char *flag, *value, *words;
        int exit_code;
    } bad[] = {
        {"--key-id", "alias/mine", "not the ARN", 1},
        {"--endpoint", "kms.test:x", "--endpoint", 1},
        {"--endpoint", "https://kms.test:1/path", "--endpoint", 1},
        {"--context", "novalue", "--context", 1},
        {"--context", "=value", "--context", 1},
        {"--kms-port", "0", "--kms-port", 1},
        {"--kms-root", "/nonexistent", "/nonexistent", 1},
        {"--pcr0", "12", "PCR0", 1},
        {"--output", "x", "either", 2},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        RUN(&r, "nitro", "keygen", "--vsock-uds", in_dir("vsock"), "--key-id", ARN,
            "--output-prefix", in_dir("hub"), bad[i].flag, bad[i].value);
        assert_int_equal(r.exit_code, bad[i].exit_code);
        assert_contains(r.err, bad[i].words);
    }
    RUN(&r, "nitro", "keygen", "-i", "15");
    assert_int_equal(r.exit_code, 2);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, enter, leave)
#define TEST_KEYGEN(f) cmocka_unit_test_setup_teardown(f, enter_keygen, leave_keygen)
    const struct CMUnitTest tests[] = {
        TEST(ready_is_printed),
        TEST(credentials_of_the_file),
        TEST(refusal_is_printed),
        TEST(nobody_listens),
        TEST(enclave_that_never_answers),
        TEST(bad_config_stays_here),
        TEST(flags),
        TEST_KEYGEN(key_is_written),
        TEST_KEYGEN(existing_files_stay),
        TEST_KEYGEN(lies_are_found),
        TEST_KEYGEN(other_image_and_other_root),
        TEST_KEYGEN(keygen_usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
