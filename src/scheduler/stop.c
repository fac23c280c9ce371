/* Ending a run from outside: it is over when its work is dead. A stop that fails is repeated for as long as it takes, or
 * until its scheduler, which is being closed, waits for nothing more. */
#include <string.h>

#include "scheduler/state.h"

/* What is left of the work, if no report of its end had it already: a success that came too late had not. */
static void take_remains(struct lt_run *run)
{
    struct lt_report *said = &run->work.said;
    struct lt_report *report = &run->report;
    bool left = said->output != NULL && said->status != LT_SUCCESS;
    if (left && (report->output == NULL || report->status == LT_SUCCESS)) {
        lt_bytes_set(&report->output, said->output);
        said->output = NULL;
        report->status = LT_STOPPED;
    }
    if (report->progress == NULL) {
        report->progress = said->progress;
        said->progress = NULL;
    }
    lt_report_clear(said);
}

/* Whether a stop that has failed is not repeated; its end may have been reported meanwhile. */
static bool is_last_try(const struct lt_run *run)
{
    const struct lt_scheduler *s = run->scheduler;
    return s->stopping && run->report.status == LT_RUNNING && lt_loop_tick(s->loop) >= s->give_up_at;
}

static enum lt_run_event stop_answer(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_run_extra *extra = lt_run_extra(run);
    const struct lt_reply *reply = &run->work.reply;
    if (reply->code == LT_OK) {
        run->pause = 0;
        take_remains(run);
        return LT_EV_DEAD;
    }
    const char *message = lt_reply_message(reply);
    lt_bytes_set(&extra->stop_answer, lt_bytes_new(message, strlen(message)));
    lt_report_clear(&run->work.said);
    if (is_last_try(run)) {
        lt_log(LT_LOG_ERROR, "stop failed as its scheduler is closed, the work may go on", LT_S("scheduler", s->name),
               LT_S("actuator", s->config.actuator->ops->name), LT_S("task", run->work.task->data),
               LT_I("run", (int64_t)run->work.run), LT_S("error", message));
        return LT_EV_GIVEN_UP;
    }
    lt_log_gated(&extra->log, LT_LOG_ERROR, "stop failed, it will be tried again", LT_S("scheduler", s->name),
                 LT_S("actuator", s->config.actuator->ops->name), LT_S("task", run->work.task->data),
                 LT_I("run", (int64_t)run->work.run), LT_S("error", message));
    return LT_EV_STOP_FAILED;
}

static void on_stop(struct lt_reply *reply)
{
    struct lt_run *run = lt_container_of(reply, struct lt_run, work.reply);
    lt_signal(run, stop_answer(run));
}

bool lt_leaves_running(const struct lt_scheduler *s)
{
    return s->config.leave && s->config.container->ops->durable && s->config.actuator->ops->recover != NULL;
}

enum lt_run_event lt_act_stop(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_actuator *actuator = s->config.actuator;
    struct lt_run_extra *extra = lt_run_extra(run);
    if (run->report.status != LT_RUNNING)
        return LT_EV_DEAD; /* it ended while it was being started, and the actuator knows it no more */
    if (run->why == LT_WHY_SHUTDOWN && lt_leaves_running(s)) {
        extra->goes_on = true;
        return LT_EV_GIVEN_UP;
    }
    if (extra->stopping_since <= 0)
        extra->stopping_since = lt_loop_wall(s->loop);
    lt_report_clear(&run->work.said);
    run->work.said = LT_REPORT(LT_RUNNING);
    lt_reply_begin(&run->work.reply, s->loop, on_stop);
    actuator->ops->stop(actuator, &run->work);
    return lt_reply_end_now(&run->work.reply) ? stop_answer(run) : LT_EV_NONE;
}

enum lt_run_event lt_act_stop_pause(struct lt_run *run)
{
    const struct lt_scheduler *s = run->scheduler;
    double due = lt_loop_tick(s->loop) + lt_run_grow_pause(run);
    lt_run_arm_at(run, s->stopping && s->give_up_at < due ? s->give_up_at : due, LT_EV_PAUSE_OVER);
    return LT_EV_NONE;
}

/* Where tasks outlive the host, it stays as one that runs: the next host asks the actuator about it. */
enum lt_run_event lt_act_give_up(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    lt_run_ref(run);
    LIST_INSERT_HEAD(&s->given_up, lt_run_extra(run), given_up_link);
    run->begun = false; /* its actuator is not told that the end is stored: the work may not be removed */
    return s->config.container->ops->durable ? LT_EV_GIVEN_UP : lt_act_decide(run);
}

/* Why it is to end. The latest of those reasons in the order of lt_why counts: a stop is not overridden by a deadline. */

void lt_note_timeout(struct lt_run *run)
{
    if (run->why < LT_WHY_TIMEOUT)
        run->why = LT_WHY_TIMEOUT;
}

void lt_note_wish(struct lt_run *run)
{
    struct lt_run_extra *extra = lt_run_extra(run);
    if (run->wish <= run->why)
        return;
    if (run->why >= LT_WHY_STOP && run->wish == LT_WHY_SHUTDOWN)
        return; /* it is being stopped, and stays so when the host goes away */
    run->why = run->wish;
    lt_bytes_set(&extra->stop_reason, lt_bytes_ref(extra->wish_reason));
}

void lt_note_lease_lost(struct lt_run *run)
{
    run->why = LT_WHY_LEASE;
}
