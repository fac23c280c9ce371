/* A run: from the claim to the free slot.
 *
 *     claimed -> starting -> running ----------------------------------------> settling -> gone
 *                   |           |  deadline, stop, shutdown                       ^
 *                   |           +-> stopping (until the work is dead) ------------+
 *                   |           +-> marking -> output -> saving -----(success)----+
 *                   +--(failed)---------------------------------------------------+
 *
 * A run ends once: the first report, or what was decided before it (`why`), stands, and all later ones are counted as
 * stale. It ends only when its work is dead, and keeps its slot until its last transition is stored. */
#include "scheduler/run.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static void start(struct lt_run *run);

/* Life. */

static struct lt_run *new_run(struct lt_scheduler *s, struct lt_task *task)
{
    struct lt_run *run = TAILQ_FIRST(&s->spare);
    if (run != NULL)
        TAILQ_REMOVE(&s->spare, run, link);
    else
        run = lt_alloc(sizeof *run);
    memset(run, 0, sizeof *run);
    run->scheduler = s;
    run->refs = 1;
    run->work.task = task;
    run->work.run = task->run;
    run->timer = LT_TIMER_INIT;
    run->report = run->work.failure = run->work.seen = LT_REPORT(LT_RUNNING);
    TAILQ_INIT(&run->waiters);
    return run;
}

/* From here on it is found by its id without a search. A task that ends as soon as it starts never needs that. */
static void list_run(struct lt_run *run)
{
    run->listed = true;
    lt_map_put(&run->scheduler->runs, run->work.task->hash, run);
}

void lt_run_unref(struct lt_run *run)
{
    if (--run->refs > 0)
        return;
    struct lt_scheduler *s = run->scheduler;
    lt_report_clear(&run->report);
    lt_report_clear(&run->work.failure);
    lt_report_clear(&run->work.seen);
    lt_bytes_unref(run->stop_reason);
    lt_bytes_unref(run->work.handle);
    lt_bytes_unref(run->work.data_out);
    lt_reply_clear(&run->work.start);
    lt_reply_clear(&run->work.stop);
    lt_reply_clear(&run->work.output);
    lt_reply_clear(&run->change.reply);
    if (run->extra != NULL) {
        lt_reply_clear(&run->extra->update.reply);
        lt_reply_clear(&run->extra->look.reply);
        free(run->extra);
    }
    lt_task_unref(run->work.task);
    TAILQ_INSERT_HEAD(&s->spare, run, link);
}

struct lt_run_extra *lt_run_extra(struct lt_run *run)
{
    if (run->extra == NULL) {
        run->extra = lt_zalloc(sizeof *run->extra);
        run->extra->run = run;
    }
    return run->extra;
}

void lt_run_free_spare(struct lt_scheduler *s)
{
    struct lt_run *run;
    while ((run = TAILQ_FIRST(&s->spare)) != NULL) {
        TAILQ_REMOVE(&s->spare, run, link);
        free(run);
    }
}

static bool is_of(const struct lt_run *run, const char *id, size_t id_len)
{
    const struct lt_task *task = run->work.task;
    return task->id_len == id_len && memcmp(task->data, id, id_len) == 0;
}

/* In the map; or the one that is starting right now; or one of the last claim, which are few. */
struct lt_run *lt_run_find(struct lt_scheduler *s, const char *id, size_t id_len)
{
    struct lt_run *run = s->runs.count > 0 ? lt_map_find(&s->runs, lt_hash(id, id_len), id, id_len) : NULL;
    if (run != NULL)
        return run;
    if (s->starting != NULL && is_of(s->starting, id, id_len))
        return s->starting;
    TAILQ_FOREACH(run, &s->to_start, link) {
        if (is_of(run, id, id_len))
            return run;
    }
    return NULL;
}

void lt_run_claimed(struct lt_scheduler *s, struct lt_task *task)
{
    struct lt_run *run = new_run(s, task);
    run->state = RUN_CLAIMED;
    lt_histogram_add(&s->wait_times, task->started_at - lt_task_waiting_since(task));
    TAILQ_INSERT_TAIL(&s->to_start, run, link);
}

/* Every change of state but those among the early ones, which are not counted. */
void lt_run_set_state(struct lt_run *run, enum run_state state)
{
    bool was = run->state >= RUN_MARKING && run->state <= RUN_EXPORT_REST;
    bool is = state >= RUN_MARKING && state <= RUN_EXPORT_REST;
    run->scheduler->exporting += (uint32_t)is - (uint32_t)was;
    run->state = state;
}

/* The run is over and its end is stored: the slot is free. */
void lt_run_gone(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_task *task = run->work.task;
    lt_timer_stop(s->loop, &run->timer);
    lt_run_set_state(run, RUN_GONE);
    if (run->listed)
        lt_map_remove(&s->runs, task->hash, run);
    if (s->starting == run)
        s->starting = NULL;
    TAILQ_REMOVE(&s->active, run, link);
    lt_limiter_release(&s->limiter, task);
    lt_requests_run_gone(s, &run->waiters, task);
    lt_run_unref(run);
    lt_pump_post(s);
}

