/* Requests and replies against those recorded between CometBFT's own node and signer sides. */
#include "privval/vector.h"

#include "privval/protobuf.h"
#include "privval/sign_bytes.h"

enum { FRAME_MAX = REQUEST_MAX };

struct file {
    const char *name;
    enum wire_line line;
    size_t frames, upstream;
    /* How the frames fall: requests we refuse, replies of ours that are equal to CometBFT's, those
     * equal but for the echoed extension, and those that are not ours. */
    size_t refused, equal, equal_with_extension, not_ours;
};

static const struct file FILES[] = {
    {"privval_p1_v0.38.json", WIRE_P1, 47, 12, 4, 39, 7, 1},
    {"privval_p1_v0.40.json", WIRE_P1, 5, 0, 0, 0, 2, 3},
    {"privval_p2_v1.0.json", WIRE_P2, 50, 12, 5, 42, 7, 1},
};

/* Named because CometBFT's signer does otherwise. */
static const char *refused_only_by_us(const char *name)
{
    if (strcmp(name, "prevote hash without parts") == 0)
        return "half a block id: Vote.ValidateBasic refuses it, FilePV signs it";
    if (strstr(name, "holding the canonical sign bytes") != NULL)
        return "raw bytes that are a vote: the signature is a double sign waiting to happen";
    return NULL;
}

static const char *reply_is_not_ours(const char *name)
{
    if (strcmp(name, "wrong kind of reply") == 0)
        return "made by hand: a ping's reply to a vote";
    if (strncmp(name, "pubkey secp256k1eth", 19) == 0 || strncmp(name, "pubkey ml_dsa_65", 16) == 0)
        return "a type of key that we do not have";
    return NULL;
}

static bool reply_echoes_extension(const json_t *response)
{
    const json_t *vote = json_object_get(json_object_get(response, "decoded"), "vote");
    const json_t *extension = vote == NULL ? NULL : json_object_get(vote, "extension");
    return extension != NULL && (json_is_object(extension) || json_string_length(extension) > 0);
}

static struct bytes frame_body(struct bytes frame)
{
    struct reader r = reader_of(frame);
    uint64_t n = pb_read_varint(&r);
    assert_int_equal(n, r.n);
    return bytes_of(r.p, r.n);
}

/* The only field of a message that has one. */
static struct bytes only_field(struct bytes message, uint32_t number)
{
    struct reader r = reader_of(message);
    struct pb_field f;
    assert_true(pb_next(&r, &f));
    assert_int_equal(f.number, number);
    assert_true(reader_done(&r));
    return pb_bytes(&r, &f);
}

/* Copies the fields of a message with these numbers, raw. */
static void copy_fields(struct writer *w, struct bytes message, uint32_t first, uint32_t last)
{
    struct reader r = reader_of(message);
    struct pb_field f;
    const uint8_t *start = r.p;
    while (pb_next(&r, &f)) {
        if (f.number >= first && f.number <= last)
            write_bytes(w, bytes_of(start, (size_t)(r.p - start)));
        start = r.p;
    }
    assert_true(reader_done(&r));
}

/* Splits Message{kind: {1: thing, rest}}; rest is raw. */
static struct bytes split(struct bytes frame, uint32_t kind, struct bytes *ret_rest)
{
    struct reader r = reader_of(only_field(frame_body(frame), kind));
    struct pb_field f;
    assert_true(pb_next(&r, &f) && f.number == 1);
    *ret_rest = bytes_of(r.p, r.n);
    return f.bytes;
}

/* A vote's request or reply (field 3 or 4 of Message) again, with another extension, or none. */
static struct bytes swap_extension(
    uint8_t *buf, struct bytes frame, uint32_t kind, struct bytes extension)
{
    struct bytes rest, vote = split(frame, kind, &rest);
    struct writer w = writer_of(buf, FRAME_MAX);
    size_t whole = pb_begin_delimited(&w), message = pb_begin(&w, kind), mark = pb_begin(&w, 1);
    copy_fields(&w, vote, 1, 8);
    pb_write_bytes(&w, 9, extension);
    copy_fields(&w, vote, 10, PB_FIELD_MAX);
    pb_end(&w, mark);
    write_bytes(&w, rest);
    pb_end(&w, message);
    pb_end(&w, whole);
    assert_false(w.bad);
    return written(&w);
}

/* The request's frame; the 1 MiB one is not spelled out, but made from another and checked by its
 * hash. */
