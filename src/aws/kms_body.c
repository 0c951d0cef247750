#include "aws/kms_body.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "crypto/encode.h"
#include "crypto/secret.h"

const char *kms_target(enum kms_op op)
{
    switch (op) {
    case KMS_DECRYPT:
        return "TrentService.Decrypt";
    case KMS_GENERATE_DATA_KEY:
        return "TrentService.GenerateDataKey";
    case KMS_ENCRYPT:
        return "TrentService.Encrypt";
    }
    return "";
}

/* ---- the request: written by hand, since a JSON library would leave copies of a plaintext in its heap ------ */

static void write_string(struct writer *w, const char *text)
{
    write_u8(w, '"');
    for (const char *c = text; *c != '\0'; c++) {
        char escaped[8];
        if (*c == '"' || *c == '\\')
            snprintf(escaped, sizeof escaped, "\\%c", *c);
        else if ((unsigned char)*c < 0x20)
            snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)*c);
        else
            snprintf(escaped, sizeof escaped, "%c", *c);
        write_text(w, escaped);
    }
    write_u8(w, '"');
}

static void write_name(struct writer *w, const char *name)
{
    if (w->n > 0 && !w->bad && w->buf[w->n - 1] != '{')
        write_u8(w, ',');
    write_string(w, name);
    write_u8(w, ':');
}

static void write_member(struct writer *w, const char *name, const char *value)
{
    write_name(w, name);
    write_string(w, value);
}

static void write_blob(struct writer *w, const char *name, struct bytes blob)
{
    write_name(w, name);
    write_u8(w, '"');
    if (!w->bad && base64_encode(blob, (char *)w->buf + w->n, w->cap - w->n))
        w->n += strlen((char *)w->buf + w->n);
    else
        w->bad = true;
    write_u8(w, '"');
}

/* The pairs stand one behind the other, each name and value ended by a zero. */
static void write_context(struct writer *w, const struct kms_place *place)
{
    struct reader r = reader_of(bytes_of(place->context, sizeof place->context));
    write_name(w, "EncryptionContext");
    write_u8(w, '{');
    for (uint32_t i = 0; i < place->context_n && !w->bad; i++) {
        const char *parts[2];
        for (size_t part = 0; part < 2; part++) {
            const char *start = (const char *)r.p;
            size_t n = strnlen(start, r.n);
            w->bad = w->bad || n == r.n;
            read_bytes(&r, n + 1);
            parts[part] = w->bad ? "" : start;
        }
        write_member(w, parts[0], parts[1]);
    }
    write_u8(w, '}');
}

static void write_recipient(struct writer *w, struct bytes document)
{
    write_name(w, "Recipient");
    write_u8(w, '{');
    write_blob(w, "AttestationDocument", document);
    write_member(w, "KeyEncryptionAlgorithm", "RSAES_OAEP_SHA_256");
    write_u8(w, '}');
}

static void write_operation(struct writer *w, const struct kms_request *req)
{
    struct bytes blob = bytes_of(req->blob, req->blob_n);
    switch ((enum kms_op)req->op) {
    case KMS_DECRYPT:
        write_blob(w, "CiphertextBlob", blob);
        write_member(w, "EncryptionAlgorithm", "SYMMETRIC_DEFAULT");
        return;
    case KMS_GENERATE_DATA_KEY:
        write_name(w, "NumberOfBytes");
        write_text(w, "32");
        return;
    case KMS_ENCRYPT:
        write_blob(w, "Plaintext", blob);
        write_member(w, "EncryptionAlgorithm", "SYMMETRIC_DEFAULT");
        return;
    }
    w->bad = true;
}

bool kms_body_write(const struct kms_request *req, struct writer *w)
{
    bool wants_recipient = req->op == KMS_DECRYPT || req->op == KMS_GENERATE_DATA_KEY;
    bool wants_blob = req->op != KMS_GENERATE_DATA_KEY;
    if (req->blob_n > sizeof req->blob || req->document_n > sizeof req->document ||
        (req->blob_n > 0) != wants_blob || (req->document_n > 0) != wants_recipient)
        return false;
    write_u8(w, '{');
    write_operation(w, req);
    if (req->place.key_id[0] != '\0')
        write_member(w, "KeyId", req->place.key_id);
    if (req->place.context_n > 0)
        write_context(w, &req->place);
    if (wants_recipient)
        write_recipient(w, bytes_of(req->document, req->document_n));
    write_u8(w, '}');
    return !w->bad;
}

