#include "workers/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "workers/worker.h"

static const double SHORT_PAUSE = 0.1; /* seconds until one more is tried when none could load the module */
static const double START_PAUSE = 1;   /* seconds until another worker is made after one that could not be */
static const double LOAD_TIME = 10;    /* seconds that a module may take to be loaded */
static const double GRACE = 1;         /* seconds that a worker has to come back from a stop; Lua needs a hundredth */

struct activity;
STAILQ_HEAD(activities, activity);

/* What the workers run. Those that began with an older one go on with it until their task has ended. */
struct edition {
    struct lt_load load; /* owns its texts */
};

struct slot {
    struct pool *pool;
    struct lt_worker *worker; /* NULL: none */
    struct activity *activity;
    struct lt_timer loading;
    bool loaded;
    bool outdated; /* it ends with its task */
};

/* A thread that did not come back. */
struct abandoned {
    struct pool *pool;
    struct lt_worker *worker;
    LIST_ENTRY(abandoned) link;
};

/* A worker that tries a new edition. */
struct trial {
    struct edition edition;
    struct lt_worker *worker; /* NULL: none is under way */
    bool ready;               /* it has loaded it, and waits for lt_pool_use */
    struct lt_timer loading;
    void (*done)(void *arg, const char *error);
    void *arg;
};

struct pool {
    struct lt_actuator base;
    struct lt_actuator_env env;
    struct edition edition;
    struct trial trial;
    struct slot *slots;
    struct activities waiting; /* for a worker */
    struct lt_timer pause;     /* started: no worker is made until then */
    bool one_by_one;           /* they are made */
    LIST_HEAD(, abandoned) abandoned;
    uint32_t abandoned_count;
    uint32_t workers;
    uint32_t max_abandoned;
    uint64_t seq;
    struct lt_log_gate log;
    bool processes;
    bool open;
    bool released;
};

/* One run; work->data points to it. */
struct activity {
    struct pool *pool;
    struct lt_work *work;
    struct slot *slot; /* NULL: it waits for one, or has ended */
    uint64_t seq;
    struct lt_timer grace;
    struct lt_report report; /* its end, kept until it is polled */
    bool ended;
    bool stopping; /* its end is the answer of stop */
    STAILQ_ENTRY(activity) link;
};

static struct pool *pool_of(struct lt_actuator *actuator)
{
    return (struct pool *)actuator;
}

/* Editions. */

static void make_edition(struct edition *edition, const struct lt_load *load)
{
    edition->load = *load;
    edition->load.path = lt_strdup(load->path);
    edition->load.cpath = lt_strdup(load->cpath);
    edition->load.module = lt_strdup(load->module);
    char *source = lt_alloc(load->source_len + 1);
    memcpy(source, load->source, load->source_len);
    edition->load.source = source;
}

static void free_edition(struct edition *edition)
{
    free((void *)(uintptr_t)edition->load.path);
    free((void *)(uintptr_t)edition->load.cpath);
    free((void *)(uintptr_t)edition->load.module);
    free((void *)(uintptr_t)edition->load.source);
}

/* The end of a run. */

static void free_activity(struct activity *activity)
{
    activity->work->data = NULL;
    lt_report_clear(&activity->report);
    free(activity);
}

/* Takes over the report's bytes. */
static void finish(struct activity *activity, struct lt_report *report)
{
    struct pool *pool = activity->pool;
    struct lt_work *work = activity->work;
    lt_timer_stop(pool->env.loop, &activity->grace);
    if (activity->slot != NULL)
        activity->slot->activity = NULL;
    activity->slot = NULL;
    activity->ended = true;
    if (activity->stopping) {
        lt_report_clear(report);
        free_activity(activity);
        lt_reply_ok(&work->stop);
    } else if (pool->env.attach) {
        free_activity(activity);
        pool->env.notify.report(pool->env.notify.arg, work, report);
    } else {
        activity->report = *report;
    }
}

static void fail(struct activity *activity, const char *reason)
{
    struct lt_report report = LT_REPORT(LT_FAILED);
    report.reason = lt_bytes_new(reason, strlen(reason));
    finish(activity, &report);
}

/* No worker can run those that wait. */
static void fail_waiting(struct pool *pool, const char *reason)
{
    struct activities waiting = STAILQ_HEAD_INITIALIZER(waiting);
    struct activity *activity;
    STAILQ_CONCAT(&waiting, &pool->waiting);
    while ((activity = STAILQ_FIRST(&waiting)) != NULL) {
        STAILQ_REMOVE_HEAD(&waiting, link);
        fail(activity, reason);
    }
}

/* Workers. */

