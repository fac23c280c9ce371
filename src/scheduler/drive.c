/* The driver: what happened to a run goes in as events; the table (machine.h) says what follows, and here it is done.
 *
 * An action that is answered at once gives the next event, and the loop goes on: nothing recurses, however much is
 * answered at once. What is signalled for a run while it is driven (by a handler, by its actuator) is driven after the
 * answer at hand. At log level debug each step is a line. */
#include <assert.h>

#include "scheduler/state.h"

static void free_slot(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_task *task = run->work.task;
    struct lt_actuator *actuator = s->config.actuator;
    lt_store_forget(run);
    lt_timer_stop(s->loop, &run->timer);
    if (run->begun && actuator->ops->stored != NULL)
        actuator->ops->stored(actuator, &run->work);
    lt_run_unlist(run, &s->active);
    if (run->queued)
        TAILQ_REMOVE(&s->signalled, run, signal_link);
    run->queued = false;
    s->run_count--;
    if (run->has_slot)
        lt_limiter_release(&s->limiter, lt_task_key(task));
    if (!TAILQ_EMPTY(&run->waiters))
        lt_requests_run_gone(s, &run->waiters, task);
    lt_run_unref(run);
    lt_pump_post(s);
}

static enum lt_run_event do_action(struct lt_run *run, enum lt_run_action action)
{
    switch (action) {
    case LT_ACT_START:
        return lt_act_start(run);
    case LT_ACT_RUN:
        return lt_act_run(run);
    case LT_ACT_RUN_DECIDE:
        lt_run_note_handle(run);
        return lt_act_decide(run);
    case LT_ACT_RUN_STOP:
        lt_run_note_handle(run);
        return lt_act_stop(run);
    case LT_ACT_RESUME:
        return lt_act_resume(run);
    case LT_ACT_LOOK:
        return lt_act_look(run);
    case LT_ACT_TIME_OUT:
        lt_note_timeout(run);
        return LT_EV_NONE;
    case LT_ACT_TIME_OUT_STOP:
        lt_note_timeout(run);
        return lt_act_stop(run);
    case LT_ACT_WISH:
        lt_note_wish(run);
        return LT_EV_NONE;
    case LT_ACT_WISH_STOP:
        lt_note_wish(run);
        return lt_act_stop(run);
    case LT_ACT_WISH_CANCEL:
        lt_note_wish(run);
        return lt_act_cancel_export(run);
    case LT_ACT_WISH_DECIDE:
        lt_note_wish(run);
        return lt_act_decide(run);
    case LT_ACT_LOSE:
        lt_note_lease_lost(run);
        return LT_EV_NONE;
    case LT_ACT_LOSE_STOP:
        lt_note_lease_lost(run);
        return lt_act_stop(run);
    case LT_ACT_LOSE_CANCEL:
        lt_note_lease_lost(run);
        return lt_act_cancel_export(run);
    case LT_ACT_STOP:
        return lt_act_stop(run);
    case LT_ACT_STOP_PAUSE:
        return lt_act_stop_pause(run);
    case LT_ACT_GIVE_UP:
        return lt_act_give_up(run);
    case LT_ACT_KEEP_REMAINS:
        lt_keep_remains(run);
        return LT_EV_NONE;
    case LT_ACT_REMAINS_DECIDE:
        lt_keep_remains(run);
        return lt_act_decide(run);
    case LT_ACT_DISCARD_REPORT:
        lt_discard_report(run);
        return LT_EV_NONE;
    case LT_ACT_FAIL_START:
        return lt_act_fail_start(run);
    case LT_ACT_GONE_DECIDE:
        run->why = LT_WHY_GONE;
        return lt_act_decide(run);
    case LT_ACT_DECIDE:
        return lt_act_decide(run);
    case LT_ACT_MARK:
        return lt_act_mark(run);
    case LT_ACT_MARKED_DECIDE:
        lt_note_marked(run);
        return lt_act_decide(run);
    case LT_ACT_OUTPUT:
        return lt_act_output(run);
    case LT_ACT_SAVE:
        return lt_act_save(run);
    case LT_ACT_CANCEL:
        return lt_act_cancel_export(run);
    case LT_ACT_EXPORT_FAILED:
        return lt_act_export_failed(run);
    case LT_ACT_EXPORT_TIMED_OUT:
        return lt_act_export_timed_out(run);
    case LT_ACT_EXPORT_PAUSE:
        return lt_act_export_pause(run);
    case LT_ACT_ERASE:
        return lt_act_erase(run);
    case LT_ACT_SUCCEED:
        return lt_act_succeed(run);
    case LT_ACT_SUBMIT:
        return lt_store_submit(run);
    case LT_ACT_OWE:
        lt_store_owe(run);
        return LT_EV_NONE;
    case LT_ACT_SETTLED:
        lt_tell_settled(run);
        return LT_EV_NONE;
    case LT_ACT_STALE:
        lt_tell_stale(run);
        return LT_EV_NONE;
    case LT_ACT_DROP:
        lt_tell_dropped(run);
        return LT_EV_NONE;
    case LT_ACT_LEAVE:
        lt_tell_left(run);
        return LT_EV_NONE;
    case LT_ACT_NONE:
    case LT_RUN_ACTIONS:
        break;
    }
    return LT_EV_NONE;
}

static void log_step(const struct lt_run *run, enum lt_run_event event, const struct lt_step *step)
{
    lt_log(LT_LOG_DEBUG, "step", LT_S("scheduler", run->scheduler->name), LT_S("task", run->work.task->data),
           LT_I("run", (int64_t)run->work.run), LT_S("state", lt_run_state_name(run->state)),
           LT_S("event", lt_run_event_name(event)),
           LT_S("next", lt_run_state_name(step->known ? step->next : run->state)),
           LT_S("action", lt_run_action_name(step->action)));
}

/* It is not to be started any more: it has been, or will never be. */
static void leave_line(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    run->in_line = false;
    TAILQ_REMOVE(&s->to_start, run, link);
    TAILQ_INSERT_TAIL(&s->active, run, link);
}

/* The timer goes on only where its event is waited for. */
static void enter_state(struct lt_run *run, enum lt_run_state next)
{
    struct lt_scheduler *s = run->scheduler;
    s->exporting += (uint32_t)lt_machine_exports(next) - (uint32_t)lt_machine_exports(run->state);
    run->state = (uint8_t)next;
    if (run->in_line)
        leave_line(run);
    if (lt_timer_active(&run->timer) && !lt_machine_expects(next, run->timer_event))
        lt_timer_stop(s->loop, &run->timer);
}

static enum lt_run_event take_step(struct lt_run *run, enum lt_run_event event)
{
    const struct lt_step *step = lt_machine_step(run->state, event);
    if (run->scheduler->debug)
        log_step(run, event, step);
    if (!step->known) {
        assert(lt_machine_may_be_late(event));
        return LT_EV_NONE;
    }
    if (step->next != run->state)
        enter_state(run, step->next);
    return do_action(run, step->action);
}

static enum lt_run_event next_signal(struct lt_run *run)
{
    if (run->signals == 0)
        return LT_EV_NONE;
    enum lt_run_event event = __builtin_ctzll(run->signals);
    run->signals &= run->signals - 1;
    return event;
}

void lt_drive(struct lt_run *run, enum lt_run_event event)
{
    run->driven = true;
    for (;;) {
        if (event == LT_EV_NONE)
            event = next_signal(run);
        if (event == LT_EV_NONE)
            break;
        event = take_step(run, event);
        if (run->state == LT_RUN_GONE) {
            free_slot(run);
            return;
        }
    }
    run->driven = false;
}
