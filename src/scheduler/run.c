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
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "scheduler/state.h"

static const double FIRST_PAUSE = 1; /* before a failed stop or transition is tried again; doubles */
static const double LONGEST_PAUSE = 30;
static const double LAST_LOOK = 1; /* seconds that the status call before a timeout may take */

static void start(struct lt_run *run);
static void begin_stop(struct lt_run *run);
static void over(struct lt_run *run);
static void submit(struct lt_run *run);
static void export(struct lt_run *run);

void lt_report_clear(struct lt_report *report)
{
    lt_bytes_set(&report->reason, NULL);
    lt_bytes_set(&report->output, NULL);
    lt_bytes_set(&report->progress, NULL);
}

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

static void unref(struct lt_run *run)
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

static struct lt_run_extra *extra(struct lt_run *run)
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
static void set_state(struct lt_run *run, enum run_state state)
{
    bool was = run->state >= RUN_MARKING && run->state <= RUN_EXPORT_REST;
    bool is = state >= RUN_MARKING && state <= RUN_EXPORT_REST;
    run->scheduler->exporting += (uint32_t)is - (uint32_t)was;
    run->state = state;
}

/* The run is over and its end is stored: the slot is free. */
static void gone(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_task *task = run->work.task;
    lt_timer_stop(s->loop, &run->timer);
    set_state(run, RUN_GONE);
    if (run->listed)
        lt_map_remove(&s->runs, task->hash, run);
    if (s->starting == run)
        s->starting = NULL;
    TAILQ_REMOVE(&s->active, run, link);
    lt_limiter_release(&s->limiter, task);
    lt_requests_run_gone(s, &run->waiters, task);
    unref(run);
    lt_pump_post(s);
}

/* Storing the last transition. */

static double grow_pause(struct lt_run *run)
{
    run->pause = run->pause > 0 ? run->pause * 2 : FIRST_PAUSE;
    if (run->pause > LONGEST_PAUSE)
        run->pause = LONGEST_PAUSE;
    return run->pause;
}

static void pause_then(struct lt_run *run, void (*fn)(struct lt_timer *timer))
{
    struct lt_loop *loop = run->scheduler->loop;
    lt_timer_start(loop, &run->timer, lt_loop_now(loop) + grow_pause(run), fn);
}

static void submit_again(struct lt_timer *timer)
{
    submit(lt_container_of(timer, struct lt_run, timer));
}

static void settled(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_task *task = run->work.task;
    const struct lt_transition *made = &run->change.transition;
    if (lt_status_ended(made->to)) {
        lt_end(s, task);
    } else {
        s->work = true;
        if (!made->uncounted) {
            s->stats.retried++;
            lt_emit(s, LT_EVENT_RETRIED, task,
                    &(struct lt_event_data){made->reason, made->run_at > 0 ? made->run_at - made->now : 0});
        }
    }
    gone(run);
}

static void on_change(struct lt_reply *reply)
{
    struct lt_run *run = lt_container_of(reply, struct lt_run, change.reply);
    struct lt_scheduler *s = run->scheduler;
    if (reply->code == LT_OK) {
        run->pause = 0;
        if (run->state == RUN_MARKING)
            export(run);
        else
            settled(run);
        return;
    }
    if (reply->code == LT_STALE || reply->code == LT_UNKNOWN) {
        s->stats.stale++;
        lt_log(LT_LOG_WARN, "the end of a run came too late", LT_S("scheduler", s->name),
               LT_S("task", run->work.task->data), LT_I("run", (int64_t)run->work.run),
               LT_S("to", lt_status_name(run->change.transition.to)), LT_S("why", lt_reply_message(reply)));
        gone(run);
        return;
    }
    lt_log_gated(&extra(run)->log, LT_LOG_ERROR, "a transition was not stored, it will be tried again",
                 LT_S("scheduler", s->name), LT_S("task", run->work.task->data), LT_I("run", (int64_t)run->work.run),
                 LT_S("to", lt_status_name(run->change.transition.to)), LT_S("error", lt_reply_message(reply)));
    if (s->stopping) /* it stays where it was */
        gone(run);
    else
        pause_then(run, submit_again);
}

static void submit(struct lt_run *run)
{
    struct lt_container *container = run->scheduler->config.container;
    run->change.task = run->work.task;
    run->change.transition.run = run->work.run;
    lt_reply_begin(&run->change.reply, run->scheduler->loop, on_change);
    container->ops->change(container, &run->change);
    lt_reply_end(&run->change.reply);
}