static void received(struct lt_worker *worker, const struct lt_message *message);
static void gone(struct lt_worker *worker, const char *how);

static struct lt_worker *make_worker(struct pool *pool, const struct edition *edition, void *owner,
                                     void (*on_message)(struct lt_worker *, const struct lt_message *),
                                     void (*on_gone)(struct lt_worker *, const char *))
{
    struct lt_worker *worker =
        pool->processes ? lt_process_worker_new(pool->env.loop) : lt_thread_worker_new(pool->env.loop);
    worker->owner = owner;
    worker->received = on_message;
    worker->gone = on_gone;
    worker->ops->send(worker, lt_load_write(&edition->load));
    return worker;
}

/* Asks it to end, and does not care any more. */
static void retire(struct lt_worker *worker)
{
    worker->ops->end(worker);
    worker->ops->disown(worker);
}

static void give(struct slot *slot, struct activity *activity)
{
    slot->activity = activity;
    activity->slot = slot;
    activity->seq = ++slot->pool->seq;
    slot->worker->ops->send(slot->worker,
                            lt_message_start(activity->seq, activity->work->task, activity->work->deadline));
}

static void load_late(struct lt_timer *timer);
static void assign(struct pool *pool);

static void pause_over(struct lt_timer *timer)
{
    assign((struct pool *)((char *)timer - offsetof(struct pool, pause)));
}

/* A worker could not be made, as the host is short of threads or descriptors (`is_short`), or did not load the module.
 * Those that wait are left to the other workers, if there are any; and those are made one by one from then on: many at
 * once may take from each other what each of them needs. */
static void do_without(struct pool *pool, const char *reason, bool is_short)
{
    bool loaded = false, coming = false;
    for (uint32_t i = 0; i < pool->workers; i++) {
        loaded = loaded || (pool->slots[i].worker != NULL && pool->slots[i].loaded);
        coming = coming || (pool->slots[i].worker != NULL && !pool->slots[i].loaded);
    }
    bool again = !pool->one_by_one && pool->workers > 1; /* a module may not be loaded for want of descriptors either */
    if (loaded || (is_short && coming) || (!coming && again)) {
        double pause = loaded || is_short ? START_PAUSE : SHORT_PAUSE;
        pool->one_by_one = true;
        lt_timer_start(pool->env.loop, &pool->pause, lt_loop_tick(pool->env.loop) + pause, pause_over);
    } else if (!coming && !lt_timer_active(&pool->pause)) {
        fail_waiting(pool, reason);
    }
}

