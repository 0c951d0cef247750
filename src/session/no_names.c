/* In an enclave a validator is a vsock port: nothing has a name. The image has this in place of libevent's resolver. */
#include <event2/dns.h>
#include <event2/util.h>
#include <stddef.h>

struct evdns_base *evdns_base_new(struct event_base *loop, int flags)
{
    static int nothing; /* never looked into */
    (void)loop, (void)flags;
    return (struct evdns_base *)&nothing;
}

void evdns_base_free(struct evdns_base *base, int fail_requests)
{
    (void)base, (void)fail_requests;
}

int evdns_base_resolv_conf_parse(struct evdns_base *base, int flags, const char *file)
{
    (void)base, (void)flags, (void)file;
    return 0;
}

struct evdns_getaddrinfo_request *evdns_getaddrinfo(struct evdns_base *base, const char *node,
    const char *service, const struct evutil_addrinfo *hints, evdns_getaddrinfo_cb answer,
    void *arg)
{
    (void)base, (void)node, (void)service, (void)hints;
    answer(EVUTIL_EAI_FAIL, NULL, arg);
    return NULL;
}

void evdns_getaddrinfo_cancel(struct evdns_getaddrinfo_request *request)
{
    (void)request;
}
