#include "net/lookup.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/container_of.h"

enum { STACK = 256 << 10 };

struct lt_lookup {
    atomic_int users; /* who asked, and the thread */
    int event;        /* readable when it is done */
    char *host;
    char port[8];

    /* The thread's until then. */
    int code;
    int failure; /* errno, where the code says that it has more */
    struct addrinfo *found;

    /* Who asked. */
    uv_poll_t hears;
    bool is_done;
    void (*done)(void *arg);
    void *arg;
};

static void unuse(struct lt_lookup *lookup)
{
    if (atomic_fetch_sub(&lookup->users, 1) > 1)
        return;
    if (lookup->found != NULL)
        freeaddrinfo(lookup->found);
    close(lookup->event);
    free(lookup->host);
    free(lookup);
}

static void look_up(struct lt_lookup *lookup, int flags)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags};
    lookup->code = getaddrinfo(lookup->host, lookup->port, &hints, &lookup->found);
    lookup->failure = errno;
}

static void tell_done(struct lt_lookup *lookup)
{
    static const uint64_t one = 1;
    if (write(lookup->event, &one, sizeof one) < 0)
        abort(); /* an eventfd that was just made takes it */
}

static void *thread(void *arg)
{
    struct lt_lookup *lookup = arg;
    look_up(lookup, 0);
    tell_done(lookup);
    unuse(lookup);
    return NULL;
}

static bool start_thread(struct lt_lookup *lookup)
{
    pthread_attr_t attributes;
    pthread_t id;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    atomic_fetch_add(&lookup->users, 1);
    errno = pthread_create(&id, &attributes, thread, lookup);
    pthread_attr_destroy(&attributes);
    if (errno == 0)
        return true;
    atomic_fetch_sub(&lookup->users, 1);
    return false;
}

static void is_done(uv_poll_t *poll, int status, int events)
{
    struct lt_lookup *lookup = lt_container_of(poll, struct lt_lookup, hears);
    uint64_t count;
    (void)status;
    (void)events;
    if (read(lookup->event, &count, sizeof count) < 0)
        return; /* not yet */
    uv_poll_stop(poll);
    lookup->is_done = true;
    lookup->done(lookup->arg);
}

struct lt_lookup *lt_lookup_begin(uv_loop_t *uv, const char *host, int port, void (*done)(void *arg), void *arg)
{
    int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event < 0)
        return NULL;
    struct lt_lookup *lookup = lt_zalloc(sizeof *lookup);
    lookup->users = 1;
    lookup->event = event;
    lookup->host = lt_strdup(host);
    snprintf(lookup->port, sizeof lookup->port, "%d", port);
    lookup->done = done;
    lookup->arg = arg;
    look_up(lookup, AI_NUMERICHOST);
    if (lookup->code == 0) {
        tell_done(lookup);
    } else if (!start_thread(lookup)) {
        unuse(lookup);
        return NULL;
    }
    uv_poll_init(uv, &lookup->hears, event);
    uv_poll_start(&lookup->hears, UV_READABLE, is_done);
    return lookup;
}

const struct addrinfo *lt_lookup_found(const struct lt_lookup *lookup)
{
    return lookup->is_done && lookup->code == 0 ? lookup->found : NULL;
}

const char *lt_lookup_error(const struct lt_lookup *lookup)
{
    if (!lookup->is_done || lookup->code == 0)
        return NULL;
    return lookup->code == EAI_SYSTEM ? strerror(lookup->failure) : gai_strerror(lookup->code);
}

static void closed(uv_handle_t *handle)
{
    unuse(lt_container_of((uv_poll_t *)handle, struct lt_lookup, hears));
}

void lt_lookup_drop(struct lt_lookup *lookup)
{
    if (lookup != NULL)
        uv_close((uv_handle_t *)&lookup->hears, closed);
}
