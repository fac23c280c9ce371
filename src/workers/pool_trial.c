/* Reload: a worker tries another version of the module, which all runs use from then on if it can be used. */
#include "workers/pool_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/container_of.h"

static void free_trial(struct pool *pool)
{
    pool->trial.state = TRIAL_NONE;
    pool->trial.worker = NULL;
    pool_free_edition(&pool->trial.edition);
}

/* It is loaded no more. */
static void stop_loading(struct pool *pool)
{
    lt_timer_stop(pool->env.loop, &pool->trial.loading);
    lt_loop_release(pool->env.loop);
}

/* It is not wanted any more. Who waits for it is told why, or NULL. */
void pool_end_trial(struct pool *pool, const char *why)
{
    struct lt_worker *worker = pool->trial.worker;
    bool loading = pool->trial.state == TRIAL_LOADING;
    if (pool->trial.state == TRIAL_NONE)
        return;
    free_trial(pool);
    if (!loading) {
        if (worker != NULL)
            pool_retire_worker(worker);
        return;
    }
    worker->ops->kill(worker);
    worker->ops->disown(worker);
    stop_loading(pool);
    pool->trial.done(pool->trial.arg, why);
}

static void use_edition(struct pool *pool)
{
    pool_free_edition(&pool->edition);
    pool->edition = pool->trial.edition;
    pool->trial.state = TRIAL_NONE;
    pool->trial.worker = NULL;
    for (uint32_t i = 0; i < pool->workers; i++) {
        struct slot *slot = &pool->slots[i];
        if (slot->activity != NULL)
            slot->outdated = true;
        else
            pool_empty_slot(slot);
    }
}

/* The worker that tried it serves the first free place. */
static void employ_worker(struct pool *pool, struct lt_worker *worker)
{
    for (uint32_t i = 0; i < pool->workers; i++) {
        struct slot *slot = &pool->slots[i];
        if (slot->worker != NULL)
            continue;
        worker->owner = slot;
        worker->received = pool_worker_spoke;
        worker->gone = pool_worker_gone;
        slot->worker = worker;
        slot->loaded = true;
        slot->outdated = false;
        return;
    }
    pool_retire_worker(worker);
}

/* `error`: why it cannot be used; NULL: it can. */
static void answer_trial(struct pool *pool, const char *error)
{
    stop_loading(pool);
    if (error != NULL)
        free_trial(pool);
    else
        pool->trial.state = TRIAL_READY;
    pool->trial.done(pool->trial.arg, error);
}

void lt_pool_use(struct lt_actuator *actuator, bool use)
{
    struct pool *pool = pool_of(actuator);
    struct lt_worker *worker = pool->trial.worker;
    if (pool->trial.state != TRIAL_READY)
        return;
    if (!use) {
        pool_end_trial(pool, NULL);
        return;
    }
    use_edition(pool);
    if (!pool->open)
        return;
    pool_end_shortage(pool);
    if (worker != NULL)
        employ_worker(pool, worker);
    pool_assign_waiting(pool);
}

static void trial_spoke(struct lt_worker *worker, const struct lt_message *message)
{
    struct pool *pool = worker->owner;
    if (message->head.kind == LT_MESSAGE_LOADED) {
        answer_trial(pool, NULL);
    } else if (message->head.kind == LT_MESSAGE_BROKEN) {
        pool_retire_worker(worker);
        answer_trial(pool, message->data);
    }
}

static void trial_gone(struct lt_worker *worker, const char *how)
{
    struct pool *pool = worker->owner;
    pool->trial.worker = NULL;
    if (pool->trial.state == TRIAL_LOADING)
        answer_trial(pool, how);
}

static void trial_too_late(struct lt_timer *timer)
{
    pool_end_trial(lt_container_of(timer, struct pool, trial.loading), pool_load_late);
}

/* In place of an older one that is not used yet. */
static void prepare_trial(struct pool *pool, const char *source, size_t source_len)
{
    struct lt_load load = pool->edition.load;
    load.source = source;
    load.source_len = source_len;
    pool_end_trial(pool, "replaced by a newer version");
    pool_make_edition(&pool->trial.edition, &load);
    pool->trial.state = TRIAL_READY;
}

void lt_pool_adopt(struct lt_actuator *actuator, const char *source, size_t source_len)
{
    prepare_trial(pool_of(actuator), source, source_len);
    lt_pool_use(actuator, true);
}

void lt_pool_try(struct lt_actuator *actuator, const char *source, size_t source_len,
                 void (*done)(void *arg, const char *error), void *arg)
{
    struct pool *pool = pool_of(actuator);
    prepare_trial(pool, source, source_len);
    if (!pool->open) { /* nothing has begun: the first worker tries it */
        done(arg, NULL);
        return;
    }
    pool->trial.done = done;
    pool->trial.arg = arg;
    pool->trial.state = TRIAL_LOADING;
    pool->trial.worker = pool_make_worker(pool, &pool->trial.edition, pool, trial_spoke, trial_gone);
    lt_loop_hold(pool->env.loop); /* somebody waits for this */
    lt_timer_start(pool->env.loop, &pool->trial.loading, lt_loop_tick(pool->env.loop) + POOL_LOAD_TIME, trial_too_late);
}