static void settle(struct lt_run *run, struct lt_transition transition)
{
    set_state(run, RUN_SETTLING);
    run->pause = 0;
    lt_timer_stop(run->scheduler->loop, &run->timer);
    run->change.transition = transition;
    run->change.transition.now = lt_loop_wall(run->scheduler->loop);
    submit(run);
}

static void settle_success(struct lt_run *run)
{
    settle(run, (struct lt_transition){.to = LT_SUCCESS, .output = run->report.output});
}

static void settle_ended(struct lt_run *run, enum lt_status to, struct lt_bytes *reason)
{
    settle(run, (struct lt_transition){.to = to, .reason = reason});
}

/* Back to waiting, after `delay` seconds. */
static void settle_waiting(struct lt_run *run, double delay, struct lt_bytes *reason, bool uncounted, bool lost)
{
    settle(run, (struct lt_transition){
                    .to = LT_WAITING,
                    .run_at = delay > 0 ? lt_loop_wall(run->scheduler->loop) + delay : 0,
                    .uncounted = uncounted,
                    .lost = lost,
                    .reason = reason,
                });
}

/* What an end means. */

static struct lt_bytes *own_reason(struct lt_run *run, const char *text)
{
    lt_bytes_set(&run->report.reason, lt_bytes_new(text, strlen(text)));
    return run->report.reason;
}

/* Before the next try, after so many. */
static double backoff(struct lt_run *run, struct lt_bytes *reason, uint32_t tries)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_task *task = run->work.task;
    if (run->report.retry_after >= 0)
        return run->report.retry_after;
    if (task->options != NULL && task->options->has_backoff)
        return lt_backoff_delay(&task->options->backoff, tries);
    if (s->config.backoff_fn && s->config.hooks.backoff != NULL)
        return s->config.hooks.backoff(s->config.hooks.arg, tries, reason, task);
    return lt_backoff_delay(&s->config.backoff, tries);
}

static int64_t max_retries(const struct lt_run *run)
{
    const struct lt_task *task = run->work.task;
    bool own = task->options != NULL && task->options->max_retries >= 0;
    return own ? task->options->max_retries : run->scheduler->config.max_retries;
}

static void failed(struct lt_run *run, struct lt_bytes *reason)
{
    if (reason == NULL)
        reason = own_reason(run, "failed");
    if (run->report.no_retry || (int64_t)run->work.task->attempts > max_retries(run))
        settle_ended(run, LT_FAILED, reason);
    else
        settle_waiting(run, backoff(run, reason, run->work.task->attempts), reason, false, false);
}

static void snoozed(struct lt_run *run)
{
    enum { LONGEST_SNOOZE = 30 };
    double delay = run->report.snooze;
    if (delay < 0) {
        uint8_t n = run->work.task->snoozes;
        delay = n < 5 ? (double)(1 << n) : LONGEST_SNOOZE;
        if (delay > LONGEST_SNOOZE)
            delay = LONGEST_SNOOZE;
    }
    settle_waiting(run, delay, run->report.reason, true, false);
}

static void succeeded(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    if (s->config.persister == NULL && !s->config.actuator->has_output) {
        settle_success(run);
        return;
    }
    set_state(run, RUN_MARKING);
    run->change.transition = (struct lt_transition){.to = LT_EXPORTING, .now = lt_loop_wall(s->loop)};
    submit(run);
}

/* A run that the user or the host ended, its work dead. */
static void ended_from_outside(struct lt_run *run)
{
    if (run->why == WHY_SHUTDOWN && run->scheduler->config.container->ops->durable)
        settle_waiting(run, 0, run->stop_reason, true, false);
    else
        settle_ended(run, LT_STOPPED, run->stop_reason);
}

/* The work is dead: what now? */
static void over(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    lt_timer_stop(s->loop, &run->timer);
    double ended = run->report.ended_at > 0 ? run->report.ended_at : lt_loop_tick(s->loop);
    if (run->started > 0)
        lt_histogram_add(&s->run_times, ended - run->started);
    if (run->why == WHY_WORK && run->deadline > 0 && run->report.ended_at > run->deadline)
        run->why = WHY_TIMEOUT;
    if (run->why == WHY_STOP || run->why == WHY_SHUTDOWN)
        ended_from_outside(run);
    else if (run->why == WHY_TIMEOUT)
        failed(run, own_reason(run, "timeout"));
    else if (run->report.status == LT_SUCCESS)
        succeeded(run);
    else if (run->report.snooze != 0)
        snoozed(run);
    else
        failed(run, run->report.reason);
}

