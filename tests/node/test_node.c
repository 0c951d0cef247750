/* The node that the other tests use: its messages against CometBFT's, its links against src/link.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "link/secure.h"
#include "node.h"
#include "vectors.h"

enum { SECOND = 1000000, LONGEST = 1048576 + 4096 };

static uint8_t data[LONGEST], frame[LONGEST];

static int start(void **state)
{
    (void)state;
    struct err err;
    return crypto_start(&err) ? 0 : -1;
}

/* ---- messages ---- */

static int64_t number(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

/* Hex, or {"repeat": byte, "n": count}. */
static struct bytes long_bytes(const json_t *value)
{
    if (json_is_string(value))
        return hex_into(json_string_value(value), data, sizeof data);
    size_t n = (size_t)number(value, "n");
    assert_true(n <= sizeof data);
    memset(data, (int)number(value, "repeat"), n);
    return bytes_of(data, n);
}

/* Numbers beyond 2^53 are strings. */
static int64_t big(const json_t *value)
{
    return json_is_string(value) ? strtoll(json_string_value(value), NULL, 10)
                                 : json_integer_value(value);
}

/* false: a hash that is neither absent nor whole; such ids do not fit struct block_id. */
static bool fill_signable(struct signable *s, const json_t *in)
{
    const char *hash = vectors_text(in, "hash"), *parts = vectors_text(in, "psh_hash");
    if ((strlen(hash) != 0 && strlen(hash) != 64) || (strlen(parts) != 0 && strlen(parts) != 64))
        return false;
    int64_t type = number(in, "type");
    s->step = type == 1 ? STEP_PREVOTE : type == 2 ? STEP_PRECOMMIT : STEP_PROPOSAL;
    s->height = big(json_object_get(in, "height"));
    s->round = (int32_t)number(in, "round");
    s->pol_round = (int32_t)number(in, "pol_round");
    s->block_id.parts_total = (uint32_t)number(in, "psh_total");
    s->block_id.hash_len = (uint8_t)hex_into(hash, s->block_id.hash, HASH_LEN).n;
    s->block_id.parts_hash_len = (uint8_t)hex_into(parts, s->block_id.parts_hash, HASH_LEN).n;
    const json_t *ts = json_object_get(in, "ts");
    s->timestamp.seconds = big(json_array_get(ts, 0));
    s->timestamp.nanos = (int32_t)json_integer_value(json_array_get(ts, 1));
    return true;
}

/* false: a request that this node cannot or need not send (signatures in it, other types). */
static bool fill_request(
    struct node_request *req, const json_t *decoded, uint8_t address[ADDRESS_LEN])
{
    const char *kind = vectors_text(decoded, "kind");
    const json_t *vote = json_object_get(decoded, "vote"),
                 *proposal = json_object_get(decoded, "proposal");
    *req =
        (struct node_request){.chain_id = json_string_value(json_object_get(decoded, "chain_id"))};
    req->skip_extension = json_is_true(json_object_get(decoded, "skip_extension_signing"));
    if (strcmp(kind, "PingRequest") == 0) {
        req->kind = NODE_PING;
    } else if (strcmp(kind, "PubKeyRequest") == 0) {
        req->kind = NODE_PUBKEY;
    } else if (strcmp(kind, "SignBytesRequest") == 0) {
        req->kind = NODE_SIGN_BYTES;
        req->raw = long_bytes(json_object_get(decoded, "value"));
    } else if (vote != NULL) {
        req->kind = NODE_VOTE;
        req->extension = long_bytes(json_object_get(vote, "extension"));
        req->validator_address = vectors_hex(vote, "validator_address", address, ADDRESS_LEN);
        req->validator_index = (int32_t)number(vote, "validator_index");
        return fill_signable(&req->signable, vote) && req->signable.step != STEP_PROPOSAL &&
               req->validator_address.n > 0 && strlen(vectors_text(vote, "signature")) == 0 &&
               strlen(vectors_text(vote, "extension_signature")) == 0;
    } else if (proposal != NULL) {
        req->kind = NODE_PROPOSAL;
        return fill_signable(&req->signable, proposal) && number(proposal, "type") == 32 &&
               strlen(vectors_text(proposal, "signature")) == 0;
    } else {
        return false;
    }
    return true;
}

static void check_reply(enum wire_line line, const json_t *recorded, const struct node_request *req,
    const struct public_key *key, size_t *good)
{
    const json_t *decoded = json_object_get(recorded, "decoded");
    const char *hex = json_string_value(json_object_get(recorded, "frame"));
    struct node_reply reply;
    struct err err;
    if (hex == NULL || decoded == NULL)
        return;
    struct bytes raw = hex_into(hex, frame, sizeof frame);
    if (!node_decode(&reply, line, raw, &err))
        fail_msg("%s", err.text);
    const json_t *error = json_object_get(decoded, "error");
    assert_int_equal(reply.is_error, error != NULL && !json_is_null(error));
    if (reply.is_error) {
        assert_string_equal(reply.error, vectors_text(error, "description"));
        assert_int_equal(reply.error_code, number(error, "code"));
    }
    if (reply.is_error || reply.kind != req->kind)
        assert_false(node_check(req, &reply, key, &err));
    else if (node_check(req, &reply, key, &err))
        ++*good;
}

static void frames_of(const char *file, enum wire_line line, size_t least)
{
    json_t *root = vectors_load(file);
    const json_t *entry;
    size_t i, encoded = 0, good = 0;
    struct public_key key = {.type = KEY_ED25519, .len = 32};
    vectors_hex(json_object_get(root, "key"), "public", key.bytes, sizeof key.bytes);
    json_array_foreach(json_object_get(root, "frames"), i, entry)
    {
        uint8_t address[ADDRESS_LEN];
        struct node_request req;
        const json_t *request = json_object_get(entry, "request");
        const char *hex = json_string_value(json_object_get(request, "frame"));
        if (!fill_request(&req, json_object_get(request, "decoded"), address) || hex == NULL)
            continue;
        struct bytes got = node_encode(line, &req, frame, sizeof frame);
        char *text = malloc(2 * got.n + 1);
        assert_non_null(text);
        hex_lower(got, text);
        assert_string_equal(text, hex);
        free(text);
        encoded++;
        check_reply(line, json_object_get(entry, "response"), &req, &key, &good);
    }
    print_message("%s: %zu requests, %zu good replies\n", file, encoded, good);
    assert_true(encoded >= least);
    assert_true(good >= least / 2);
    json_decref(root);
}

static void frames_as_cometbft(void **state)
{
    (void)state;
    frames_of("privval_p1_v0.38.json", WIRE_P1, 30);
    frames_of("privval_p2_v1.0.json", WIRE_P2, 30);
}

static void sign_bytes_as_cometbft(void **state)
{
    (void)state;
    json_t *root = vectors_load("privval_p1_v0.38.json");
    const json_t *entry;
    size_t i, seen = 0;
    json_array_foreach(json_object_get(root, "sign_bytes"), i, entry)
    {
        const json_t *in = json_object_get(entry, "in");
        const char *kind = vectors_text(entry, "kind"), *chain = vectors_text(in, "chain_id");
        bool extension = strcmp(kind, "vote_extension") == 0,
             proposal = strcmp(kind, "proposal") == 0;
        struct node_request req = {.kind = proposal ? NODE_PROPOSAL : NODE_VOTE, .chain_id = chain};
        const char *want = json_string_value(json_object_get(entry, "sign_bytes"));
        /* A chain id with a zero byte is none of ours: we pass text. */
        if (want == NULL || json_string_length(json_object_get(in, "chain_id")) != strlen(chain) ||
            (!extension && !fill_signable(&req.signable, in)) ||
            (req.kind == NODE_VOTE && !extension && req.signable.step == STEP_PROPOSAL))
            continue;
        if (extension) {
            req.extension = long_bytes(json_object_get(in, "extension"));
            req.signable.height = big(json_object_get(in, "height"));
            req.signable.round = (int32_t)number(in, "round");
        }
        struct bytes got = node_sign_bytes(&req, extension, frame, sizeof frame);
        if (got.n < 4096)
            assert_hex(got, want);
        seen++;
    }
    print_message("%zu sign-bytes\n", seen);
    assert_true(seen >= 180);
    json_decref(root);
}

/* ---- links ---- */

struct dialler {
    struct link_address address;
    struct signing_key *identity;
    const char *answer; /* hex */
    bool ok;
    char peer_id[64];
};

static int dial(const struct link_address *a)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(a->port)};
    bool is_unix = a->kind == LINK_UNIX;
    memcpy(un.sun_path, a->path, sizeof un.sun_path);
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    const struct sockaddr *sa =
        is_unix ? (const struct sockaddr *)&un : (const struct sockaddr *)&in;
    if (fd >= 0 && connect(fd, sa, is_unix ? sizeof un : sizeof in) == 0)
        return fd;
    return -1;
}

