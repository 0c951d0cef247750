/* The canonical sign-bytes against CometBFT's own, and what may be signed as raw bytes. */
#include "privval/vector.h"

#include "privval/canonical.h"
#include "privval/protobuf.h"
#include "privval/sign_bytes.h"

enum { VECTORS = 219, VECTORS_PANIC = 8, VECTORS_SIGNABLE = 132, BIG = 1100000 };

static struct bytes chain_id_of(const json_t *in)
{
    const json_t *id = json_object_get(in, "chain_id");
    assert_true(json_is_string(id));
    return bytes_of(json_string_value(id), json_string_length(id));
}

static enum step step_of(const char *kind, const json_t *in)
{
    if (strcmp(kind, "proposal") == 0)
        return STEP_PROPOSAL;
    if (strcmp(kind, "vote_extension") == 0)
        return STEP_PRECOMMIT;
    int64_t type = vector_int(in, "type");
    return type == TYPE_PREVOTE     ? STEP_PREVOTE
           : type == TYPE_PRECOMMIT ? STEP_PRECOMMIT
                                    : STEP_NONE;
}

static bool chain_id_is_signable(struct bytes id)
{
    return id.n > 0 && id.n <= CHAIN_ID_MAX && memchr(id.p, 0, id.n) == NULL;
}

static void assert_wanted(struct bytes got, const json_t *entry)
{
    if (vector_has(entry, "sign_bytes_sha256")) {
        assert_int_equal(got.n, vector_int(entry, "sign_bytes_len"));
        assert_sha256(got, vector_text(entry, "sign_bytes_sha256"));
        return;
    }
    struct bytes want = vector_bytes(entry, "sign_bytes");
    assert_bytes_equal(got, want);
    vector_free(want);
}

/* The wide encoder gives the vector's bytes, they are refused as raw bytes, and the public one
 * gives the same bytes for what may be signed and none for the rest. Returns whether it may be
 * signed. */
static bool check_message(const json_t *entry, const char *kind, uint8_t *buf)
{
    const json_t *in = json_object_get(entry, "in");
    struct bytes chain = chain_id_of(in);
    struct signable s = vector_signable(in);
    s.step = step_of(kind, in);
    struct writer w = writer_of(buf, BIG);
    if (s.step == STEP_PROPOSAL)
        canonical_write_proposal(&w, &s, chain);
    else
        canonical_write_vote(&w, (int32_t)vector_int(in, "type"), &s, chain);
    assert_wanted(written(&w), entry);
    assert_non_null(raw_bytes_problem(written(&w)));
    if (!chain_id_is_signable(chain))
        return false;

    uint8_t exact[SIGN_BYTES_MAX];
    struct bytes got = sign_bytes(&s, json_string_value(json_object_get(in, "chain_id")), exact);
    if (signable_problem(&s) != NULL) {
        assert_int_equal(got.n, 0);
        return false;
    }
    assert_bytes_equal(got, written(&w));
    return true;
}

static bool check_extension(const json_t *entry, uint8_t *buf)
{
    const json_t *in = json_object_get(entry, "in");
    struct bytes chain = chain_id_of(in), extension = vector_bytes(in, "extension");
    struct signable s = vector_signable(in);
    struct writer w = writer_of(buf, BIG);
    canonical_write_extension(&w, s.height, s.round, chain, extension);
    assert_wanted(written(&w), entry);
    assert_non_null(raw_bytes_problem(written(&w)));

    s.step = STEP_PRECOMMIT;
    s.block_id = (struct block_id){.parts_total = 1, .hash_len = 32, .parts_hash_len = 32};
    bool may = chain_id_is_signable(chain) && signable_problem(&s) == NULL;
    if (may) {
        uint8_t *exact = malloc(extension.n + EXTENSION_OVERHEAD);
        struct bytes got =
            extension_sign_bytes(&s, json_string_value(json_object_get(in, "chain_id")), extension,
                exact, extension.n + EXTENSION_OVERHEAD);
        assert_bytes_equal(got, written(&w));
        free(exact);
    }
    vector_free(extension);
    return may;
}

/* Where Go panics we have a sentence, and no bytes. */
static void check_panic(const json_t *entry, const char *kind)
{
    const json_t *in = json_object_get(entry, "in");
    struct signable s = vector_signable(in);
    s.step = step_of(kind, in);
    uint8_t buf[SIGN_BYTES_MAX];
    assert_non_null(signable_problem(&s));
    assert_int_equal(sign_bytes(&s, "test_chain_id", buf).n, 0);
}

static void check_file(const char *file)
{
    json_t *root = vector_load(file);
    uint8_t *buf = malloc(BIG);
    size_t index, all = 0, panics = 0, signable = 0;
    json_t *entry;
    json_array_foreach(json_object_get(root, "sign_bytes"), index, entry)
    {
        const char *kind = vector_text(entry, "kind");
        all++;
        if (vector_has(entry, "panic")) {
            panics++;
            check_panic(entry, kind);
        } else if (strcmp(kind, "vote_extension") == 0) {
            signable += check_extension(entry, buf);
        } else {
            signable += check_message(entry, kind, buf);
        }
    }
    assert_int_equal(all, VECTORS);
    assert_int_equal(panics, VECTORS_PANIC);
    assert_int_equal(signable, VECTORS_SIGNABLE);
    free(buf);
    json_decref(root);
}

static void test_vectors_p1(void **state)
{
    (void)state;
    check_file("privval_p1_v0.38.json");
}

static void test_vectors_p2(void **state)
{
    (void)state;
    check_file("privval_p2_v1.0.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors_p1),
        cmocka_unit_test(test_vectors_p2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
