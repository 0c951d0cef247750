#include "nitro/attestation.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "nitro/attestation_chain.h"
#include "nitro/cbor.h"
#include "nitro/cose.h"
#include "nitro/pcr.h"

enum {
    MODULE_ID_MAX = 255,
    CERTIFICATE_MAX = 1024,
    OPTIONAL_MAX = 1024, /* public_key, user_data, nonce */
};

/* {1: -35}: ES384 */
static const uint8_t es384_header[] = {0xa1, 0x01, 0x38, 0x22};

/* ---- reading ---------------------------------------------------------------------- */

enum field {
    MODULE_ID,
    DIGEST,
    TIMESTAMP,
    PCRS,
    CERTIFICATE,
    CABUNDLE,
    PUBLIC_KEY,
    USER_DATA,
    NONCE
};
enum { FIELDS_N = NONCE + 1, FIELDS_NEEDED = (1u << PUBLIC_KEY) - 1 };

static const char *const field_names[FIELDS_N] = {
    [MODULE_ID] = "module_id",
    [DIGEST] = "digest",
    [TIMESTAMP] = "timestamp",
    [PCRS] = "pcrs",
    [CERTIFICATE] = "certificate",
    [CABUNDLE] = "cabundle",
    [PUBLIC_KEY] = "public_key",
    [USER_DATA] = "user_data",
    [NONCE] = "nonce",
};

static void require(struct reader *r, bool ok)
{
    if (!ok)
        r->bad = true;
}

static void read_pcrs(struct reader *r, struct attestation *a)
{
    struct cbor_list map = cbor_read_map(r);
    while (cbor_more(r, &map)) {
        uint64_t index = cbor_read_uint(r);
        struct bytes value = cbor_read_bytes(r);
        require(r, index < PCR_COUNT && value.n == PCR_LEN);
        require(r, r->bad || (a->pcrs_present >> index & 1) == 0);
        if (r->bad)
            return;
        a->pcrs_present |= 1u << index;
        memcpy(a->pcrs[index], value.p, PCR_LEN);
    }
    require(r, a->pcrs_present != 0);
}

static struct bytes read_certificate(struct reader *r)
{
    struct bytes der = cbor_read_bytes(r);
    require(r, der.n >= 1 && der.n <= CERTIFICATE_MAX);
    return der;
}

static void read_cabundle(struct reader *r, struct attestation *a)
{
    struct cbor_list list = cbor_read_array(r);
    while (cbor_more(r, &list)) {
        require(r, a->cabundle_n < ATTESTATION_CHAIN_MAX);
        struct bytes der = read_certificate(r);
        if (r->bad)
            return;
        a->cabundle[a->cabundle_n++] = der;
    }
    require(r, a->cabundle_n > 0);
}

static struct bytes read_optional(struct reader *r)
{
    if (cbor_peek(r) == CBOR_NULL) {
        cbor_read_null(r);
        return (struct bytes){0};
    }
    struct bytes b = cbor_read_bytes(r);
    require(r, b.n <= OPTIONAL_MAX);
    return b;
}

static void read_field(struct reader *r, enum field field, struct attestation *a)
{
    switch (field) {
    case MODULE_ID:
        a->module_id = cbor_read_text(r);
        require(r, a->module_id.n >= 1 && a->module_id.n <= MODULE_ID_MAX);
        return;
    case DIGEST:
        require(r, bytes_equal(cbor_read_text(r), bytes_of_text("SHA384")));
        return;
    case TIMESTAMP:
        a->timestamp_ms = cbor_read_uint(r);
        require(r, a->timestamp_ms > 0 && a->timestamp_ms <= INT64_MAX);
        return;
    case PCRS:
        read_pcrs(r, a);
        return;
    case CERTIFICATE:
        a->certificate = read_certificate(r);
        return;
    case CABUNDLE:
        read_cabundle(r, a);
        return;
    case PUBLIC_KEY:
        a->public_key = read_optional(r);
        return;
    case USER_DATA:
        a->user_data = read_optional(r);
        return;
    case NONCE:
        a->nonce = read_optional(r);
        return;
    }
}

