/* The parts of the supervisor that need no enclave: when it tries again, when an enclave is given up, what a ping says,
 * and what the configuration and the command line make of each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "parent/run_config.h"
#include "parent/run_ping.h"
#include "parent/run_time.h"

enum { SECOND = 1000000 };

/* ---- time ---- */

static void waits_grow_to_fifteen_seconds(void **state)
{
    (void)state;
    static const unsigned seconds[] = {1, 2, 4, 8, 15, 15, 15};
    struct backoff b = {0};
    for (size_t i = 0; i < sizeof seconds / sizeof seconds[0]; i++)
        assert_int_equal(backoff_next_us(&b), seconds[i] * (uint64_t)SECOND);
    for (unsigned i = 0; i < 100000; i++)
        assert_int_equal(backoff_next_us(&b), 15 * SECOND);
    backoff_reset(&b);
    assert_int_equal(backoff_next_us(&b), SECOND);
}

static void trouble_is_told_once(void **state)
{
    (void)state;
    struct trouble t = {0};
    assert_true(trouble_is_news(&t, "KMS is down", 1));
    assert_false(trouble_is_news(&t, "KMS is down", 2));
    assert_false(trouble_is_news(&t, "KMS is down", 3600ULL * SECOND));
    assert_true(trouble_is_news(&t, "request 1 failed", 3601ULL * SECOND));
    assert_false(trouble_is_news(&t, "request 2 failed", 3602ULL * SECOND));
    assert_false(trouble_is_news(&t, "request 3 failed", 3660ULL * SECOND));
    assert_true(trouble_is_news(&t, "request 4 failed", 3661ULL * SECOND));
    char longest[2 * TROUBLE_MAX];
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_true(trouble_is_news(&t, longest, 9999ULL * SECOND));
    assert_false(trouble_is_news(&t, longest, 99999ULL * SECOND));
}

static void credentials_are_renewed_at_half_of_what_is_left(void **state)
{
    (void)state;
    static const uint32_t randoms[] = {0, 1, UINT32_MAX / 2, UINT32_MAX - 1, UINT32_MAX};
    const uint64_t now = 1700000000ULL * SECOND;
    size_t n = 0;
    assert_true(renew_in_us(0, now, 7) == UINT64_MAX);
    assert_true(renew_in_us(-1, now, 7) == UINT64_MAX);
    for (int64_t left = -10; left < 50000; left += 7) {
        int64_t expires = (int64_t)(now / SECOND) + left;
        for (size_t i = 0; i < sizeof randoms / sizeof randoms[0]; i++, n++) {
            uint64_t in = renew_in_us(expires, now, randoms[i]);
            assert_true(in >= RENEW_LEAST_US);
            if (left > 12)
                assert_true(in >= (uint64_t)left * SECOND * 9 / 20 - 1 &&
                            in <= (uint64_t)left * SECOND * 11 / 20 + 1);
        }
        if (left > 100)
            assert_true(renew_in_us(expires, now, 0) < renew_in_us(expires, now, UINT32_MAX));
    }
    assert_true(n > 30000);
    /* Six hours: ten questions or so, the last of them when new ones are there for minutes. */
    uint64_t at = now, end = now + 6ULL * 3600 * SECOND;
    unsigned asked = 0;
    while (end - at > 5ULL * 60 * SECOND) {
        at += renew_in_us((int64_t)(end / SECOND), at, UINT32_MAX);
        asked++;
    }
    assert_in_range(asked, 5, 12);
    assert_true(end - at > 60ULL * SECOND);
}

static void an_enclave_is_given_up_when_it_is_silent(void **state)
{
    (void)state;
    const struct pulse_limits *l = &PULSE_LIMITS;
    const uint64_t start = 1000ULL * SECOND;
    struct pulse w = {0};
    assert_false(pulse_is_lost(&w, l, start));
    w = (struct pulse){.since_us = start, .asked_us = start};
    assert_false(pulse_is_lost(&w, l, start + l->start_us));
    assert_true(pulse_is_lost(&w, l, start + l->start_us + 1));
    w = (struct pulse){.since_us = start, .has_answered = true};
    assert_false(pulse_is_lost(&w, l, start + l->silence_us));
    assert_true(pulse_is_lost(&w, l, start + l->silence_us + 1));
    w.asked_us = start + SECOND;
    assert_false(pulse_is_lost(&w, l, w.asked_us + l->answer_us));
    assert_true(pulse_is_lost(&w, l, w.asked_us + l->answer_us + 1));
    w.is_busy = true;
    assert_false(pulse_is_lost(&w, l, w.asked_us + l->busy_us));
    assert_true(pulse_is_lost(&w, l, w.asked_us + l->busy_us + 1));
    assert_true(l->answer_us < l->busy_us && l->busy_us <= l->start_us);
}

