/* The container: each operation becomes a request to the server, encoded here and decoded when its answer is back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/log.h"
#include "containers/redis/container_state.h"
#include "containers/redis/record.h"
#include "redis/connection.h"

static const double PRUNE = 1; /* seconds between two steps of forgetting, while there is something to forget */
static const double PRUNE_IDLE = 30;

/* Changes. */

static void forget_if_over(struct lt_redis *redis, const struct lt_change_op *op)
{
    struct lt_redis_run *run = lt_redis_find_run(redis, op->task->data, op->task->id_len);
    if (run != NULL && op->token != 0 && run->token == op->token && run->run == op->transition.run &&
        op->transition.to != LT_EXPORTING)
        lt_redis_forget_run(redis, run);
}

/* What the task is by now, so that it cannot become what was wanted. */
static void answer_moved(const struct lt_redis_request *request, struct lt_change_op *op)
{
    const char *status = lt_redis_text(request->reply, 1), *run = lt_redis_text(request->reply, 2);
    struct lt_error error;
    if (status == NULL || run == NULL || status[0] < '1' || status[0] > '6' ||
        lt_redis_element(request->reply, 2)->len != 6)
        lt_redis_fail(request, &op->reply);
    else if (lt_transition_check_row(&op->transition, op->task->data, lt_redis_unpack(run, 6),
                                     (enum lt_status)(status[0] - '0'), &error) != LT_OK)
        lt_reply_send(&op->reply, LT_STALE, error.message);
    else
        lt_reply_send(&op->reply, LT_STALE, "the task has moved on");
}

static void changed(struct lt_redis_request *request)
{
    struct lt_change_op *op = request->op;
    struct lt_redis *redis = request->user;
    op->reply.cancel_arg = NULL;
    if (request->code == LT_OK)
        forget_if_over(redis, op);
    if (lt_redis_answers(request, "ok")) {
        lt_reply_ok(&op->reply);
    } else if (lt_redis_answers(request, "unknown")) {
        char *message = lt_format("task '%s' is not known any more", op->task->data);
        lt_reply_send(&op->reply, op->token != 0 ? LT_STALE : LT_UNKNOWN, message);
        free(message);
    } else if (lt_redis_answers(request, "stale")) {
        char *message = lt_format("task '%s' is another host's by now", op->task->data);
        lt_reply_send(&op->reply, LT_STALE, message);
        free(message);
    } else if (lt_redis_answers(request, "moved")) {
        answer_moved(request, op);
    } else {
        lt_redis_fail(request, &op->reply);
    }
    lt_redis_request_free(request);
}

static void put_change(struct lt_redis_request *request, const struct lt_task *task,
                       const struct lt_transition *transition, uint64_t token, bool again)
{
    const struct lt_bytes *values[] = {transition->reason, task->extra != NULL ? task->extra->version : NULL,
                                       task->extra != NULL ? task->extra->progress : NULL, transition->output};
    bool frees = token != 0 && transition->to != LT_EXPORTING, later = transition->delay > 0 || transition->run_at > 0;
    char packed[LT_REDIS_CHANGE];
    int has = later ? LT_REDIS_WHEN : 0;
    lt_redis_pack(packed, transition->run, 6);
    lt_redis_pack(packed + 6, token, 8);
    packed[LT_REDIS_CHANGE_TO] = (char)('0' + (int)transition->to);
    packed[LT_REDIS_CHANGE_BITS] =
        (char)((again ? LT_REDIS_AGAIN : 0) | (frees ? LT_REDIS_FREES : 0) |
               (transition->uncounted ? LT_REDIS_UNCOUNTED : 0) | (transition->lost ? LT_REDIS_WAS_LOST : 0) |
               (transition->not_begun ? LT_REDIS_NOT_BEGUN : 0));
    for (int i = 0; i < 4; i++)
        has |= values[i] != NULL ? LT_REDIS_REASON << i : 0;
    packed[LT_REDIS_CHANGE_VALUES] = (char)has;
    lt_redis_put(request, task->data, task->id_len);
    lt_redis_put(request, packed, sizeof packed);
    if (transition->delay > 0)
        lt_redis_put_when(request, true, transition->delay);
    else if (later)
        lt_redis_put_when(request, false, transition->run_at);
    for (int i = 0; i < 4; i++) {
        if (values[i] != NULL)
            lt_redis_put(request, values[i]->data, values[i]->len);
    }
}

