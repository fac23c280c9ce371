/* The workers of a pool: making them, hearing them, and doing without those that do not come, or do not come back. */
#include "workers/pool_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/log.h"

static const double FIRST_PAUSE = 0.1; /* seconds until another worker is tried after one that did not come; doubles */
static const double LONGEST_PAUSE = 5;

static void load_too_late(struct lt_timer *timer);

static void set_capacity(struct pool *pool)
{
    bool full = pool->abandoned_count >= pool->max_abandoned;
    uint32_t before = pool->base.capacity;
    uint32_t capacity = pool->workers;
    for (uint32_t i = 0; i < pool->workers; i++)
        capacity += pool_takes_ahead(&pool->slots[i]) ? POOL_AHEAD : 0;
    pool->base.capacity = full ? 0 : capacity;
    if (before > 0 && full)
        lt_log(LT_LOG_ERROR, "too many workers did not come back, no task is started any more",
               LT_S("module", pool->edition.load.module), LT_I("abandoned", pool->abandoned_count));
    if (before < pool->base.capacity && pool->open)
        pool->env.capacity_changed(pool->env.push_arg);
}

static void end_pause(struct lt_timer *timer)
{
    pool_assign_waiting(lt_container_of(timer, struct pool, pause));
}

static void start_pause(struct pool *pool)
{
    double next = pool->pause_length * 2;
    pool->pause_length = next < FIRST_PAUSE ? FIRST_PAUSE : next < LONGEST_PAUSE ? next : LONGEST_PAUSE;
    lt_timer_start(pool->env.loop, &pool->pause, lt_loop_tick(pool->env.loop) + pool->pause_length, end_pause);
}

/* A worker did not come: its module was not loaded, or the host is short of threads or descriptors. Those that wait are
 * left to the other workers, if there are any or some may come; else one more is tried, alone, since many at once may
 * take from each other what each of them needs; and if that one does not come either, they fail. */
static void do_without(struct pool *pool, const char *reason)
{
    bool others = false;
    for (uint32_t i = 0; i < pool->workers; i++)
        others = others || pool->slots[i].worker != NULL;
    bool tried_alone = pool->one_by_one || pool->workers == 1;
    pool->one_by_one = true;
    if (!lt_timer_active(&pool->pause)) {
        if (others || !tried_alone)
            start_pause(pool);
        else
            pool_fail_waiting(pool, reason);
    }
}

/* Those that wait have all got one: from now on workers are made at once again. */
void pool_end_shortage(struct pool *pool)
{
    pool->one_by_one = false;
    pool->pause_length = 0;
    lt_timer_stop(pool->env.loop, &pool->pause);
}

static void give_to_idle(struct pool *pool)
{
    for (uint32_t i = 0; i < pool->workers && !TAILQ_EMPTY(&pool->waiting); i++) {
        struct slot *slot = &pool->slots[i];
        if (slot->worker == NULL || slot->activity != NULL || !slot->loaded)
            continue;
        struct activity *activity = TAILQ_FIRST(&pool->waiting);
        TAILQ_REMOVE(&pool->waiting, activity, link);
        pool_give_activity(slot, activity);
    }
}

/* Makes a worker in a free slot. False: there is none. */
static bool make_one(struct pool *pool)
{
    struct slot *slot = pool->slots;
    while (slot < pool->slots + pool->workers && slot->worker != NULL)
        slot++;
    if (slot == pool->slots + pool->workers)
        return false;
    slot->loaded = slot->outdated = false;
    slot->worker = pool_make_worker(pool, &pool->edition, slot, pool_worker_spoke, pool_worker_gone);
    lt_timer_start(pool->env.loop, &slot->loading, lt_loop_tick(pool->env.loop) + POOL_LOAD_TIME, load_too_late);
    return true;
}

/* For those that wait and got none. */
static void make_workers(struct pool *pool)
{
    if (lt_timer_active(&pool->pause))
        return;
    uint32_t wanted = 0, coming = 0;
    struct activity *activity;
    TAILQ_FOREACH(activity, &pool->waiting, link)
        wanted++;
    for (uint32_t i = 0; i < pool->workers; i++)
        coming += pool->slots[i].worker != NULL && !pool->slots[i].loaded;
    if (pool->one_by_one && wanted > 1)
        wanted = 1;
    while (coming < wanted && make_one(pool))
        coming++;
}

/* Gives the tasks that wait to workers, and makes some for those that get none. */
void pool_assign_waiting(struct pool *pool)
{
    give_to_idle(pool);
    pool_place_excess(pool);
    make_workers(pool);
    set_capacity(pool);
}

/* What a worker says. */

/* The worker ended before it heard of this run, for what an earlier one or its module had left in its memory: another
 * worker gets it. If that one is no better, it is the module. */
static void give_activity_back(struct activity *activity)
{
    if (activity->given_back && !activity->stopping) {
        pool_fail_activity(activity, "memory limit");
        return;
    }
    activity->given_back = true;
    pool_take_back(activity->slot, activity);
}

static void hear_ended(struct slot *slot, const struct lt_message *message)
{
    struct activity *activity = slot->activity;
    struct lt_report report;
    if (message->head.last)
        pool_empty_slot(slot);
    if (activity == NULL)
        return;
    if (activity->seq != message->head.seq) {
        if (message->head.last)
            give_activity_back(activity);
        return;
    }
    lt_message_report(message, &report);
    pool_note_time(slot->pool, message->head.time);
    pool_end_activity(activity, &report);
}