/* ---- pings ---- */

static const char answer_ready[] = "{\"ok\":true,\"state\":\"ready\"}";

static size_t frame_of(uint8_t *out, const char *text)
{
    push_header_write(out, (uint32_t)strlen(text));
    memcpy(out + PUSH_HEADER_LEN, text, strlen(text));
    return PUSH_HEADER_LEN + strlen(text);
}

static enum ping_answer hear(struct ping_talk *t, const void *p, size_t n, struct err *err)
{
    return ping_talk_hear(t, bytes_of(p, n), err);
}

static void expect_request(const struct ping_talk *t)
{
    uint8_t wanted[64];
    size_t n = frame_of(wanted, "{\"op\":\"ping\"}");
    assert_int_equal(t->say.n, n);
    assert_memory_equal(t->say.p, wanted, n);
}

static void a_ping_is_a_push_without_a_stand_in(void **state)
{
    (void)state;
    struct vsock v = {.uds = ""};
    struct ping_talk t;
    struct err err;
    uint8_t in[256];
    size_t n = frame_of(in, answer_ready);
    for (size_t cut = 0; cut <= n; cut++) { /* in two parts, at every place */
        ping_talk_start(&t, &v, 5050);
        expect_request(&t);
        assert_int_equal(hear(&t, in, cut, &err), cut == n ? PING_READY : PING_MORE);
        if (cut < n)
            assert_int_equal(hear(&t, in + cut, n - cut, &err), PING_READY);
    }
    ping_talk_start(&t, &v, 5050);
    n = frame_of(in, "{\"ok\":true,\"state\":\"waiting\"}");
    assert_int_equal(hear(&t, in, n, &err), PING_WAITING);
    static const char *const silent[] = {"\"signer\":\"silent\",\"session\":\"alive\"",
        "\"signer\":\"alive\",\"session\":\"silent\""};
    for (size_t i = 0; i < sizeof silent / sizeof silent[0]; i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"ok\":true,\"state\":\"ready\",%s}", silent[i]);
        ping_talk_start(&t, &v, 5050);
        n = frame_of(in, text);
        assert_int_equal(hear(&t, in, n, &err), PING_SILENT);
    }
}

static void the_stand_in_is_greeted_first(void **state)
{
    (void)state;
    struct vsock v = {.uds = "/x"};
    struct ping_talk t;
    struct err err;
    uint8_t in[256] = "OK 1073741824\n";
    size_t hello = strlen((char *)in), n = hello + frame_of(in + hello, answer_ready);
    ping_talk_start(&t, &v, 5051);
    assert_int_equal(t.say.n, strlen("CONNECT 5051\n"));
    assert_memory_equal(t.say.p, "CONNECT 5051\n", t.say.n);
    for (size_t i = 0; i + 1 < hello; i++)
        assert_int_equal(hear(&t, in + i, 1, &err), PING_MORE);
    t.say = bytes_of(NULL, 0);
    assert_int_equal(hear(&t, in + hello - 1, 1, &err), PING_MORE);
    expect_request(&t);
    assert_int_equal(hear(&t, in + hello, n - hello, &err), PING_READY);
}

static void other_answers_to_a_ping_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "{}", "[]", "ready", "{\"ok\":true}",
        "{\"ok\":false,\"state\":\"ready\"}", "{\"ok\":true,\"state\":\"odd\"}",
        "{\"ok\":true,\"state\":3}", "{\"ok\":false,\"error\":\"no\"}"};
    static const char *const hellos[] = {"NO 1\n", "OK\n", "\n",
        "OK 1111111111111111111111111111111111111111111", "HTTP/1.1 200 OK\n"};
    struct vsock plain = {.uds = ""}, standin = {.uds = "/x"};
    struct ping_talk t;
    struct err err;
    uint8_t in[2 * PING_ANSWER_MAX];
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        ping_talk_start(&t, &plain, 1);
        size_t n = frame_of(in, texts[i]);
        assert_int_equal(hear(&t, in, n, &err), PING_FAILED);
        assert_true(err.text[0] != '\0');
    }
    for (size_t i = 0; i < sizeof hellos / sizeof hellos[0]; i++) {
        ping_talk_start(&t, &standin, 1);
        assert_int_equal(hear(&t, hellos[i], strlen(hellos[i]), &err), PING_FAILED);
    }
    size_t n = frame_of(in, answer_ready);
    for (size_t i = 0; i < n;
         i++) { /* no change of a byte makes it read beyond its room, or be right */
        ping_talk_start(&t, &plain, 1);
        in[i] ^= 0x80;
        assert_true(hear(&t, in, n, &err) != PING_READY);
        in[i] ^= 0x80;
    }
    memset(in, 'x', sizeof in);
    push_header_write(in, PING_ANSWER_MAX + 1);
    ping_talk_start(&t, &plain, 1);
    assert_int_equal(hear(&t, in, sizeof in, &err), PING_FAILED);
}

