/* Export: `output` and `save`, in the slot, under export_timeout; each try anew. The run itself is not repeated. */
#include "scheduler/run.h"

static void export_again(struct lt_timer *timer)
{
    lt_run_export(lt_container_of(timer, struct lt_run, timer));
}

static void rest_then_export(struct lt_run *run, double delay)
{
    struct lt_loop *loop = run->scheduler->loop;
    lt_run_set_state(run, RUN_EXPORT_REST);
    lt_timer_start(loop, &run->timer, lt_loop_now(loop) + delay, export_again);
}

/* `work.failure` tells more, if the module did. A snooze is no failure here either: no try is used. */
static void export_failed(struct lt_run *run, const char *reason)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_bytes *message = lt_run_reason(run, reason);
    const struct lt_report *failure = &run->work.failure;
    lt_timer_stop(s->loop, &run->timer);
    if (run->why != WHY_WORK) {
        lt_run_ended_from_outside(run);
    } else if (failure->snooze > 0) {
        rest_then_export(run, failure->snooze);
    } else if (failure->snooze < 0) {
        rest_then_export(run, lt_run_grow_pause(run));
    } else if (failure->no_retry || (int64_t)++run->tries > lt_run_max_retries(run)) {
        lt_run_settle(run, LT_FAILED, message);
    } else {
        lt_log(LT_LOG_WARN, "the output was not saved, it will be tried again", LT_S("scheduler", s->name),
               LT_S("task", run->work.task->data), LT_S("error", message->data));
        run->report.retry_after = failure->retry_after;
        rest_then_export(run, lt_run_backoff(run, message, run->tries));
    }
}

static void on_save(struct lt_reply *reply)
{
    struct lt_run *run = lt_container_of(reply, struct lt_run, save.reply);
    if (reply->code == LT_OK && run->why == WHY_WORK)
        lt_run_succeed(run);
    else
        export_failed(run, lt_reply_message(reply));
}

static void save(struct lt_run *run)
{
    struct lt_persister *persister = run->scheduler->config.persister;
    if (persister == NULL) {
        lt_run_succeed(run);
        return;
    }
    lt_run_set_state(run, RUN_SAVING);
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

void lt_run_export(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_actuator *actuator = s->config.actuator;
    if (run->why != WHY_WORK) {
        lt_run_ended_from_outside(run);
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
    lt_run_set_state(run, RUN_OUTPUT);
    lt_reply_begin(&run->work.output, s->loop, on_output);
    actuator->ops->output(actuator, &run->work);
    lt_reply_end(&run->work.output);
}