/* Export: output and save, in the slot, under export_timeout; each try anew. */

static void export_again(struct lt_timer *timer)
{
    export(lt_container_of(timer, struct lt_run, timer));
}

static void rest_then_export(struct lt_run *run, double delay)
{
    struct lt_loop *loop = run->scheduler->loop;
    set_state(run, RUN_EXPORT_REST);
    lt_timer_start(loop, &run->timer, lt_loop_now(loop) + delay, export_again);
}

/* `work.failure` tells more, if the module did. A snooze is no failure here either: no try is used. */
static void export_failed(struct lt_run *run, const char *reason)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_bytes *message = own_reason(run, reason);
    const struct lt_report *failure = &run->work.failure;
    lt_timer_stop(s->loop, &run->timer);
    if (run->why != WHY_WORK) {
        ended_from_outside(run);
    } else if (failure->snooze > 0) {
        rest_then_export(run, failure->snooze);
    } else if (failure->snooze < 0) {
        rest_then_export(run, grow_pause(run));
    } else if (failure->no_retry || (int64_t)++run->tries > max_retries(run)) {
        settle_ended(run, LT_FAILED, message);
    } else {
        lt_log(LT_LOG_WARN, "the output was not saved, it will be tried again", LT_S("scheduler", s->name),
               LT_S("task", run->work.task->data), LT_S("error", message->data));
        run->report.retry_after = failure->retry_after;
        rest_then_export(run, backoff(run, message, run->tries));
    }
}

static void on_save(struct lt_reply *reply)
{
    struct lt_run *run = lt_container_of(reply, struct lt_run, save.reply);
    if (reply->code == LT_OK && run->why == WHY_WORK)
        settle_success(run);
    else
        export_failed(run, lt_reply_message(reply));
}

static void save(struct lt_run *run)
{
    struct lt_persister *persister = run->scheduler->config.persister;
    if (persister == NULL) {
        settle_success(run);
        return;
    }
    set_state(run, RUN_SAVING);
    run->save.task = run->work.task;
    run->save.data = run->report.output;
    run->save.failure = &run->work.failure;
    lt_reply_begin(&run->save.reply, run->scheduler->loop, on_save);
    persister->ops->save(persister, &run->save);
    lt_reply_end(&run->save.reply);
}

static void on_output(struct lt_reply *reply)
{
    struct lt_run *run = lt_container_of(reply, struct lt_run, work.output);
    if (reply->code != LT_OK || run->why != WHY_WORK) {
        export_failed(run, lt_reply_message(reply));
        return;
    }
    lt_bytes_set(&run->report.output, run->work.data_out);
    run->work.data_out = NULL;
    save(run);
}

static void export_late(struct lt_timer *timer)
{
    struct lt_run *run = lt_container_of(timer, struct lt_run, timer);
    struct lt_reply *reply = run->state == RUN_SAVING ? &run->save.reply : &run->work.output;
    if (lt_reply_cancel(reply))
        export_failed(run, "export timeout");
}

static void export(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_actuator *actuator = s->config.actuator;
    if (run->why != WHY_WORK) {
        ended_from_outside(run);
        return;
    }
    lt_report_clear(&run->work.failure);
    run->work.failure = LT_REPORT(LT_RUNNING);
    if (s->config.export_timeout > 0)
        lt_timer_start(s->loop, &run->timer, lt_loop_now(s->loop) + s->config.export_timeout, export_late);
    if (!actuator->has_output) {
        save(run);
        return;
    }
    set_state(run, RUN_OUTPUT);
    lt_reply_begin(&run->work.output, s->loop, on_output);
    actuator->ops->output(actuator, &run->work);
    lt_reply_end(&run->work.output);
}

/* Handle and progress. */

static void store_update(struct lt_run *run);