static unsigned field_of(struct bytes name)
{
    unsigned i = 0;
    while (i < FIELDS_N && !bytes_equal(name, bytes_of_text(field_names[i])))
        i++;
    return i;
}

/* A field that we do not know is passed over: AWS may add one, and the signature covers it. */
static bool parse_payload(struct attestation *a, struct err *err)
{
    struct reader r = reader_of(a->payload);
    struct cbor_list map = cbor_read_map(&r);
    unsigned seen = 0;
    while (cbor_more(&r, &map)) {
        unsigned field = field_of(cbor_read_text(&r));
        if (field == FIELDS_N) {
            cbor_skip(&r);
            continue;
        }
        if ((seen >> field & 1) != 0)
            return err_set(err, "the attestation document has %s twice", field_names[field]);
        seen |= 1u << field;
        read_field(&r, (enum field)field, a);
        if (r.bad)
            return err_set(
                err, "%s of the attestation document is not what it should be", field_names[field]);
    }
    if (!reader_done(&r))
        return err_set(err, "the payload of the attestation document is damaged");
    for (unsigned i = 0; i < FIELDS_N; i++)
        if ((FIELDS_NEEDED >> i & 1) != 0 && (seen >> i & 1) == 0)
            return err_set(err, "the attestation document lacks %s", field_names[i]);
    return true;
}

bool attestation_parse(struct attestation *ret, struct bytes document, struct err *err)
{
    struct attestation a = {0};
    if (document.n == 0)
        return err_set(err, "the attestation document is empty");
    if (document.n > ATTESTATION_DOCUMENT_MAX)
        return err_set(err, "%zu bytes are too long for an attestation document (at most %d)",
            document.n, ATTESTATION_DOCUMENT_MAX);
    struct reader r = reader_of(document);
    if (cbor_peek(&r) == CBOR_TAG)
        require(&r, cbor_read_tag(&r) == COSE_SIGN1_TAG);
    struct cbor_list items = cbor_read_array(&r);
    require(&r, !items.is_indefinite && items.left == 4);
    a.protected_header = cbor_read_bytes(&r);
    struct cbor_list unprotected = cbor_read_map(&r);
    require(&r, !unprotected.is_indefinite && unprotected.left == 0);
    a.payload = cbor_read_bytes(&r);
    a.signature = cbor_read_bytes(&r);
    if (r.bad)
        return err_set(err, "this is not an attestation document (COSE_Sign1), or it is damaged");
    if (r.n > 0)
        return err_set(err, "%zu bytes follow the end of the attestation document", r.n);
    if (!parse_payload(&a, err))
        return false;
    *ret = a;
    return true;
}

/* ---- verification ----------------------------------------------------------------- */

struct verifier {
    struct attestation a;
    const struct attestation_policy *policy;
    attestation_said *said;
    void *ctx;
    struct err *err;
};

static void say(const struct verifier *v, bool ok, const char *text)
{
    if (v->said != NULL)
        v->said(v->ctx, ok, text);
}

ATTR_PRINTF(2, 3)
static bool passed(const struct verifier *v, const char *fmt, ...)
{
    char text[sizeof v->err->text];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    say(v, true, text);
    return true;
}

static bool failed(const struct verifier *v)
{
    say(v, false, v->err->text);
    return false;
}

static bool check_form(struct verifier *v, struct bytes document)
{
    char when[TIME_TEXT_LEN];
    const struct bytes header = bytes_of(es384_header, sizeof es384_header);
    if (!attestation_parse(&v->a, document, v->err))
        return failed(v);
    if (!bytes_equal(v->a.protected_header, header)) {
        err_set(v->err, "the document is not signed with ES384, the algorithm of AWS; documents of "
                        "QEMU's machine have no signature at all and prove nothing");
        return failed(v);
    }
    time_text((int64_t)(v->a.timestamp_ms / 1000), when);
    return passed(v, "form: COSE_Sign1, ES384, %zu bytes, made at %s", document.n, when);
}