/* A signer that answers every request of any kind with the same bytes, until the node hangs up. */
static bool dial_and_serve(struct dialler *d, int fd)
{
    uint8_t raw[4096], answer[64], sealed[4096];
    static _Thread_local uint8_t plain[sizeof raw + SECURE_HELD_MAX];
    struct secure *s = secure_new(&d->address, d->identity, NULL);
    bool ok = s != NULL;
    while (ok) {
        struct bytes hs = secure_output(s);
        ok = hs.n == 0 || send(fd, hs.p, hs.n, MSG_NOSIGNAL) == (ssize_t)hs.n;
        ssize_t n = recv(fd, raw, sizeof raw, 0);
        if (n <= 0)
            break;
        struct writer out = writer_of(plain, sizeof plain);
        ok = ok && secure_input(s, bytes_of(raw, (size_t)n), &out, NULL);
        if (!ok || out.n == 0)
            continue;
        struct writer w = writer_of(sealed, sizeof sealed);
        ok = secure_seal(s, hex_into(d->answer, answer, sizeof answer), &w, NULL) &&
             send(fd, w.buf, w.n, MSG_NOSIGNAL) == (ssize_t)w.n;
    }
    if (s != NULL)
        snprintf(d->peer_id, sizeof d->peer_id, "%s", secure_peer_id(s));
    secure_free(s);
    return ok;
}