/* Starting. */

static void on_start(struct lt_reply *reply)
{
    struct lt_run *run = lt_container_of(reply, struct lt_run, work.start);
    struct lt_scheduler *s = run->scheduler;
    if (reply->code != LT_OK) {
        if (!run->reported) {
            run->report = run->work.failure;
            run->report.status = LT_FAILED;
            run->work.failure = LT_REPORT(LT_RUNNING);
            run->reported = true;
            if (run->report.reason == NULL && run->report.snooze == 0)
                lt_run_reason(run, lt_reply_message(reply));
        }
        lt_run_over(run);
        return;
    }
    bool has_handle = run->work.handle != NULL;
    if (has_handle) {
        lt_bytes_set(&lt_task_extra(run->work.task)->handle, run->work.handle);
        run->work.handle = NULL;
    }
    if (run->reported) { /* the handle is stored with its end */
        lt_run_over(run);
        return;
    }
    run->state = RUN_RUNNING;
    if (run->why != WHY_WORK) {
        lt_run_begin_stop(run);
        return;
    }
    lt_pump_poll(s);
    if (has_handle)
        lt_run_store_update(run); /* the last thing: the script may end it there */
}

static void start(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    TAILQ_REMOVE(&s->to_start, run, link);
    TAILQ_INSERT_TAIL(&s->active, run, link);
    run->state = RUN_STARTING;
    lt_run_set_deadline(run, lt_loop_now(s->loop));
    s->starting = run;
    struct lt_bytes *version = s->config.actuator->version;
    if (version != NULL)
        lt_bytes_set(&lt_task_extra(run->work.task)->version, lt_bytes_ref(version));
    run->refs++; /* a handler may stop it, and its end may come at once */
    lt_emit(s, LT_EVENT_STARTED, run->work.task, NULL);
    if (run->why == WHY_WORK) {
        lt_reply_begin(&run->work.start, s->loop, on_start);
        s->config.actuator->ops->start(s->config.actuator, &run->work);
        lt_reply_end(&run->work.start);
    } else {
        lt_run_over(run);
    }
    if (run->state != RUN_GONE) {
        s->starting = NULL;
        list_run(run);
    }
    lt_run_unref(run);
}

bool lt_run_some(struct lt_scheduler *s, double until)
{
    struct lt_run *run;
    while ((run = TAILQ_FIRST(&s->reported)) != NULL) {
        if (lt_loop_now(s->loop) >= until)
            return false;
        TAILQ_REMOVE(&s->reported, run, link);
        TAILQ_INSERT_TAIL(&s->active, run, link);
        lt_run_over(run);
    }
    if (s->closing)
        lt_run_stop_claimed(s, s->close_reason);
    while ((run = TAILQ_FIRST(&s->to_start)) != NULL && !s->paused && !s->closing) {
        if (lt_loop_now(s->loop) >= until)
            return false;
        start(run);
    }
    return true;
}

/* Recovering. */

static void on_recover(struct lt_reply *reply)
{
    struct lt_run *run = lt_container_of(reply, struct lt_run, recover.reply);
    struct lt_scheduler *s = run->scheduler;
    bool ok = reply->code == LT_OK;
    struct lt_recover_work_op found = run->recover; /* its place is needed for what follows */
    if (!ok)
        lt_log(LT_LOG_ERROR, "recover failed, the task waits again", LT_S("scheduler", s->name),
               LT_S("task", run->work.task->data), LT_S("error", lt_reply_message(reply)));
    if (ok && found.found == LT_RECOVER_RUNS) {
        run->state = RUN_RUNNING;
        lt_run_set_deadline(run, lt_loop_now(s->loop) - (lt_loop_wall(s->loop) - run->work.task->started_at));
        lt_pump_poll(s);
        if (run->why != WHY_WORK)
            lt_run_begin_stop(run);
    } else if (ok && found.found == LT_RECOVER_ENDED) {
        run->report = found.report;
        run->reported = true;
        lt_run_over(run);
    } else if (run->why != WHY_WORK) {
        lt_run_over(run);
    } else if (run->work.task->lost >= s->config.max_lost) {
        lt_run_settle(run, LT_FAILED, lt_run_reason(run, "lost"));
    } else {
        lt_run_wait_again(run, 0, lt_run_reason(run, "lost"), true, true);
    }
}

void lt_run_recovered(struct lt_scheduler *s, struct lt_task *task)
{
    struct lt_actuator *actuator = s->config.actuator;
    lt_limiter_adopt(&s->limiter, task);
    struct lt_run *run = new_run(s, task);
    run->state = RUN_RECOVERING;
    run->recover.work = &run->work;
    run->recover.report = LT_REPORT(LT_RUNNING);
    TAILQ_INSERT_TAIL(&s->active, run, link);
    list_run(run);
    lt_reply_begin(&run->recover.reply, s->loop, on_recover);
    if (actuator->ops->recover != NULL)
        actuator->ops->recover(actuator, &run->recover);
    else
        lt_reply_ok(&run->recover.reply); /* found: gone */
    lt_reply_end(&run->recover.reply);
}
