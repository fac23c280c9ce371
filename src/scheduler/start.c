/* Starting: the handlers of `started` are told, then the actuator; the time that the run may take counts from before. */
#include "scheduler/policy.h"

void lt_run_deadline(struct lt_run *run, double started)
{
    double timeout = lt_run_timeout(run);
    run->started = started;
    if (timeout <= 0)
        return;
    run->work.deadline = started + timeout;
    lt_run_arm_at(run, run->work.deadline, LT_EV_DEADLINE);
}

static bool is_to_end(const struct lt_run *run)
{
    return lt_signalled(run, LT_EV_STOP) || lt_signalled(run, LT_EV_LEASE_LOST);
}

bool lt_work_begins(struct lt_work *work)
{
    struct lt_run *run = lt_run_of(work);
    if (is_to_end(run))
        return false;
    lt_run_deadline(run, lt_loop_now(run->scheduler->loop));
    return true;
}

/* An end that was reported meanwhile stands, whatever start says. */
static enum lt_run_event start_answer(struct lt_run *run)
{
    if (lt_signalled(run, LT_EV_REPORT) && run->state == LT_RUN_STARTING) {
        run->signals &= ~(UINT64_C(1) << LT_EV_REPORT);
        return LT_EV_STARTED_ENDED;
    }
    return run->work.reply.code == LT_OK ? LT_EV_STARTED : LT_EV_START_FAILED;
}

static void on_start(struct lt_reply *reply)
{
    struct lt_run *run = lt_container_of(reply, struct lt_run, work.reply);
    lt_signal(run, start_answer(run));
}

enum lt_run_event lt_act_start(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_actuator *actuator = s->config.actuator;
    if (actuator->ops->begin == NULL)
        lt_run_deadline(run, lt_loop_now(s->loop));
    else
        s->to_begin = true;
    if (actuator->version != NULL)
        lt_bytes_set(&lt_task_extra(run->work.task)->version, lt_bytes_ref(actuator->version));
    lt_emit(s, LT_EVENT_STARTED, run->work.task, NULL);
    if (is_to_end(run))
        return LT_EV_NOT_STARTED;
    run->begun = true;
    lt_reply_begin(&run->work.reply, s->loop, on_start);
    actuator->ops->start(actuator, &run->work);
    return lt_reply_end_now(&run->work.reply) ? start_answer(run) : LT_EV_NONE;
}

/* What start said. */

enum lt_run_event lt_act_run(struct lt_run *run)
{
    lt_poll_begin(run->scheduler);
    if (lt_run_note_handle(run))
        lt_store_update(run);
    return LT_EV_NONE;
}

enum lt_run_event lt_act_fail_start(struct lt_run *run)
{
    lt_report_clear(&run->report);
    run->report = run->work.said;
    run->report.status = LT_FAILED;
    run->work.said = LT_REPORT(LT_RUNNING);
    if (run->report.reason == NULL && run->report.snooze == 0)
        lt_run_reason(run, lt_reply_message(&run->work.reply));
    return lt_act_decide(run);
}

/* Taken over from a dead host, and found running. */
enum lt_run_event lt_act_resume(struct lt_run *run)
{
    struct lt_loop *loop = run->scheduler->loop;
    lt_run_deadline(run, lt_loop_now(loop) - (lt_loop_wall(loop) - run->work.task->started_at));
    lt_poll_begin(run->scheduler);
    return LT_EV_NONE;
}