/* ---- the configuration ---- */

static char folder[64], file[96];
static struct problems problems;
static struct run_config now, next;

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/tmkms-run-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/tmkms.toml", folder);
    now = next = RUN_CONFIG_NONE;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    problems_free(&problems);
    run_config_free(&now);
    run_config_free(&next);
    unlink(file);
    return rmdir(folder);
}

static void write_config(const char *text)
{
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(file, 0600), 0);
}

#define CHAIN(id, more)                                                                            \
    "[[chain]]\nid = \"" id "\"\nkey_format = { type = \"hex\" }\nstate_vsock_port = 6666\n" more
#define KEY(id, more)                                                                              \
    "[[providers.softsign]]\nchain_ids = [\"" id "\"]\nencrypted_key_b64 = \"AQICAHgBAg==\"\n"     \
    "aws_region = \"eu-west-1\"\n" more
#define NODE(id, port, more)                                                                       \
    "[[validator]]\nchain_id = \"" id "\"\naddr = { port = " port " }\n" more
#define ONE CHAIN("a", "") KEY("a", "") NODE("a", "5555", "node = \"tcp://h:1\"\n")

static bool read_into(struct run_config *c, const char *text, const struct run_options *o)
{
    write_config(text);
    problems_free(&problems);
    problems = (struct problems){0};
    run_config_free(c);
    return run_config_read(c, o, &problems);
}

static void expect_good(struct run_config *c, const char *text, const struct run_options *o)
{
    if (read_into(c, text, o))
        return;
    fail_msg("refused: %s", problems.n > 0 ? problems.list[0].text : "?");
}

static void expect_refused(const char *text, const struct run_options *o, const char *words)
{
    assert_false(read_into(&next, text, o));
    for (size_t i = 0; i < problems.n; i++) {
        assert_null(strstr(problems.list[i].text, "/proc/"));
        if (!problems.list[i].is_warning && strstr(problems.list[i].text, words) != NULL)
            return;
    }
    fail_msg("no problem says '%s' but: %s", words, problems.n > 0 ? problems.list[0].text : "");
}

static const struct run_port *port_of(const struct run_config *c, uint32_t port)
{
    for (size_t i = 0; i < c->ports_n; i++)
        if (c->ports[i].port == port)
            return &c->ports[i];
    fail_msg("port %u is not there", port);
    return NULL;
}

static void ports_lead_where_the_configuration_says(void **state)
{
    (void)state;
    char path[CONFIG_PATH_MAX];
    const struct run_options o = {.config = file};
    expect_good(&now,
        CHAIN("a", "state_file = \"/srv/a.json\"\n") CHAIN("b", "") KEY("a", "")
            KEY("b", "kms_endpoint = \"vpce.example:444\"\nkms_vsock_port = 8001\n")
                NODE("a", "5555", "node = \"unix:///run/a.sock\"\n")
                    NODE("b", "5556", "node = \"tcp://10.0.0.1:26659\"\n"),
        &o);
    assert_int_equal(now.ports_n, 6);
    assert_int_equal(port_of(&now, 6666)->kind, RUN_PORT_STATE);
    assert_int_equal(port_of(&now, 8000)->kind, RUN_PORT_KMS);
    assert_string_equal(port_of(&now, 8000)->to.host, "kms.eu-west-1.amazonaws.com");
    assert_int_equal(port_of(&now, 8000)->to.port, 443);
    assert_string_equal(port_of(&now, 8001)->to.host, "vpce.example");
    assert_int_equal(port_of(&now, 8001)->to.port, 444);
    assert_string_equal(port_of(&now, 5555)->to.path, "/run/a.sock");
    assert_string_equal(port_of(&now, 5556)->to.host, "10.0.0.1");
    assert_int_equal(port_of(&now, RUN_LOG_PORT)->kind, RUN_PORT_LOG);
    assert_int_equal(now.log_port, RUN_LOG_PORT);
    assert_string_equal(run_config_state_file(&o, &now.config.chains[0], path), "/srv/a.json");
    assert_string_equal(
        run_config_state_file(&o, &now.config.chains[1], path), "b_priv_validator_state.json");
    expect_good(&now, "[enclave]\nlog_vsock_port = 7000\n" ONE, &o);
    assert_int_equal(now.log_port, 7000);
    expect_good(&now,
        CHAIN("a", "") KEY("a", "kms_vsock_port = 6050\n")
            NODE("a", "5555", "node = \"tcp://h:1\"\n"),
        &o);
    assert_int_equal(now.log_port, 0);
}

