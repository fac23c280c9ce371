#include "workers/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/log.h"
#include "workers/worker.h"

static const double FIRST_PAUSE = 0.1; /* seconds until another worker is tried after one that did not come; doubles */
static const double LONGEST_PAUSE = 5;
static const double LOAD_TIME = 10; /* seconds that a module may take to be loaded */
static const double GRACE = 1;      /* seconds that a worker has to come back from a stop; Lua needs a hundredth */

/* Handing ahead: where the last runs were quick, each worker gets some before it asks for them. */
static const double QUICK = 0.0005;      /* seconds */
static const double AHEAD_TIME = 0.005;  /* seconds within which such a run must begin, or it is another's */
static const double AHEAD_LOOK = 0.0025; /* seconds between two looks for those that did not */
enum { QUICK_RUNS = 16, AHEAD = 3 };     /* so many in a row; runs a worker, beside the one that it runs */

struct activity;
TAILQ_HEAD(activities, activity);

/* What the workers run. Those that began with an older one go on with it until their task has ended. */
struct edition {
    struct lt_load load; /* owns its texts */
};

struct slot {
    struct pool *pool;
    struct lt_worker *worker; /* NULL: none */
    struct activity *activity;
    struct activities ahead; /* what was handed ahead of its turn, behind the activity */
    uint32_t ahead_count;
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

enum trial_state {
    TRIAL_NONE,
    TRIAL_LOADING,
    TRIAL_READY, /* it can be used: lt_pool_use decides */
};

/* A worker that tries a new edition. */
struct trial {
    enum trial_state state;
    struct edition edition;
    struct lt_worker *worker; /* NULL when ready: none was needed, or it has died since */
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
    struct activities waiting; /* for a worker; with those that have one never more than there are workers */
    uint32_t quick;            /* runs in a row that were */
    struct lt_timer look;      /* at those that were handed ahead, as long as there are any */
    double looked;             /* when it came last */
    struct lt_timer pause;     /* started: no worker is made until then */
    double pause_length;       /* of the last pause; 0: there was none */
    bool one_by_one;           /* they are made, since one did not come */
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
    double begin_by; /* handed ahead: its worker begins it until then, or never; 0: it was not */
    struct lt_timer grace;
    struct lt_report report; /* its end, kept until it is polled */
    bool ended;
    bool stopping;   /* its end is the answer of stop */
    bool given_back; /* once: by a worker that ended before it began */
    TAILQ_ENTRY(activity) link;
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

static void begin_next(struct slot *slot);

/* Takes over the report's bytes. */
static void end_activity(struct activity *activity, struct lt_report *report)
{
    struct pool *pool = activity->pool;
    struct lt_work *work = activity->work;
    lt_timer_stop(pool->env.loop, &activity->grace);
    struct slot *slot = activity->slot;
    activity->slot = NULL;
    activity->ended = true;
    if (slot != NULL)
        begin_next(slot);
    if (activity->stopping) {
        free_activity(activity);
        lt_work_stopped(work, report);
    } else if (pool->env.attach) {
        free_activity(activity);
        pool->env.notify.report(pool->env.notify.arg, work, report);
    } else {
        activity->report = *report;
    }
}

static void fail_activity(struct activity *activity, const char *reason)
{
    struct lt_report report = LT_REPORT(LT_FAILED);
    report.reason = lt_bytes_new(reason, strlen(reason));
    end_activity(activity, &report);
}

/* No worker can run those that wait. */
static void fail_waiting(struct pool *pool, const char *reason)
{
    struct activities waiting = TAILQ_HEAD_INITIALIZER(waiting);
    struct activity *activity;
    TAILQ_CONCAT(&waiting, &pool->waiting, link);
    while ((activity = TAILQ_FIRST(&waiting)) != NULL) {
        TAILQ_REMOVE(&waiting, activity, link);
        fail_activity(activity, reason);
    }
}

/* Workers. */

static void worker_spoke(struct lt_worker *worker, const struct lt_message *message);
static void worker_gone(struct lt_worker *worker, const char *how);
static void grace_over(struct lt_timer *timer);
static void assign_waiting(struct pool *pool);
static void empty_slot(struct slot *slot);

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
static void retire_worker(struct lt_worker *worker)
{
    worker->ops->end(worker);
    worker->ops->disown(worker);
}

static void send_activity(struct slot *slot, struct activity *activity, double begin_by)
{
    activity->slot = slot;
    activity->seq = ++slot->pool->seq;
    activity->begin_by = begin_by;
    slot->worker->ops->send(slot->worker,
                            lt_message_start(activity->seq, activity->work->task, activity->work->deadline, begin_by));
}

static void give_activity(struct slot *slot, struct activity *activity)
{
    slot->activity = activity;
    send_activity(slot, activity, 0);
}

static void ask_to_stop(struct activity *activity)
{
    struct lt_loop *loop = activity->pool->env.loop;
    struct lt_worker *worker = activity->slot->worker;
    worker->ops->stop(worker, activity->seq);
    lt_timer_start(loop, &activity->grace, lt_loop_tick(loop) + GRACE, grace_over);
}

/* Handing ahead.
 *
 * While runs are quick, `capacity` lets the scheduler start more of them than there are workers; those go to workers that
 * have one. So a worker has its next run before its host has heard of the last one's end, and neither waits for the
 * other. A run that was handed ahead begins until `begin_by`, or its worker does not begin it. The host can tell which by
 * itself: a run's turn comes when the end of the one before has been sent, so if that was not among what the worker
 * had sent by some time after `begin_by`, it was not begun, and will not be.
 *
 *     a run that     its turn comes   stop            `begin_by` is past   NOT_BEGUN        its worker ends
 *     waits          -                ended: stopped  -                    -                -
 *     is ahead       runs             (is noted)      back                 (stale)          back
 *       and to stop  STOP and grace   -               ended: stopped       (stale)          ended: stopped
 *     runs           -                STOP and grace  -                    back             ended: worker died
 *       and to stop  -                -               -                    ended: stopped   ended: stopped
 *
 * Back: it waits for an idle worker. What is then more than there are workers goes back to the scheduler, to the place
 * from which it was claimed. So the death of a worker, a neighbour's timeout or a long run is to a run that has not begun
 * what it is to a task that waits. */

static bool is_ahead(const struct activity *activity)
{
    return activity->slot != NULL && activity->slot->activity != activity;
}

/* It has not begun: another worker may have it. */
static void take_back(struct slot *slot, struct activity *activity)
{
    activity->slot = NULL;
    if (slot->activity == activity) {
        begin_next(slot);
    } else {
        TAILQ_REMOVE(&slot->ahead, activity, link);
        slot->ahead_count--;
    }
    if (activity->stopping)
        fail_activity(activity, "stopped");
    else
        TAILQ_INSERT_HEAD(&slot->pool->waiting, activity, link);
}

static void take_back_ahead(struct slot *slot)
{
    struct activity *activity;
    while ((activity = TAILQ_LAST(&slot->ahead, activities)) != NULL)
        take_back(slot, activity);
}

/* Back to the scheduler, where it waits as before. */
static void return_activity(struct activity *activity)
{
    struct lt_report report = LT_REPORT(LT_FAILED);
    report.not_begun = true;
    end_activity(activity, &report);
}

static void look_at_ahead(struct lt_timer *timer);

static void give_ahead(struct slot *slot, struct activity *activity)
{
    struct pool *pool = slot->pool;
    double now = lt_loop_now(pool->env.loop);
    TAILQ_INSERT_TAIL(&slot->ahead, activity, link);
    slot->ahead_count++;
    send_activity(slot, activity, now + AHEAD_TIME);
    if (!lt_timer_active(&pool->look))
        lt_timer_start(pool->env.loop, &pool->look, now + AHEAD_LOOK, look_at_ahead);
}

/* Whether its worker can have some, or some more as soon as those that it has are fewer. */
static bool takes_ahead(const struct slot *slot)
{
    bool is_stopped = slot->activity != NULL && slot->activity->stopping;
    return slot->pool->quick >= QUICK_RUNS && slot->loaded && !slot->outdated && !is_stopped;
}

/* The worker to which a run can be handed ahead; NULL: there is none. */
static struct slot *find_place_ahead(struct pool *pool)
{
    struct slot *found = NULL;
    for (struct slot *slot = pool->slots; slot < pool->slots + pool->workers; slot++) {
        bool has_room = takes_ahead(slot) && slot->activity != NULL && slot->ahead_count < AHEAD;
        if (has_room && (found == NULL || slot->ahead_count < found->ahead_count))
            found = slot;
    }
    return found;
}

/* Those that wait beyond as many as there are workers. */
static void place_excess(struct pool *pool)
{
    struct activity *activity;
    uint32_t count = 0;
    if (TAILQ_EMPTY(&pool->waiting))
        return;
    for (uint32_t i = 0; i < pool->workers; i++)
        count += pool->slots[i].activity != NULL;
    TAILQ_FOREACH(activity, &pool->waiting, link)
        count++;
    for (; count > pool->workers && (activity = TAILQ_LAST(&pool->waiting, activities)) != NULL; count--) {
        struct slot *slot = find_place_ahead(pool);
        TAILQ_REMOVE(&pool->waiting, activity, link);
        if (slot != NULL)
            give_ahead(slot, activity);
        else
            return_activity(activity);
    }
}

/* The activity of the slot has ended. */
static void begin_next(struct slot *slot)
{
    struct activity *activity = TAILQ_FIRST(&slot->ahead);
    slot->activity = activity;
    if (activity != NULL) {
        TAILQ_REMOVE(&slot->ahead, activity, link);
        slot->ahead_count--;
        if (activity->stopping)
            ask_to_stop(activity);
    } else if (slot->outdated) {
        empty_slot(slot);
    }
}

/* Between the last look and this one all was read that its workers had sent by then. */
static void look_at_ahead(struct lt_timer *timer)
{
    struct pool *pool = lt_container_of(timer, struct pool, look);
    double looked = pool->looked;
    bool more = false;
    pool->looked = lt_loop_now(pool->env.loop);
    for (struct slot *slot = pool->slots; slot < pool->slots + pool->workers; slot++) {
        struct activity *activity = TAILQ_FIRST(&slot->ahead);
        if (activity != NULL && activity->begin_by < looked) {
            pool->quick = 0;
            take_back_ahead(slot);
        }
        more = more || !TAILQ_EMPTY(&slot->ahead);
    }
    if (more)
        lt_timer_start(pool->env.loop, timer, pool->looked + AHEAD_LOOK, look_at_ahead);
    assign_waiting(pool);
}

/* Of a run that its worker has ended, as that has measured it: how long a worker takes to be woken is not what counts. */
static void note_time(struct pool *pool, double took)
{
    bool quick = pool->env.attach && took < QUICK;
    pool->quick = quick ? pool->quick + (pool->quick < QUICK_RUNS) : 0;
}

static void load_too_late(struct lt_timer *timer);

static void end_pause(struct lt_timer *timer)
{
    assign_waiting(lt_container_of(timer, struct pool, pause));
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
            fail_waiting(pool, reason);
    }
}

/* Those that wait have all got one: from now on workers are made at once again. */
static void end_shortage(struct pool *pool)
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
        give_activity(slot, activity);
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
    slot->worker = make_worker(pool, &pool->edition, slot, worker_spoke, worker_gone);
    lt_timer_start(pool->env.loop, &slot->loading, lt_loop_tick(pool->env.loop) + LOAD_TIME, load_too_late);
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

static void set_capacity(struct pool *pool);

/* Gives the tasks that wait to workers, and makes some for those that get none. */
static void assign_waiting(struct pool *pool)
{
    give_to_idle(pool);
    place_excess(pool);
    make_workers(pool);
    set_capacity(pool);
}

/* It has no worker any more. */
static void clear_slot(struct slot *slot)
{
    slot->worker = NULL;
    slot->loaded = slot->outdated = false;
    lt_timer_stop(slot->pool->env.loop, &slot->loading);
    take_back_ahead(slot);
}

static void empty_slot(struct slot *slot)
{
    struct lt_worker *worker = slot->worker;
    clear_slot(slot);
    if (worker != NULL)
        retire_worker(worker);
}

/* The worker ended before it heard of this run, for what an earlier one or its module had left in its memory: another
 * worker gets it. If that one is no better, it is the module. */
static void give_activity_back(struct activity *activity)
{
    if (activity->given_back && !activity->stopping) {
        fail_activity(activity, "memory limit");
        return;
    }
    activity->given_back = true;
    take_back(activity->slot, activity);
}

static void hear_ended(struct slot *slot, const struct lt_message *message)
{
    struct activity *activity = slot->activity;
    struct lt_report report;
    if (message->head.last)
        empty_slot(slot);
    if (activity == NULL)
        return;
    if (activity->seq != message->head.seq) {
        if (message->head.last)
            give_activity_back(activity);
        return;
    }
    lt_message_report(message, &report);
    note_time(slot->pool, message->head.time);
    end_activity(activity, &report);
}

/* Its turn came too late. */
static void hear_not_begun(struct slot *slot, const struct lt_message *message)
{
    struct activity *activity = slot->activity;
    if (activity == NULL || activity->seq != message->head.seq || activity->begin_by == 0)
        return;
    take_back(slot, activity);
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
    empty_slot(slot);
    do_without(pool, reason);
}

static void hear_loaded(struct slot *slot)
{
    struct pool *pool = slot->pool;
    slot->loaded = true;
    lt_timer_stop(pool->env.loop, &slot->loading);
    give_to_idle(pool);
    if (TAILQ_EMPTY(&pool->waiting))
        end_shortage(pool);
}

static void worker_spoke(struct lt_worker *worker, const struct lt_message *message)
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
        assign_waiting(pool);
}