static struct bytes request_frame(const json_t *frames, const json_t *entry, uint8_t *buf)
{
    const json_t *request = json_object_get(entry, "request");
    if (vector_has(request, "frame")) {
        struct bytes frame = vector_bytes(request, "frame");
        assert_true(frame.n <= FRAME_MAX);
        memcpy(buf, frame.p, frame.n);
        vector_free(frame);
        return bytes_of(buf, frame.n);
    }
    const json_t *vote = json_object_get(json_object_get(request, "decoded"), "vote");
    struct bytes extension = vector_bytes(vote, "extension");
    size_t index;
    json_t *other;
    json_array_foreach(frames, index, other)
    {
        if (strncmp(vector_text(other, "name"), "precommit, extension of 10240", 29) != 0)
            continue;
        struct bytes small = vector_bytes(json_object_get(other, "request"), "frame");
        struct bytes frame = swap_extension(buf, small, 3, extension);
        vector_free(small);
        vector_free(extension);
        assert_int_equal(frame.n, vector_int(request, "frame_len"));
        assert_sha256(frame, vector_text(request, "frame_sha256"));
        return frame;
    }
    fail_msg("no smaller frame to make the 1 MiB one from");
    return (struct bytes){0};
}

static void assert_same_bytes(struct bytes got, const json_t *object, const char *key)
{
    struct bytes want = vector_bytes(object, key);
    assert_bytes_equal(got, want);
    vector_free(want);
}

static void assert_signable_equal(const struct signable *got, const struct signable *want)
{
    assert_true(signable_same_but_time(got, want));
    assert_true(timestamp_equal(&got->timestamp, &want->timestamp));
}

static void check_vote_fields(const struct request *req, const json_t *vote)
{
    assert_int_equal(req->type, vector_int(vote, "type"));
    assert_int_equal(req->validator_index, vector_int(vote, "validator_index"));
    assert_same_bytes(
        bytes_of(req->validator_address, req->validator_address_len), vote, "validator_address");
    assert_same_bytes(req->extension, vote, "extension");
    struct signable want = vector_signable(vote);
    want.step = req->type == 1 ? STEP_PREVOTE : STEP_PRECOMMIT;
    assert_signable_equal(&req->signable, &want);
}

static void check_request_fields(const struct request *req, const json_t *decoded)
{
    if (vector_has(decoded, "chain_id"))
        assert_string_equal(req->chain_id, vector_text(decoded, "chain_id"));
    if (vector_has(decoded, "skip_extension_signing"))
        assert_int_equal(
            req->skip_extension, json_is_true(json_object_get(decoded, "skip_extension_signing")));
    if (vector_has(decoded, "value"))
        assert_same_bytes(req->raw_bytes, decoded, "value");
    if (vector_has(decoded, "vote"))
        check_vote_fields(req, json_object_get(decoded, "vote"));
    if (vector_has(decoded, "proposal")) {
        const json_t *proposal = json_object_get(decoded, "proposal");
        struct signable want = vector_signable(proposal);
        want.step = STEP_PROPOSAL;
        assert_signable_equal(&req->signable, &want);
        assert_int_equal(req->type, vector_int(proposal, "type"));
    }
}

static void copy_signature(uint8_t out[SIGNATURE_LEN], const json_t *object, const char *key)
{
    struct bytes signature = vector_bytes(object, key);
    assert_int_equal(signature.n, SIGNATURE_LEN);
    memcpy(out, signature.p, SIGNATURE_LEN);
    vector_free(signature);
}

/* Our reply, given the signatures and the timestamp of the recorded one. */
static struct bytes our_signed(
    enum wire_line line, const struct request *req, const json_t *decoded, uint8_t buf[REPLY_MAX])
{
    struct signed_reply reply = {0};
    const json_t *thing = json_object_get(decoded, req->kind == REQUEST_VOTE ? "vote" : "proposal");
    if (req->kind == REQUEST_RAW_BYTES)
        thing = decoded;
    else
        reply.timestamp = vector_timestamp(thing);
    copy_signature(reply.signature, thing, "signature");
    if (vector_has(thing, "extension_signature") &&
        vector_text(thing, "extension_signature")[0] != '\0') {
        copy_signature(reply.extension_signature, thing, "extension_signature");
        reply.has_extension_signature = true;
    }
    return reply_signed(line, req, &reply, buf, REPLY_MAX);
}

static struct bytes our_pubkey(enum wire_line line, const json_t *decoded, uint8_t buf[REPLY_MAX])
{
    bool p1 = line == WIRE_P1;
    const json_t *key = p1 ? json_object_get(decoded, "key") : decoded;
    bool ed25519 = strcmp(vector_text(key, p1 ? "type" : "pub_key_type"), "ed25519") == 0;
    struct bytes raw = vector_bytes(key, p1 ? "bytes" : "pub_key_bytes");
    struct public_key public_key = {
        .type = ed25519 ? KEY_ED25519 : KEY_SECP256K1, .len = (uint32_t)raw.n};
    assert_true(raw.n <= PUBLIC_KEY_MAX);
    memcpy(public_key.bytes, raw.p, raw.n);
    vector_free(raw);
    return reply_pubkey(line, &public_key, buf, REPLY_MAX);
}