static void change(struct lt_container *container, struct lt_change_op *op)
{
    struct lt_redis *redis = lt_redis_of(container);
    struct lt_redis_request *request = lt_redis_request(redis, "c", op, changed);
    put_change(request, op->task, &op->transition, op->token, op->again);
    op->reply.cancel_arg = request; /* for a claim that counts on the room that this makes */
    lt_redis_send(redis->link, request);
}

/* Other words of a run. */

static void updated(struct lt_redis_request *request)
{
    struct lt_update_op *op = request->op;
    if (lt_redis_answers(request, "ok"))
        lt_reply_ok(&op->reply);
    else if (lt_redis_answers(request, "stale"))
        lt_reply_send(&op->reply, LT_STALE, "the task has moved on");
    else
        lt_redis_fail(request, &op->reply);
    lt_redis_request_free(request);
}

static void update(struct lt_container *container, struct lt_update_op *op)
{
    struct lt_redis *redis = lt_redis_of(container);
    struct lt_redis_request *request = lt_redis_request(redis, "u", op, updated);
    lt_redis_put(request, op->task->data, op->task->id_len);
    lt_redis_put_packed(request, op->run, 6);
    lt_redis_put_packed(request, op->token, 8);
    lt_redis_put_optional(request, op->handle);
    lt_redis_put_optional(request, op->progress);
    lt_redis_send(redis->link, request);
}

static void stop_asked(struct lt_redis_request *request)
{
    struct lt_ask_stop_op *op = request->op;
    if (lt_redis_answers(request, "ok"))
        lt_reply_ok(&op->reply);
    else if (lt_redis_answers(request, "stale"))
        lt_reply_send(&op->reply, LT_STALE, "the task has moved on");
    else
        lt_redis_fail(request, &op->reply);
    lt_redis_request_free(request);
}

static void ask_stop(struct lt_container *container, struct lt_ask_stop_op *op)
{
    struct lt_redis *redis = lt_redis_of(container);
    struct lt_redis_request *request = lt_redis_request(redis, "s", op, stop_asked);
    lt_redis_put(request, op->task->data, op->task->id_len);
    lt_redis_put_packed(request, op->task->run, 6);
    lt_redis_put_optional(request, op->reason);
    request->patient = true;
    lt_redis_send(redis->link, request);
}

static void pause_stored(struct lt_redis_request *request)
{
    struct lt_reply *reply = request->op;
    if (lt_redis_answers(request, "ok"))
        lt_reply_ok(reply);
    else
        lt_redis_fail(request, reply);
    lt_redis_request_free(request);
}

static void pause_all(struct lt_container *container, bool paused, struct lt_reply *reply)
{
    struct lt_redis *redis = lt_redis_of(container);
    struct lt_redis_request *request = lt_redis_request(redis, "p", reply, pause_stored);
    lt_redis_put_text(request, paused ? "1" : "0");
    request->patient = true;
    lt_redis_send(redis->link, request);
}

/* What is known to be down is not waited for: the scheduler comes again when it is up. */
static void recover(struct lt_container *container, struct lt_recover_op *op)
{
    const struct lt_redis *redis = lt_redis_of(container);
    if (redis->down != NULL)
        lt_reply_send(&op->reply, LT_ERROR, redis->down);
    else
        lt_redis_recover(container, op);
}

static double oldest(const struct lt_container *container)
{
    return ((const struct lt_redis *)container)->oldest;
}

/* Forgetting what is old. */

static void prune_now(struct lt_timer *timer);

static void plan_prune(struct lt_redis *redis, double seconds)
{
    lt_timer_start(redis->loop, &redis->prune, lt_loop_now(redis->loop) + seconds, prune_now);
}

static void pruned(struct lt_redis_request *request)
{
    struct lt_redis *redis = request->user;
    const redisReply *list = lt_redis_element(request->reply, 2);
    const char *left = lt_redis_text(request->reply, 1);
    struct lt_redis_found found;
    for (size_t i = 0; list != NULL && i < list->elements; i++) {
        if (!lt_redis_read_task(list->element[i], redis->host, &found))
            continue;
        lt_redis_tell(redis, &(struct lt_news){.kind = LT_NEWS_FORGOTTEN, .task = found.task});
        lt_task_unref(found.task);
    }
    if (redis->open)
        plan_prune(redis, request->code != LT_OK ? PRUNE_IDLE : left != NULL && left[0] == '1' ? 0.01 : PRUNE);
    lt_redis_request_free(request);
}

