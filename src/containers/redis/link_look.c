/* How the server keeps what it has: what loses tasks is said once. Not every user may ask, and then nothing is. */
#include <string.h>

#include "base/log.h"
#include "containers/redis/link_state.h"

static void ask(struct lt_redis_link *link, enum lt_redis_call_kind kind, size_t count, const char *const *words)
{
    struct lt_buffer commands = {0};
    lt_redis_new_call(link, kind);
    lt_redis_begin(&commands, count);
    for (size_t i = 0; i < count; i++)
        lt_redis_append_text(&commands, words[i]);
    lt_redis_write(link->commands, &commands, 1);
}

void lt_redis_look(struct lt_redis_link *link)
{
    if (link->looked)
        return;
    link->looked = true;
    ask(link, CALL_INFO, 1, (const char *[]){"INFO"});
    ask(link, CALL_SAVE, 3, (const char *[]){"CONFIG", "GET", "save"});
}

static void warn(const struct lt_redis_link *link, const char *message)
{
    lt_log(LT_LOG_WARN, message, LT_S("server", link->options.servers.urls[0].shown));
}

void lt_redis_take_info(struct lt_redis_link *link, const redisReply *reply)
{
    bool is_text = reply->type == REDIS_REPLY_STRING;
    link->has_log = !is_text || strstr(reply->str, "aof_enabled:0") == NULL;
    if (is_text && strstr(reply->str, "maxmemory_policy:allkeys") != NULL)
        warn(link,
             "this Redis server throws away tasks when its memory is full; set its maxmemory-policy to noeviction");
}

void lt_redis_take_save(struct lt_redis_link *link, const redisReply *reply)
{
    bool is_known =
        reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && reply->element[1]->type == REDIS_REPLY_STRING;
    if (is_known && reply->element[1]->len == 0 && !link->has_log)
        warn(link,
             "this Redis server keeps nothing on disk: all tasks are lost when it ends; set its appendonly to yes");
}
