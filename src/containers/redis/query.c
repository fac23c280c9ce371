/* What is asked: one task, lists, counts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "containers/redis/container_state.h"
#include "containers/redis/record.h"

enum { STEP = 100 /* tasks that one call looks at */ };

static void got(struct lt_redis_request *request)
{
    const struct lt_redis *redis = request->user;
    struct lt_get_op *op = request->op;
    const char *outcome = lt_redis_outcome(request);
    struct lt_redis_found found;
    if (outcome != NULL && strcmp(outcome, "unknown") == 0) {
        lt_reply_send(&op->reply, LT_UNKNOWN, "no such task");
    } else if (lt_redis_read_task(lt_redis_element(request->reply, 1), redis->host, &found)) {
        op->task = found.task;
        lt_reply_ok(&op->reply);
    } else {
        lt_redis_fail(request, &op->reply);
    }
    lt_redis_request_free(request);
}

void lt_redis_get(struct lt_container *container, struct lt_get_op *op)
{
    struct lt_redis *redis = lt_redis_of(container);
    struct lt_redis_request *request = lt_redis_request(redis, "g", op, got);
    lt_redis_put(request, op->id, op->id_len);
    lt_redis_put_text(request, op->waits ? "1" : "0");
    request->patient = true;
    lt_redis_send(redis->link, request);
}

/* Lists, step by step: a call never looks at more than some hundred tasks. */

static void list_step(struct lt_redis *redis, struct lt_list_op *op, uint64_t after);

static uint64_t wanted_of(const struct lt_list_op *op)
{
    return op->limit > op->tasks.count ? op->limit - op->tasks.count + op->offset : 0;
}

static void take_listed(const struct lt_redis *redis, struct lt_list_op *op, const redisReply *list)
{
    for (size_t i = 0; list != NULL && i < list->elements; i++) {
        struct lt_redis_found found;
        if (!lt_redis_read_task(list->element[i], redis->host, &found))
            continue;
        if (op->offset > 0) {
            op->offset--;
            lt_task_unref(found.task);
            continue;
        }
        op->next = found.task->seq;
        lt_tasks_push(&op->tasks, found.task);
    }
}

static void listed(struct lt_redis_request *request)
{
    struct lt_redis *redis = request->user;
    struct lt_list_op *op = request->op;
    const char *after = lt_redis_text(request->reply, 1);
    if (after == NULL) {
        lt_redis_fail(request, &op->reply);
    } else {
        uint64_t next = strtoull(after, NULL, 10);
        take_listed(redis, op, lt_redis_element(request->reply, 2));
        if (next == 0 || wanted_of(op) == 0)
            lt_reply_ok(&op->reply);
        else
            list_step(redis, op, next);
    }
    lt_redis_request_free(request);
}

static void list_step(struct lt_redis *redis, struct lt_list_op *op, uint64_t after)
{
    struct lt_redis_request *request = lt_redis_request(redis, "l", op, listed);
    uint64_t wanted = wanted_of(op);
    char text[32];
    snprintf(text, sizeof text, "%.*d", op->status >= 0, op->status);
    lt_redis_put_text(request, op->status >= 0 ? text : "");
    lt_redis_put_optional(request, op->key);
    lt_redis_put(request, op->text != NULL ? op->text->data : "", op->text != NULL ? op->text->len : 0);
    snprintf(text, sizeof text, "%llu", (unsigned long long)after);
    lt_redis_put_text(request, text);
    snprintf(text, sizeof text, "%d", wanted < STEP ? (int)wanted : STEP);
    lt_redis_put_text(request, text);
    lt_redis_put_text(request, op->descending ? "1" : "0");
    request->weight = STEP;
    request->patient = true;
    lt_redis_send(redis->link, request);
}

void lt_redis_list(struct lt_container *container, struct lt_list_op *op)
{
    struct lt_redis *redis = lt_redis_of(container);
    if (op->limit == 0)
        lt_reply_ok(&op->reply);
    else
        list_step(redis, op, op->after);
}

/* Counts. */

static void counted(struct lt_redis_request *request)
{
    struct lt_redis *redis = request->user;
    struct lt_count_op *op = request->op;
    const redisReply *reply = request->reply;
    if (reply == NULL || reply->type != REDIS_REPLY_ARRAY || reply->elements != 8) {
        lt_redis_fail(request, &op->reply);
        lt_redis_request_free(request);
        return;
    }
    for (size_t i = 0; i < 6; i++)
        op->counts[LT_WAITING + i] = (uint64_t)reply->element[i]->integer;
    op->delayed = (uint64_t)reply->element[6]->integer;
    redis->oldest = 0;
    if (reply->element[7]->len == 16) {
        double times[2];
        for (size_t i = 0; i < 2; i++) {
            uint64_t bits = lt_redis_unpack(reply->element[7]->str + 8 * i, 8);
            memcpy(&times[i], &bits, sizeof bits);
        }
        redis->oldest = times[0] > times[1] ? times[0] : times[1];
    }
    lt_reply_ok(&op->reply);
    lt_redis_request_free(request);
}

void lt_redis_count(struct lt_container *container, struct lt_count_op *op)
{
    struct lt_redis *redis = lt_redis_of(container);
    struct lt_redis_request *request = lt_redis_request(redis, "i", op, counted);
    memset(op->counts, 0, sizeof op->counts);
    request->patient = true;
    lt_redis_send(redis->link, request);
}
