/* Requests of the container's, encoded, and what their answers begin with. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "containers/redis/container_state.h"
#include "containers/redis/record.h"
#include "redis/connection.h"

struct lt_redis_request *lt_redis_request(struct lt_redis *redis, const char *operation, void *op,
                                          void (*done)(struct lt_redis_request *request))
{
    struct lt_redis_request *request = lt_zalloc(sizeof *request);
    request->user = redis;
    request->op = op;
    request->done = done;
    request->weight = 1;
    lt_redis_put_text(request, operation);
    return request;
}

void lt_redis_put(struct lt_redis_request *request, const void *data, size_t len)
{
    lt_redis_append(&request->arguments, data, len);
    request->count++;
}

void lt_redis_put_text(struct lt_redis_request *request, const char *text)
{
    lt_redis_put(request, text, strlen(text));
}

void lt_redis_put_number(struct lt_redis_request *request, double number)
{
    char text[40];
    snprintf(text, sizeof text, "%.6f", number);
    lt_redis_put_text(request, text);
}

void lt_redis_put_packed(struct lt_redis_request *request, uint64_t number, size_t bytes)
{
    char packed[8];
    lt_redis_pack(packed, number, bytes);
    lt_redis_put(request, packed, bytes);
}

void lt_redis_put_when(struct lt_redis_request *request, bool relative, double time)
{
    char text[48];
    snprintf(text, sizeof text, "%c%.6f", relative ? '+' : '=', time);
    lt_redis_put_text(request, text);
}

void lt_redis_put_optional(struct lt_redis_request *request, const struct lt_bytes *bytes)
{
    if (bytes == NULL) {
        lt_redis_put(request, "", 0);
        return;
    }
    struct lt_buffer text = {0};
    lt_buffer_append(&text, "+", 1);
    lt_buffer_append(&text, bytes->data, bytes->len);
    lt_redis_put(request, text.data, text.len);
    lt_buffer_free(&text);
}

const char *lt_redis_outcome(const struct lt_redis_request *request)
{
    const redisReply *reply = request->reply;
    return reply != NULL && reply->type == REDIS_REPLY_STRING ? reply->str : lt_redis_text(reply, 0);
}

void lt_redis_fail(const struct lt_redis_request *request, struct lt_reply *reply)
{
    lt_reply_send(reply, request->code != LT_OK ? request->code : LT_ERROR,
                  request->message != NULL ? request->message : "the Redis server's answer cannot be read");
}

bool lt_redis_answers(const struct lt_redis_request *request, const char *outcome)
{
    const char *text = lt_redis_outcome(request);
    return text != NULL && strcmp(text, outcome) == 0;
}
