/* What the end of a run means for its task (retry, fail, stop, succeed), and the transition that stores it: the
 * slot is free when that is stored, and not before. */
#include <string.h>

#include "scheduler/run.h"

static const double FIRST_PAUSE = 1; /* before a failed stop or transition is tried again; doubles */
static const double LONGEST_PAUSE = 30;

/* Storing the last transition. */

double lt_run_grow_pause(struct lt_run *run)
{
    run->pause = run->pause > 0 ? run->pause * 2 : FIRST_PAUSE;
    if (run->pause > LONGEST_PAUSE)
        run->pause = LONGEST_PAUSE;
    return run->pause;
}

void lt_run_pause_then(struct lt_run *run, void (*fn)(struct lt_timer *timer))
{
    struct lt_loop *loop = run->scheduler->loop;
    lt_timer_start(loop, &run->timer, lt_loop_now(loop) + lt_run_grow_pause(run), fn);
}

static void submit_again(struct lt_timer *timer)
{
    lt_run_submit(lt_container_of(timer, struct lt_run, timer));
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
    lt_run_gone(run);
}

static void on_change(struct lt_reply *reply)
{
    struct lt_run *run = lt_container_of(reply, struct lt_run, change.reply);
    struct lt_scheduler *s = run->scheduler;
    if (reply->code == LT_OK) {
        run->pause = 0;
        if (run->state == RUN_MARKING)
            lt_run_export(run);
        else
            settled(run);
        return;
    }
    if (reply->code == LT_STALE || reply->code == LT_UNKNOWN) {
        s->stats.stale++;
        lt_log(LT_LOG_WARN, "the end of a run came too late", LT_S("scheduler", s->name),
               LT_S("task", run->work.task->data), LT_I("run", (int64_t)run->work.run),
               LT_S("to", lt_status_name(run->change.transition.to)), LT_S("why", lt_reply_message(reply)));
        lt_run_gone(run);
        return;
    }
    lt_log_gated(&lt_run_extra(run)->log, LT_LOG_ERROR, "a transition was not stored, it will be tried again",
                 LT_S("scheduler", s->name), LT_S("task", run->work.task->data), LT_I("run", (int64_t)run->work.run),
                 LT_S("to", lt_status_name(run->change.transition.to)), LT_S("error", lt_reply_message(reply)));
    if (s->stopping) /* it stays where it was */
        lt_run_gone(run);
    else
        lt_run_pause_then(run, submit_again);
}

void lt_run_submit(struct lt_run *run)
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
    lt_run_set_state(run, RUN_SETTLING);
    run->pause = 0;
    lt_timer_stop(run->scheduler->loop, &run->timer);
    run->change.transition = transition;
    run->change.transition.now = lt_loop_wall(run->scheduler->loop);
    lt_run_submit(run);
}

void lt_run_succeed(struct lt_run *run)
{
    settle(run, (struct lt_transition){.to = LT_SUCCESS, .output = run->report.output});
}

void lt_run_settle(struct lt_run *run, enum lt_status to, struct lt_bytes *reason)
{
    settle(run, (struct lt_transition){.to = to, .reason = reason});
}

/* Back to waiting, after `delay` seconds. */
void lt_run_wait_again(struct lt_run *run, double delay, struct lt_bytes *reason, bool uncounted, bool lost)
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

struct lt_bytes *lt_run_reason(struct lt_run *run, const char *text)
{
    lt_bytes_set(&run->report.reason, lt_bytes_new(text, strlen(text)));
    return run->report.reason;
}

/* Before the next try, after so many. */
double lt_run_backoff(struct lt_run *run, struct lt_bytes *reason, uint32_t tries)
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

int64_t lt_run_max_retries(const struct lt_run *run)
{
    const struct lt_task *task = run->work.task;
    bool own = task->options != NULL && task->options->max_retries >= 0;
    return own ? task->options->max_retries : run->scheduler->config.max_retries;
}

static void failed(struct lt_run *run, struct lt_bytes *reason)
{
    if (reason == NULL)
        reason = lt_run_reason(run, "failed");
    if (run->report.no_retry || (int64_t)run->work.task->attempts > lt_run_max_retries(run))
        lt_run_settle(run, LT_FAILED, reason);
    else
        lt_run_wait_again(run, lt_run_backoff(run, reason, run->work.task->attempts), reason, false, false);
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
    lt_run_wait_again(run, delay, run->report.reason, true, false);
}

static void succeeded(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    if (s->config.persister == NULL && !s->config.actuator->has_output) {
        lt_run_succeed(run);
        return;
    }
    lt_run_set_state(run, RUN_MARKING);
    run->change.transition = (struct lt_transition){.to = LT_EXPORTING, .now = lt_loop_wall(s->loop)};
    lt_run_submit(run);
}

/* A run that the user or the host ended, its work dead. */
void lt_run_ended_from_outside(struct lt_run *run)
{
    if (run->why == WHY_SHUTDOWN && run->scheduler->config.container->ops->durable)
        lt_run_wait_again(run, 0, run->stop_reason, true, false);
    else
        lt_run_settle(run, LT_STOPPED, run->stop_reason);
}

/* The work is dead: what now? */
void lt_run_over(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    lt_timer_stop(s->loop, &run->timer);
    double ended = run->report.ended_at > 0 ? run->report.ended_at : lt_loop_tick(s->loop);
    if (run->started > 0)
        lt_histogram_add(&s->run_times, ended - run->started);
    if (run->why == WHY_WORK && run->work.deadline > 0 && run->report.ended_at > run->work.deadline)
        run->why = WHY_TIMEOUT;
    if (run->why == WHY_STOP || run->why == WHY_SHUTDOWN)
        lt_run_ended_from_outside(run);
    else if (run->why == WHY_TIMEOUT)
        failed(run, lt_run_reason(run, "timeout"));
    else if (run->report.status == LT_SUCCESS)
        succeeded(run);
    else if (run->report.snooze != 0)
        snoozed(run);
    else
        failed(run, run->report.reason);
}
