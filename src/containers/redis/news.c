/* What comes unasked: the server is there or not, the lease, and what others did on the queue. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "containers/redis/container_state.h"
#include "containers/redis/record.h"

static void tell_work(const struct lt_redis *redis)
{
    lt_redis_tell(redis, &(struct lt_news){.kind = LT_NEWS_WORK});
}

static void tell_paused(struct lt_redis *redis, bool paused)
{
    if (redis->paused_told != paused)
        lt_redis_tell(redis, &(struct lt_news){.kind = LT_NEWS_PAUSED, .on = paused});
    redis->paused_told = paused;
}

/* News. */

static void take_stop(const struct lt_redis *redis, const struct lt_redis_found *found)
{
    const redisReply *stop = found->stop;
    if (stop == NULL || stop->len < 6 || lt_redis_unpack(stop->str, 6) != found->task->run)
        return;
    struct lt_bytes *reason = stop->len > 7 ? lt_bytes_new(stop->str + 7, stop->len - 7) : NULL;
    lt_redis_tell(redis, &(struct lt_news){.kind = LT_NEWS_STOP,
                                           .id = found->task->data,
                                           .id_len = found->task->id_len,
                                           .run = found->task->run,
                                           .token = found->token,
                                           .reason = reason});
    lt_bytes_unref(reason);
}

static void take_end(const struct lt_redis *redis, const struct lt_redis_found *found)
{
    bool own = memcmp(found->adder, lt_redis_owner(redis->link), LT_REDIS_OWNER) == 0;
    if (lt_status_ended((enum lt_status)found->task->status)) /* else it was begun anew since */
        lt_redis_tell(redis, &(struct lt_news){.kind = LT_NEWS_ENDED, .task = found->task, .on = own});
}

static void take_deletion(const struct lt_redis *redis, const redisReply *id)
{
    if (!lt_task_id_valid(id->str, id->len))
        return;
    struct lt_task *task = lt_task_new(id->str, id->len, NULL, 0);
    task->status = LT_DELETED;
    lt_redis_tell(redis, &(struct lt_news){.kind = LT_NEWS_ENDED, .task = task});
    lt_task_unref(task);
}

static void take_one(struct lt_redis *redis, const redisReply *part)
{
    const char *kind = lt_redis_text(part, 0);
    const redisReply *id = lt_redis_element(part, 1);
    struct lt_redis_found found;
    struct lt_redis_run *run;
    if (kind == NULL || id == NULL || id->type != REDIS_REPLY_STRING)
        return;
    if (kind[0] == 'd') {
        take_deletion(redis, id);
    } else if (kind[0] == 'l') {
        run = lt_redis_find_run(redis, id->str, id->len);
        if (run != NULL && !run->forsaken)
            lt_redis_tell_lost(redis, run);
    } else if (lt_redis_read_task(lt_redis_element(part, 2), redis->host, &found)) {
        if (kind[0] == 's')
            take_stop(redis, &found);
        else
            take_end(redis, &found);
        lt_task_unref(found.task);
    }
}

static void read_news(struct lt_redis *redis);

static void news_read(struct lt_redis_request *request)
{
    struct lt_redis *redis = request->user;
    const redisReply *last = lt_redis_element(request->reply, 1), *list = lt_redis_element(request->reply, 2);
    bool some = list != NULL && list->elements > 0;
    redis->reading = false;
    for (size_t i = 0; some && i < list->elements; i++)
        take_one(redis, list->element[i]);
    if (list != NULL)
        redis->last_news_len = 0; /* else nobody knows whether the server has heard how far this host has read */
    if (some && last != NULL && last->type == REDIS_REPLY_STRING && last->len <= sizeof redis->last_news) {
        memcpy(redis->last_news, last->str, last->len);
        redis->last_news_len = last->len;
    }
    lt_redis_request_free(request);
    if (some || redis->read_again)
        read_news(redis);
}

static void read_news(struct lt_redis *redis)
{
    redis->read_again = redis->reading;
    if (redis->reading || redis->link == NULL)
        return;
    redis->reading = true;
    struct lt_redis_request *request = lt_redis_request(redis, "n", NULL, news_read);
    lt_redis_put(request, redis->last_news, redis->last_news_len);
    request->weight = 100;
    lt_redis_send(redis->link, request);
}

/* Events. */

static void became_ready(struct lt_redis *redis, bool paused)
{
    bool again = redis->was_ready;
    redis->was_ready = true;
    if (!redis->open)
        return;
    tell_paused(redis, paused);
    if (again)
        lt_redis_compare_runs(redis);
    lt_redis_tell(redis, &(struct lt_news){.kind = LT_NEWS_AVAILABLE, .on = true});
    read_news(redis);
    tell_work(redis);
}

void lt_redis_told(void *arg, enum lt_redis_event event, const char *text)
{
    struct lt_redis *redis = arg;
    switch (event) {
    case LT_REDIS_READY:
        became_ready(redis, text[0] == '1');
        break;
    case LT_REDIS_LOST:
        lt_redis_tell(redis, &(struct lt_news){.kind = LT_NEWS_AVAILABLE, .on = false, .why = text});
        break;
    case LT_REDIS_REFUSED: /* of which only who makes the container hears */
        break;
    case LT_REDIS_DEAD:
        lt_log(LT_LOG_WARN, "this host was taken for dead, what it ran is another's",
               LT_S("server", lt_redis_shown(redis->link)));
        lt_redis_tell_all_lost(redis);
        break;
    case LT_REDIS_LATE:
        lt_redis_tell_all_lost(redis);
        lt_redis_compare_runs(redis); /* where a host was stopped for a while, its lease goes on, and it runs nothing */
        break;
    case LT_REDIS_NEWS:
        if (redis->open)
            read_news(redis);
        break;
    case LT_REDIS_WORK:
        tell_work(redis);
        break;
    case LT_REDIS_PAUSED:
        tell_paused(redis, text[0] == '1');
        break;
    }
}
