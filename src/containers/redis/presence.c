/* Whether the server is there: how the first attempt to connect went, which whoever makes the container waits for, and what a
 * scheduler is told of when it opens one that is down already. */
#include <stdlib.h>

#include "base/alloc.h"
#include "containers/redis/container_state.h"

static void end_wait(struct lt_redis *redis)
{
    if (redis->outcome_fn != NULL)
        lt_redis_link_unhold(redis->link);
    redis->outcome_fn = NULL;
}

void lt_redis_container_wait(struct lt_container *container, void (*fn)(void *arg, const char *refused), void *arg)
{
    struct lt_redis *redis = lt_redis_of(container);
    redis->outcome_fn = fn;
    redis->outcome_arg = arg;
    lt_redis_link_hold(redis->link);
}

void lt_redis_container_unwait(struct lt_container *container)
{
    end_wait(lt_redis_of(container));
}

static void tell_outcome(struct lt_redis *redis, const char *refused)
{
    void (*fn)(void *arg, const char *refused) = redis->outcome_fn;
    end_wait(redis);
    if (fn != NULL)
        fn(redis->outcome_arg, refused);
}

void lt_redis_tell_down(const struct lt_redis *redis)
{
    if (redis->down != NULL)
        lt_redis_tell(redis, &(struct lt_news){.kind = LT_NEWS_AVAILABLE, .on = false, .why = redis->down});
}

void lt_redis_hear(void *arg, enum lt_redis_event event, const char *text)
{
    struct lt_redis *redis = arg;
    if (event == LT_REDIS_READY || event == LT_REDIS_LOST || event == LT_REDIS_REFUSED) {
        free(redis->down);
        redis->down = event == LT_REDIS_READY ? NULL : lt_strdup(text);
        tell_outcome(redis, event == LT_REDIS_REFUSED ? text : NULL);
    }
    lt_redis_told(redis, event, text);
}
