/* What the libraries could do and an enclave never does: look up names, which would load the name services of a host,
 * and load code. These stand in for the C library's, so that neither is in the image at all. */
#include <dlfcn.h>
#include <netdb.h>
#include <stddef.h>

int getaddrinfo(const char *restrict node, const char *restrict service,
    const struct addrinfo *restrict hints, struct addrinfo **restrict ret)
{
    (void)node, (void)service, (void)hints, (void)ret;
    return EAI_FAIL;
}

void freeaddrinfo(struct addrinfo *list)
{
    (void)list;
}

const char *gai_strerror(int code)
{
    (void)code;
    return "an enclave looks up no names";
}

int getnameinfo(const struct sockaddr *restrict address, socklen_t address_n, char *restrict host,
    socklen_t host_n, char *restrict service, socklen_t service_n, int flags)
{
    (void)address, (void)address_n, (void)host, (void)host_n, (void)service, (void)service_n;
    (void)flags;
    return EAI_FAIL;
}

struct hostent *gethostbyname(const char *name)
{
    (void)name;
    return NULL;
}

struct servent *getservbyname(const char *name, const char *protocol)
{
    (void)name, (void)protocol;
    return NULL;
}

struct protoent *getprotobynumber(int protocol)
{
    (void)protocol;
    return NULL;
}

void *dlopen(const char *path, int mode)
{
    (void)path, (void)mode;
    return NULL;
}

void *dlsym(void *restrict handle, const char *restrict name)
{
    (void)handle, (void)name;
    return NULL;
}

int dlclose(void *handle)
{
    (void)handle;
    return -1;
}

char *dlerror(void)
{
    static char text[] = "an enclave loads no code";
    return text;
}

int dladdr(const void *address, Dl_info *ret)
{
    (void)address, (void)ret;
    return 0;
}
