/* The runs of a pool: where each is, what is handed to a worker before its turn, and how it ends. */
#include "workers/pool_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"

static const double GRACE = 1; /* seconds that a worker has to come back from a stop; Lua needs a hundredth */

/* Handing ahead: where the last runs were quick, each worker gets some before it asks for them. */
static const double QUICK = 0.0005;      /* seconds */
static const double AHEAD_TIME = 0.005;  /* seconds within which such a run must begin, or it is another's */
static const double AHEAD_LOOK = 0.0025; /* seconds between two looks for those that did not */
enum { QUICK_RUNS = 16 };                /* so many in a row */

/* The end of a run. */

void pool_free_activity(struct activity *activity)
{
    activity->work->data = NULL;
    lt_report_clear(&activity->report);
    free(activity);
}

static void begin_next(struct slot *slot);

/* Takes over the report's bytes. */
void pool_end_activity(struct activity *activity, struct lt_report *report)
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
        pool_free_activity(activity);
        lt_work_stopped(work, report);
    } else if (pool->env.attach) {
        pool_free_activity(activity);
        pool->env.notify.report(pool->env.notify.arg, work, report);
    } else {
        activity->report = *report;
    }
}

void pool_fail_activity(struct activity *activity, const char *reason)
{
    struct lt_report report = LT_REPORT(LT_FAILED);
    report.reason = lt_bytes_new(reason, strlen(reason));
    pool_end_activity(activity, &report);
}

/* No worker can run those that wait. */
void pool_fail_waiting(struct pool *pool, const char *reason)
{
    struct activities waiting = TAILQ_HEAD_INITIALIZER(waiting);
    struct activity *activity;
    TAILQ_CONCAT(&waiting, &pool->waiting, link);
    while ((activity = TAILQ_FIRST(&waiting)) != NULL) {
        TAILQ_REMOVE(&waiting, activity, link);
        pool_fail_activity(activity, reason);
    }
}

/* Back to the scheduler, where it waits as before. */
static void return_activity(struct activity *activity)
{
    struct lt_report report = LT_REPORT(LT_FAILED);
    report.not_begun = true;
    pool_end_activity(activity, &report);
}

/* Giving it to a worker. */

static void send_activity(struct slot *slot, struct activity *activity, double begin_by)
{
    activity->slot = slot;
    activity->seq = ++slot->pool->seq;
    activity->begin_by = begin_by;
    slot->worker->ops->send(slot->worker,
                            lt_message_start(activity->seq, activity->work->task, activity->work->deadline, begin_by));
}

void pool_give_activity(struct slot *slot, struct activity *activity)
{
    slot->activity = activity;
    send_activity(slot, activity, 0);
}

void pool_ask_to_stop(struct activity *activity)
{
    struct lt_loop *loop = activity->pool->env.loop;
    struct lt_worker *worker = activity->slot->worker;
    worker->ops->stop(worker, activity->seq);
    lt_timer_start(loop, &activity->grace, lt_loop_tick(loop) + GRACE, activity->pool->grace_over);
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

bool pool_is_ahead(const struct activity *activity)
{
    return activity->slot != NULL && activity->slot->activity != activity;
}

/* It has not begun: another worker may have it. */
void pool_take_back(struct slot *slot, struct activity *activity)
{
    activity->slot = NULL;
    if (slot->activity == activity) {
        begin_next(slot);
    } else {
        TAILQ_REMOVE(&slot->ahead, activity, link);
        slot->ahead_count--;
    }
    if (activity->stopping)
        pool_fail_activity(activity, "stopped");
    else
        TAILQ_INSERT_HEAD(&slot->pool->waiting, activity, link);
}

static void take_back_ahead(struct slot *slot)
{
    struct activity *activity;
    while ((activity = TAILQ_LAST(&slot->ahead, activities)) != NULL)
        pool_take_back(slot, activity);
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
bool pool_takes_ahead(const struct slot *slot)
{
    bool is_stopped = slot->activity != NULL && slot->activity->stopping;
    return slot->pool->quick >= QUICK_RUNS && slot->loaded && !slot->outdated && !is_stopped;
}

/* The worker to which a run can be handed ahead; NULL: there is none. */
static struct slot *find_place_ahead(struct pool *pool)
{
    struct slot *found = NULL;
    for (struct slot *slot = pool->slots; slot < pool->slots + pool->workers; slot++) {
        bool has_room = pool_takes_ahead(slot) && slot->activity != NULL && slot->ahead_count < POOL_AHEAD;
        if (has_room && (found == NULL || slot->ahead_count < found->ahead_count))
            found = slot;
    }
    return found;
}

/* Those that wait beyond as many as there are workers. */
void pool_place_excess(struct pool *pool)
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
    pool->assign(pool);
}

/* Of a run that its worker has ended, as that has measured it: how long a worker takes to be woken is not what counts. */
void pool_note_time(struct pool *pool, double took)
{
    bool quick = pool->env.attach && took < QUICK;
    pool->quick = quick ? pool->quick + (pool->quick < QUICK_RUNS) : 0;
}

/* The slot. */

/* It has no worker any more. */
void pool_clear_slot(struct slot *slot)
{
    slot->worker = NULL;
    slot->loaded = slot->outdated = false;
    lt_timer_stop(slot->pool->env.loop, &slot->loading);
    take_back_ahead(slot);
}

void pool_empty_slot(struct slot *slot)
{
    struct lt_worker *worker = slot->worker;
    pool_clear_slot(slot);
    if (worker != NULL)
        pool_retire_worker(worker);
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
            pool_ask_to_stop(activity);
    } else if (slot->outdated) {
        pool_empty_slot(slot);
    }
}