/* ---- the answer -------------------------------------------------------------------- */

static const struct remedy {
    const char *type;
    enum kms_verdict verdict;
    const char *text; /* what the operator does */
} remedies[] = {
    {"AccessDeniedException", KMS_NO,
        "the key policy or the role does not allow this: compare PCR values, role, instance and "
        "encryption context "
        "with the policy (`tmkms nitro kms-policy` prints the one that fits); in debug mode every "
        "PCR is zero"},
    {"InvalidCiphertextException", KMS_NO,
        "the ciphertext is damaged, or was made with another key or another encryption context: "
        "compare "
        "encrypted_key_b64, kms_key_id and encryption_context with what it was sealed with"},
    {"IncorrectKeyException", KMS_NO,
        "the ciphertext was made with another key than the configured kms_key_id"},
    {"NotFoundException", KMS_NO,
        "there is no such key in this account and region: check kms_key_id and aws_region"},
    {"DisabledException", KMS_NO,
        "the key is disabled: `aws kms enable-key --key-id ...` enables it"},
    {"KMSInvalidStateException", KMS_NO,
        "the key is not usable now: `aws kms describe-key --key-id ...` shows its state; a planned "
        "deletion is "
        "undone with `aws kms cancel-key-deletion`"},
    {"InvalidKeyUsageException", KMS_NO,
        "the key is not a symmetric key for encryption and decryption: make one with `aws kms "
        "create-key`"},
    {"ExpiredTokenException", KMS_NO,
        "the AWS credentials have expired: push the configuration again with fresh ones "
        "(`tmkms nitro push-config`)"},
    {"UnrecognizedClientException", KMS_NO,
        "AWS does not know these credentials: check the access key id, and that the session token "
        "belongs to it"},
    {"InvalidClientTokenId", KMS_NO,
        "AWS does not know these credentials: check the access key id, and that the session token "
        "belongs to it"},
    {"InvalidSignatureException", KMS_NO,
        "the secret access key is wrong, or the clock is more than five minutes off"},
    {"MissingAuthenticationTokenException", KMS_NO, "the AWS credentials are incomplete"},
    {"IncompleteSignatureException", KMS_NO, "the AWS credentials are malformed"},
    {"ValidationException", KMS_NO,
        "KMS does not take the request: check kms_key_id and encryption_context; an attestation "
        "document is only "
        "taken from an enclave that runs on EC2, within five minutes"},
    {"InvalidGrantTokenException", KMS_NO, "a grant of the key is not valid"},
    {"UnknownOperationException", KMS_NO,
        "this is not KMS: check kms_endpoint and where the proxy leads"},
    {"ThrottlingException", KMS_AGAIN,
        "the account's request quota for KMS is used up: try again later"},
    {"RequestLimitExceeded", KMS_AGAIN,
        "the account's request quota for KMS is used up: try again later"},
    {"LimitExceededException", KMS_AGAIN, "a quota of KMS is used up: try again later"},
    {"KMSInternalException", KMS_AGAIN, "KMS is in trouble: try again later"},
    {"InternalFailure", KMS_AGAIN, "KMS is in trouble: try again later"},
    {"DependencyTimeoutException", KMS_AGAIN, "KMS is in trouble: try again later"},
    {"KeyUnavailableException", KMS_AGAIN, "KMS cannot reach the key just now: try again later"},
    {"ServiceUnavailable", KMS_AGAIN, "KMS is in trouble: try again later"},
    {"ServiceUnavailableException", KMS_AGAIN, "KMS is in trouble: try again later"},
};

static const struct remedy *remedy_of(const char *type)
{
    for (size_t i = 0; i < sizeof remedies / sizeof remedies[0]; i++)
        if (strcmp(remedies[i].type, type) == 0)
            return &remedies[i];
    return NULL;
}

/* Text from outside: printable characters only, and not too many. */
static void clean_copy(char *out, size_t cap, const char *text)
{
    size_t n = 0;
    for (; *text != '\0' && n + 1 < cap; text++)
        out[n++] = *text >= ' ' && *text <= '~' ? *text : '?';
    out[n] = '\0';
}

