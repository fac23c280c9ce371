#include "workers/pool_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static int open_pool(struct lt_actuator *actuator, const struct lt_actuator_env *env, struct lt_error *error)
{
    (void)error;
    struct pool *pool = pool_of(actuator);
    pool->env = *env;
    pool->open = true;
    return LT_OK;
}

static void start_run(struct lt_actuator *actuator, struct lt_work *work)
{
    struct pool *pool = pool_of(actuator);
    struct activity *activity = lt_alloc(sizeof *activity);
    *activity = (struct activity){.pool = pool, .work = work, .grace = LT_TIMER_INIT, .report = LT_REPORT(LT_RUNNING)};
    work->data = activity;
    TAILQ_INSERT_TAIL(&pool->waiting, activity, link);
    lt_reply_ok(&work->reply);
    pool_assign_waiting(pool);
}

static void stop_run(struct lt_actuator *actuator, struct lt_work *work)
{
    struct pool *pool = pool_of(actuator);
    struct activity *activity = work->data;
    if (activity == NULL) { /* its end was reported */
        lt_reply_ok(&work->reply);
        return;
    }
    if (activity->ended) {
        struct lt_report report = activity->report;
        activity->report = LT_REPORT(LT_RUNNING);
        pool_free_activity(activity);
        lt_work_stopped(work, &report);
        return;
    }
    activity->stopping = true;
    if (activity->slot == NULL) {
        TAILQ_REMOVE(&pool->waiting, activity, link);
        pool_fail_activity(activity, "stopped");
    } else if (!pool_is_ahead(activity)) {
        pool_ask_to_stop(activity);
    } /* else its turn will come, or it comes back */
}

static void tell_status(struct lt_actuator *actuator, struct lt_status_op *op)
{
    (void)actuator;
    for (uint32_t i = 0; i < op->count; i++) {
        struct activity *activity = op->seen[i].work->data;
        if (activity == NULL || !activity->ended)
            continue; /* the report says that it runs */
        op->seen[i].report = activity->report;
        activity->report = LT_REPORT(LT_RUNNING);
        pool_free_activity(activity);
    }
    lt_reply_ok(&op->reply);
}

static uint32_t count_abandoned(struct lt_actuator *actuator)
{
    return pool_of(actuator)->abandoned_count;
}

static void free_pool(struct pool *pool)
{
    pool_free_edition(&pool->edition);
    free(pool->slots);
    free(pool);
}

static void close_pool(struct lt_actuator *actuator, struct lt_reply *reply)
{
    struct pool *pool = pool_of(actuator);
    struct abandoned *abandoned;
    pool->open = false;
    lt_timer_stop(pool->env.loop, &pool->pause);
    lt_timer_stop(pool->env.loop, &pool->look);
    pool_end_trial(pool, NULL); /* no reason against it: other pools may use it */
    for (uint32_t i = 0; i < pool->workers; i++)
        pool_empty_slot(&pool->slots[i]);
    while ((abandoned = LIST_FIRST(&pool->abandoned)) != NULL) {
        LIST_REMOVE(abandoned, link);
        abandoned->worker->ops->disown(abandoned->worker);
        free(abandoned);
    }
    pool->abandoned_count = 0;
    if (pool->released)
        free_pool(pool);
    lt_reply_ok(reply);
}

static void release_pool(struct lt_actuator *actuator)
{
    struct pool *pool = pool_of(actuator);
    pool->released = true;
    if (pool->open)
        return;
    pool_end_trial(pool, NULL); /* of one that was never opened */
    free_pool(pool);
}

struct lt_actuator *lt_pool_new(const struct lt_pool_options *options)
{
    static const struct lt_actuator_ops ops = {
        .name = "func",
        .open = open_pool,
        .start = start_run,
        .stop = stop_run,
        .status = tell_status,
        .abandoned = count_abandoned,
        .close = close_pool,
        .release = release_pool,
    };
    struct pool *pool = lt_zalloc(sizeof *pool);
    pool->base = (struct lt_actuator){
        .ops = &ops, .can_attach = true, .can_status = true, .builtin = true, .capacity = options->workers};
    pool_make_edition(&pool->edition, &options->load);
    pool->workers = options->workers;
    pool->max_abandoned = options->max_abandoned;
    pool->processes = options->processes;
    pool->assign = pool_assign_waiting;
    pool->grace_over = pool_grace_over;
    pool->slots = lt_zalloc(options->workers * sizeof *pool->slots);
    for (uint32_t i = 0; i < options->workers; i++) {
        pool->slots[i] = (struct slot){.pool = pool, .loading = LT_TIMER_INIT};
        TAILQ_INIT(&pool->slots[i].ahead);
    }
    pool->trial.loading = pool->pause = pool->look = LT_TIMER_INIT;
    TAILQ_INIT(&pool->waiting);
    LIST_INIT(&pool->abandoned);
    return &pool->base;
}
