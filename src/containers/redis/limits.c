/* Limits that hold over all hosts: the queue has them. Each claim says what this host was given, which counts if it is the
 * first; what is set counts from then on. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "containers/redis/container_state.h"

static void put_full_key(void *arg, struct lt_bytes *key)
{
    lt_redis_put(arg, key->data, key->len);
}

static void count_key(void *arg, struct lt_bytes *key)
{
    (void)key;
    ++*(unsigned *)arg;
}

/* The limits as data: what the server cannot ask, it is told. */
void lt_redis_put_limits(const struct lt_redis *redis, struct lt_redis_request *request, struct lt_limiter *limiter)
{
    enum { MOST_FULL = 1000 };
    const struct lt_limits *limits = &limiter->limits;
    bool once = limits->key_limit_fn != NULL || limits->key_rate.per > 0;
    unsigned full = 0;
    lt_redis_put_number(request, limits->global_slots);
    lt_redis_put_number(request, limits->shared_key_limit);
    lt_redis_put_text(request, once ? "1" : "0");
    lt_redis_put_number(request, limits->shared_rate.burst);
    lt_redis_put_number(request, limits->shared_rate.per);
    lt_redis_put_text(request, redis->base.fair ? "1" : "0");
    if (once)
        lt_limiter_full_keys(limiter, MOST_FULL, count_key, &full);
    lt_redis_put_number(request, full);
    if (once)
        lt_limiter_full_keys(limiter, MOST_FULL, put_full_key, request);
}

static void limits_set(struct lt_redis_request *request)
{
    struct lt_redis *redis = request->user;
    if (request->code != LT_OK)
        lt_log(LT_LOG_WARN, "the limits of the queue could not be set", LT_S("queue", lt_redis_queue(redis->link)),
               LT_S("error", request->message));
    lt_redis_request_free(request);
}

static void put_if(struct lt_redis_request *request, bool named, double number)
{
    if (named)
        lt_redis_put_number(request, number);
    else
        lt_redis_put_text(request, "");
}

void lt_redis_set_limits(struct lt_container *container, const struct lt_limits *limits, unsigned named)
{
    struct lt_redis *redis = lt_redis_of(container);
    if (redis->link == NULL)
        return;
    struct lt_redis_request *request = lt_redis_request(redis, "m", NULL, limits_set);
    put_if(request, (named & LT_NAMES_GLOBAL) != 0, limits->global_slots);
    put_if(request, (named & LT_NAMES_KEY) != 0, limits->shared_key_limit);
    put_if(request, (named & LT_NAMES_RATE) != 0, limits->shared_rate.burst);
    put_if(request, (named & LT_NAMES_RATE) != 0, limits->shared_rate.per);
    request->patient = true;
    lt_redis_send(redis->link, request);
}