static struct bytes our_reply(
    enum wire_line line, const struct request *req, const json_t *decoded, uint8_t buf[REPLY_MAX])
{
    const json_t *error = json_object_get(decoded, "error");
    if (json_is_object(error))
        return reply_error(line, req, (int)vector_int(error, "code"),
            vector_text(error, "description"), buf, REPLY_MAX);
    if (req->kind == REQUEST_PING)
        return reply_ping(buf, REPLY_MAX);
    if (req->kind == REQUEST_PUBKEY)
        return our_pubkey(line, decoded, buf);
    return our_signed(line, req, decoded, buf);
}

struct tally {
    size_t frames, refused, equal, equal_with_extension, not_ours;
};

static void check_reply(
    const struct file *file, const struct request *req, const json_t *entry, struct tally *tally)
{
    const json_t *response = json_object_get(entry, "response");
    if (reply_is_not_ours(vector_text(entry, "name")) != NULL) {
        tally->not_ours++;
        return;
    }
    uint8_t buf[REPLY_MAX];
    struct bytes got = our_reply(file->line, req, json_object_get(response, "decoded"), buf);
    if (!reply_echoes_extension(response)) {
        assert_same_bytes(got, response, "frame");
        tally->equal++;
        return;
    }
    uint8_t *buf2 = malloc(FRAME_MAX);
    struct bytes echo = swap_extension(buf2, got, 4, req->extension);
    if (vector_has(response, "frame"))
        assert_same_bytes(echo, response, "frame");
    else
        assert_sha256(echo, vector_text(response, "frame_sha256"));
    tally->equal_with_extension++;
    free(buf2);
}

static void check_frame(
    const struct file *file, const json_t *frames, const json_t *entry, struct tally *tally)
{
    const char *name = vector_text(entry, "name");
    const json_t *decoded = json_object_get(json_object_get(entry, "request"), "decoded");
    uint8_t *buf = malloc(FRAME_MAX);
    struct bytes frame = request_frame(frames, entry, buf);
    struct request req;
    assert_int_equal(request_frame_len(frame), frame.n);
    assert_true(request_parse(&req, file->line, frame));
    check_request_fields(&req, decoded);

    const char *problem = req.problem;
    if (req.kind == REQUEST_RAW_BYTES && problem == NULL)
        problem = raw_bytes_problem(req.raw_bytes);
    bool go_refuses =
        strstr(name, "empty chain id") != NULL || strstr(name, "with extension (") != NULL;
    if ((problem != NULL) != (go_refuses || refused_only_by_us(name) != NULL))
        fail_msg("%s: %s", name, problem != NULL ? problem : "not refused");
    tally->refused += problem != NULL;
    tally->frames++;
    check_reply(file, &req, entry, tally);
    free(buf);
}

static void test_frames(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof FILES / sizeof FILES[0]; i++) {
        const struct file *file = &FILES[i];
        json_t *root = vector_load(file->name);
        const json_t *frames = json_object_get(root, "frames");
        struct tally tally = {0};
        size_t index;
        json_t *entry;
        json_array_foreach(frames, index, entry) check_frame(file, frames, entry, &tally);
        assert_int_equal(tally.frames, file->frames);
        assert_int_equal(tally.refused, file->refused);
        assert_int_equal(tally.equal, file->equal);
        assert_int_equal(tally.equal_with_extension, file->equal_with_extension);
        assert_int_equal(tally.not_ours, file->not_ours);
        json_decref(root);
    }
}

/* CometBFT's TestPrivvalVectors: requests without a chain id, which we refuse, and replies, which
 * are no requests. */
static void test_upstream_frames(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof FILES / sizeof FILES[0]; i++) {
        json_t *root = vector_load(FILES[i].name);
        size_t index, count = 0;
        json_t *entry;
        json_array_foreach(json_object_get(root, "upstream_frames"), index, entry)
        {
            const json_t *decoded = json_object_get(entry, "decoded");
            const char *kind = vector_text(decoded, "kind");
            struct bytes frame = vector_bytes(entry, "frame");
            struct request req;
            bool is_request = strstr(kind, "Request") != NULL;
            assert_int_equal(request_parse(&req, FILES[i].line, frame), is_request);
            if (is_request && req.kind != REQUEST_PING)
                assert_string_equal(req.problem, "the chain id is empty");
            if (is_request)
                check_request_fields(&req, decoded);
            vector_free(frame);
            count++;
        }
        assert_int_equal(count, FILES[i].upstream);
        json_decref(root);
    }
}

/* ---- hostile variants of every recorded request ---- */

