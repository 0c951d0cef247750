#include "cli/nitro_enclave.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/printable.h"
#include "nitro/pcr.h"
#include "nitro/push.h"
#include "parent/machine.h"

enum { TIMEOUT_S = 130, DIAL_S = 10, PATIENCE_US = 3000000, AGAIN_MS = 100 };

bool enclave_number(const char *text, uint32_t min, uint32_t max, uint32_t *ret)
{
    uint64_t v = 0;
    if (*text == '\0')
        return false;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p < '0' || *p > '9' || v > max)
            return false;
        v = v * 10 + (uint64_t)(*p - '0');
    }
    *ret = (uint32_t)v;
    return v >= min && v <= max;
}

bool enclave_parent_is_sound(const char *role, const char *instance, struct err *err)
{
    uint8_t pcr[PCR_LEN];
    if ((role != NULL && !pcr_of_role(role, pcr, err)) ||
        (instance != NULL && !pcr_of_instance(instance, pcr, err)))
        return false;
    if (role != NULL && strlen(role) >= MACHINE_ROLE_MAX)
        return err_set(err, "--role: longer than %d characters", MACHINE_ROLE_MAX - 1);
    return instance == NULL || strlen(instance) < MACHINE_INSTANCE_MAX ||
           err_set(err, "--instance: longer than %d characters", MACHINE_INSTANCE_MAX - 1);
}

int enclave_from(const struct command *self, const struct enclave_options *o, struct enclave *ret)
{
    struct err err;
    *ret = (struct enclave){.port = PUSH_PORT, .timeout_s = TIMEOUT_S};
    if (o->port != NULL && !enclave_number(o->port, 1, UINT32_MAX - 1, &ret->port))
        return command_usage(self, "'%s' is not a vsock port", o->port);
    if (o->cid != NULL && !enclave_number(o->cid, 0, UINT32_MAX - 1, &ret->cid))
        return command_usage(self, "'%s' is not a CID", o->cid);
    if (o->timeout != NULL && !enclave_number(o->timeout, 1, 86400, &ret->timeout_s))
        return command_usage(self, "'%s' is not a number of seconds", o->timeout);
    if (!vsock_from(&ret->vsock, o->uds, &err))
        return command_failed("%s", err.text);
    if (o->cid == NULL && ret->vsock.uds[0] == '\0')
        return command_usage(self, "which enclave? Give its CID with -i; `nitro-cli "
                                   "describe-enclaves` shows it as EnclaveCID");
    return COMMAND_GO_ON;
}

static void explain_silence(const struct enclave *e, struct err *err)
{
    struct err why = *err;
    if (e->vsock.uds[0] != '\0')
        err_set(err,
            "the enclave does not listen: %.500s. Start it with `tmkms nitro start -p %" PRIu32
            " --vsock-uds %s`",
            why.text, e->port, e->vsock.uds);
    else
        err_set(err,
            "the enclave does not listen: %.500s. Does it run, and is %" PRIu32
            " its CID? `nitro-cli describe-enclaves` shows both; `nitro-cli run-enclave` starts it",
            why.text, e->cid);
}

/* An enclave is said to run when its heartbeat has come, and listens a moment later. */
static int dial(const struct enclave *e, uint64_t deadline_us, struct err *err)
{
    uint64_t patient_until = clock_monotonic_us() + PATIENCE_US;
    for (;;) {
        int fd = vsock_dial_guest(&e->vsock, e->cid, e->port, deadline_us, err);
        uint64_t now = clock_monotonic_us();
        if (fd >= 0 || now >= patient_until || now >= deadline_us)
            return fd;
        poll(NULL, 0, AGAIN_MS);
    }
}

json_t *enclave_ask_coded(
    const struct enclave *e, const json_t *request, enum push_code *ret_code, struct err *err)
{
    *ret_code = PUSH_CODE_NONE;
    uint32_t dial_s = e->timeout_s < DIAL_S ? e->timeout_s : DIAL_S;
    uint64_t now = clock_monotonic_us();
    int fd = dial(e, now + dial_s * 1000000ULL, err);
    if (fd < 0) {
        explain_silence(e, err);
        return NULL;
    }
    json_t *answer = push_ask(fd, request, now + e->timeout_s * 1000000ULL, ret_code, err);
    fd_close(&fd);
    return answer;
}

json_t *enclave_ask(const struct enclave *e, const json_t *request, struct err *err)
{
    enum push_code code;
    return enclave_ask_coded(e, request, &code, err);
}

const char *enclave_text(const json_t *answer, const char *name)
{
    const char *text = json_string_value(json_object_get(answer, name));
    for (const char *p = text; p != NULL && *p != '\0'; p += printable_length(p))
        if (printable_length(p) == 0)
            return "";
    return text != NULL ? text : "";
}

json_t *enclave_credentials(const struct aws_credentials *c)
{
    return json_pack("{s:s, s:s, s:s, s:I}", "aws_key_id", c->key_id, "aws_secret_key",
        c->secret_key, "aws_session_token", c->session_token, "expires", (json_int_t)c->expires_s);
}
