/* attested: asks KMS as a signer in an enclave does (software NSM, RSA key, document, call, envelope) and prints
 * what the envelope held. For tests/kms/test_front.py; reads one JSON object from standard input:
 *
 *   {"host","port","region","root" (PEM),"key_id","op": "decrypt"|"keygen","ciphertext" (base64),"context": {..},
 *    "credentials": {"aws_key_id",..}, "pcr16" (hex to extend by, or ""), "document" (base64: replaces our own)}
 *
 * Prints {"ok":true,"plaintext":base64,"ciphertext":base64,"document":base64} or {"ok":false,"error":text}. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aws/aws.h"
#include "aws/cms.h"
#include "aws/dial.h"
#include "aws/kms.h"
#include "base/clock.h"
#include "crypto/encode.h"
#include "crypto/key.h"
#include "crypto/secret.h"
#include "nitro/nsm.h"

enum { CALL_US = 20 * 1000000, PLAIN_MAX = 4096, PCR_OF_CONFIG = 16 };

static struct kms_request request;
static struct kms_answer answer;
static struct aws_credentials credentials;
static struct err err;

static int fail(const char *why)
{
    json_t *out = json_pack("{s:b, s:s}", "ok", 0, "error", why);
    json_dumpf(out, stdout, 0);
    json_decref(out);
    return EXIT_SUCCESS;
}

static const char *text_of(const json_t *o, const char *name)
{
    const char *text = json_string_value(json_object_get(o, name));
    return text != NULL ? text : "";
}

static void read_context(const json_t *context)
{
    const char *name;
    json_t *value;
    struct writer w = writer_of(request.place.context, sizeof request.place.context);
    void *members = json_object_iter(json_object_get(context, "context"));
    for (; members != NULL;
         members = json_object_iter_next(json_object_get(context, "context"), members)) {
        name = json_object_iter_key(members);
        value = json_object_iter_value(members);
        write_bytes(&w, bytes_of(name, strlen(name) + 1));
        write_bytes(&w, bytes_of(json_string_value(value), json_string_length(value) + 1));
        request.place.context_n++;
    }
}

#define COPY(to, from) snprintf(to, sizeof(to), "%s", from)

static bool read_question(const json_t *q)
{
    size_t n = 0;
    const json_t *c = json_object_get(q, "credentials");
    const char *blob = text_of(q, "ciphertext");
    COPY(credentials.key_id, text_of(c, "aws_key_id"));
    COPY(credentials.secret_key, text_of(c, "aws_secret_key"));
    COPY(credentials.session_token, text_of(c, "aws_session_token"));
    COPY(request.place.host, text_of(q, "host"));
    COPY(request.place.region, text_of(q, "region"));
    COPY(request.place.key_id, text_of(q, "key_id"));
    COPY(request.place.root_pem, text_of(q, "root"));
    request.place.port = (uint16_t)json_integer_value(json_object_get(q, "port"));
    read_context(q);
    request.op = strcmp(text_of(q, "op"), "keygen") == 0 ? KMS_GENERATE_DATA_KEY : KMS_DECRYPT;
    bool ok = base64_decode(bytes_of_text(blob), request.blob, sizeof request.blob, &n);
    request.blob_n = (uint32_t)n;
    return ok;
}

/* The document for the recipient's key, after the config's register was extended. */
static bool attest(const json_t *q, const struct recipient *r)
{
    static uint8_t buf[NSM_RESPONSE_MAX], pcr[PCR_LEN], data[PCR_LEN];
    struct bytes document, none = {0};
    const char *hex = text_of(q, "pcr16"), *given = text_of(q, "document");
    int nsm = nsm_open(&err);
    if (nsm < 0)
        return false;
    bool ok = hex[0] == '\0' ||
              (hex_decode(hex, strlen(hex), data, PCR_LEN) &&
                  nsm_extend_pcr(nsm, PCR_OF_CONFIG, bytes_of(data, PCR_LEN), pcr, &err) &&
                  nsm_lock_pcr(nsm, PCR_OF_CONFIG, &err));
    ok = ok && nsm_attest(nsm, none, none, recipient_public_der(r), buf, &document, &err);
    close(nsm);
    size_t n = ok ? document.n : 0;
    if (ok && given[0] != '\0')
        ok = base64_decode(bytes_of_text(given), request.document, sizeof request.document, &n);
    else if (ok)
        memcpy(request.document, document.p, document.n);
    request.document_n = (uint32_t)n;
    return ok;
}

static int dial(void *ctx, uint64_t deadline_us, struct err *e)
{
    (void)ctx;
    return dial_tcp("127.0.0.1", request.place.port, deadline_us, e);
}

static void add_blob(json_t *out, const char *name, const uint8_t *p, size_t n)
{
    static char text[32768];
    if (base64_encode(bytes_of(p, n), text, sizeof text))
        json_object_set_new(out, name, json_string(text));
}

static int ask(const json_t *q)
{
    struct recipient *r = NULL;
    size_t n = 0;
    uint8_t *plain = secret_alloc(PLAIN_MAX, &err);
    if (plain == NULL || !recipient_new(&r, &err) || !attest(q, r))
        return fail(err.text);
    if (!kms_call(&request, &credentials, (int64_t)(clock_realtime_us() / 1000000U), dial, NULL,
            clock_monotonic_us() + CALL_US, &answer))
        return fail(answer.error);
    if (!recipient_open(
            r, bytes_of(answer.envelope, answer.envelope_n), plain, PLAIN_MAX, &n, &err))
        return fail(err.text);
    json_t *out = json_pack("{s:b}", "ok", 1);
    add_blob(out, "plaintext", plain, n);
    add_blob(out, "ciphertext", answer.ciphertext, answer.ciphertext_n);
    add_blob(out, "document", request.document, request.document_n);
    json_dumpf(out, stdout, 0);
    json_decref(out);
    recipient_free(r);
    secret_free(plain);
    return EXIT_SUCCESS;
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    json_t *q = json_loadf(stdin, 0, NULL);
    if (q == NULL || !crypto_start(&err) || !aws_start(&err) || !read_question(q))
        return EXIT_FAILURE;
    int code = ask(q);
    json_decref(q);
    return code;
}
