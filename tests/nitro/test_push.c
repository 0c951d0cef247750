/* Config pushes on the wire: what is written can be read, and whatever a stranger sends ends with an
 * error before the deadline. */
#include "push_rig.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "../run.h"

/* What the reader says to these n bytes, with (closed) or without an end behind them. */
static json_t *read_bytes_as_push(
    const uint8_t *bytes, size_t n, bool is_closed, unsigned ms, struct err *err)
{
    int pair[2];
    rig_pair(pair);
    assert_true(fd_write_exact(pair[1], bytes, n));
    if (is_closed)
        shutdown(pair[1], SHUT_WR);
    json_t *got = push_read(pair[0], rig_in_ms(ms), err);
    close(pair[0]);
    close(pair[1]);
    return got;
}

static json_t *read_text(size_t announced, const char *text, struct err *err)
{
    uint8_t frame[4096];
    assert_true(strlen(text) + RIG_HEADER <= sizeof frame);
    return read_bytes_as_push(frame, rig_frame(frame, announced, text), true, 1000, err);
}

static void assert_refused(size_t announced, const char *text, const char *words)
{
    struct err err = {0};
    assert_null(read_text(announced, text, &err));
    assert_contains(err.text, words);
}

static void written_message_is_read(void **state)
{
    (void)state;
    int pair[2];
    struct err err = {0};
    rig_pair(pair);
    json_t *message = json_pack("{s:s, s:[i,i]}", "op", "ping \" \\ \xc3\xa9", "list", 1, 2);
    assert_true(push_write(pair[1], message, rig_in_ms(1000), &err));
    json_t *got = push_read(pair[0], rig_in_ms(1000), &err);
    assert_non_null(got);
    assert_true(json_equal(got, message));
    json_decref(got);
    json_decref(message);
    close(pair[0]);
    close(pair[1]);
}

static void cut_short_at_every_length(void **state)
{
    (void)state;
    static const char text[] = "{\"op\":\"attest\",\"nonce\":\"0011\",\"list\":[1,{\"a\":null}]}";
    uint8_t frame[128];
    size_t whole = rig_frame(frame, strlen(text), text);
    unsigned cuts = 0;
    for (size_t n = 0; n < whole; n++, cuts++) {
        struct err err = {0};
        assert_null(read_bytes_as_push(frame, n, true, 1000, &err));
        assert_contains(err.text, "cut short");
    }
    assert_int_equal(cuts, whole);
    struct err err = {0};
    json_t *got = read_bytes_as_push(frame, whole, false, 1000, &err);
    assert_non_null(got);
    json_decref(got);
    /* announced shorter than it is: the JSON is cut */
    for (size_t n = 0; n < strlen(text); n++)
        assert_refused(n, text, "no JSON");
}

static void damaged_by_one_byte(void **state)
{
    (void)state;
    static const char text[] = "{\"op\":\"ping\"}";
    uint8_t frame[64];
    size_t whole = rig_frame(frame, strlen(text), text);
    unsigned refused = 0;
    for (size_t at = 0; at < RIG_HEADER; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            struct err err = {0};
            frame[at] ^= (uint8_t)(1U << bit);
            assert_null(read_bytes_as_push(frame, whole, true, 1000, &err));
            frame[at] ^= (uint8_t)(1U << bit);
            refused++;
        }
    assert_int_equal(refused, RIG_HEADER * 8);
}

static void oversized_is_refused_by_its_header(void **state)
{
    (void)state;
    assert_refused(PUSH_MAX + 1, "", "at most 262144 are taken");
    assert_refused(UINT32_MAX, "", "at most 262144 are taken");
    /* the most that may be announced is taken in, and found to be cut */
    assert_refused(PUSH_MAX, "{}", "cut short");
}

static void what_is_no_object_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "null", "[1]", "\"op\"", "{} {}", "{}{}", "{}x", "{",
        "{\"a\":1,\"a\":2}", "{'a':1}", "{\"a\":\"\\u0000\"}", "{\"a\":\"\xff\"}", "{\"a\":1e999}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct err err = {0};
        assert_null(read_text(strlen(texts[i]), texts[i], &err));
        assert_contains(err.text, "JSON");
    }
}

/* The refusal must not repeat a push that may hold credentials. */
static void refusal_does_not_quote(void **state)
{
    (void)state;
    struct err err = {0};
    static const char text[] = "{\"aws_secret_key\":\"hunter2\" hunter2}";
    assert_null(read_text(strlen(text), text, &err));
    assert_null(strstr(err.text, "hunter2"));
}

