/* Preloaded by a spec: a name server that never answers. Numeric addresses need none. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <unistd.h>

typedef int lookup(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    if (hints != NULL && (hints->ai_flags & AI_NUMERICHOST) != 0)
        return ((lookup *)dlsym(RTLD_NEXT, "getaddrinfo"))(node, service, hints, found);
    sleep(60);
    return EAI_AGAIN;
}
