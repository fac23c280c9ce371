/* What the end of a run means for its task (outcome.h decides), and the transition that stores it: the slot is free when
 * that is stored, and not before. */
#include <string.h>

#include "scheduler/policy.h"

static const double NOT_NOW_PAUSE = 1; /* seconds until a task is claimed again for which there was no place */

/* The verdict. */

static struct lt_end facts_of(const struct lt_run *run)
{
    const struct lt_scheduler *s = run->scheduler;
    const struct lt_task *task = run->work.task;
    const struct lt_report *report = &run->report;
    return (struct lt_end){
        .why = (enum lt_why)run->why,
        .late = run->work.deadline > 0 && report->ended_at > run->work.deadline,
        .succeeded = report->status == LT_SUCCESS,
        .snoozes = report->snooze != 0,
        .no_retry = report->no_retry,
        .not_begun = report->not_begun,
        .exports = s->config.persister != NULL || s->config.actuator->has_output,
        .durable = s->config.container->ops->durable,
        .attempts = task->attempts,
        .max_retries = lt_run_max_retries(run),
        .lost = task->lost,
        .max_lost = s->config.max_lost,
    };
}

/* What was reported with a success is the output of a success alone; what was reported of another end is kept. */
static struct lt_bytes *output_for(const struct lt_run *run, enum lt_status to)
{
    bool belongs = to == LT_SUCCESS || (lt_status_ended(to) && run->report.status != LT_SUCCESS);
    return belongs ? lt_bytes_ref(run->report.output) : NULL;
}

static void set_transition(struct lt_run *run, enum lt_status to, struct lt_bytes *reason)
{
    struct lt_transition *transition = &run->change.transition;
    struct lt_bytes *output = output_for(run, to);
    lt_transition_clear(transition);
    run->change.again = false;
    run->decided = lt_loop_now(run->scheduler->loop);
    *transition = (struct lt_transition){
        .to = to, .now = lt_loop_wall(run->scheduler->loop), .reason = lt_bytes_ref(reason), .output = output};
}

static void set_waiting(struct lt_run *run, double delay, struct lt_bytes *reason, bool uncounted)
{
    set_transition(run, LT_WAITING, reason);
    struct lt_transition *transition = &run->change.transition;
    transition->delay = delay;
    transition->uncounted = uncounted;
    transition->keep_runs =
        run->scheduler->config.keep_tasks < UINT32_MAX ? (uint32_t)run->scheduler->config.keep_tasks : UINT32_MAX;
}

static struct lt_bytes *stop_reason(const struct lt_run *run)
{
    return run->extra != NULL ? run->extra->stop_reason : NULL;
}

static double snooze_delay(const struct lt_run *run)
{
    double named = run->report.snooze;
    return named > 0 ? named : lt_snooze_delay(run->work.task->snoozes);
}

static struct lt_bytes *failure_reason(struct lt_run *run)
{
    return run->report.reason != NULL ? run->report.reason : lt_run_reason(run, "failed");
}

/* Prepares the transition that the verdict asks for. */
static void prepare_transition(struct lt_run *run, enum lt_verdict verdict)
{
    uint32_t attempts = run->work.task->attempts;
    switch (verdict) {
    case LT_VERDICT_SUCCEED:
        set_transition(run, LT_SUCCESS, NULL);
        break;
    case LT_VERDICT_SNOOZE:
        set_waiting(run, snooze_delay(run), run->report.reason, true);
        break;
    case LT_VERDICT_TIME_OUT_RETRY:
    case LT_VERDICT_TIME_OUT_FAIL:
        lt_run_reason(run, "timeout");
        prepare_transition(run, verdict == LT_VERDICT_TIME_OUT_FAIL ? LT_VERDICT_FAIL : LT_VERDICT_RETRY);
        break;
    case LT_VERDICT_RETRY:
        set_waiting(run, lt_run_backoff(run, failure_reason(run), attempts), failure_reason(run), false);
        break;
    case LT_VERDICT_FAIL:
        set_transition(run, LT_FAILED, failure_reason(run));
        break;
    case LT_VERDICT_LOST_RETRY:
        set_waiting(run, 0, lt_run_reason(run, "lost"), true);
        run->change.transition.lost = true;
        break;
    case LT_VERDICT_LOST_FAIL:
        set_transition(run, LT_FAILED, lt_run_reason(run, "lost"));
        break;
    case LT_VERDICT_EXPIRE:
        set_transition(run, LT_FAILED, lt_run_reason(run, "expired"));
        break;
    case LT_VERDICT_STOP:
        set_transition(run, LT_STOPPED, stop_reason(run));
        break;
    case LT_VERDICT_WAIT:
        set_waiting(run, 0, lt_run_reason(run, "shutdown"), true);
        break;
    case LT_VERDICT_WAIT_A_WHILE:
        set_waiting(run, NOT_NOW_PAUSE, NULL, true);
        break;
    case LT_VERDICT_WAIT_AS_BEFORE:
        set_waiting(run, 0, NULL, true);
        run->change.transition.not_begun = true;
        break;
    case LT_VERDICT_EXPORT:
    case LT_VERDICT_DROP:
        break;
    }
}