static void prototype_is_told_so(void **state)
{
    (void)state;
    struct err err = {0};
    static const char text[] = "{\"chain\":[{\"id\":\"testnet-croeseid-1\"}]}";
    assert_null(read_bytes_as_push((const uint8_t *)text, strlen(text), true, 1000, &err));
    assert_contains(err.text, "same version");
}

static void nested_text(char *out, size_t cap, unsigned depth, const char *open, const char *close)
{
    struct writer w = writer_of(out, cap);
    for (unsigned i = 0; i < depth; i++)
        write_text(&w, open);
    write_u8(&w, '1');
    for (unsigned i = 0; i < depth; i++)
        write_text(&w, close);
    write_u8(&w, 0);
    assert_false(w.bad);
}

static void nesting_is_bounded(void **state)
{
    (void)state;
    char text[8192];
    struct err err = {0};
    nested_text(text, sizeof text, PUSH_DEPTH_MAX, "{\"a\":", "}");
    json_t *got = push_parse(bytes_of_text(text), &err);
    assert_non_null(got);
    json_decref(got);
    nested_text(text, sizeof text, PUSH_DEPTH_MAX + 1, "{\"a\":", "}");
    assert_null(push_parse(bytes_of_text(text), &err));
    assert_contains(err.text, "deeper than 16");
    nested_text(text, sizeof text, 3000, "[", "]");
    assert_null(push_parse(bytes_of_text(text), &err));
    assert_contains(err.text, "deeper than 16");
    /* brackets in strings are no nesting, and an escaped quote does not end one */
    got = push_parse(bytes_of_text("{\"a\":\"[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[[[[[[[[[[[[[\"}"), &err);
    assert_non_null(got);
    json_decref(got);
}

static void number_of_objects_is_bounded(void **state)
{
    (void)state;
    struct err err = {0};
    for (unsigned n = PUSH_NODES_MAX - 2; n <= PUSH_NODES_MAX - 1; n++) {
        static char text[16 + PUSH_NODES_MAX * 3];
        struct writer w = writer_of(text, sizeof text);
        write_text(&w, "{\"a\":[0");
        for (unsigned i = 0; i < n; i++)
            write_text(&w, ",{}");
        write_text(&w, "]}");
        json_t *got = push_parse(written(&w), &err);
        assert_int_equal(got != NULL, n == PUSH_NODES_MAX - 2);
        json_decref(got);
    }
    assert_contains(err.text, "more than 8192");
}

static void silence_ends_at_the_deadline(void **state)
{
    (void)state;
    uint8_t frame[32];
    size_t whole = rig_frame(frame, 2, "{}");
    for (size_t n = 0; n < whole; n += 5) {
        struct err err = {0};
        uint64_t before = clock_monotonic_us();
        assert_null(read_bytes_as_push(frame, n, false, 40, &err));
        uint64_t took = clock_monotonic_us() - before;
        assert_true(took >= 40000 && took < 1000000);
        assert_contains(err.text, "deadline");
    }
}

static void *trickle(void *arg)
{
    int fd = *(int *)arg;
    uint8_t frame[1024];
    char text[900];
    memset(text, ' ', sizeof text);
    text[sizeof text - 1] = '\0';
    size_t whole = rig_frame(frame, strlen(text), text);
    for (size_t i = 0; i < whole; i++) {
        if (send(fd, frame + i, 1, MSG_NOSIGNAL) != 1)
            return NULL;
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    return NULL;
}

/* A byte now and then does not move the deadline. */
static void trickle_ends_at_the_deadline(void **state)
{
    (void)state;
    int pair[2];
    rig_pair(pair);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, trickle, &pair[1]), 0);
    struct err err = {0};
    uint64_t before = clock_monotonic_us();
    assert_null(push_read(pair[0], rig_in_ms(60), &err));
    assert_true(clock_monotonic_us() - before < 1000000);
    assert_contains(err.text, "deadline");
    close(pair[0]);
    pthread_join(thread, NULL);
    close(pair[1]);
}

static void reader_that_does_not_read_ends_at_the_deadline(void **state)
{
    (void)state;
    int pair[2];
    rig_pair(pair);
    int small = 4096;
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    char *text = malloc(200001);
    memset(text, 'a', 200000);
    text[200000] = '\0';
    json_t *message = json_pack("{s:s}", "a", text);
    struct err err = {0};
    assert_false(push_write(pair[1], message, rig_in_ms(50), &err));
    assert_contains(err.text, "deadline");
    json_decref(message);
    free(text);
    close(pair[0]);
    close(pair[1]);
}