static void give_to_idle(struct pool *pool)
{
    for (uint32_t i = 0; i < pool->workers && !STAILQ_EMPTY(&pool->waiting); i++) {
        struct slot *slot = &pool->slots[i];
        if (slot->worker == NULL || slot->activity != NULL || !slot->loaded)
            continue;
        struct activity *activity = STAILQ_FIRST(&pool->waiting);
        STAILQ_REMOVE_HEAD(&pool->waiting, link);
        give(slot, activity);
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
    slot->worker = make_worker(pool, &pool->edition, slot, received, gone);
    lt_timer_start(pool->env.loop, &slot->loading, lt_loop_tick(pool->env.loop) + LOAD_TIME, load_late);
    return true;
}

/* Gives the tasks that wait to idle workers, and makes workers for those that get none. */
static void assign(struct pool *pool)
{
    give_to_idle(pool);
    if (lt_timer_active(&pool->pause))
        return;
    uint32_t wanted = 0, coming = 0;
    struct activity *activity;
    STAILQ_FOREACH(activity, &pool->waiting, link)
        wanted++;
    for (uint32_t i = 0; i < pool->workers; i++)
        coming += pool->slots[i].worker != NULL && !pool->slots[i].loaded;
    if (pool->one_by_one && wanted > 1)
        wanted = 1;
    while (coming < wanted && make_one(pool))
        coming++;
}

static void let_go(struct slot *slot)
{
    struct lt_worker *worker = slot->worker;
    slot->worker = NULL;
    slot->loaded = false;
    lt_timer_stop(slot->pool->env.loop, &slot->loading);
    if (worker != NULL)
        retire(worker);
}

/* The worker had ended before it heard of this run: another one gets it. */
static void give_back(struct activity *activity)
{
    struct pool *pool = activity->pool;
    activity->slot->activity = NULL;
    activity->slot = NULL;
    if (activity->stopping)
        fail(activity, "stopped");
    else
        STAILQ_INSERT_HEAD(&pool->waiting, activity, link);
}

static void on_ended(struct slot *slot, const struct lt_message *message)
{
    struct activity *activity = slot->activity;
    struct lt_report report;
    if (message->head.last || slot->outdated)
        let_go(slot);
    if (activity == NULL)
        return;
    if (activity->seq != message->head.seq) {
        if (message->head.last)
            give_back(activity);
        return;
    }
    lt_message_report(message, &report);
    finish(activity, &report);
}

static void on_progress(const struct slot *slot, const struct lt_message *message)
{
    struct activity *activity = slot->activity;
    if (activity == NULL || activity->seq != message->head.seq || activity->stopping)
        return;
    struct lt_report report = LT_REPORT(LT_RUNNING);
    report.progress = lt_bytes_new(message->data, message->head.len);
    slot->pool->env.notify.report(slot->pool->env.notify.arg, activity->work, &report);
}

static void on_broken(struct slot *slot, const char *reason)
{
    struct pool *pool = slot->pool;
    lt_log_gated(&pool->log, LT_LOG_ERROR, "a worker could not load its module",
                 LT_S("module", pool->edition.load.module), LT_S("error", reason));
    let_go(slot);
    do_without(pool, reason, false);
}

static void received(struct lt_worker *worker, const struct lt_message *message)
{
    struct slot *slot = worker->owner;
    struct pool *pool = slot->pool;
    switch (message->head.kind) {
    case LT_MESSAGE_LOADED:
        slot->loaded = true;
        lt_timer_stop(pool->env.loop, &slot->loading);
        break;
    case LT_MESSAGE_BROKEN:
        on_broken(slot, message->data);
        break;
    case LT_MESSAGE_PROGRESS:
        on_progress(slot, message);
        break;
    case LT_MESSAGE_ENDED:
        on_ended(slot, message);
        break;
    default:
        break;
    }
    if (pool->open)
        assign(pool);
}

/* It ended by itself. */
static void gone(struct lt_worker *worker, const char *how)
{
    struct slot *slot = worker->owner;
    struct pool *pool = slot->pool;
    struct activity *activity = slot->activity;
    bool was_loaded = slot->loaded;
    char reason[128];
    snprintf(reason, sizeof reason, "worker died: %s", how);
    slot->worker = NULL;
    slot->loaded = false;
    lt_timer_stop(pool->env.loop, &slot->loading);
    if (activity != NULL)
        fail(activity, reason);
    if (!was_loaded) {
        lt_log_gated(&pool->log, LT_LOG_ERROR, "a worker could not be started",
                     LT_S("module", pool->edition.load.module), LT_S("error", how));
        do_without(pool, reason, true);
    }
    if (pool->open)
        assign(pool);
}

/* Workers that do not come back. */

static void set_capacity(struct pool *pool)
{
    bool full = pool->abandoned_count >= pool->max_abandoned;
    uint32_t before = pool->base.capacity;
    pool->base.capacity = full ? 0 : pool->workers;
    if (before > 0 && full)
        lt_log(LT_LOG_ERROR, "too many workers did not come back, no task is started any more",
               LT_S("module", pool->edition.load.module), LT_I("abandoned", pool->abandoned_count));
    if (before == 0 && !full && pool->open)
        pool->env.capacity_changed(pool->env.push_arg);
}

static void ignore_message(struct lt_worker *worker, const struct lt_message *message)
{
    (void)worker;
    (void)message;
}

static void came_back(struct lt_worker *worker, const char *how)
{
    (void)how;
    struct abandoned *abandoned = worker->owner;
    struct pool *pool = abandoned->pool;
    LIST_REMOVE(abandoned, link);
    free(abandoned);
    pool->abandoned_count--;
    set_capacity(pool);
}

static void abandon(struct slot *slot)
{
    struct pool *pool = slot->pool;
    struct abandoned *abandoned = lt_alloc(sizeof *abandoned);
    *abandoned = (struct abandoned){.pool = pool, .worker = slot->worker};
    LIST_INSERT_HEAD(&pool->abandoned, abandoned, link);
    slot->worker->owner = abandoned;
    slot->worker->received = ignore_message;
    slot->worker->gone = came_back;
    slot->worker = NULL;
    slot->loaded = false;
    pool->abandoned_count++;
    set_capacity(pool);
}

static const char *const LATE = "the module was not loaded within 10 s";

/* Its module does not come to an end. */
static void load_late(struct lt_timer *timer)
{
    struct slot *slot = (struct slot *)((char *)timer - offsetof(struct slot, loading));
    struct pool *pool = slot->pool;
    lt_log_gated(&pool->log, LT_LOG_ERROR, "a worker could not load its module",
                 LT_S("module", pool->edition.load.module), LT_S("error", LATE));
    if (!slot->worker->ops->kill(slot->worker))
        abandon(slot);
    fail_waiting(pool, LATE);
}

static void out_of_grace(struct lt_timer *timer)
{
    struct activity *activity = (struct activity *)((char *)timer - offsetof(struct activity, grace));
    struct slot *slot = activity->slot;
    struct pool *pool = activity->pool;
    lt_log(LT_LOG_ERROR,
           pool->processes ? "a worker did not come back and was killed"
                           : "a worker did not come back and was abandoned, its thread goes on",
           LT_S("module", pool->edition.load.module), LT_S("task", activity->work->task->data),
           LT_I("run", (int64_t)activity->work->run));
    if (slot->worker->ops->kill(slot->worker))
        return; /* gone follows */
    abandon(slot);
    fail(activity, "abandoned");
    assign(pool);
}

/* Operations. */

static void open_pool(struct lt_actuator *actuator, const struct lt_actuator_env *env)
{
    struct pool *pool = pool_of(actuator);
    pool->env = *env;
    pool->open = true;
}

static void start(struct lt_actuator *actuator, struct lt_work *work)
{
    struct pool *pool = pool_of(actuator);
    struct activity *activity = lt_alloc(sizeof *activity);
    *activity = (struct activity){.pool = pool, .work = work, .grace = LT_TIMER_INIT, .report = LT_REPORT(LT_RUNNING)};
    work->data = activity;
    STAILQ_INSERT_TAIL(&pool->waiting, activity, link);
    lt_reply_ok(&work->start);
    assign(pool);
}

static void stop(struct lt_actuator *actuator, struct lt_work *work)
{
    struct pool *pool = pool_of(actuator);
    struct activity *activity = work->data;
    if (activity == NULL || activity->ended) {
        if (activity != NULL)
            free_activity(activity);
        lt_reply_ok(&work->stop);
        return;
    }
    activity->stopping = true;
    if (activity->slot == NULL) {
        STAILQ_REMOVE(&pool->waiting, activity, activity, link);
        fail(activity, "stopped");
        return;
    }
    struct lt_worker *worker = activity->slot->worker;
    worker->ops->stop(worker, activity->seq);
    lt_timer_start(pool->env.loop, &activity->grace, lt_loop_tick(pool->env.loop) + GRACE, out_of_grace);
}

static void status(struct lt_actuator *actuator, struct lt_status_op *op)
{
    (void)actuator;
    for (uint32_t i = 0; i < op->count; i++) {
        struct activity *activity = op->works[i]->data;
        if (activity == NULL || !activity->ended)
            continue; /* `seen` says that it runs */
        op->works[i]->seen = activity->report;
        activity->report = LT_REPORT(LT_RUNNING);
        free_activity(activity);
    }
    lt_reply_ok(&op->reply);
}

static uint32_t count_abandoned(struct lt_actuator *actuator)
{
    return pool_of(actuator)->abandoned_count;
}

static void end_trial(struct pool *pool, const char *why)
{
    struct lt_worker *worker = pool->trial.worker;
    if (worker == NULL)
        return;
    pool->trial.worker = NULL;
    free_edition(&pool->trial.edition);
    if (pool->trial.ready) {
        retire(worker);
        return;
    }
    worker->ops->kill(worker); /* it is in the middle of loading */
    worker->ops->disown(worker);
    lt_timer_stop(pool->env.loop, &pool->trial.loading);
    lt_loop_release(pool->env.loop);
    pool->trial.done(pool->trial.arg, why);
}

static void free_pool(struct pool *pool)
{
    free_edition(&pool->edition);
    free(pool->slots);
    free(pool);
}

static void close_pool(struct lt_actuator *actuator)
{
    struct pool *pool = pool_of(actuator);
    struct abandoned *abandoned;
    pool->open = false;
    lt_timer_stop(pool->env.loop, &pool->pause);
    end_trial(pool, "the scheduler was closed");
    for (uint32_t i = 0; i < pool->workers; i++)
        let_go(&pool->slots[i]);
    while ((abandoned = LIST_FIRST(&pool->abandoned)) != NULL) {
        LIST_REMOVE(abandoned, link);
        abandoned->worker->ops->disown(abandoned->worker);
        free(abandoned);
    }
    pool->abandoned_count = 0;
    if (pool->released)
        free_pool(pool);
}

static void release(struct lt_actuator *actuator)
{
    struct pool *pool = pool_of(actuator);
    pool->released = true;
    if (!pool->open)
        free_pool(pool);
}

struct lt_actuator *lt_pool_new(const struct lt_pool_options *options)
{
    static const struct lt_actuator_ops ops = {
        .name = "func",
        .open = open_pool,
        .start = start,
        .stop = stop,
        .status = status,
        .abandoned = count_abandoned,
        .close = close_pool,
        .release = release,
    };
    struct pool *pool = lt_zalloc(sizeof *pool);
    pool->base = (struct lt_actuator){
        .ops = &ops, .can_attach = true, .can_status = true, .builtin = true, .capacity = options->workers};
    make_edition(&pool->edition, &options->load);
    pool->workers = options->workers;
    pool->max_abandoned = options->max_abandoned;
    pool->processes = options->processes;
    pool->slots = lt_zalloc(options->workers * sizeof *pool->slots);
    for (uint32_t i = 0; i < options->workers; i++)
        pool->slots[i] = (struct slot){.pool = pool, .loading = LT_TIMER_INIT};
    pool->trial.loading = pool->pause = LT_TIMER_INIT;
    STAILQ_INIT(&pool->waiting);
    LIST_INIT(&pool->abandoned);
    return &pool->base;
}

/* Reload. */

static void use_edition(struct pool *pool)
{
    free_edition(&pool->edition);
    pool->edition = pool->trial.edition;
    for (uint32_t i = 0; i < pool->workers; i++) {
        struct slot *slot = &pool->slots[i];
        if (slot->activity != NULL)
            slot->outdated = true;
        else
            let_go(slot);
    }
}

/* The worker that tried it serves the first free place. */
static void employ(struct pool *pool, struct lt_worker *worker)
{
    for (uint32_t i = 0; i < pool->workers; i++) {
        struct slot *slot = &pool->slots[i];
        if (slot->worker != NULL)
            continue;
        worker->owner = slot;
        worker->received = received;
        worker->gone = gone;
        slot->worker = worker;
        slot->loaded = true;
        slot->outdated = false;
        return;
    }
    retire(worker);
}

/* `error`: why it cannot be used; NULL: it can. */
static void trial_over(struct pool *pool, const char *error)
{
    pool->trial.ready = error == NULL;
    lt_timer_stop(pool->env.loop, &pool->trial.loading);
    lt_loop_release(pool->env.loop);
    if (error != NULL) {
        pool->trial.worker = NULL;
        free_edition(&pool->trial.edition);
    }
    pool->trial.done(pool->trial.arg, error);
}

void lt_pool_use(struct lt_actuator *actuator, bool use)
{
    struct pool *pool = pool_of(actuator);
    struct lt_worker *worker = pool->trial.worker;
    if (worker == NULL || !pool->trial.ready)
        return;
    if (!use) {
        end_trial(pool, NULL);
        return;
    }
    pool->trial.worker = NULL;
    pool->one_by_one = false;
    use_edition(pool);
    employ(pool, worker);
    assign(pool);
}

static void tried(struct lt_worker *worker, const struct lt_message *message)
{
    struct pool *pool = worker->owner;
    if (message->head.kind == LT_MESSAGE_LOADED) {
        trial_over(pool, NULL);
    } else if (message->head.kind == LT_MESSAGE_BROKEN) {
        retire(worker);
        trial_over(pool, message->data);
    }
}

static void trial_gone(struct lt_worker *worker, const char *how)
{
    struct pool *pool = worker->owner;
    if (!pool->trial.ready) {
        trial_over(pool, how);
        return;
    }
    pool->trial.worker = NULL; /* it has died since: the first run will make another one */
    use_edition(pool);
}

static void trial_late(struct lt_timer *timer)
{
    end_trial((struct pool *)((char *)timer - offsetof(struct pool, trial.loading)), LATE);
}

void lt_pool_try(struct lt_actuator *actuator, const char *source, size_t source_len,
                 void (*done)(void *arg, const char *error), void *arg)
{
    struct pool *pool = pool_of(actuator);
    struct lt_load load = pool->edition.load;
    load.source = source;
    load.source_len = source_len;
    if (!pool->open) { /* nothing has begun: the first worker tries it */
        struct edition old = pool->edition;
        make_edition(&pool->edition, &load);
        free_edition(&old);
        done(arg, NULL);
        return;
    }
    end_trial(pool, "replaced by a newer version"); /* an older one, not tried yet */
    make_edition(&pool->trial.edition, &load);
    pool->trial.done = done;
    pool->trial.arg = arg;
    pool->trial.ready = false;
    pool->trial.worker = make_worker(pool, &pool->trial.edition, pool, tried, trial_gone);
    lt_loop_hold(pool->env.loop); /* somebody waits for this */
    lt_timer_start(pool->env.loop, &pool->trial.loading, lt_loop_tick(pool->env.loop) + LOAD_TIME, trial_late);
}