/* It ended by itself. */
static void worker_gone(struct lt_worker *worker, const char *how)
{
    struct slot *slot = worker->owner;
    struct pool *pool = slot->pool;
    struct activity *activity = slot->activity;
    bool was_loaded = slot->loaded;
    char reason[128];
    snprintf(reason, sizeof reason, "worker died: %s", how);
    clear_slot(slot);
    if (activity != NULL)
        fail_activity(activity, reason);
    if (!was_loaded) {
        lt_log_gated(&pool->log, LT_LOG_ERROR, "a worker could not be started",
                     LT_S("module", pool->edition.load.module), LT_S("error", how));
        do_without(pool, reason);
    }
    if (pool->open)
        assign_waiting(pool);
}

/* Workers that do not come back. */

static void set_capacity(struct pool *pool)
{
    bool full = pool->abandoned_count >= pool->max_abandoned;
    uint32_t before = pool->base.capacity;
    uint32_t capacity = pool->workers;
    for (uint32_t i = 0; i < pool->workers; i++)
        capacity += takes_ahead(&pool->slots[i]) ? AHEAD : 0;
    pool->base.capacity = full ? 0 : capacity;
    if (before > 0 && full)
        lt_log(LT_LOG_ERROR, "too many workers did not come back, no task is started any more",
               LT_S("module", pool->edition.load.module), LT_I("abandoned", pool->abandoned_count));
    if (before < pool->base.capacity && pool->open)
        pool->env.capacity_changed(pool->env.push_arg);
}

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
    clear_slot(slot);
    pool->abandoned_count++;
    set_capacity(pool);
}