static void on_update(struct lt_reply *reply)
{
    struct lt_run_extra *own = lt_container_of(reply, struct lt_run_extra, update.reply);
    struct lt_run *run = own->run;
    if (reply->code != LT_OK && reply->code != LT_STALE)
        lt_log_gated(&extra(run)->log, LT_LOG_ERROR, "handle or progress was not stored",
                     LT_S("scheduler", run->scheduler->name), LT_S("task", run->work.task->data),
                     LT_S("error", lt_reply_message(reply)));
    bool again = own->update_again && run->state == RUN_RUNNING;
    own->update_again = false;
    if (again)
        store_update(run);
    unref(run);
}

/* One at a time; what changes meanwhile is stored with the next. */
static void store_update(struct lt_run *run)
{
    struct lt_container *container = run->scheduler->config.container;
    struct lt_run_extra *own = extra(run);
    if (lt_reply_pending(&own->update.reply)) {
        own->update_again = true;
        return;
    }
    run->refs++;
    own->update.task = run->work.task;
    own->update.run = run->work.run;
    lt_reply_begin(&own->update.reply, run->scheduler->loop, on_update);
    container->ops->update(container, &own->update);
    lt_reply_end(&own->update.reply);
}

static void set_progress(struct lt_run *run, struct lt_bytes *progress)
{
    lt_bytes_set(&lt_task_extra(run->work.task)->progress, progress);
    run->refs++; /* the script may end it in either */
    store_update(run);
    lt_emit(run->scheduler, LT_EVENT_PROGRESS, run->work.task, NULL);
    unref(run);
}

bool lt_scheduler_progress(struct lt_scheduler *s, struct lt_work *work, struct lt_bytes *progress)
{
    (void)s;
    struct lt_run *run = lt_run_of(work);
    if (run->reported || (run->state != RUN_STARTING && run->state != RUN_RUNNING)) {
        lt_bytes_unref(progress);
        return false;
    }
    set_progress(run, progress);
    return true;
}

/* Reports. */

static bool take_report(struct lt_run *run, struct lt_report *report)
{
    bool takes = !run->reported && run->why == WHY_WORK && (run->state == RUN_STARTING || run->state == RUN_RUNNING);
    if (!takes) {
        run->scheduler->stats.stale++;
        lt_report_clear(report);
        return false;
    }
    if (report->status == LT_RUNNING) {
        struct lt_bytes *progress = report->progress;
        report->progress = NULL;
        lt_report_clear(report);
        if (progress != NULL)
            set_progress(run, progress);
        return false;
    }
    if (report->progress != NULL)
        lt_bytes_set(&lt_task_extra(run->work.task)->progress, lt_bytes_ref(report->progress));
    run->report = *report;
    run->reported = true;
    return true;
}

void lt_run_report(struct lt_run *run, struct lt_report *report)
{
    struct lt_scheduler *s = run->scheduler;
    if (!take_report(run, report) || run->state == RUN_STARTING)
        return;
    TAILQ_REMOVE(&s->active, run, link);
    TAILQ_INSERT_TAIL(&s->reported, run, link);
    lt_pump_post(s);
}

void lt_scheduler_push(struct lt_scheduler *s, struct lt_push *push)
{
    struct lt_run *run = lt_run_find(s, push->id, push->id_len);
    if (run == NULL || (push->run != 0 && push->run != run->work.run)) {
        s->stats.stale++;
        lt_report_clear(&push->report);
        return;
    }
    lt_run_report(run, &push->report);
}

uint32_t lt_run_collect(struct lt_scheduler *s)
{
    uint32_t count = 0;
    if (s->poll_size < s->limiter.running) {
        s->poll_size = s->limiter.running;
        s->poll_works = lt_realloc(s->poll_works, s->poll_size * sizeof(struct lt_work *));
    }
    struct lt_run *run;
    TAILQ_FOREACH(run, &s->active, link) {
        if (run->state != RUN_RUNNING || run->looking)
            continue;
        run->refs++;
        run->work.seen = LT_REPORT(LT_RUNNING);
        s->poll_works[count++] = &run->work;
    }
    return count;
}

void lt_run_polled(struct lt_run *run, bool seen)
{
    struct lt_report report = run->work.seen;
    run->work.seen = LT_REPORT(LT_RUNNING);
    if (seen && run->state == RUN_RUNNING && !run->reported && run->why == WHY_WORK)
        lt_run_report(run, &report);
    else
        lt_report_clear(&report); /* it ended meanwhile: the poll is no second opinion */
    unref(run);
}

/* Stopping. */

static void stop_again(struct lt_timer *timer)
{
    begin_stop(lt_container_of(timer, struct lt_run, timer));
}

