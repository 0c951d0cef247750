/* The answer of an enclave, or of what stands in for vsock, to a ping. First byte odd: a stand-in. However it is cut,
 * the answer is the same, and nothing is asked before the stand-in's OK. */
#include <stdlib.h>
#include <string.h>

#include "parent/run_ping.h"

static enum ping_answer hear(struct ping_talk *t, const uint8_t *p, size_t n, size_t piece)
{
    enum ping_answer answer = PING_MORE;
    struct err err;
    for (size_t at = 0; at < n && answer == PING_MORE; at += piece) {
        size_t left = n - at;
        answer = ping_talk_hear(t, bytes_of(p + at, left < piece ? left : piece), &err);
        if (t->in_n > sizeof t->in || t->say.n > sizeof t->request)
            abort();
    }
    return answer;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct vsock v = {.uds = ""};
    struct ping_talk whole, cut;
    if (n == 0)
        return 0;
    if (data[0] % 2 == 1)
        memcpy(v.uds, "/x", sizeof "/x");
    ping_talk_start(&whole, &v, 5050);
    ping_talk_start(&cut, &v, 5050);
    enum ping_answer answer = hear(&whole, data + 1, n - 1, n);
    if (hear(&cut, data + 1, n - 1, 3) != answer)
        abort();
    bool is_asked = whole.say.n > 0 && whole.say.p == whole.request;
    if (whole.port != 0 && is_asked)
        abort();
    if (whole.port != 0 && (answer == PING_READY || answer == PING_WAITING))
        abort();
    return 0;
}