static void the_command_line_says_it_instead(void **state)
{
    (void)state;
    char path[CONFIG_PATH_MAX];
    const struct run_options o = {
        .config = file, .state_file = "/srv/s.json", .node_unix = "/run/v.sock"};
    expect_good(&now, CHAIN("a", "state_file = \"x\"\n") KEY("a", "") NODE("a", "5555", ""), &o);
    assert_string_equal(port_of(&now, 5555)->to.path, "/run/v.sock");
    assert_string_equal(run_config_state_file(&o, &now.config.chains[0], path), "/srv/s.json");
    expect_good(&now, ONE, &o);
    assert_string_equal(port_of(&now, 5555)->to.path, "/run/v.sock");
    expect_refused(ONE CHAIN("b", "") KEY("b", "") NODE("b", "5556", "node = \"tcp://h:2\"\n"), &o,
        "-s names one state file, but");
    expect_refused(ONE NODE("a", "5556", ""), &o, "-u names one socket, but");
}

static void what_cannot_be_run_is_refused(void **state)
{
    (void)state;
    const struct run_options o = {.config = file};
    static const struct {
        const char *text, *words;
    } bad[] = {
        {CHAIN("a", "") KEY("a", "") NODE("a", "5555", ""), "node: is missing; write where"},
        {"[[chain]]\nbad = 1\n", "bad: unknown key"},
        {"[[chain\n", "tmkms.toml:1: "},
        {CHAIN("a", "") KEY("a", "kms_root_file = \"/nowhere\"\n")
                NODE("a", "5555", "node = \"tcp://h:1\"\n"),
            "kms_root_file /nowhere cannot be opened"},
        {ONE CHAIN("b", "") KEY("b", "") NODE("b", "5555", "node = \"tcp://h:2\"\n"),
            "vsock port 5555 leads to tcp://h:1 already"},
        {CHAIN("a", "") CHAIN("b", "") KEY("a", "") KEY("b", "aws_region = \"eu-west-2\"\n"),
            "aws_region"},
        {CHAIN("a", "") CHAIN("b", "") KEY("a", "") KEY("b", "kms_endpoint = \"other:1\"\n")
                NODE("a", "5555", "node = \"tcp://h:1\"\n"),
            "vsock port 8000 leads to tcp://kms.eu-west-1.amazonaws.com:443 already"},
        {"[[chain]]\nid = \"a\"\nkey_format = { type = \"hex\" }\nstate_file = \"s\"\n"
         "[[providers.softsign]]\nchain_ids = [\"a\"]\npath = \"k\"\n",
            "the enclave sees no files of the host"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect_refused(bad[i].text, &o, bad[i].words);
    const struct run_options nowhere = {.config = "/nowhere/tmkms.toml"};
    problems_free(&problems);
    problems = (struct problems){0};
    assert_false(run_config_read(&next, &nowhere, &problems));
    assert_non_null(strstr(problems.list[0].text, "/nowhere/tmkms.toml"));
}

static void an_open_file_with_secrets_is_warned_of_by_its_name(void **state)
{
    (void)state;
    const struct run_options o = {.config = file};
    expect_good(&now, ONE, &o);
    write_config(CHAIN("a", "public_key = \"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a6"
                            "8f707511a\"\n")
            KEY("a", "credentials = { aws_key_id = \"i\", aws_secret_key = \"s\" }\n")
                NODE("a", "5555", "node = \"tcp://h:1\"\n"));
    assert_int_equal(chmod(file, 0644), 0);
    run_config_free(&now);
    problems_free(&problems);
    problems = (struct problems){0};
    assert_true(run_config_read(&now, &o, &problems));
    assert_int_equal(problems.n, 1);
    assert_non_null(strstr(problems.list[0].text, file));
    assert_null(strstr(problems.list[0].text, "/proc/"));
}

static void the_text_is_kept_as_it_was(void **state)
{
    (void)state;
    const struct run_options o = {.config = file};
    char path[RUN_TEXT_PATH_MAX], text[2048] = "";
    expect_good(&now, ONE, &o);
    write_config("something else");
    run_config_text_path(path, now.text);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fread(text, 1, sizeof text - 1, f), strlen(ONE));
    fclose(f);
    assert_string_equal(text, ONE);
    assert_int_equal(write(now.text, "x", 1), -1);
}

static void a_root_file_that_changes_is_seen(void **state)
{
    (void)state;
    static const char pem[] = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n";
    const struct run_options o = {.config = file};
    char root[96], text[2048];
    struct err err;
    snprintf(root, sizeof root, "%s/root.pem", folder);
    FILE *f = fopen(root, "w");
    assert_non_null(f);
    fputs(pem, f);
    fclose(f);
    snprintf(text, sizeof text,
        CHAIN("a", "") KEY("a", "kms_root_file = \"%s\"\n")
            NODE("a", "5555", "node = \"tcp://h:1\"\n"),
        root);
    expect_good(&now, text, &o);
    assert_true(run_config_still_measures(&now, &err));
    f = fopen(root, "a");
    assert_non_null(f);
    fputs("\n", f);
    fclose(f);
    assert_false(run_config_still_measures(&now, &err));
    assert_non_null(strstr(err.text, "restart the service"));
    unlink(root);
    assert_false(run_config_still_measures(&now, &err));
    assert_non_null(strstr(err.text, "root.pem cannot be opened"));
    assert_null(strstr(err.text, "/proc/"));
}

static void only_little_may_change_in_a_reload(void **state)
{
    (void)state;
    const struct run_options o = {.config = file};
    static const struct {
        const char *text, *words; /* NULL: may change */
    } cases[] = {
        {ONE, NULL},
        {CHAIN("a", "") KEY("a", "credentials = { aws_key_id = \"i\", aws_secret_key = \"s\" }\n")
                NODE("a", "5555", "node = \"tcp://h:1\"\n"),
            NULL},
        {CHAIN("a", "min_height = 5\n") KEY("a", "") NODE("a", "5555", "node = \"tcp://h:1\"\n"),
            "measured"},
        {CHAIN("a", "") KEY("a", "") NODE("a", "5555", "node = \"tcp://h:2\"\n"), "ports"},
        {CHAIN("a", "") KEY("a", "") NODE("a", "5556", "node = \"tcp://h:1\"\n"), "ports"},
        {"[enclave]\nlog_vsock_port = 7\n" ONE, "ports"},
        {CHAIN("a", "") KEY("a", "") NODE("a", "5555", "node = \"tcp://h:1\"\ntimeout = 30\n"),
            "validators"},
        {CHAIN("a", "state_file = \"x\"\n") KEY("a", "")
                NODE("a", "5555", "node = \"tcp://h:1\"\n"),
            "state files"},
        {"[enclave]\ncpus = 4\n" ONE, "[enclave]"},
    };
    expect_good(&now, ONE, &o);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_good(&next, cases[i].text, &o);
        const char *difference = run_config_difference(&now, &next);
        if (cases[i].words == NULL)
            assert_null(difference);
        else if (difference == NULL || strstr(difference, cases[i].words) == NULL)
            fail_msg("case %zu: %s", i, difference != NULL ? difference : "no difference");
    }
}