static void *dialler_main(void *arg)
{
    struct dialler *d = arg;
    int fd = dial(&d->address);
    d->ok = fd >= 0 && dial_and_serve(d, fd);
    close(fd);
    return NULL;
}

static void ping_over(const char *address)
{
    struct err err;
    struct signing_key *identity = node_identity_new(NULL, &err);
    struct node_listener *l = node_listen(address, identity, &err);
    if (l == NULL)
        fail_msg("%s", err.text);
    struct dialler d = {.answer = "024200", .identity = node_identity_new(NULL, &err)};
    assert_true(link_address_parse(&d.address, node_address(l), &err));
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, dialler_main, &d), 0);
    struct node_conn *c = node_accept(l, clock_monotonic_us() + 5 * SECOND, &err);
    if (c == NULL)
        fail_msg("%s", err.text);
    struct node_request ping = {.kind = NODE_PING, .chain_id = ""};
    for (int i = 0; i < 3; i++) {
        struct node_reply reply;
        if (!node_ask(c, WIRE_P1, &ping, clock_monotonic_us() + 5 * SECOND, &reply, &err))
            fail_msg("%s", err.text);
        assert_true(node_check(&ping, &reply, NULL, &err));
    }
    struct bytes none; /* nobody asked: nothing comes */
    assert_false(node_receive(c, &none, clock_monotonic_us() + SECOND / 50, &err));
    assert_false(node_closed_by_signer(c));
    node_hang_up(c);
    pthread_join(thread, NULL);
    assert_true(d.ok);
    if (d.address.kind == LINK_UNIX)
        assert_string_equal(d.peer_id, "");
    else
        assert_true(d.peer_id[0] != '\0' && strstr(node_address(l), d.peer_id) != NULL);
    node_unlisten(l);
    signing_key_free(identity);
    signing_key_free(d.identity);
}

static void links(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "unix:///tmp/tmkms-test-node-%d.sock", (int)getpid());
    ping_over(path);
    assert_int_equal(access(path + 7, F_OK), -1);
    ping_over("tcp://127.0.0.1:0");
    ping_over("noise://127.0.0.1:0");
}

static void bad_replies(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "00", "02", "0242", "034200", "01", "023a00", "027a00",
        "0322010a", "0422020a0c", "06220412020801", "0422020801"};
    size_t refused = 0;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct node_reply reply;
        uint8_t raw[32];
        if (!node_decode(&reply, WIRE_P1, hex_into(bad[i], raw, sizeof raw), NULL))
            refused++;
    }
    assert_int_equal(
        refused, 10); /* an error with a code only, and an unknown field, are readable */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_as_cometbft),
        cmocka_unit_test(sign_bytes_as_cometbft),
        cmocka_unit_test(bad_replies),
        cmocka_unit_test(links),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
