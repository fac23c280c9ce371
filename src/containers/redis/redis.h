/* A container on a Redis server: durable as that is, and shared by the hosts on its queue. */
#ifndef LTSH_CONTAINERS_REDIS_REDIS_H
#define LTSH_CONTAINERS_REDIS_REDIS_H

#include "loop/loop.h"
#include "redis/address.h"
#include "scheduler/container.h"

struct lt_redis_options {
    lt_redis_urls urls;      /* see struct lt_redis_servers */
    lt_redis_urls sentinels; /* NULL: none */
    struct lt_tls_files tls;
    const char *tls_name; /* NULL: the host */
    const char *queue;
    double lease;           /* seconds after which the tasks of a host that does not renew it are another's */
    double keep[3];         /* seconds that tasks are kept after success, failure, a stop; < 0: for ever */
    bool fair;              /* keys take turns, on the queue from then on */
    unsigned wait_replicas; /* so many are to have what add returned; 0: nobody waits for them */
};

/* Begins to connect; nothing of the options need stay. NULL with a message: an address cannot be read, or there is no thread for it. */
struct lt_container *lt_redis_container_new(struct lt_loop *loop, const struct lt_redis_options *options,
                                            struct lt_error *error);

/* How the first attempt to connect goes: called once, on the loop's thread in a later turn, within some seconds; with NULL when
 * the server is there, or may be later, else with the reason for which it makes no sense to try again. One at a time, of a
 * container that was just made; the loop is held meanwhile. */
void lt_redis_container_wait(struct lt_container *container, void (*fn)(void *arg, const char *refused), void *arg);

/* It is not waited for any more. */
void lt_redis_container_unwait(struct lt_container *container);

/* Whether it is one of these. */
bool lt_redis_is(const struct lt_container *container);

#endif