/* Without a Recipient there are no PCRs to compare. */
static const struct remedy encrypt_denied = {"AccessDeniedException", KMS_NO,
    "the caller needs kms:Encrypt: from its role, or from a statement of the key policy"};

static enum kms_verdict read_error(
    const struct kms_request *req, int status, const json_t *root, struct kms_answer *ret)
{
    const char *type = json_string_value(json_object_get(root, "__type"));
    const char *text = json_string_value(json_object_get(root, "message"));
    if (text == NULL)
        text = json_string_value(json_object_get(root, "Message"));
    enum kms_verdict verdict = status >= 500 || status == 429 ? KMS_AGAIN : KMS_NO;
    const char *hash = type != NULL ? strrchr(type, '#') : NULL; /* com.amazonaws.kms#NotFoundException */
    const char *bare = hash != NULL ? hash + 1 : type;
    if (bare == NULL || bare[0] == '\0') {
        snprintf(ret->error, sizeof ret->error, "KMS answers with HTTP status %d and no reason%s",
            status, verdict == KMS_AGAIN ? "" : ": check kms_endpoint and where the proxy leads");
        return verdict;
    }
    char name[96], words[512];
    clean_copy(name, sizeof name, bare);
    clean_copy(words, sizeof words, text != NULL ? text : "");
    const struct remedy *remedy = remedy_of(name);
    if (req->op == KMS_ENCRYPT && strcmp(name, encrypt_denied.type) == 0)
        remedy = &encrypt_denied;
    snprintf(ret->error, sizeof ret->error, "%s%s%s%s%s%s", name, words[0] != '\0' ? ": " : "",
        words, remedy != NULL ? " (" : "", remedy != NULL ? remedy->text : "",
        remedy != NULL ? ")" : "");
    return remedy != NULL && verdict == KMS_NO ? remedy->verdict : verdict;
}

static enum kms_verdict refuse(struct kms_answer *ret, const char *why)
{
    snprintf(ret->error, sizeof ret->error, "%s", why);
    return KMS_NO;
}

static bool read_blob(const json_t *root, const char *name, uint8_t *out, uint32_t *ret_n)
{
    const json_t *value = json_object_get(root, name);
    size_t n = 0;
    if (!json_is_string(value) ||
        !base64_decode(
            bytes_of(json_string_value(value), json_string_length(value)), out, KMS_BLOB_MAX, &n) ||
        n == 0)
        return false;
    *ret_n = (uint32_t)n;
    return true;
}

static enum kms_verdict read_success(
    const struct kms_request *req, const json_t *root, struct kms_answer *ret)
{
    bool wants_envelope = req->op != KMS_ENCRYPT;
    bool wants_ciphertext = req->op != KMS_DECRYPT;
    const json_t *plaintext = json_object_get(root, "Plaintext");
    if (plaintext != NULL && !json_is_null(plaintext))
        return refuse(ret,
            "KMS answers with the plaintext itself instead of an envelope for this enclave: "
            "whatever answers is not "
            "AWS KMS, or does not know attestation; the key was seen outside and must not be used");
    if (wants_envelope &&
        !read_blob(root, "CiphertextForRecipient", ret->envelope, &ret->envelope_n))
        return refuse(
            ret, "KMS answers without an envelope for this enclave (CiphertextForRecipient)");
    if (wants_ciphertext && !read_blob(root, "CiphertextBlob", ret->ciphertext, &ret->ciphertext_n))
        return refuse(ret, "KMS answers without a ciphertext (CiphertextBlob)");
    ret->ok = 1;
    return KMS_OK;
}

enum kms_verdict kms_answer_read(
    const struct kms_request *req, int status, struct bytes body, struct kms_answer *ret)
{
    memset(ret, 0, sizeof *ret);
    json_t *root = json_loadb((const char *)body.p, body.n, JSON_REJECT_DUPLICATES, NULL);
    enum kms_verdict verdict = KMS_NO;
    if (status != 200)
        verdict = read_error(req, status, root, ret);
    else if (!json_is_object(root))
        verdict =
            refuse(ret, "KMS answers with something that is not JSON: check where the proxy leads");
    else
        verdict = read_success(req, root, ret);
    json_decref(root);
    if (verdict != KMS_OK) {
        char error[sizeof ret->error];
        memcpy(error, ret->error, sizeof error);
        memset(ret, 0, sizeof *ret);
        memcpy(ret->error, error, sizeof error);
    }
    return verdict;
}
