/* Adding: a list goes all or none. A long one goes in steps, as no call may hold the server for long: first all of them are
 * looked at, then they are added; if one cannot be (somebody else has just added it, or the server's memory is full), those that
 * were added before are deleted again, unless they have begun. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/alloc.h"
#include "containers/redis/container_state.h"
#include "containers/redis/record.h"

enum { STEP = 100 /* tasks of a call */ };

/* A list that is being added. */
struct adding {
    LIST_ENTRY(adding) link;
    struct lt_redis *redis;
    struct lt_add_op *op;
    char name[6];  /* of this add, by chance: so that it can be repeated */
    bool checks;   /* it is only looked at so far */
    uint32_t left; /* steps under way */
    int code;      /* what went wrong first */
    char *message;
    double added_at[]; /* of each step; 0: it was not added */
};

/* Bits of what an added task comes with: as queue.lua has them. */
enum { ADD_ONCE = 1, ADD_WHEN = 2, ADD_WITHIN = 4, ADD_ITEM = 8 };

static void put_task(const struct lt_redis *redis, struct lt_redis_request *request, const struct lt_task *task)
{
    const struct lt_task_options *options = task->options;
    const struct lt_bytes *key = lt_task_key(task);
    double now = lt_loop_wall(redis->loop);
    bool large = task->item_len > LT_REDIS_LARGE_ITEM, later = task->run_at > now;
    bool expires = options != NULL && options->expires_at > 0;
    struct lt_buffer tail = {0};
    char head[1 + LT_REDIS_PRIORITY], key_len[2];
    head[0] = (char)((options != NULL && options->once ? ADD_ONCE : 0) | (later ? ADD_WHEN : 0) |
                     (expires ? ADD_WITHIN : 0) | (large ? ADD_ITEM : 0));
    size_t head_len = 1 + lt_redis_pack_priority(head + 1, task->priority);
    lt_redis_put(request, task->data, task->id_len);
    lt_redis_put(request, head, head_len);
    lt_redis_pack(key_len, key != NULL ? key->len : 0, sizeof key_len);
    lt_buffer_append(&tail, key_len, sizeof key_len);
    if (key != NULL)
        lt_buffer_append(&tail, key->data, key->len);
    lt_redis_pack_rest(&tail, task);
    lt_redis_put(request, tail.data, tail.len);
    lt_buffer_free(&tail);
    if (later)
        lt_redis_put_when(request, task->delayed, task->delayed ? task->run_at - now : task->run_at);
    if (expires)
        lt_redis_put_number(request, options->expires_at - now);
    if (large)
        lt_redis_put(request, lt_task_item(task), task->item_len);
}

/* What the server answered. */

static char *why_it_exists(const struct lt_redis_request *request)
{
    const char *id = lt_redis_text(request->reply, 1), *status = lt_redis_text(request->reply, 2);
    if (!lt_redis_answers(request, "exists") || id == NULL || status == NULL)
        return NULL;
    if (status[0] == '\0')
        return lt_format("task '%s' was added before", id);
    return lt_format("task '%s' exists and is %s", id, lt_status_name((enum lt_status)(status[0] - '0')));
}

static void note_failure(struct adding *adding, const struct lt_redis_request *request)
{
    char *exists = why_it_exists(request);
    if (adding->code != LT_OK) {
        free(exists);
        return;
    }
    adding->code = exists != NULL ? LT_EXISTS : request->code != LT_OK ? request->code : LT_ERROR;
    adding->message = exists != NULL             ? exists
                      : request->message != NULL ? lt_strdup(request->message)
                                                 : lt_strdup("the Redis server's answer cannot be read");
}

static bool is_ok(const struct lt_redis_request *request)
{
    const redisReply *time = lt_redis_element(request->reply, 1);
    return request->code == LT_OK && lt_redis_answers(request, "ok") && time != NULL &&
           time->type == REDIS_REPLY_STRING && time->len == 8;
}

/* The end of it. */

static void free_adding(struct adding *adding)
{
    free(adding->message);
    free(adding);
}

static void delete_task(const struct adding *adding, const struct lt_task *task)
{
    struct lt_redis_request *request = lt_redis_request(adding->redis, "c", NULL, lt_redis_request_free);
    char packed[LT_REDIS_CHANGE] = {0};
    packed[LT_REDIS_CHANGE_TO] = (char)('0' + LT_DELETED);
    lt_redis_put(request, task->data, task->id_len);
    lt_redis_put(request, packed, sizeof packed);
    request->patient = true;
    lt_redis_send(adding->redis->link, request);
}