struct sweep {
    size_t undecodable, refused, accepted;
};

/* in is copied to a block of its exact size, so that a sanitizer sees every read beyond it. */
static void parse_hostile(enum wire_line line, struct bytes in, struct sweep *sweep)
{
    uint8_t *exact = malloc(in.n == 0 ? 1 : in.n);
    memcpy(exact, in.p, in.n);
    struct request req;
    uint8_t buf[REPLY_MAX];
    if (!request_parse(&req, line, bytes_of(exact, in.n))) {
        sweep->undecodable++;
    } else if (req.problem != NULL) {
        sweep->refused++;
        assert_true(reply_error(line, &req, 0, req.problem, buf, sizeof buf).n > 0);
    } else {
        sweep->accepted++;
        if (req.kind == REQUEST_VOTE || req.kind == REQUEST_PROPOSAL) {
            struct signed_reply reply = {0};
            assert_null(signable_problem(&req.signable));
            assert_true(sign_bytes(&req.signable, req.chain_id, buf).n > 0);
            assert_true(reply_signed(line, &req, &reply, buf, sizeof buf).n > 0);
        }
    }
    free(exact);
}

/* Cut at every length: as it is, and with the length prefix made right again. */
static void cut_everywhere(enum wire_line line, struct bytes frame, struct sweep *sweep)
{
    struct bytes body = frame_body(frame);
    uint8_t *buf = malloc(frame.n);
    for (size_t n = 0; n < frame.n; n++) {
        struct request req;
        long len = request_frame_len(bytes_of(frame.p, n));
        assert_true(len == 0 || len == (long)frame.n);
        assert_false(request_parse(&req, line, bytes_of(frame.p, n)));
    }
    for (size_t n = 0; n < body.n; n++) {
        struct writer w = writer_of(buf, frame.n);
        pb_write_varint(&w, n);
        write_bytes(&w, bytes_of(body.p, n));
        parse_hostile(line, written(&w), sweep);
    }
    free(buf);
}

/* The same for the vote or proposal inside, with every length around it made right. */
static void cut_thing_everywhere(
    enum wire_line line, uint32_t kind, struct bytes frame, struct sweep *sweep)
{
    struct bytes rest, thing = split(frame, kind, &rest);
    uint8_t *buf = malloc(frame.n);
    for (size_t n = 0; n <= thing.n; n++) {
        struct writer w = writer_of(buf, frame.n);
        size_t whole = pb_begin_delimited(&w), message = pb_begin(&w, kind), mark = pb_begin(&w, 1);
        write_bytes(&w, bytes_of(thing.p, n));
        pb_end(&w, mark);
        write_bytes(&w, rest);
        pb_end(&w, message);
        pb_end(&w, whole);
        parse_hostile(line, written(&w), sweep);
    }
    free(buf);
}

static void change_every_byte(enum wire_line line, struct bytes frame, struct sweep *sweep)
{
    static const uint8_t XORS[] = {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff, 0x7f};
    uint8_t *buf = malloc(frame.n);
    memcpy(buf, frame.p, frame.n);
    for (size_t at = 0; at < frame.n; at++) {
        for (size_t i = 0; i < sizeof XORS; i++) {
            buf[at] = frame.p[at] ^ XORS[i];
            parse_hostile(line, bytes_of(buf, frame.n), sweep);
        }
        buf[at] = frame.p[at];
    }
    free(buf);
}

static void test_hostile_variants(void **state)
{
    (void)state;
    struct sweep cut = {0}, changed = {0};
    for (size_t i = 0; i < sizeof FILES / sizeof FILES[0]; i++) {
        json_t *root = vector_load(FILES[i].name);
        size_t index;
        json_t *entry;
        json_array_foreach(json_object_get(root, "frames"), index, entry)
        {
            const json_t *request = json_object_get(entry, "request");
            if (!vector_has(request, "frame"))
                continue;
            struct bytes frame = vector_bytes(request, "frame");
            if (frame.n < 2048) {
                const json_t *decoded = json_object_get(request, "decoded");
                uint32_t kind = vector_has(decoded, "vote")       ? 3
                                : vector_has(decoded, "proposal") ? 5
                                                                  : 0;
                cut_everywhere(FILES[i].line, frame, &cut);
                if (kind != 0)
                    cut_thing_everywhere(FILES[i].line, kind, frame, &cut);
                change_every_byte(FILES[i].line, frame, &changed);
            }
            vector_free(frame);
        }
        json_decref(root);
    }
    assert_true(cut.undecodable > 20000 && cut.refused > 100 && cut.accepted > 300);
    assert_true(changed.undecodable > 15000 && changed.refused > 5000 && changed.accepted > 50000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_upstream_frames),
        cmocka_unit_test(test_hostile_variants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