static void on_stop(struct lt_reply *reply)
{
    struct lt_run *run = lt_container_of(reply, struct lt_run, work.stop);
    struct lt_scheduler *s = run->scheduler;
    if (reply->code == LT_OK) {
        run->pause = 0;
        over(run);
        return;
    }
    lt_log_gated(&extra(run)->log, LT_LOG_ERROR, "stop failed, it will be tried again", LT_S("scheduler", s->name),
                 LT_S("actuator", s->config.actuator->ops->name), LT_S("task", run->work.task->data),
                 LT_I("run", (int64_t)run->work.run), LT_S("error", lt_reply_message(reply)));
    pause_then(run, stop_again);
}

static void begin_stop(struct lt_run *run)
{
    struct lt_actuator *actuator = run->scheduler->config.actuator;
    run->state = RUN_STOPPING;
    lt_reply_begin(&run->work.stop, run->scheduler->loop, on_stop);
    actuator->ops->stop(actuator, &run->work);
    lt_reply_end(&run->work.stop);
}

void lt_run_stop(struct lt_run *run, enum run_why why, struct lt_bytes *reason)
{
    struct lt_scheduler *s = run->scheduler;
    if (run->reported && run->state <= RUN_RUNNING)
        return; /* it ended by itself; whoever asked looks again when that is stored */
    if (run->state == RUN_SETTLING || run->state == RUN_GONE || run->why >= WHY_STOP)
        return;
    run->why = why;
    lt_bytes_set(&run->stop_reason, lt_bytes_ref(reason));
    switch (run->state) {
    case RUN_CLAIMED:
        TAILQ_REMOVE(&s->to_start, run, link);
        TAILQ_INSERT_TAIL(&s->active, run, link);
        over(run);
        break;
    case RUN_RUNNING:
        lt_timer_stop(s->loop, &run->timer);
        begin_stop(run);
        break;
    case RUN_OUTPUT:
    case RUN_SAVING:
        if (lt_reply_cancel(run->state == RUN_SAVING ? &run->save.reply : &run->work.output))
            ended_from_outside(run);
        break;
    case RUN_EXPORT_REST:
        ended_from_outside(run);
        break;
    default: /* under way: looked at when that is answered */
        break;
    }
}

void lt_run_stop_claimed(struct lt_scheduler *s, struct lt_bytes *reason)
{
    struct lt_run *run;
    while ((run = TAILQ_FIRST(&s->to_start)) != NULL)
        lt_run_stop(run, WHY_SHUTDOWN, reason);
}

/* A stop may end a run at once, and the script may end others meanwhile: so each is taken from the head and put at the tail before. */
void lt_run_stop_all(struct lt_scheduler *s, struct lt_bytes *reason)
{
    lt_run_stop_claimed(s, reason);
    struct lt_run *run;
    for (uint32_t n = s->limiter.running; n > 0 && (run = TAILQ_FIRST(&s->active)) != NULL; n--) {
        TAILQ_REMOVE(&s->active, run, link);
        TAILQ_INSERT_TAIL(&s->active, run, link);
        bool paused = run->state == RUN_STOPPING || run->state == RUN_MARKING || run->state == RUN_SETTLING;
        if (paused && lt_timer_active(&run->timer)) /* before a repetition: at once, then */
            lt_timer_start(s->loop, &run->timer, lt_loop_now(s->loop), run->timer.fn);
        lt_run_stop(run, WHY_SHUTDOWN, reason);
    }
}

/* Deadlines. */

static void time_out(struct lt_run *run)
{
    run->why = WHY_TIMEOUT;
    if (run->state == RUN_RUNNING)
        begin_stop(run);
}

static void look_over(struct lt_timer *timer)
{
    struct lt_run *run = lt_container_of(timer, struct lt_run, timer);
    if (run->state == RUN_RUNNING && !run->reported)
        time_out(run);
}

static void on_look(struct lt_reply *reply)
{
    struct lt_run *run = lt_container_of(reply, struct lt_run_extra, look.reply)->run;
    run->looking = false;
    bool waited_for = run->state == RUN_RUNNING && run->why == WHY_WORK && !run->reported;
    lt_run_polled(run, reply->code == LT_OK);
    if (waited_for && !run->reported) {
        lt_timer_stop(run->scheduler->loop, &run->timer);
        time_out(run);
    }
}