static void too_long_a_message_is_not_sent(void **state)
{
    (void)state;
    int pair[2];
    rig_pair(pair);
    char *text = malloc(PUSH_MAX + 1);
    memset(text, 'a', PUSH_MAX);
    text[PUSH_MAX] = '\0';
    json_t *message = json_pack("{s:s}", "a", text);
    struct err err = {0};
    assert_false(push_write(pair[1], message, rig_in_ms(50), &err));
    assert_contains(err.text, "too many");
    uint8_t byte;
    assert_int_equal(recv(pair[0], &byte, 1, MSG_DONTWAIT), -1);
    json_decref(message);
    free(text);
    close(pair[0]);
    close(pair[1]);
}

/* ---- the host's side ------------------------------------------------------------ */

/* What push_ask says when the enclave answers with this text (NULL: it only closes). */
static json_t *ask(const char *answer, struct err *err)
{
    int pair[2];
    uint8_t frame[2048];
    rig_pair(pair);
    if (answer != NULL)
        assert_true(fd_write_exact(pair[1], frame, rig_frame(frame, strlen(answer), answer)));
    shutdown(pair[1], SHUT_WR);
    json_t *request = json_pack("{s:s}", "op", "ping");
    json_t *got = push_ask(pair[0], request, rig_in_ms(1000), NULL, err);
    json_decref(request);
    close(pair[0]);
    close(pair[1]);
    return got;
}

static void answers(void **state)
{
    (void)state;
    struct err err = {0};
    json_t *got = ask("{\"ok\":true,\"state\":\"ready\"}", &err);
    assert_string_equal(json_string_value(json_object_get(got, "state")), "ready");
    json_decref(got);
    assert_null(ask("{\"ok\":false,\"error\":\"restart \\u001b[31mme\"}", &err));
    assert_string_equal(err.text, "restart ?[31mme");
    assert_null(ask("{\"ok\":false}", &err));
    assert_contains(err.text, "not why");
    assert_null(ask("{\"ok\":1}", &err));
    assert_null(ask("{}", &err));
    assert_null(ask(NULL, &err));
    assert_contains(err.text, "no answer from the enclave: cut short");
}

/* A program can tell some refusals from others, and knows no code that is none. */
static void codes(void **state)
{
    (void)state;
    assert_null(push_code_name(PUSH_CODE_NONE));
    for (int i = PUSH_CODE_NONE + 1; i <= PUSH_CODE_CONFIG; i++)
        assert_int_equal(push_code_of(push_code_name((enum push_code)i)), i);
    assert_int_equal(push_code_of(NULL), PUSH_CODE_NONE);
    assert_int_equal(push_code_of(""), PUSH_CODE_NONE);
    assert_int_equal(push_code_of("config_differs "), PUSH_CODE_NONE);
    int pair[2];
    uint8_t frame[256];
    static const char answer[] = "{\"ok\":false,\"error\":\"other\",\"code\":\"config_differs\"}";
    struct err err = {0};
    enum push_code code = PUSH_CODE_NONE;
    rig_pair(pair);
    assert_true(fd_write_exact(pair[1], frame, rig_frame(frame, strlen(answer), answer)));
    json_t *request = json_pack("{s:s}", "op", "config");
    assert_null(push_ask(pair[0], request, rig_in_ms(1000), &code, &err));
    assert_int_equal(code, PUSH_CODE_CONFIG);
    json_decref(request);
    close(pair[0]);
    close(pair[1]);
}

/* An enclave that answers early and closes: its words are reported, not the broken pipe. */
static void early_refusal_is_heard(void **state)
{
    (void)state;
    static const char answer[] = "{\"ok\":false,\"error\":\"too long\"}";
    int pair[2];
    uint8_t frame[128];
    rig_pair(pair);
    assert_true(fd_write_exact(pair[1], frame, rig_frame(frame, strlen(answer), answer)));
    close(pair[1]);
    json_t *request = json_pack("{s:s}", "op", "ping");
    struct err err = {0};
    assert_null(push_ask(pair[0], request, rig_in_ms(1000), NULL, &err));
    assert_string_equal(err.text, "too long");
    json_decref(request);
    close(pair[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_message_is_read),
        cmocka_unit_test(codes),
        cmocka_unit_test(cut_short_at_every_length),
        cmocka_unit_test(damaged_by_one_byte),
        cmocka_unit_test(oversized_is_refused_by_its_header),
        cmocka_unit_test(what_is_no_object_is_refused),
        cmocka_unit_test(refusal_does_not_quote),
        cmocka_unit_test(prototype_is_told_so),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(number_of_objects_is_bounded),
        cmocka_unit_test(silence_ends_at_the_deadline),
        cmocka_unit_test(trickle_ends_at_the_deadline),
        cmocka_unit_test(reader_that_does_not_read_ends_at_the_deadline),
        cmocka_unit_test(too_long_a_message_is_not_sent),
        cmocka_unit_test(answers),
        cmocka_unit_test(early_refusal_is_heard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
