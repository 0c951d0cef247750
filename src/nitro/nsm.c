#include "nitro/nsm.h"

#include <string.h>

#include "nitro/attestation.h"
#include "nitro/cbor.h"

/* Names of errors in answers, in words (aws-nitro-enclaves-nsm-api, ErrorCode). */
static const char *meaning_of(struct bytes name)
{
    static const struct {
        const char *name, *meaning;
    } known[] = {
        {"InvalidArgument", "an argument is not allowed"},
        {"InvalidIndex", "there is no such register"},
        {"ReadOnlyIndex", "the register is locked"},
        {"InvalidOperation", "not possible in this state"},
        {"BufferTooSmall", "the answer does not fit"},
        {"InputTooLarge", "the request is too long"},
        {"InvalidResponse", "the module answered something wrong"},
        {"InternalError", "the module failed"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (bytes_equal(name, bytes_of_text(known[i].name)))
            return known[i].meaning;
    return "an error without a known name";
}

static bool not_understood(const char *request, struct err *err)
{
    return err_set(err, "the Nitro Secure Module's answer to %s cannot be understood", request);
}

/* {"Error": name} */
static bool is_error(struct reader r, struct bytes *ret_name)
{
    struct cbor_list map = cbor_read_map(&r);
    if (!cbor_more(&r, &map) || !bytes_equal(cbor_read_text(&r), bytes_of_text("Error")))
        return false;
    *ret_name = cbor_read_text(&r);
    return !r.bad;
}

/* Sends what w holds. ret then stands behind the name of the answer: at its fields, or at the end
 * for an answer without. buf: NSM_RESPONSE_MAX. */
static bool ask(int fd, const char *request, const struct writer *w, uint8_t *buf,
    struct reader *ret, struct err *err)
{
    size_t n = 0;
    struct bytes name;
    if (w->bad)
        return err_set(err, "the %s request to the Nitro Secure Module is too long", request);
    if (!nsm_exchange(fd, written(w), buf, &n, err))
        return err_prefix(err, "%s", request);
    struct reader r = reader_of(bytes_of(buf, n));
    if (is_error(r, &name))
        return err_set(err, "the Nitro Secure Module refuses %s: %.*s (%s)", request, (int)name.n,
            (const char *)name.p, meaning_of(name));
    if (cbor_peek(&r) == CBOR_MAP) {
        struct cbor_list map = cbor_read_map(&r);
        if (!cbor_more(&r, &map))
            r.bad = true;
    }
    if (!bytes_equal(cbor_read_text(&r), bytes_of_text(request)) || r.bad)
        return not_understood(request, err);
    *ret = r;
    return true;
}

/* The fields of an answer: {name: value ...}. true: stands at the value of this one. */
static bool find_field(struct reader *r, const char *name)
{
    struct cbor_list map = cbor_read_map(r);
    while (cbor_more(r, &map)) {
        if (bytes_equal(cbor_read_text(r), bytes_of_text(name)))
            return !r->bad;
        cbor_skip(r);
    }
    r->bad = true;
    return false;
}

static bool read_digest(struct reader r, const char *field, uint8_t ret[PCR_LEN])
{
    uint8_t value[PCR_LEN];
    if (!find_field(&r, field) || cbor_read_octets(&r, value, PCR_LEN) != PCR_LEN || r.bad)
        return false;
    memcpy(ret, value, PCR_LEN);
    return true;
}

/* {name: {"index": index, ...}} of so many members; the caller writes those behind the index. */
static void begin_pcr_request(struct writer *w, const char *name, unsigned members, unsigned index)
{
    cbor_write_map(w, 1);
    cbor_write_text(w, name);
    cbor_write_map(w, members);
    cbor_write_text(w, "index");
    cbor_write_uint(w, index);
}

bool nsm_describe_pcr(int fd, unsigned index, struct nsm_pcr *ret, struct err *err)
{
    static const char name[] = "DescribePCR";
    uint8_t request[64], buf[NSM_RESPONSE_MAX];
    struct reader r;
    struct nsm_pcr pcr;
    struct writer w = writer_of(request, sizeof request);
    begin_pcr_request(&w, name, 1, index);
    if (!ask(fd, name, &w, buf, &r, err))
        return false;
    struct reader lock = r;
    if (!find_field(&lock, "lock"))
        return not_understood(name, err);
    pcr.is_locked = cbor_read_bool(&lock);
    if (lock.bad || !read_digest(r, "data", pcr.value))
        return not_understood(name, err);
    *ret = pcr;
    return true;
}

bool nsm_extend_pcr(
    int fd, unsigned index, struct bytes data, uint8_t ret[PCR_LEN], struct err *err)
{
    static const char name[] = "ExtendPCR";
    uint8_t request[NSM_REQUEST_MAX], buf[NSM_RESPONSE_MAX];
    struct reader r;
    struct writer w = writer_of(request, sizeof request);
    begin_pcr_request(&w, name, 2, index);
    cbor_write_text(&w, "data");
    cbor_write_bytes(&w, data);
    if (!ask(fd, name, &w, buf, &r, err))
        return err_prefix(err, "PCR%u", index);
    return read_digest(r, "data", ret) || not_understood(name, err);
}

bool nsm_lock_pcr(int fd, unsigned index, struct err *err)
{
    static const char name[] = "LockPCR";
    uint8_t request[64], buf[NSM_RESPONSE_MAX];
    struct reader r;
    struct writer w = writer_of(request, sizeof request);
    begin_pcr_request(&w, name, 1, index);
    if (!ask(fd, name, &w, buf, &r, err))
        return err_prefix(err, "PCR%u", index);
    return true;
}

/* Some bytes of what one answer gives (256), at most n. */
static bool random_part(int fd, uint8_t *out, size_t n, size_t *ret_n, struct err *err)
{
    static const char name[] = "GetRandom";
    uint8_t request[16], buf[NSM_RESPONSE_MAX];
    struct reader r;
    struct writer w = writer_of(request, sizeof request);
    cbor_write_text(&w, name);
    if (!ask(fd, name, &w, buf, &r, err))
        return false;
    if (!find_field(&r, "random"))
        return not_understood(name, err);
    size_t got = cbor_read_octets(&r, buf, sizeof buf);
    if (r.bad || got == 0)
        return not_understood(name, err);
    *ret_n = got < n ? got : n;
    memcpy(out, buf, *ret_n);
    explicit_bzero(buf, sizeof buf);
    return true;
}

bool nsm_random(int fd, uint8_t *out, size_t n, struct err *err)
{
    size_t part = 0;
    for (size_t done = 0; done < n; done += part)
        if (!random_part(fd, out + done, n - done, &part, err))
            return false;
    return true;
}

static void write_optional(struct writer *w, const char *name, struct bytes value)
{
    cbor_write_text(w, name);
    if (value.n > 0)
        cbor_write_bytes(w, value);
    else
        cbor_write_null(w);
}

bool nsm_attest(int fd, struct bytes user_data, struct bytes nonce, struct bytes public_key,
    uint8_t buf[NSM_RESPONSE_MAX], struct bytes *ret_document, struct err *err)
{
    static const char name[] = "Attestation";
    uint8_t request[NSM_REQUEST_MAX];
    struct reader r;
    struct writer w = writer_of(request, sizeof request);
    cbor_write_map(&w, 1);
    cbor_write_text(&w, name);
    cbor_write_map(&w, 3);
    write_optional(&w, "user_data", user_data);
    write_optional(&w, "nonce", nonce);
    write_optional(&w, "public_key", public_key);
    if (!ask(fd, name, &w, buf, &r, err))
        return false;
    if (!find_field(&r, "document"))
        return not_understood(name, err);
    size_t n = cbor_read_octets(&r, buf, NSM_RESPONSE_MAX);
    if (r.bad || n == 0)
        return not_understood(name, err);
    *ret_document = bytes_of(buf, n);
    return true;
}

bool nsm_time_ms(int fd, uint64_t *ret, struct err *err)
{
    const struct bytes none = {0};
    uint8_t buf[NSM_RESPONSE_MAX];
    struct bytes document;
    struct attestation a;
    if (!nsm_attest(fd, none, none, none, buf, &document, err) ||
        !attestation_parse(&a, document, err))
        return false;
    *ret = a.timestamp_ms;
    return true;
}