/* Those that have begun by now go on: their run is not the one that is named here. */
static void end_adding(struct adding *adding)
{
    for (uint32_t i = 0; i < adding->op->count && !adding->checks; i++) {
        double at = adding->added_at[i / STEP];
        if (adding->code == LT_OK)
            lt_task_apply_added(adding->op->tasks[i], at);
        else if (at > 0)
            delete_task(adding, adding->op->tasks[i]);
    }
    LIST_REMOVE(adding, link);
    lt_reply_send(&adding->op->reply, adding->code, adding->message);
    free_adding(adding);
}

void lt_redis_free_adding(struct lt_redis *redis)
{
    struct adding *adding, *next;
    for (adding = LIST_FIRST(&redis->adding); adding != NULL; adding = next) {
        next = LIST_NEXT(adding, link);
        free_adding(adding);
    }
    LIST_INIT(&redis->adding);
}

/* Step by step. */

static uint32_t steps_of(const struct lt_add_op *op)
{
    return (op->count + STEP - 1) / STEP;
}

static void send_steps(struct adding *adding);

static void step_answered(struct lt_redis_request *request)
{
    struct adding *adding = request->op;
    if (!is_ok(request))
        note_failure(adding, request);
    else if (!adding->checks)
        adding->added_at[request->number] = lt_redis_unpack_double(lt_redis_element(request->reply, 1)->str);
    lt_redis_request_free(request);
    if (--adding->left > 0)
        return;
    if (adding->checks && adding->code == LT_OK) {
        adding->checks = false;
        send_steps(adding);
    } else {
        end_adding(adding);
    }
}

static void put_id(struct lt_redis_request *request, const struct lt_task *task)
{
    lt_redis_put(request, task->data, task->id_len);
    lt_redis_put_text(request, task->options != NULL && task->options->once ? "1" : "0");
}

static void send_step(struct adding *adding, uint32_t number)
{
    bool checks = adding->checks;
    uint32_t from = number * STEP, left = adding->op->count - from, tasks = left < STEP ? left : STEP;
    struct lt_redis_request *request = lt_redis_request(adding->redis, checks ? "b" : "a", adding, step_answered);
    char count[16];
    snprintf(count, sizeof count, "%u", tasks);
    lt_redis_put_text(request, count);
    if (!checks)
        lt_redis_put(request, adding->name, sizeof adding->name);
    for (uint32_t i = from; i < from + tasks; i++) {
        if (checks)
            put_id(request, adding->op->tasks[i]);
        else
            put_task(adding->redis, request, adding->op->tasks[i]);
    }
    request->number = number;
    request->weight = tasks;
    request->patient = true;
    request->grows = !checks;
    lt_redis_send(adding->redis->link, request);
}

static void send_steps(struct adding *adding)
{
    adding->left = steps_of(adding->op);
    for (uint32_t number = 0; number < steps_of(adding->op); number++)
        send_step(adding, number);
}

static const char *id_of_task(const void *object, size_t *len)
{
    const struct lt_task *task = object;
    *len = task->id_len;
    return task->data;
}

/* One that is in the list twice, or NULL. */
static const struct lt_task *find_double(const struct lt_add_op *op)
{
    struct lt_map seen = {.key = id_of_task};
    const struct lt_task *found = NULL;
    for (uint32_t i = 0; found == NULL && i < op->count; i++) {
        struct lt_task *task = op->tasks[i];
        if (lt_map_find(&seen, task->hash, task->data, task->id_len) != NULL)
            found = task;
        else
            lt_map_put(&seen, task->hash, task);
    }
    lt_map_free(&seen);
    return found;
}

void lt_redis_add(struct lt_container *container, struct lt_add_op *op)
{
    struct lt_redis *redis = lt_redis_of(container);
    uint32_t steps = steps_of(op);
    const struct lt_task *doubled = op->count > 1 ? find_double(op) : NULL;
    if (doubled != NULL) {
        char *message = lt_format("task '%s' is in the list twice", doubled->data);
        lt_reply_send(&op->reply, LT_EXISTS, message);
        free(message);
        return;
    }
    struct adding *adding = lt_zalloc(sizeof *adding + steps * sizeof adding->added_at[0]);
    LIST_INSERT_HEAD(&redis->adding, adding, link);
    adding->redis = redis;
    adding->op = op;
    adding->checks = steps > 1;
    if (getrandom(adding->name, sizeof adding->name, 0) != (ssize_t)sizeof adding->name)
        lt_redis_pack(adding->name, uv_hrtime(), sizeof adding->name);
    send_steps(adding);
}
