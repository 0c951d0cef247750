#include "keyring/key_file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "crypto/encode.h"
#include "crypto/secret.h"
#include "keyring/key_json.h"

enum { FILE_MAX = 64 * 1024, PRIVATE_LEN = 32 };

int key_file_open(const char *path, struct err *err)
{
    /* O_NONBLOCK: a fifo in this place must not hold the program up; it is refused a moment later.
     */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        err_errno(err, "cannot open key file %s", path);
    return fd;
}

/* ---- the file ---- */

/* Who can write the file can put another key into it; who can read it has the key. */
static bool check_mode(
    const struct stat *st, const char *path, struct err *warning, struct err *err)
{
    unsigned mode = st->st_mode & 07777;
    if (!S_ISREG(st->st_mode))
        return err_set(err, "not a regular file");
    if ((mode & 022) != 0)
        return err_set(
            err, "others can write to it (mode %04o); repair it with `chmod 600 %s`", mode, path);
    warning->text[0] = '\0';
    if ((mode & 044) != 0)
        err_set(warning,
            "key file %s: others can read it (mode %04o); repair it with `chmod 600 %s`", path,
            mode, path);
    return true;
}

static bool read_text(
    uint8_t **ret, size_t *ret_n, int fd, const char *path, struct err *warning, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_errno(err, "cannot examine it");
    if (!check_mode(&st, path, warning, err))
        return false;
    if (st.st_size <= 0)
        return err_set(err, "it is empty");
    if (st.st_size > FILE_MAX)
        return err_set(err, "%lld bytes are too many for a key", (long long)st.st_size);
    if (lseek(fd, 0, SEEK_SET) != 0)
        return err_errno(err, "cannot read it");
    uint8_t *text = secret_alloc((size_t)st.st_size, err);
    if (text == NULL)
        return false;
    if (!fd_read_all(fd, text, (size_t)st.st_size, ret_n, err)) {
        secret_free(text);
        return false;
    }
    *ret = text;
    return true;
}

/* ---- its forms ---- */

static bool has_public(const struct signing_key *key, struct bytes public)
{
    const struct public_key *own = signing_key_public(key);
    return bytes_equal(bytes_of(own->bytes, own->len), public);
}

/* CometBFT and Go write an Ed25519 private key as seed and public key, one behind the other. */
static bool is_seed_and_public(struct bytes raw)
{
    struct signing_key *key = NULL;
    if (!signing_key_create(&key, KEY_ED25519, PRIVATE_SEED, bytes_of(raw.p, PRIVATE_LEN), NULL))
        return false;
    bool is = has_public(key, bytes_of(raw.p + PRIVATE_LEN, PRIVATE_LEN));
    signing_key_free(key);
    return is;
}

static bool take_base64(struct key_file *k, struct bytes text, struct err *err)
{
    if (memchr(text.p, '{', text.n) != NULL)
        return err_set(err, "this is JSON, not base64: use the format `json`");
    if (base64_decode(text, k->private, sizeof k->private, &k->n))
        return true;
    if (text.n == PRIVATE_LEN)
        return err_set(err, "this is not base64; 32 bytes of any kind are the format `raw`");
    return err_set(err, "this is not base64 of a key");
}

static bool load_base64(struct key_file *k, struct bytes text, struct err *err)
{
    k->form = PRIVATE_SEED;
    if (!take_base64(k, text, err))
        return false;
    if (k->n == PRIVATE_LEN)
        return true;
    if (k->type == KEY_ED25519 && k->n == 2 * PRIVATE_LEN) {
        k->n = PRIVATE_LEN;
        return is_seed_and_public(bytes_of(k->private, 2 * PRIVATE_LEN)) ||
               err_set(err, "64 bytes that are not seed and public key; if this is an expanded key "
                            "(scalar and nonce prefix), say so with key_format = \"expanded64\"");
    }
    if (k->type == KEY_ED25519 && k->n == 3 * PRIVATE_LEN)
        return err_set(err,
            "96 bytes are no seed; if this is a YubiHSM export (scalar, nonce prefix, "
            "public key), say so with key_format = \"expanded96\"");
    return err_set(err, "%zu bytes; %s", k->n,
        k->type == KEY_ED25519 ? "an Ed25519 key has 32, or 64 with its public key"
                               : "a secp256k1 key has 32");
}

static bool load_raw(struct key_file *k, struct bytes text, struct err *err)
{
    if (text.n != PRIVATE_LEN)
        return err_set(err, "%zu bytes; a raw key file has exactly 32, without a line end", text.n);
    k->form = PRIVATE_SEED;
    k->n = PRIVATE_LEN;
    memcpy(k->private, text.p, PRIVATE_LEN);
    return true;
}

/* The lengths are checked by signing_key_create. Seed and public key would now and then pass for an
 * expanded key, and the signatures would belong to a public key that nobody knows. */
