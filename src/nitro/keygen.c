#include "nitro/keygen.h"

#include <stdio.h>
#include <string.h>

static void add_text(struct writer *w, const char *text)
{
    write_text(w, text);
    write_u8(w, 0);
}

void keygen_user_data(struct bytes ciphertext, const struct public_key *key,
    const struct kms_place *place, uint8_t out[KEYGEN_USER_DATA_LEN])
{
    uint8_t text[sizeof *place + 16];
    char port[8];
    struct writer w = writer_of(text, sizeof text);
    snprintf(port, sizeof port, "%u", (unsigned)place->port);
    add_text(&w, place->region);
    add_text(&w, place->host);
    add_text(&w, port);
    add_text(&w, place->key_id);
    add_text(&w, place->root_pem);
    write_bytes(&w, bytes_of(place->context, kms_context_length(place)));
    memcpy(out, KEYGEN_TAG, KEYGEN_TAG_LEN);
    out += KEYGEN_TAG_LEN;
    sha256(ciphertext, out);
    sha256(bytes_of(key->bytes, key->len), out + SHA256_LEN);
    sha256(written(&w), out + (size_t)2 * SHA256_LEN);
}

bool keygen_allows_user_data(struct bytes user_data)
{
    size_t n = strlen(KEYGEN_WORD);
    return user_data.n < n || memcmp(user_data.p, KEYGEN_WORD, n) != 0;
}

/* arn:PARTITION:kms:REGION:ACCOUNT:key/ID or alias/NAME */
bool keygen_check_key_id(const char *key_id, struct err *err)
{
    const char *part = key_id;
    bool ok = true;
    for (int i = 0; i < 5 && ok; i++) {
        size_t n = strcspn(part, ":");
        ok = n > 0 && part[n] == ':' && (i != 0 || strncmp(part, "arn:", 4) == 0) &&
             (i != 2 || strncmp(part, "kms:", 4) == 0);
        part += ok ? n + 1 : 0;
    }
    bool is_key = strncmp(part, "key/", 4) == 0 && part[4] != '\0';
    bool is_alias = strncmp(part, "alias/", 6) == 0 && part[6] != '\0';
    if (ok && (is_key || is_alias) && strlen(key_id) < KMS_KEY_ID_MAX)
        return true;
    return err_set(err,
        "'%.100s' is not the ARN of a KMS key (arn:aws:kms:REGION:ACCOUNT:key/...); a bare id or "
        "alias "
        "would mean the account of whoever's credentials are used",
        key_id);
}