/* Where ends are polled, the work may have ended in time and nobody saw it yet: one look, so that the outcome is the
 * same in every mode. */
static void last_look(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    run->looking = true;
    run->refs++;
    struct lt_run_extra *own = extra(run);
    own->look_work = &run->work;
    own->look.works = &own->look_work;
    own->look.count = 1;
    lt_timer_start(s->loop, &run->timer, lt_loop_now(s->loop) + LAST_LOOK, look_over);
    lt_reply_begin(&own->look.reply, s->loop, on_look);
    s->config.actuator->ops->status(s->config.actuator, &own->look);
    lt_reply_end(&own->look.reply);
}

static void deadline(struct lt_timer *timer)
{
    struct lt_run *run = lt_container_of(timer, struct lt_run, timer);
    struct lt_scheduler *s = run->scheduler;
    if (run->reported)
        return;
    bool polls = s->config.poll_interval > 0 && s->config.actuator->can_status;
    if (run->state == RUN_RUNNING && polls && lt_reply_pending(&s->poll.reply)) /* that is the last look, then */
        lt_timer_start(s->loop, &run->timer, lt_loop_now(s->loop) + LAST_LOOK, look_over);
    else if (run->state == RUN_RUNNING && polls && !run->looking)
        last_look(run);
    else
        time_out(run); /* while it is starting: stopped when it has started */
}

/* The run began at `started` on the monotonic clock, maybe on another host. */
static void set_deadline(struct lt_run *run, double started)
{
    struct lt_scheduler *s = run->scheduler;
    const struct lt_task *task = run->work.task;
    double timeout = task->options != NULL && task->options->timeout >= 0 ? task->options->timeout : s->config.timeout;
    run->started = started;
    if (timeout > 0) {
        run->deadline = started + timeout;
        lt_timer_start(s->loop, &run->timer, run->deadline, deadline);
    }
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
                own_reason(run, lt_reply_message(reply));
        }
        over(run);
        return;
    }
    bool has_handle = run->work.handle != NULL;
    if (has_handle) {
        lt_bytes_set(&lt_task_extra(run->work.task)->handle, run->work.handle);
        run->work.handle = NULL;
    }
    if (run->reported) { /* the handle is stored with its end */
        over(run);
        return;
    }
    run->state = RUN_RUNNING;
    if (run->why != WHY_WORK) {
        begin_stop(run);
        return;
    }
    lt_pump_poll(s);
    if (has_handle)
        store_update(run); /* the last thing: the script may end it there */
}

static void start(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    TAILQ_REMOVE(&s->to_start, run, link);
    TAILQ_INSERT_TAIL(&s->active, run, link);
    run->state = RUN_STARTING;
    set_deadline(run, lt_loop_now(s->loop));
    s->starting = run;
    run->refs++; /* a handler may stop it, and its end may come at once */
    lt_emit(s, LT_EVENT_STARTED, run->work.task, NULL);
    if (run->why == WHY_WORK) {
        lt_reply_begin(&run->work.start, s->loop, on_start);
        s->config.actuator->ops->start(s->config.actuator, &run->work);
        lt_reply_end(&run->work.start);
    } else {
        over(run);
    }
    if (run->state != RUN_GONE) {
        s->starting = NULL;
        list_run(run);
    }
    unref(run);
}

bool lt_run_some(struct lt_scheduler *s, double until)
{
    struct lt_run *run;
    while ((run = TAILQ_FIRST(&s->reported)) != NULL) {
        if (lt_loop_now(s->loop) >= until)
            return false;
        TAILQ_REMOVE(&s->reported, run, link);
        TAILQ_INSERT_TAIL(&s->active, run, link);
        over(run);
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
        set_deadline(run, lt_loop_now(s->loop) - (lt_loop_wall(s->loop) - run->work.task->started_at));
        lt_pump_poll(s);
        if (run->why != WHY_WORK)
            begin_stop(run);
    } else if (ok && found.found == LT_RECOVER_ENDED) {
        run->report = found.report;
        run->reported = true;
        over(run);
    } else if (run->why != WHY_WORK) {
        over(run);
    } else if (run->work.task->lost >= s->config.max_lost) {
        settle_ended(run, LT_FAILED, own_reason(run, "lost"));
    } else {
        settle_waiting(run, 0, own_reason(run, "lost"), true, true);
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