static bool load_expanded(
    struct key_file *k, enum private_form form, struct bytes text, struct err *err)
{
    k->form = form;
    if (!take_base64(k, text, err))
        return false;
    if (form == PRIVATE_EXPANDED64 && k->n == 2 * PRIVATE_LEN &&
        is_seed_and_public(bytes_of(k->private, k->n)))
        return err_set(
            err, "this is seed and public key, no expanded key: use the format `base64`");
    return true;
}

static bool compare_json(const struct key_json *j, const struct signing_key *key, struct err *err)
{
    uint8_t address[ADDRESS_LEN];
    public_key_address(signing_key_public(key), address);
    if (j->type == KEY_ED25519 && !has_public(key, bytes_of(j->private + PRIVATE_LEN, PRIVATE_LEN)))
        return err_set(err, "the second half of priv_key is not the public key of its first half");
    if (!public_key_equal(&j->public, signing_key_public(key)))
        return err_set(err, "pub_key does not belong to priv_key");
    return bytes_equal(bytes_of(j->address, ADDRESS_LEN), bytes_of(address, ADDRESS_LEN)) ||
           err_set(err, "address does not belong to priv_key");
}

static bool check_json(struct key_file *k, const struct key_json *j, struct err *err)
{
    struct signing_key *key = NULL;
    size_t want = j->type == KEY_ED25519 ? 2 * PRIVATE_LEN : PRIVATE_LEN;
    if (k->type != 0 && k->type != j->type)
        return err_set(err, "it holds a key of type %s, where %s is expected",
            key_type_name(j->type), key_type_name(k->type));
    if (j->private_n != want)
        return err_set(err, "priv_key has %zu bytes, not %zu", j->private_n, want);
    k->type = j->type;
    k->form = PRIVATE_SEED;
    k->n = PRIVATE_LEN;
    memcpy(k->private, j->private, PRIVATE_LEN);
    if (!signing_key_create(&key, k->type, k->form, bytes_of(k->private, k->n), err))
        return false;
    bool ok = compare_json(j, key, err);
    signing_key_free(key);
    return ok;
}

static bool load_json(struct key_file *k, struct bytes text, struct err *err)
{
    struct key_json *j = secret_alloc(sizeof *j, err);
    if (j == NULL)
        return false;
    bool ok = key_json_parse(j, text, err) && check_json(k, j, err);
    secret_free(j);
    return ok;
}

/* What a person would say who looks at the file. */
static enum key_file_format format_of(struct bytes text)
{
    if (text.n == PRIVATE_LEN)
        return KEY_FILE_RAW;
    return memchr(text.p, '{', text.n) != NULL ? KEY_FILE_JSON : KEY_FILE_BASE64;
}

static bool load(struct key_file *k, enum key_type type, enum key_file_format format,
    struct bytes text, struct err *err)
{
    if (format == 0)
        format = format_of(text);
    k->type = type == 0 && format != KEY_FILE_JSON ? KEY_ED25519 : type;
    switch (format) {
    case KEY_FILE_BASE64:
        return load_base64(k, text, err);
    case KEY_FILE_JSON:
        return load_json(k, text, err);
    case KEY_FILE_RAW:
        return load_raw(k, text, err);
    case KEY_FILE_EXPANDED64:
        return load_expanded(k, PRIVATE_EXPANDED64, text, err);
    case KEY_FILE_EXPANDED96:
        return load_expanded(k, PRIVATE_EXPANDED96, text, err);
    }
    return err_set(err, "unknown key format %d", (int)format);
}

bool key_file_parse(struct key_file **ret, struct signing_key **key, struct bytes text,
    enum key_type type, enum key_file_format format, struct err *err)
{
    struct key_file *k = secret_alloc(sizeof *k, err);
    bool ok = k != NULL && load(k, type, format, text, err) &&
              signing_key_create(key, k->type, k->form, bytes_of(k->private, k->n), err);
    if (!ok) {
        secret_free(k);
        return false;
    }
    *ret = k;
    return true;
}

bool key_file_read(struct key_file **ret, struct signing_key **key, int fd, const char *path,
    enum key_type type, enum key_file_format format, struct err *warning, struct err *err)
{
    uint8_t *text = NULL;
    size_t n = 0;
    bool ok = read_text(&text, &n, fd, path, warning, err) &&
              key_file_parse(ret, key, bytes_of(text, n), type, format, err);
    secret_free(text);
    return ok || err_prefix(err, "key file %s", path);
}

bool key_file_write(
    const char *path, const uint8_t private[PRIVATE_LEN], bool replace, struct err *err)
{
    enum { TEXT_LEN = 44 };
    char *text = secret_alloc(TEXT_LEN + 1, err);
    if (text == NULL)
        return false;
    bool ok = base64_encode(bytes_of(private, PRIVATE_LEN), text, TEXT_LEN + 1) &&
              fd_create_durable(path, text, TEXT_LEN, replace, err);
    secret_free(text);
    return ok;
}
