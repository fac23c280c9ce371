/* Export: `output` and `save`, in the slot, under export_timeout; each try anew. The run itself is not repeated. What may
 * have been saved by an export that was given up is erased. */
#include "scheduler/policy.h"

static const double ERASE_PAUSE = 0.05; /* seconds: an earlier task of the same id is being deleted with its output */

static enum lt_run_event output_answer(struct lt_run *run)
{
    if (run->work.reply.code != LT_OK)
        return LT_EV_EXPORT_FAILED;
    lt_bytes_set(&run->report.output, run->work.said.output);
    run->work.said.output = NULL;
    return LT_EV_OUTPUT;
}

static void on_output(struct lt_reply *reply)
{
    struct lt_run *run = lt_container_of(reply, struct lt_run, work.reply);
    lt_signal(run, output_answer(run));
}

enum lt_run_event lt_act_output(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_actuator *actuator = s->config.actuator;
    if (run->change.transition.to == LT_EXPORTING)
        lt_note_marked(run);
    lt_report_clear(&run->work.said);
    run->work.said = LT_REPORT(LT_RUNNING);
    if (s->config.export_timeout > 0)
        lt_run_arm(run, s->config.export_timeout, LT_EV_EXPORT_LATE);
    if (!actuator->has_output || actuator->ops->output == NULL)
        return LT_EV_OUTPUT; /* it came with the report */
    lt_reply_begin(&run->work.reply, s->loop, on_output);
    actuator->ops->output(actuator, &run->work);
    return lt_reply_end_now(&run->work.reply) ? output_answer(run) : LT_EV_NONE;
}

static enum lt_run_event save_answer(struct lt_run *run)
{
    struct lt_save_op *op = &run->extra->save;
    lt_bytes_set(&op->data, NULL);
    return op->reply.code == LT_OK ? LT_EV_SAVED : LT_EV_EXPORT_FAILED;
}

static void on_save(struct lt_reply *reply)
{
    struct lt_run *run = lt_container_of(reply, struct lt_run_extra, save.reply)->run;
    lt_signal(run, save_answer(run));
}

enum lt_run_event lt_act_save(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_persister *persister = s->config.persister;
    if (persister == NULL || lt_run_shares_store(run))
        return LT_EV_SAVED;
    if (lt_requests_erase(s, run->work.task)) {
        run->work.said.snooze = ERASE_PAUSE;
        return LT_EV_EXPORT_FAILED;
    }
    struct lt_save_op *op = &lt_run_extra(run)->save;
    run->saved = true;
    op->task = run->work.task;
    op->run = run->work.run;
    lt_bytes_set(&op->data, lt_bytes_ref(run->report.output));
    op->said = &run->work.said;
    lt_reply_begin(&op->reply, s->loop, on_save);
    persister->ops->save(persister, op);
    return lt_reply_end_now(&op->reply) ? save_answer(run) : LT_EV_NONE;
}

static struct lt_reply *reply_under_way(struct lt_run *run)
{
    bool saves = run->state == LT_RUN_SAVING || run->state == LT_RUN_SAVING_ENDING;
    return saves ? &run->extra->save.reply : &run->work.reply;
}

enum lt_run_event lt_act_cancel_export(struct lt_run *run)
{
    if (!lt_reply_cancel(reply_under_way(run)))
        return LT_EV_NONE;
    if (run->extra != NULL)
        lt_bytes_set(&run->extra->save.data, NULL);
    return LT_EV_CANCELLED;
}

/* `said` tells more, if the module did. A snooze is no failure here either: no try is used. */
static enum lt_run_event fail_export(struct lt_run *run, const char *message)
{
    struct lt_scheduler *s = run->scheduler;
    const struct lt_report *said = &run->work.said;
    struct lt_bytes *reason = lt_run_reason(run, message);
    bool snoozes = said->snooze != 0;
    run->tries += !snoozes;
    if (!lt_export_again(snoozes, said->no_retry, run->tries, lt_run_max_retries(run)))
        return lt_act_fail_export(run, reason);
    if (!snoozes)
        lt_log(LT_LOG_WARN, "the output was not saved, it will be tried again", LT_S("scheduler", s->name),
               LT_S("task", run->work.task->data), LT_S("error", message));
    run->report.retry_after = said->retry_after;
    return LT_EV_RETRY_EXPORT;
}

static const struct lt_reply *last_reply(const struct lt_run *run)
{
    const struct lt_reply *reply = &run->work.reply;
    bool saved = run->extra != NULL && run->extra->save.reply.code != LT_OK;
    return saved ? &run->extra->save.reply : reply;
}

enum lt_run_event lt_act_export_failed(struct lt_run *run)
{
    return fail_export(run, lt_reply_message(last_reply(run)));
}

enum lt_run_event lt_act_export_timed_out(struct lt_run *run)
{
    return fail_export(run, "export timeout");
}

enum lt_run_event lt_act_export_pause(struct lt_run *run)
{
    const struct lt_report *said = &run->work.said;
    double pause = said->snooze > 0   ? said->snooze
                   : said->snooze < 0 ? lt_run_grow_pause(run)
                                      : lt_run_backoff(run, run->report.reason, run->tries);
    lt_run_arm(run, pause, LT_EV_PAUSE_OVER);
    return LT_EV_NONE;
}

/* Erasing. That it failed is logged; nothing waits for another try. */

static enum lt_run_event erase_answer(struct lt_run *run)
{
    const struct lt_reply *reply = &run->extra->erase.reply;
    if (reply->code != LT_OK && reply->code != LT_UNKNOWN)
        lt_log(LT_LOG_ERROR, "what was saved of a task that did not succeed could not be deleted",
               LT_S("scheduler", run->scheduler->name), LT_S("task", run->work.task->data),
               LT_S("error", lt_reply_message(reply)));
    return LT_EV_ERASED;
}

static void on_erase(struct lt_reply *reply)
{
    struct lt_run *run = lt_container_of(reply, struct lt_run_extra, erase.reply)->run;
    lt_signal(run, erase_answer(run));
}

enum lt_run_event lt_act_erase(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_persister *persister = s->config.persister;
    struct lt_load_op *op = &lt_run_extra(run)->erase;
    run->saved = false;
    if (persister == NULL)
        return LT_EV_ERASED;
    op->task = run->work.task;
    lt_reply_begin(&op->reply, s->loop, on_erase);
    persister->ops->erase(persister, op);
    return lt_reply_end_now(&op->reply) ? erase_answer(run) : LT_EV_NONE;
}