static bool check_signature(struct verifier *v)
{
    const struct attestation_policy *p = v->policy;
    bool is_aws = p->root_der.n == 0;
    struct bytes root =
        is_aws ? bytes_of(attestation_aws_root, ATTESTATION_AWS_ROOT_LEN) : p->root_der;
    int64_t at_s = p->at_document_time ? (int64_t)(v->a.timestamp_ms / 1000) : p->now_s;
    char when[TIME_TEXT_LEN];
    time_text(at_s, when);
    EVP_PKEY *key = attestation_chain_verify(&v->a, root, at_s, v->err);
    if (key == NULL)
        return failed(v);
    passed(v, "chain: %u certificates from %s, valid at %s%s", v->a.cabundle_n + 1,
        is_aws ? "the root of AWS" : "the given root", when,
        p->at_document_time ? " (the document's own time: a replay passes too)" : "");
    bool ok = attestation_signature_verify(&v->a, key);
    EVP_PKEY_free(key);
    if (ok)
        return passed(v, "signature: ES384 by the certificate's key");
    err_set(v->err, "the signature does not belong to this document: it was changed");
    return failed(v);
}

static bool check_debug(struct verifier *v)
{
    const struct attestation *a = &v->a;
    if ((a->pcrs_present & 1) == 0) {
        err_set(v->err, "the document does not have PCR0, which names the image");
        return failed(v);
    }
    if (!pcr_is_zero(a->pcrs[0]))
        return passed(v, "mode: production (PCR0 is not zero)");
    if (v->policy->accept_debug)
        return passed(v, "mode: DEBUG (PCR0 is zero): the parent can read this enclave's console, "
                         "and any image in debug mode looks the same; accepted as you asked");
    err_set(v->err, "PCR0 is zero: the enclave runs in debug mode, in which the document does not "
                    "say which image runs");
    return failed(v);
}

static bool check_pcr(struct verifier *v, unsigned i)
{
    const struct attestation *a = &v->a;
    char want[PCR_HEX_LEN + 1], got[PCR_HEX_LEN + 1];
    hex_lower(bytes_of(v->policy->pcrs[i], PCR_LEN), want);
    hex_lower(bytes_of(a->pcrs[i], PCR_LEN), got);
    if ((a->pcrs_present >> i & 1) == 0)
        err_set(v->err, "PCR%u is not in the document: it was not locked", i);
    else if (strcmp(want, got) != 0)
        err_set(v->err, "PCR%u is %s, expected %s", i, got, want);
    else
        return passed(v, "PCR%u: %s, as expected", i, got);
    return failed(v);
}

static bool check_pcrs(struct verifier *v)
{
    for (unsigned i = 0; i < PCR_COUNT; i++)
        if ((v->policy->pcrs_wanted >> i & 1) != 0 && !check_pcr(v, i))
            return false;
    return true;
}

static bool check_nonce(struct verifier *v)
{
    if (v->policy->nonce.n == 0)
        return true;
    if (bytes_equal(v->a.nonce, v->policy->nonce))
        return passed(v, "nonce: as expected");
    err_set(v->err, v->a.nonce.n == 0 ? "the document has no nonce"
                                      : "the nonce is another one: the document was made for "
                                        "somebody else, or is a replay");
    return failed(v);
}

static bool check_age(struct verifier *v)
{
    if (v->policy->max_age_s == 0)
        return true;
    int64_t age = v->policy->now_s - (int64_t)(v->a.timestamp_ms / 1000);
    if (age < -ATTESTATION_SKEW_S)
        err_set(
            v->err, "the document was made %lld seconds after this clock's time", (long long)-age);
    else if (age > (int64_t)v->policy->max_age_s)
        err_set(v->err, "the document is %lld seconds old, at most %u are allowed", (long long)age,
            v->policy->max_age_s);
    else
        return passed(v, "age: %lld seconds, at most %u", (long long)age, v->policy->max_age_s);
    return failed(v);
}

bool attestation_verify(struct attestation *ret, struct bytes document,
    const struct attestation_policy *policy, attestation_said *said, void *ctx, struct err *err)
{
    struct err unused;
    struct verifier v = {
        .policy = policy, .said = said, .ctx = ctx, .err = err != NULL ? err : &unused};
    bool ok = check_form(&v, document) && check_signature(&v) && check_debug(&v) &&
              check_pcrs(&v) && check_nonce(&v) && check_age(&v);
    if (ok)
        *ret = v.a;
    return ok;
}