static const char *const LATE = "the module was not loaded within 10 s";

/* Its module does not come to an end. */
static void load_too_late(struct lt_timer *timer)
{
    struct slot *slot = lt_container_of(timer, struct slot, loading);
    struct pool *pool = slot->pool;
    lt_log_gated(&pool->log, LT_LOG_ERROR, "a worker could not load its module",
                 LT_S("module", pool->edition.load.module), LT_S("error", LATE));
    if (slot->worker->ops->kill(slot->worker)) {
        slot->worker->ops->disown(slot->worker);
        clear_slot(slot);
    } else {
        abandon_worker(slot);
    }
    do_without(pool, LATE);
    assign_waiting(pool);
}

static void grace_over(struct lt_timer *timer)
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
    fail_activity(activity, "abandoned");
    assign_waiting(pool);
}

/* Operations. */

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
    assign_waiting(pool);
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
        free_activity(activity);
        lt_work_stopped(work, &report);
        return;
    }
    activity->stopping = true;
    if (activity->slot == NULL) {
        TAILQ_REMOVE(&pool->waiting, activity, link);
        fail_activity(activity, "stopped");
    } else if (!is_ahead(activity)) {
        ask_to_stop(activity);
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
        free_activity(activity);
    }
    lt_reply_ok(&op->reply);
}

