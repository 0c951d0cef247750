#include "nitro/push.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "crypto/secret.h"

static const uint8_t magic[8] = {'T', 'M', 'K', 'M', 'S', 'v', '1', '\n'};
static_assert(PUSH_HEADER_LEN == sizeof magic + 4, "the header is magic and length");

/* ---- parsing -------------------------------------------------------------------- */

/* Counts brackets outside strings. Nothing is said here about anything else that may be wrong. */
static bool is_bounded(struct bytes text, struct err *err)
{
    unsigned depth = 0, nodes = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (in_string)
            continue;
        else if (c == '{' || c == '[')
            depth++, nodes++;
        else if ((c == '}' || c == ']') && depth > 0)
            depth--;
        if (depth > PUSH_DEPTH_MAX)
            return err_set(err, "nested deeper than %d", PUSH_DEPTH_MAX);
        if (nodes > PUSH_NODES_MAX)
            return err_set(err, "more than %d objects and lists", PUSH_NODES_MAX);
    }
    return true;
}

json_t *push_parse(struct bytes text, struct err *err)
{
    json_error_t why;
    if (!is_bounded(text, err))
        return NULL;
    json_t *message =
        json_loadb(text.n > 0 ? (const char *)text.p : "", text.n, JSON_REJECT_DUPLICATES, &why);
    if (json_is_object(message))
        return message;
    /* jansson's own words would quote the text, which may hold a secret */
    if (message != NULL)
        err_set(err, "not a JSON object");
    else
        err_set(err, "no JSON: wrong at byte %d", why.position);
    json_decref(message);
    return NULL;
}

/* ---- one message ---------------------------------------------------------------- */

static bool read_part(int fd, void *buf, size_t n, uint64_t deadline_us, struct err *err)
{
    if (fd_read_before(fd, buf, n, deadline_us))
        return true;
    if (errno == ETIMEDOUT)
        return err_set(err, "nothing more came before the deadline");
    return errno == 0 ? err_set(err, "cut short") : err_errno(err, "cannot read");
}

void push_header_write(uint8_t out[PUSH_HEADER_LEN], uint32_t n)
{
    memcpy(out, magic, sizeof magic);
    for (int i = 0; i < 4; i++)
        out[sizeof magic + (size_t)i] = (uint8_t)(n >> (24 - 8 * i));
}

bool push_header_read(uint32_t *ret_n, const uint8_t in[PUSH_HEADER_LEN], struct err *err)
{
    const uint8_t *l = in + sizeof magic;
    uint32_t n = (uint32_t)l[0] << 24 | (uint32_t)l[1] << 16 | (uint32_t)l[2] << 8 | l[3];
    if (memcmp(in, magic, sizeof magic) != 0)
        return err_set(err, "it does not begin as a message of this tmkms does; is the other end a "
                            "tmkms of the same "
                            "version?");
    if (n > PUSH_MAX)
        return err_set(err, "%u bytes announced, at most %d are taken", (unsigned)n, PUSH_MAX);
    *ret_n = n;
    return true;
}

json_t *push_read(int fd, uint64_t deadline_us, struct err *err)
{
    uint8_t header[PUSH_HEADER_LEN];
    uint32_t n = 0;
    if (!read_part(fd, header, sizeof header, deadline_us, err) ||
        !push_header_read(&n, header, err))
        return NULL;
    uint8_t *text = malloc(n + 1);
    if (text == NULL) {
        err_set(err, "no memory");
        return NULL;
    }
    json_t *message = NULL;
    if (read_part(fd, text, n, deadline_us, err))
        message = push_parse(bytes_of(text, n), err);
    secret_wipe(text, n);
    free(text);
    return message;
}

static bool write_text_before(
    int fd, const char *text, size_t n, uint64_t deadline_us, struct err *err)
{
    uint8_t header[PUSH_HEADER_LEN];
    if (n > PUSH_MAX)
        return err_set(err, "%zu bytes are too many, at most %d may be sent", n, PUSH_MAX);
    push_header_write(header, (uint32_t)n);
    if (fd_write_before(fd, header, sizeof header, deadline_us) &&
        fd_write_before(fd, text, n, deadline_us))
        return true;
    return errno == ETIMEDOUT ? err_set(err, "the other end did not take it before the deadline")
                              : err_errno(err, "cannot send");
}

bool push_write(int fd, const json_t *message, uint64_t deadline_us, struct err *err)
{
    char *text = json_dumps(message, JSON_COMPACT);
    if (text == NULL)
        return err_set(err, "no memory");
    size_t n = strlen(text);
    bool ok = write_text_before(fd, text, n, deadline_us, err);
    secret_wipe(text, n);
    free(text);
    return ok;
}

/* ---- the host's side ------------------------------------------------------------ */

static void clean(char *text)
{
    for (char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
}

static const char *const code_names[] = {
    [PUSH_CODE_MEASURED] = "measured_config_differs", [PUSH_CODE_CONFIG] = "config_differs"};

const char *push_code_name(enum push_code code)
{
    return code_names[code];
}

enum push_code push_code_of(const char *text)
{
    for (size_t i = PUSH_CODE_NONE + 1; text != NULL && i <= PUSH_CODE_CONFIG; i++)
        if (strcmp(text, code_names[i]) == 0)
            return (enum push_code)i;
    return PUSH_CODE_NONE;
}

json_t *push_ask(
    int fd, const json_t *request, uint64_t deadline_us, enum push_code *ret_code, struct err *err)
{
    if (ret_code != NULL)
        *ret_code = PUSH_CODE_NONE;
    struct err unsent = {0}, unread;
    bool is_sent = push_write(fd, request, deadline_us, &unsent);
    /* an enclave that refuses early answers before it has taken everything */
    json_t *answer = push_read(fd, deadline_us, &unread);
    if (answer == NULL) {
        if (is_sent)
            err_set(err, "no answer from the enclave: %s", unread.text);
        else
            err_set(err, "cannot send to the enclave: %s", unsent.text);
        return NULL;
    }
    if (is_sent && json_is_true(json_object_get(answer, "ok")))
        return answer;
    const char *words = json_string_value(json_object_get(answer, "error"));
    struct err said;
    err_set(&said, "%s", words != NULL ? words : "the enclave says no and not why");
    clean(said.text);
    err_set(err, "%s", said.text);
    if (ret_code != NULL)
        *ret_code = push_code_of(json_string_value(json_object_get(answer, "code")));
    json_decref(answer);
    return NULL;
}