/* Its turn came too late. */
static void hear_not_begun(struct slot *slot, const struct lt_message *message)
{
    struct activity *activity = slot->activity;
    if (activity == NULL || activity->seq != message->head.seq || activity->begin_by == 0)
        return;
    pool_take_back(slot, activity);
}

static void hear_progress(const struct slot *slot, const struct lt_message *message)
{
    struct activity *activity = slot->activity;
    if (activity == NULL || activity->seq != message->head.seq || activity->stopping)
        return;
    struct lt_report report = LT_REPORT(LT_RUNNING);
    report.progress = lt_bytes_new(message->data, message->head.len);
    slot->pool->env.notify.report(slot->pool->env.notify.arg, activity->work, &report);
}

static void hear_broken(struct slot *slot, const char *reason)
{
    struct pool *pool = slot->pool;
    lt_log_gated(&pool->log, LT_LOG_ERROR, "a worker could not load its module",
                 LT_S("module", pool->edition.load.module), LT_S("error", reason));
    pool_empty_slot(slot);
    do_without(pool, reason);
}

static void hear_loaded(struct slot *slot)
{
    struct pool *pool = slot->pool;
    slot->loaded = true;
    lt_timer_stop(pool->env.loop, &slot->loading);
    give_to_idle(pool);
    if (TAILQ_EMPTY(&pool->waiting))
        pool_end_shortage(pool);
}

void pool_worker_spoke(struct lt_worker *worker, const struct lt_message *message)
{
    struct slot *slot = worker->owner;
    struct pool *pool = slot->pool;
    switch (message->head.kind) {
    case LT_MESSAGE_LOADED:
        hear_loaded(slot);
        break;
    case LT_MESSAGE_BROKEN:
        hear_broken(slot, message->data);
        break;
    case LT_MESSAGE_PROGRESS:
        hear_progress(slot, message);
        break;
    case LT_MESSAGE_ENDED:
        hear_ended(slot, message);
        break;
    case LT_MESSAGE_NOT_BEGUN:
        hear_not_begun(slot, message);
        break;
    default:
        break;
    }
    if (pool->open)
        pool_assign_waiting(pool);
}

/* It ended by itself. */
void pool_worker_gone(struct lt_worker *worker, const char *how)
{
    struct slot *slot = worker->owner;
    struct pool *pool = slot->pool;
    struct activity *activity = slot->activity;
    bool was_loaded = slot->loaded;
    char reason[128];
    snprintf(reason, sizeof reason, "worker died: %s", how);
    pool_clear_slot(slot);
    if (activity != NULL)
        pool_fail_activity(activity, reason);
    if (!was_loaded) {
        lt_log_gated(&pool->log, LT_LOG_ERROR, "a worker could not be started",
                     LT_S("module", pool->edition.load.module), LT_S("error", how));
        do_without(pool, reason);
    }
    if (pool->open)
        pool_assign_waiting(pool);
}

/* Workers that do not come back. */

static void ignore_message(struct lt_worker *worker, const struct lt_message *message)
{
    (void)worker;
    (void)message;
}

static void abandoned_came_back(struct lt_worker *worker, const char *how)
{
    (void)how;
    struct abandoned *abandoned = worker->owner;
    struct pool *pool = abandoned->pool;
    LIST_REMOVE(abandoned, link);
    free(abandoned);
    pool->abandoned_count--;
    set_capacity(pool);
}

static void abandon_worker(struct slot *slot)
{
    struct pool *pool = slot->pool;
    struct abandoned *abandoned = lt_alloc(sizeof *abandoned);
    *abandoned = (struct abandoned){.pool = pool, .worker = slot->worker};
    LIST_INSERT_HEAD(&pool->abandoned, abandoned, link);
    slot->worker->owner = abandoned;
    slot->worker->received = ignore_message;
    slot->worker->gone = abandoned_came_back;
    pool_clear_slot(slot);
    pool->abandoned_count++;
    set_capacity(pool);
}

/* Its module does not come to an end. */
static void load_too_late(struct lt_timer *timer)
{
    struct slot *slot = lt_container_of(timer, struct slot, loading);
    struct pool *pool = slot->pool;
    lt_log_gated(&pool->log, LT_LOG_ERROR, "a worker could not load its module",
                 LT_S("module", pool->edition.load.module), LT_S("error", pool_load_late));
    if (slot->worker->ops->kill(slot->worker)) {
        slot->worker->ops->disown(slot->worker);
        pool_clear_slot(slot);
    } else {
        abandon_worker(slot);
    }
    do_without(pool, pool_load_late);
    pool_assign_waiting(pool);
}

void pool_grace_over(struct lt_timer *timer)
{
    struct activity *activity = lt_container_of(timer, struct activity, grace);
    struct slot *slot = activity->slot;
    struct pool *pool = activity->pool;
    lt_log(LT_LOG_ERROR,
           pool->processes ? "a worker did not come back and was killed"
                           : "a worker did not come back and was abandoned, its thread goes on",
           LT_S("module", pool->edition.load.module), LT_S("task", activity->work->task->data),
           LT_I("run", (int64_t)activity->work->run));
    if (slot->worker->ops->kill(slot->worker))
        return; /* gone follows */
    abandon_worker(slot);
    pool_fail_activity(activity, "abandoned");
    pool_assign_waiting(pool);
}