static void prune_now(struct lt_timer *timer)
{
    struct lt_redis *redis = lt_container_of(timer, struct lt_redis, prune);
    lt_redis_send(redis->link, lt_redis_request(redis, "f", NULL, pruned));
}

/* Life. */

static void open_redis(struct lt_container *container, const struct lt_container_env *env)
{
    struct lt_redis *redis = lt_redis_of(container);
    redis->env = *env;
    redis->open = true;
    if (redis->forgets)
        plan_prune(redis, PRUNE);
    lt_redis_tell_down(redis);
}

static void let_go(struct lt_redis *redis)
{
    if (redis->link != NULL)
        lt_redis_link_close(redis->link);
    redis->link = NULL;
    lt_redis_free_adding(redis);
    lt_redis_free_runs(redis);
}

static void free_redis(struct lt_redis *redis)
{
    let_go(redis);
    free(redis->down);
    free(redis);
}

/* It is no owner any more. The object may live on for a while, and does nothing. */
static void left(struct lt_redis_request *request)
{
    struct lt_redis *redis = request->user;
    struct lt_reply *reply = request->op;
    if (request->code != LT_OK && redis->was_ready)
        lt_log(LT_LOG_WARN, "the store could not be told that this host leaves; others will find that out",
               LT_S("server", lt_redis_shown(redis->link)), LT_S("error", request->message));
    lt_redis_request_free(request);
    let_go(redis);
    lt_reply_ok(reply);
    if (redis->released)
        free_redis(redis);
}

static void close_redis(struct lt_container *container, struct lt_reply *reply)
{
    struct lt_redis *redis = lt_redis_of(container);
    redis->open = false;
    lt_timer_stop(redis->loop, &redis->prune);
    struct lt_redis_request *request = lt_redis_request(redis, "e", reply, left);
    request->leaves = true;
    lt_redis_send(redis->link, request);
}

static void release_redis(struct lt_container *container)
{
    struct lt_redis *redis = lt_redis_of(container);
    redis->released = true;
    if (!redis->base.in_use || redis->link == NULL)
        free_redis(redis);
}

static const struct lt_container_ops redis_ops = {
    .name = "redis",
    .durable = true,
    .announces = true,
    .tells_one = true,
    .tells_availability = true,
    .ordered = true,
    .priorities = true,
    .chooses = true,
    .keeps_limits = true,
    .open = open_redis,
    .add = lt_redis_add,
    .claim = lt_redis_claim,
    .change = change,
    .update = update,
    .get = lt_redis_get,
    .list = lt_redis_list,
    .count = lt_redis_count,
    .hosts = lt_redis_hosts,
    .recover = recover,
    .ask_stop = ask_stop,
    .set_limits = lt_redis_set_limits,
    .pause_all = pause_all,
    .oldest = oldest,
    .key_open = lt_redis_key_open,
    .close = close_redis,
    .release = release_redis,
};

bool lt_redis_is(const struct lt_container *container)
{
    return container->ops == &redis_ops;
}

struct lt_container *lt_redis_container_new(struct lt_loop *loop, const struct lt_redis_options *options,
                                            struct lt_error *error)
{
    struct lt_redis *redis = lt_zalloc(sizeof *redis);
    struct lt_redis_link_options link = {.queue = options->queue,
                                         .wait_replicas = options->wait_replicas,
                                         .lease = options->lease,
                                         .tell = lt_redis_hear,
                                         .arg = redis};
    if (!lt_redis_servers_read(&link.servers, options->urls, options->sentinels, &options->tls, options->tls_name,
                               error)) {
        free(redis);
        return NULL;
    }
    memcpy(link.keep, options->keep, sizeof link.keep);
    redis->base.ops = &redis_ops;
    redis->base.fair = options->fair;
    redis->loop = loop;
    redis->options = (struct lt_redis_options){.lease = options->lease};
    memcpy(redis->options.keep, options->keep, sizeof options->keep);
    redis->prune = LT_TIMER_INIT;
    lt_redis_open_runs(redis);
    redis->forgets = options->keep[0] >= 0 || options->keep[1] >= 0 || options->keep[2] >= 0;
    gethostname(redis->host, sizeof redis->host - 1);
    redis->link = lt_redis_link_open(loop, &link);
    if (redis->link == NULL) {
        lt_fail(error, LT_ERROR, "there is no thread for the connection");
        free(redis);
        return NULL;
    }
    return &redis->base;
}