static void words_name_the_file(void **state)
{
    (void)state;
    struct run_config c = RUN_CONFIG_NONE;
    char words[64] = "/proc/self/fd/3: a; see /proc/self/fd/3", tight[20] = "x /proc/self/fd/3";
    c.file = "tmkms.toml";
    run_config_name_file(&c, 3, words, sizeof words);
    assert_string_equal(words, "tmkms.toml: a; see tmkms.toml");
    c.file = "/a/long/path/tmkms.toml";
    run_config_name_file(&c, 3, tight, sizeof tight);
    assert_true(strlen(tight) < sizeof tight);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_grow_to_fifteen_seconds),
        cmocka_unit_test(trouble_is_told_once),
        cmocka_unit_test(credentials_are_renewed_at_half_of_what_is_left),
        cmocka_unit_test(an_enclave_is_given_up_when_it_is_silent),
        cmocka_unit_test(a_ping_is_a_push_without_a_stand_in),
        cmocka_unit_test(the_stand_in_is_greeted_first),
        cmocka_unit_test(other_answers_to_a_ping_are_refused),
        cmocka_unit_test_setup_teardown(ports_lead_where_the_configuration_says, setup, teardown),
        cmocka_unit_test_setup_teardown(the_command_line_says_it_instead, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_run_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(
            an_open_file_with_secrets_is_warned_of_by_its_name, setup, teardown),
        cmocka_unit_test_setup_teardown(the_text_is_kept_as_it_was, setup, teardown),
        cmocka_unit_test_setup_teardown(a_root_file_that_changes_is_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(only_little_may_change_in_a_reload, setup, teardown),
        cmocka_unit_test(words_name_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
