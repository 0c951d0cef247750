#include "nitro/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/hash.h"
#include "nitro/pcr.h"

/* ---- one value -------------------------------------------------------------------- */

/* Quoted, so that no value can look like the end of another: \xx for what is not plain. */
static void put_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (const char *p = text; *p != '\0'; p++) {
        if (*p >= ' ' && *p <= '~' && *p != '"' && *p != '\\')
            fputc(*p, out);
        else
            fprintf(out, "\\%02x", (unsigned)(unsigned char)*p);
    }
    fputc('"', out);
}

static void put_hex(FILE *out, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fprintf(out, "%02x", p[i]);
}

static const char *yes_no(bool yes)
{
    return yes ? "yes" : "no";
}

static const char *type_name(uint32_t type)
{
    switch ((enum key_type)type) {
    case KEY_ED25519:
        return "ed25519";
    case KEY_SECP256K1:
        return "secp256k1";
    }
    return "unknown";
}

static const char *format_name(uint32_t format)
{
    switch ((enum key_file_format)format) {
    case KEY_FILE_BASE64:
        return "base64";
    case KEY_FILE_JSON:
        return "json";
    case KEY_FILE_RAW:
        return "raw";
    case KEY_FILE_EXPANDED64:
        return "expanded64";
    case KEY_FILE_EXPANDED96:
        return "expanded96";
    }
    return "any"; /* not said: recognised */
}

static const char *kind_name(uint32_t kind)
{
    switch ((enum link_kind)kind) {
    case LINK_UNIX:
        return "unix";
    case LINK_TCP:
        return "tcp";
    case LINK_NOISE:
        return "noise";
    case LINK_VSOCK:
        return "vsock";
    }
    return "unknown";
}

/* ---- a chain ----------------------------------------------------------------------- */

/* Pairs come in the order of their names: the configuration sorts them. */
static void put_context(FILE *out, const struct kms_place *kms)
{
    const char *p = kms->context;
    for (uint32_t i = 0; i < kms->context_n; i++) {
        const char *value = p + strlen(p) + 1;
        fputs("  kms_context ", out);
        put_text(out, p);
        fputc(' ', out);
        put_text(out, value);
        fputc('\n', out);
        p = value + strlen(value) + 1;
    }
}

static void put_kms(FILE *out, const struct kms_place *kms)
{
    fputs("  kms_region ", out);
    put_text(out, kms->region);
    fputs("\n  kms_host ", out);
    put_text(out, kms->host);
    fprintf(out, "\n  kms_port %u\n  kms_key_id ", kms->port);
    put_text(out, kms->key_id);
    fputc('\n', out);
    put_context(out, kms);
    if (kms->root_pem[0] == '\0') {
        fputs("  kms_root amazon\n", out);
        return;
    }
    uint8_t hash[SHA256_LEN];
    sha256(bytes_of_text(kms->root_pem), hash);
    fputs("  kms_root ", out);
    put_hex(out, hash, sizeof hash);
    fputc('\n', out);
}

static void put_chain(FILE *out, const struct config_chain *c)
{
    fputs("chain ", out);
    put_text(out, c->id);
    fprintf(out, "\n  key %s %s %s\n  public_key ", type_name(c->key_type),
        format_name(c->key_format), c->sealed_n > 0 ? "kms" : "file");
    if (c->expected_key.type == 0)
        fputs("any", out);
    else
        put_hex(out, c->expected_key.bytes, c->expected_key.len);
    fputs("\n  state ", out);
    if (c->state_port != 0)
        fprintf(out, "parent %u", c->state_port);
    else
        fputs("file", out);
    fprintf(out,
        "\n  min_height %lld\n  max_height_jump %lld\n  one_block_per_round %s\n"
        "  sign_raw_bytes %s\n",
        (long long)c->min_height, (long long)c->max_height_jump, yes_no(c->one_block_per_round),
        yes_no(c->sign_raw_bytes));
    if (c->sealed_n > 0)
        put_kms(out, &c->kms);
}

static int compare_chains(const void *a, const void *b)
{
    const struct config_chain *const *x = a, *const *y = b;
    return strcmp((*x)->id, (*y)->id);
}

static bool put_chains(FILE *out, const struct config *c)
{
    const struct config_chain **sorted = calloc(c->chains_n + 1, sizeof *sorted);
    if (sorted == NULL)
        return false;
    for (size_t i = 0; i < c->chains_n; i++)
        sorted[i] = &c->chains[i];
    qsort(sorted, c->chains_n, sizeof *sorted, compare_chains);
    for (size_t i = 0; i < c->chains_n; i++)
        put_chain(out, sorted[i]);
    free(sorted);
    return true;
}

/* ---- a validator -------------------------------------------------------------------- */

static void put_peer(FILE *out, const struct link_address *a)
{
    if (a->kind == LINK_NOISE)
        put_hex(out, a->noise_peer, sizeof a->noise_peer);
    else if (a->has_peer_id)
        put_hex(out, a->peer_id, sizeof a->peer_id);
    else
        fputs("any", out);
}

static char *validator_line(const struct config_validator *v)
{
    char *line = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&line, &n);
    if (out == NULL)
        return NULL;
    fputs("validator ", out);
    put_text(out, v->chain_id);
    fprintf(out, " %s %s peer ", kind_name(v->address.kind),
        link_address_needs_identity(&v->address) ? "authenticated" : "plain");
    put_peer(out, &v->address);
    fprintf(out, " max_height %lld\n", (long long)v->max_height);
    if (fclose(out) == 0)
        return line;
    free(line);
    return NULL;
}

static int compare_lines(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static bool put_validators(FILE *out, const struct config *c)
{
    bool ok = true;
    char **lines = calloc(c->validators_n + 1, sizeof *lines);
    if (lines == NULL)
        return false;
    for (size_t i = 0; i < c->validators_n && ok; i++) {
        lines[i] = validator_line(&c->validators[i]);
        ok = lines[i] != NULL;
    }
    if (ok)
        qsort(lines, c->validators_n, sizeof *lines, compare_lines);
    for (size_t i = 0; i < c->validators_n; i++) {
        if (ok)
            fputs(lines[i], out);
        free(lines[i]);
    }
    free(lines);
    return ok;
}

/* ---- the whole ---------------------------------------------------------------------- */

static bool write_all(const struct config *c, char **ret_text, size_t *ret_n)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_n);
    if (out == NULL)
        return false;
    fputs("tmkms measured config 1\n", out);
    bool ok = put_chains(out, c) && put_validators(out, c) && !ferror(out);
    if (fclose(out) != 0 || !ok) {
        free(text);
        return false;
    }
    *ret_text = text;
    return true;
}

bool measure_config(const struct config *c, uint8_t hash[PCR_LEN], char **ret_text, struct err *err)
{
    char *text = NULL;
    size_t n = 0;
    for (size_t i = 0; i < c->chains_n; i++)
        if (c->chains[i].kms_root_is_file)
            return err_set(err,
                "chain %s: kms_root_file has not been read, so the configuration "
                "cannot be measured",
                c->chains[i].id);
    if (!write_all(c, &text, &n))
        return err_set(err, "out of memory");
    sha384(bytes_of(text, n), hash);
    if (ret_text != NULL)
        *ret_text = text;
    else
        free(text);
    return true;
}