static enum lt_run_event settle_event(const struct lt_run *run)
{
    return run->saved && run->change.transition.to != LT_SUCCESS ? LT_EV_ERASE : LT_EV_SETTLE;
}

static void count_time(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    if (run->started <= 0 || run->report.not_begun)
        return;
    double ended = run->report.ended_at > 0 ? run->report.ended_at : lt_loop_tick(s->loop);
    lt_histogram_add(&s->run_times, ended - run->started);
    run->started = 0;
}

enum lt_run_event lt_act_decide(struct lt_run *run)
{
    count_time(run);
    struct lt_end end = facts_of(run);
    enum lt_verdict verdict = lt_end_verdict(&end);
    if (run->report.progress != NULL)
        lt_bytes_set(&lt_task_extra(run->work.task)->progress, lt_bytes_ref(run->report.progress));
    if (verdict == LT_VERDICT_DROP)
        return LT_EV_DROP;
    if (verdict == LT_VERDICT_EXPORT) {
        if (run->wish > run->why) /* it came too late for the work, and not for the export */
            lt_signal(run, LT_EV_STOP);
        bool marked = run->work.task->status == LT_EXPORTING || lt_run_shares_store(run);
        return marked ? LT_EV_EXPORT_MARKED : LT_EV_EXPORT;
    }
    if (end.why != LT_WHY_WORK || end.late)
        run->report.retry_after = -1; /* it speaks of another end */
    prepare_transition(run, verdict);
    return settle_event(run);
}

enum lt_run_event lt_act_fail_export(struct lt_run *run, struct lt_bytes *reason)
{
    set_transition(run, LT_FAILED, reason);
    return settle_event(run);
}

enum lt_run_event lt_act_succeed(struct lt_run *run)
{
    set_transition(run, LT_SUCCESS, NULL);
    run->change.transition.save = lt_run_shares_store(run);
    return lt_store_submit(run);
}

enum lt_run_event lt_act_mark(struct lt_run *run)
{
    bool again = run->change.again && run->change.transition.to == LT_EXPORTING;
    set_transition(run, LT_EXPORTING, NULL);
    run->change.again = again;
    return lt_store_submit(run);
}

void lt_note_marked(struct lt_run *run)
{
    if (run->work.task->status == LT_RUNNING)
        run->work.task->status = LT_EXPORTING;
}

/* After it was stored. */

void lt_tell_settled(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_task *task = run->work.task;
    const struct lt_transition *made = &run->change.transition;
    lt_task_apply(task, made);
    if (lt_status_ended(made->to)) {
        lt_tell_end(s, task);
        return;
    }
    s->work = s->unlooked = true;
    if (made->uncounted)
        return;
    s->stats.retried++;
    lt_emit(s, LT_EVENT_RETRIED, task,
            &(struct lt_event_data){.reason = made->reason, .delay = made->delay > 0 ? made->delay : 0});
}

void lt_tell_stale(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    s->stats.stale++;
    s->work = s->unlooked = true; /* the store knows more than was known here */
    lt_log(LT_LOG_WARN, "the end of a run came too late", LT_S("scheduler", s->name),
           LT_S("task", run->work.task->data), LT_I("run", (int64_t)run->work.run),
           LT_S("to", lt_status_name(run->change.transition.to)), LT_S("why", lt_reply_message(&run->change.reply)));
}

void lt_tell_dropped(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    s->stats.stale++;
    lt_log(LT_LOG_WARN, "the lease of a task was lost, its end is not stored", LT_S("scheduler", s->name),
           LT_S("task", run->work.task->data), LT_I("run", (int64_t)run->work.run));
}

/* Its actuator is not told that the end is stored: the next host is to find what is left of the work. */
void lt_tell_left(struct lt_run *run)
{
    run->begun = false;
    if (lt_run_extra(run)->goes_on) {
        run->scheduler->left_running++;
        return;
    }
    if (run->change.transition.to == LT_UNSTARTED) {
        lt_log(LT_LOG_ERROR, "it is not known what became of a task, it stays where it was",
               LT_S("scheduler", run->scheduler->name), LT_S("task", run->work.task->data),
               LT_I("run", (int64_t)run->work.run));
        return;
    }
    lt_log(LT_LOG_ERROR, "a transition was not stored, the task stays where it was",
           LT_S("scheduler", run->scheduler->name), LT_S("task", run->work.task->data),
           LT_I("run", (int64_t)run->work.run), LT_S("to", lt_status_name(run->change.transition.to)),
           LT_S("error", lt_reply_message(&run->change.reply)));
}