static uint32_t count_abandoned(struct lt_actuator *actuator)
{
    return pool_of(actuator)->abandoned_count;
}

static void free_trial(struct pool *pool)
{
    pool->trial.state = TRIAL_NONE;
    pool->trial.worker = NULL;
    free_edition(&pool->trial.edition);
}

/* It is loaded no more. */
static void stop_loading(struct pool *pool)
{
    lt_timer_stop(pool->env.loop, &pool->trial.loading);
    lt_loop_release(pool->env.loop);
}

/* It is not wanted any more. Who waits for it is told why, or NULL. */
static void end_trial(struct pool *pool, const char *why)
{
    struct lt_worker *worker = pool->trial.worker;
    bool loading = pool->trial.state == TRIAL_LOADING;
    if (pool->trial.state == TRIAL_NONE)
        return;
    free_trial(pool);
    if (!loading) {
        if (worker != NULL)
            retire_worker(worker);
        return;
    }
    worker->ops->kill(worker);
    worker->ops->disown(worker);
    stop_loading(pool);
    pool->trial.done(pool->trial.arg, why);
}

static void free_pool(struct pool *pool)
{
    free_edition(&pool->edition);
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
    end_trial(pool, NULL); /* no reason against it: other pools may use it */
    for (uint32_t i = 0; i < pool->workers; i++)
        empty_slot(&pool->slots[i]);
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
    end_trial(pool, NULL); /* of one that was never opened */
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
    make_edition(&pool->edition, &options->load);
    pool->workers = options->workers;
    pool->max_abandoned = options->max_abandoned;
    pool->processes = options->processes;
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

/* Reload. */

static void use_edition(struct pool *pool)
{
    free_edition(&pool->edition);
    pool->edition = pool->trial.edition;
    pool->trial.state = TRIAL_NONE;
    pool->trial.worker = NULL;
    for (uint32_t i = 0; i < pool->workers; i++) {
        struct slot *slot = &pool->slots[i];
        if (slot->activity != NULL)
            slot->outdated = true;
        else
            empty_slot(slot);
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
        worker->received = worker_spoke;
        worker->gone = worker_gone;
        slot->worker = worker;
        slot->loaded = true;
        slot->outdated = false;
        return;
    }
    retire_worker(worker);
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
        end_trial(pool, NULL);
        return;
    }
    use_edition(pool);
    if (!pool->open)
        return;
    end_shortage(pool);
    if (worker != NULL)
        employ_worker(pool, worker);
    assign_waiting(pool);
}

static void trial_spoke(struct lt_worker *worker, const struct lt_message *message)
{
    struct pool *pool = worker->owner;
    if (message->head.kind == LT_MESSAGE_LOADED) {
        answer_trial(pool, NULL);
    } else if (message->head.kind == LT_MESSAGE_BROKEN) {
        retire_worker(worker);
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
    end_trial(lt_container_of(timer, struct pool, trial.loading), LATE);
}

/* In place of an older one that is not used yet. */
static void prepare_trial(struct pool *pool, const char *source, size_t source_len)
{
    struct lt_load load = pool->edition.load;
    load.source = source;
    load.source_len = source_len;
    end_trial(pool, "replaced by a newer version");
    make_edition(&pool->trial.edition, &load);
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
    pool->trial.worker = make_worker(pool, &pool->trial.edition, pool, trial_spoke, trial_gone);
    lt_loop_hold(pool->env.loop); /* somebody waits for this */
    lt_timer_start(pool->env.loop, &pool->trial.loading, lt_loop_tick(pool->env.loop) + LOAD_TIME, trial_too_late);
}
